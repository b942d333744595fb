//! `weir-loadtest`: puts synthetic participants into calls through a focus, checks what they receive, and reports.

use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser as _;
use weir_loadtest::choosing;
use weir_loadtest::cli::{self, Arguments, ChooseArguments, Command, RunArguments};
use weir_loadtest::perform;
use weir_loadtest::program::{self, EXIT_FAULT, Progress};
use weir_loadtest::report::text;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match arguments.command {
        Command::List => {
            print!("{}", cli::list());
            ExitCode::SUCCESS
        }
        Command::Run(arguments) => start(&arguments),
        Command::Choose(arguments) => {
            let ran = program::log(&arguments.log);
            let ran = ran.and_then(|()| program::block_on(choose(arguments)));
            ran.unwrap_or_else(|error| fault(&error))
        }
        Command::Focus { config } => program::be_the_focus("weir-loadtest", &config),
    }
}

fn start(arguments: &RunArguments) -> ExitCode {
    let ran = program::log(&arguments.log).and_then(|()| program::block_on(run(arguments)));
    ran.unwrap_or_else(|error| fault(&error))
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
        program::interrupted(),
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

async fn choose(arguments: ChooseArguments) -> ExitCode {
    if arguments.round_trips.is_empty() || arguments.runs == 0 {
        return fault("--round-trips and --runs: at least one");
    }
    let options = choosing::Options {
        round_trips_ms: arguments.round_trips,
        runs: arguments.runs,
    };
    let progress = Progress::new();
    let outcome = choosing::run(&options, &|line| progress.tell(line)).await;
    progress.clear();
    match outcome {
        Ok(outcome) => {
            print!("{}", outcome.render());
            match outcome.is_right() {
                true => ExitCode::SUCCESS,
                false => ExitCode::FAILURE,
            }
        }
        Err(error) => fault(&format!("{error:#}")),
    }
}

fn fault(text: &str) -> ExitCode {
    eprintln!("weir-loadtest: {text}");
    ExitCode::from(EXIT_FAULT)
}
