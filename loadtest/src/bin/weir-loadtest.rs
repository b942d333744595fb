//! `weir-loadtest`: puts synthetic participants into calls through a focus, checks what they receive, and reports.

use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser as _;
use weir_loadtest::cli::{self, Arguments, Command, RunArguments};
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

fn fault(text: &str) -> ExitCode {
    eprintln!("weir-loadtest: {text}");
    ExitCode::from(EXIT_FAULT)
}
