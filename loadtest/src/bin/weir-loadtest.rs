//! `weir-loadtest`: puts synthetic participants into calls through a focus, checks what they receive, and reports.

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use clap::Parser as _;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::signal::unix::{SignalKind, signal};
use weir_loadtest::cli::{self, Arguments, Command, RunArguments};
use weir_loadtest::perform;
use weir_loadtest::report::text;

/// Nothing could be measured; the last line says why. The same as clap's own.
const EXIT_FAULT: u8 = 2;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match arguments.command {
        Command::List => {
            print!("{}", cli::list());
            ExitCode::SUCCESS
        }
        Command::Run(arguments) => start(&arguments),
        Command::Focus { config } => be_the_focus(&config),
    }
}

/// What the binary `weir` does, in this one.
fn be_the_focus(path: &std::path::Path) -> ExitCode {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::new(weir::run::LOG))
        .with_writer(std::io::stderr)
        .init();
    let config = match weir::config::Config::load(path) {
        Ok(config) => config,
        Err(error) => return fault(&format!("{}: {error}", path.display())),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let result = match runtime {
        Ok(runtime) => runtime.block_on(weir::run::until_told(config)),
        Err(error) => return fault(&format!("no threads: {error}")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("weir: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(arguments: &RunArguments) -> ExitCode {
    let filter = match tracing_subscriber::EnvFilter::try_new(&arguments.log) {
        Ok(filter) => filter,
        Err(error) => return fault(&format!("--log {:?}: {error}", arguments.log)),
    };
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    match runtime {
        Ok(runtime) => runtime.block_on(run(arguments)),
        Err(error) => fault(&format!("no threads: {error}")),
    }
}

async fn run(arguments: &RunArguments) -> ExitCode {
    let options = match arguments.options() {
        Ok(options) => options,
        Err(error) => return fault(&error.to_string()),
    };
    let progress = Arc::new(Progress::new());
    let told = Arc::clone(&progress);
    let command = cli::shown(std::env::args());
    let result = perform::run(
        &options,
        command,
        Arc::new(move |line: &str| told.tell(line)),
        interrupted(),
    )
    .await;
    progress.clear();
    let report = match result {
        Ok(report) => report,
        Err(error) => return fault(&error.to_string()),
    };
    print!("{}", text::render(&report));
    if let Err(error) = perform::write(&options, &report) {
        return fault(&error.to_string());
    }
    match report.passed {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

fn fault(text: &str) -> ExitCode {
    eprintln!("weir-loadtest: {text}");
    ExitCode::from(EXIT_FAULT)
}

/// Resolves at the first SIGINT or SIGTERM.
async fn interrupted() {
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
struct Progress {
    bar: ProgressBar,
    started: Instant,
    /// When a plain line was last printed, and of what it spoke.
    said: Mutex<Option<(Instant, String)>>,
}

/// Between two plain lines about the same.
const PLAIN_EVERY: Duration = Duration::from_secs(5);

impl Progress {
    fn new() -> Progress {
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

    fn tell(&self, line: &str) {
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

    fn clear(&self) {
        self.bar.finish_and_clear();
    }
}
