//! What the programs of this package and those beside it have in common: the log, the threads, the signals, the line that says
//! where a run is.

use std::io::{IsTerminal as _, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use tokio::signal::unix::{SignalKind, signal};

/// Nothing could be measured; the last line says why. The same as clap's own.
pub const EXIT_FAULT: u8 = 2;

/// Logs to standard error what the filter lets through, as in `RUST_LOG`.
///
/// # Errors
/// The filter cannot be read: the text says so, with the name of the flag.
pub fn log(filter: &str) -> Result<(), String> {
    let parsed = tracing_subscriber::EnvFilter::try_new(filter)
        .map_err(|error| format!("--log {filter:?}: {error}"))?;
    tracing_subscriber::fmt()
        .with_env_filter(parsed)
        .with_writer(std::io::stderr)
        .init();
    Ok(())
}

/// Runs a program's work on the threads of a runtime.
///
/// # Errors
/// The system gives no threads.
pub fn block_on<T>(work: impl Future<Output = T>) -> Result<T, String> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let runtime = runtime.map_err(|error| format!("no threads: {error}"))?;
    Ok(runtime.block_on(work))
}

/// Whether a file that is to be written at the end of a run can be: that is noticed before the run and not after it.
///
/// # Errors
/// Those of the system.
pub fn check_writable(path: &Path) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.create(true).append(true).open(path).map(drop)
}

/// Does what the binary `weir` does, in this one, until it is told to stop or whoever has started it is gone, of which the end of
/// standard input tells. `program` is the name under which errors are told.
pub fn be_the_focus(program: &str, path: &Path) -> ExitCode {
    weir::run::prepare();
    let fault = |text: String| {
        eprintln!("{program}: {text}");
        ExitCode::from(EXIT_FAULT)
    };
    if let Err(error) = log(weir::run::LOG) {
        return fault(error);
    }
    let config = match weir::config::Config::load(path) {
        Ok(config) => config,
        Err(error) => return fault(format!("{}: {error}", path.display())),
    };
    let work = async {
        tokio::select! {
            ended = weir::run::until_told(config) => ended,
            () = left_alone() => Ok(()),
        }
    };
    match block_on(work) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) => {
            eprintln!("weir: {error:#}");
            ExitCode::FAILURE
        }
        Err(error) => fault(error),
    }
}

/// Resolves at the end of standard input.
async fn left_alone() {
    let (ended, end) = tokio::sync::oneshot::channel();
    // A thread of its own, which nobody waits for: on one of the runtime's, the read would keep the runtime from ending.
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        ended.send(())
    });
    let _ = end.await;
}

/// Resolves at the first SIGINT or SIGTERM.
pub async fn interrupted() {
    let signals = signal(SignalKind::interrupt())
        .and_then(|interrupt| Ok((interrupt, signal(SignalKind::terminate())?)));
    let Ok((mut interrupt, mut terminate)) = signals else {
        // Then a signal ends the process, as ever.
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

/// Where the run is: a line that changes on a terminal, lines now and then elsewhere.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    started: Instant,
    /// When a plain line was last printed, and of what it spoke.
    said: Mutex<Option<(Instant, String)>>,
}

/// Between two plain lines about the same.
const PLAIN_EVERY: Duration = Duration::from_secs(5);

impl Default for Progress {
    fn default() -> Progress {
        Progress::new()
    }
}

impl Progress {
    /// Says nothing yet.
    pub fn new() -> Progress {
        let bar = ProgressBar::new_spinner();
        let style = ProgressStyle::with_template("{spinner} {elapsed:>4}  {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
        if std::io::stderr().is_terminal() {
            bar.enable_steady_tick(Duration::from_millis(100));
        }
        Progress {
            bar,
            started: Instant::now(),
            said: Mutex::default(),
        }
    }

    /// Says where the run is; what comes before the first `:` is what the line is about.
    pub fn tell(&self, line: &str) {
        if std::io::stderr().is_terminal() {
            self.bar.set_message(line.to_owned());
            return;
        }
        let about = line.split(':').next().unwrap_or_default().to_owned();
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let again = said
            .as_ref()
            .is_some_and(|(at, of)| *of == about && at.elapsed() < PLAIN_EVERY);
        if !again {
            // Whoever does not want to read it any more need not.
            let seconds = self.started.elapsed().as_secs_f64();
            let _ = writeln!(std::io::stderr(), "[{seconds:6.1} s] {line}");
            *said = Some((Instant::now(), about));
        }
    }

    /// Takes the line away.
    pub fn clear(&self) {
        self.bar.finish_and_clear();
    }
}
