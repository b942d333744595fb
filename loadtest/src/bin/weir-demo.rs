//! `cargo demo`: a homeserver, a focus, the page and synthetic participants in one process, with a live table of who
//! receives what. With `--foci` there are several foci, each a process of its own, and the page shows who is connected where. With
//! `--check` nobody has to look: the exit code says whether everybody received everybody.

use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use weir_loadtest::child::focus::FocusProgram;
use weir_loadtest::program::{self, EXIT_FAULT};
use weir_loadtest::stage::{Stage, StageConfig};
use weir_loadtest::table;
use weir_loadtest::verdict::{self, Criteria, Failure};

/// A call through a focus, on this machine, without any installation.
#[derive(Debug, Parser)]
#[command(name = "weir-demo", version, args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// Runs for a while without a person, and exits with 0 only if every participant received decodable, continuous video
    /// and audio from every other.
    #[arg(long)]
    check: bool,
    /// How long to run, counted from when everybody receives everybody; without --check, 0 runs up to Ctrl-C.
    #[arg(long, value_name = "N")]
    seconds: Option<u64>,
    /// Writes what every participant counted, and the verdict, to this file at the end.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Foci that carry the call together, each with some of the participants. Several are processes of their own, which can be
    /// ended one by one, and the page shows live who is connected where and what flows between them.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=8))]
    foci: u8,
    /// Synthetic participants in all, spread over the foci; without it one for each focus, but 3 at least. Each decodes all
    /// others: two cores are enough for 3 or 4.
    #[arg(long, value_name = "N")]
    participants: Option<usize>,
    /// Threads of each focus that forward media; without it 2, and with several foci 1.
    #[arg(long, value_name = "N")]
    shards: Option<usize>,
    /// Port of the page on this machine; 0 lets the system choose.
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    port: u16,
    /// What is logged to standard error, as in RUST_LOG.
    #[arg(
        long,
        value_name = "FILTER",
        env = "WEIR_LOG",
        default_value = "error,matrix_sdk::http_client=off"
    )]
    log: String,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// What this program starts itself as.
    #[command(hide = true)]
    Focus {
        /// The configuration, a TOML file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
}

impl Arguments {
    fn stage(&self) -> StageConfig {
        let foci = usize::from(self.foci);
        let shards = if foci == 1 { 2 } else { 1 };
        StageConfig {
            participants: self.participants.unwrap_or(foci.max(3)),
            foci,
            shards: self.shards.unwrap_or(shards),
            port: self.port,
            guests: 3,
            program: FocusProgram::Own,
        }
    }
}

/// How long everybody may take until they receive everybody. It takes about a second; a cold machine takes longer.
const READY_WITHIN: Duration = Duration::from_secs(30);
const CHECK_SECONDS: u64 = 20;
/// Rates take two measurements, a second apart, and another second until they are gathered.
const SHOWN_WITHIN: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(Command::Focus { config }) = &arguments.command {
        return program::be_the_focus("weir-demo", config);
    }
    if let Err(error) = program::log(&arguments.log) {
        eprintln!("weir-demo: {error}");
        return ExitCode::from(EXIT_FAULT);
    }
    let result = program::block_on(run(&arguments));
    let result = result.unwrap_or_else(|error| Err(anyhow::anyhow!(error)));
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("weir-demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// True if the check passed, or none was asked for.
async fn run(arguments: &Arguments) -> anyhow::Result<bool> {
    let interrupt = program::interrupted();
    tokio::pin!(interrupt);
    let spinner = ProgressBar::new_spinner();
    spinner.set_style(
        ProgressStyle::with_template("{spinner} {msg} ({elapsed})")
            .unwrap_or_else(|_| ProgressStyle::default_spinner()),
    );
    spinner.enable_steady_tick(Duration::from_millis(100));
    let config = arguments.stage();
    let started = Instant::now();
    let progress = |step: &str| {
        spinner.set_message(step.to_owned());
        if !std::io::stderr().is_terminal() {
            eprintln!("[{:5.1} s] {step}", started.elapsed().as_secs_f64());
        }
    };
    let stage = tokio::select! {
        stage = Stage::start(&config, progress) => stage?,
        _ = &mut interrupt => return Ok(!arguments.check),
    };
    progress("waiting until everybody receives everybody");
    let outcome = tokio::select! {
        outcome = perform(arguments, &stage, &spinner, started) => outcome,
        // An interrupted check has not passed.
        _ = &mut interrupt => Outcome { failures: Vec::new(), passed: !arguments.check, ready_ms: None, seconds: 0.0 },
    };
    spinner.finish_and_clear();
    let reports = stage.reports();
    if let Some(path) = &arguments.json {
        let text = json!({
            "passed": outcome.passed,
            "ready_after_ms": outcome.ready_ms,
            "measured_seconds": outcome.seconds,
            "failures": outcome.failures,
            "participants": reports,
        });
        std::fs::write(path, format!("{text:#}\n"))
            .with_context(|| format!("--json {}", path.display()))?;
    }
    eprintln!("stopping");
    stage.stop().await;
    Ok(outcome.passed)
}

struct Outcome {
    failures: Vec<Failure>,
    passed: bool,
    ready_ms: Option<u64>,
    seconds: f64,
}

async fn perform(
    arguments: &Arguments,
    stage: &Stage,
    spinner: &ProgressBar,
    started: Instant,
) -> Outcome {
    let waiting = Instant::now();
    let mut missing = verdict::missing(&stage.reports());
    while !missing.is_empty() && waiting.elapsed() < READY_WITHIN {
        tokio::time::sleep(Duration::from_millis(50)).await;
        missing = verdict::missing(&stage.reports());
    }
    if !missing.is_empty() {
        spinner.finish_and_clear();
        let ends = stage.reports().into_iter().flat_map(|report| {
            let user_id = report.user_id.clone();
            report
                .ends
                .into_iter()
                .map(move |end| format!("{user_id}: {end}"))
        });
        ends.for_each(|end| println!("{end}"));
        print_failures(&missing);
        return Outcome {
            failures: missing,
            passed: false,
            ready_ms: None,
            seconds: 0.0,
        };
    }
    spinner.finish_and_clear();
    let ready_ms = Some(started.elapsed().as_millis() as u64);
    println!(
        "everybody receives everybody after {:.1} s",
        started.elapsed().as_secs_f64()
    );
    if !arguments.check {
        invite(stage);
    }
    let before = stage.reports();
    let measured = Instant::now();
    let seconds = arguments
        .seconds
        .unwrap_or(if arguments.check { CHECK_SECONDS } else { 0 });
    let end = (seconds > 0).then(|| measured + Duration::from_secs(seconds));
    watch(stage, end, !arguments.check).await;
    let after = stage.reports();
    let seconds = measured.elapsed().as_secs_f64();
    let mut failures = verdict::judge(&before, &after, seconds, &Criteria::default());
    if arguments.check && arguments.foci > 1 {
        failures.extend(unconnected(stage).await);
    }
    println!("{}", table::render(&after));
    if arguments.check {
        match failures.as_slice() {
            [] => println!(
                "passed: {seconds:.1} s of continuous video and audio from everybody to everybody"
            ),
            failures => print_failures(failures),
        }
    }
    let passed = !arguments.check || failures.is_empty();
    Outcome {
        failures,
        passed,
        ready_ms,
        seconds,
    }
}

/// Says where to go with a browser.
fn invite(stage: &Stage) {
    println!(
        "\nCome in with a browser on this machine:\n  {}\n",
        stage.page_address(1)
    );
    println!("For a second tab use guest2, for a third guest3. Ctrl-C stops.\n");
    let foci = stage.foci();
    if foci.len() > 1 {
        println!(
            "Who is connected where, without a call:\n  {}\n",
            stage.picture_address()
        );
        println!("A focus ends with `kill PID`:");
        for (name, process) in foci {
            let process = process.map_or_else(|| "gone".to_owned(), |id| id.to_string());
            println!("  {name}  {process}");
        }
        println!();
    }
}

/// What the foci say of who is connected where, against what should be. It is written once a second, so it may be a little late.
async fn unconnected(stage: &Stage) -> Vec<Failure> {
    let began = Instant::now();
    let mut missing = stage.unconnected();
    while !missing.is_empty() && began.elapsed() < SHOWN_WITHIN {
        tokio::time::sleep(Duration::from_millis(200)).await;
        missing = stage.unconnected();
    }
    let failures = missing.into_iter().map(|reason| Failure {
        participant: "the foci".into(),
        from: None,
        reason,
    });
    failures.collect()
}

/// Shows the table each second on a terminal, and now and then elsewhere.
async fn watch(stage: &Stage, end: Option<Instant>, live: bool) {
    let terminal = std::io::stdout().is_terminal();
    let every = Duration::from_secs(if terminal { 1 } else { 10 });
    let mut lines = 0;
    while end.is_none_or(|end| Instant::now() < end) {
        let left = end.map_or(every, |end| end.saturating_duration_since(Instant::now()));
        tokio::time::sleep(every.min(left)).await;
        if end.is_some_and(|end| Instant::now() >= end) {
            break;
        }
        if live || terminal {
            let table = table::render(&stage.reports());
            let mut out = std::io::stdout().lock();
            if terminal && lines > 0 {
                // Back over the table that was printed before, and clear it.
                let _ = write!(out, "\x1b[{lines}A\x1b[J");
            }
            let _ = write!(out, "{table}").and_then(|()| out.flush());
            lines = table.lines().count();
        }
    }
    if terminal && lines > 0 {
        print!("\x1b[{lines}A\x1b[J");
    }
}

fn print_failures(failures: &[Failure]) {
    println!("failed:");
    for failure in failures {
        let from = failure
            .from
            .as_ref()
            .map(|from| format!(" from {from}"))
            .unwrap_or_default();
        println!("  {}{from}: {}", failure.participant, failure.reason);
    }
}
