//! The binary `weir`: reads the configuration, runs one focus, stops it on SIGINT or SIGTERM.

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;
use weir::{
    appservice::{Tokens, registration},
    config::Config,
};

/// Exit code of a configuration that cannot be used.
const EXIT_CONFIG: u8 = 2;

/// A focus for Matrix calls (MSC3898).
///
/// Every key of the configuration file can be overridden by an environment variable, for example WEIR_MATRIX_PASSWORD for
/// `password` in `[matrix]`.
#[derive(Debug, Parser)]
#[command(name = "weir", version)]
struct Arguments {
    /// The configuration, a TOML file; docs/weir.example.toml has every key.
    #[arg(
        long,
        value_name = "FILE",
        default_value = "/etc/weir/weir.toml",
        global = true
    )]
    config: PathBuf,
    /// Reads the configuration, says what is wrong with it, and exits with 0 if nothing is and with 2 otherwise.
    #[arg(long)]
    check_config: bool,
    /// What is logged, as in RUST_LOG: a level, or `target=level` pairs.
    #[arg(long, value_name = "FILTER", env = "WEIR_LOG", default_value = weir::run::LOG)]
    log: String,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Prints the registration by which a homeserver knows this focus as an application service.
    ///
    /// It holds the secrets of both: those of the configuration, or random ones that are made the first time and kept in
    /// matrix.store. The homeserver is given it as a file; Synapse by app_service_config_files.
    AppserviceRegistration,
}

fn main() -> ExitCode {
    weir::run::prepare();
    let arguments = Arguments::parse();
    let filter = match EnvFilter::try_new(&arguments.log) {
        Ok(filter) => filter,
        Err(error) => {
            eprintln!("weir: --log {:?}: {error}", arguments.log);
            return ExitCode::from(EXIT_CONFIG);
        }
    };
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
    let config = match Config::load(&arguments.config) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("weir: {}: {error}", arguments.config.display());
            return ExitCode::from(EXIT_CONFIG);
        }
    };
    if arguments.check_config {
        println!("{}: the configuration is valid", arguments.config.display());
        return ExitCode::SUCCESS;
    }
    let done = match arguments.command {
        Some(Command::AppserviceRegistration) => print_registration(&config),
        None => run(config),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("weir: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn print_registration(config: &Config) -> anyhow::Result<()> {
    let Some(appservice) = &config.appservice else {
        anyhow::bail!(
            "the configuration has no section [appservice]; docs/weir.example.toml has its keys"
        );
    };
    let tokens = Tokens::load(config, appservice)?;
    print!("{}", registration(config, appservice, &tokens));
    Ok(())
}

#[tokio::main]
async fn run(config: Config) -> anyhow::Result<()> {
    weir::run::until_told(config).await
}
