//! The command line: which servers, where, how long; and the order of it all.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use clap::{Args, Parser, Subcommand};
use weir_bench::machine::{self, Cores};
use weir_bench::network::{Choice, Network};
use weir_bench::table::Layout;
use weir_loadtest::child::Place;
use weir_loadtest::program::{self, EXIT_FAULT, Progress};

use crate::report::{Compared, Conditions, Report, Round};
use crate::round::{self, Load};
use crate::server::{Candidate, Kind, Setup};

/// Compares Weir with other servers: the same load, in turn, on one core of this machine.
///
/// Exits with 0 if at least two servers were measured in every round, the generator kept up and Weir broke no rule, with 1
/// otherwise, and with 2 if nothing could be measured.
#[derive(Debug, Parser)]
#[command(name = "weir-peers", version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: Arguments,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Be the focus: this program starts itself so.
    #[command(hide = true)]
    Focus {
        #[arg(long)]
        config: PathBuf,
    },
}

#[derive(Debug, Args)]
struct Arguments {
    /// How often each server is measured; the order changes from round to round.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1000))]
    rounds: u16,
    /// Seconds that are measured in each round.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=3600))]
    seconds: u16,
    /// Who listens to the one who publishes.
    #[arg(long, value_name = "N", default_value_t = 40, value_parser = clap::value_parser!(u16).range(1..=2000))]
    subscribers: u16,
    /// Kilobits per second of the picture; less than the clip has (about 600) leaves it as it is.
    #[arg(long, value_name = "N", default_value_t = 1700, value_parser = clap::value_parser!(u32).range(..=20_000))]
    kbps: u32,
    /// Only these servers, several with commas.
    #[arg(long, value_enum, value_delimiter = ',', value_name = "SERVER")]
    only: Vec<Kind>,
    /// Binary of a focus; without it this program itself, which has the same code.
    #[arg(long, value_name = "FILE")]
    weir: Option<PathBuf>,
    /// Janus's binary; looked for on the PATH.
    #[arg(long, value_name = "FILE")]
    janus: Option<PathBuf>,
    /// LiveKit's binary; `livekit-server` is looked for on the PATH.
    #[arg(long, value_name = "FILE")]
    livekit: Option<PathBuf>,
    /// Between servers and participants.
    #[arg(long, value_enum, default_value_t = Choice::Auto)]
    network: Choice,
    /// The core of the servers; the last one by default. Everything else runs on the others.
    #[arg(long, value_name = "N")]
    core: Option<usize>,
    /// Writes every round as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Writes the table as Markdown.
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// What is logged to standard error, as in RUST_LOG.
    #[arg(long, value_name = "FILTER", env = "WEIR_LOG", default_value = "error")]
    log: String,
}

/// Streams begin with keyframes and handshakes leave garbage behind: what comes after this is the ordinary course.
const SETTLES: Duration = Duration::from_secs(2);
/// Files of a participant, and of the server for it.
const FILES_EACH: usize = 8;
/// An address that is nobody's (RFC 5737): only the way towards it is looked up.
const ELSEWHERE: ([u8; 4], u16) = ([192, 0, 2, 1], 9);

pub(crate) fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Some(Command::Focus { config }) = &cli.command {
        return program::be_the_focus("weir-peers", config);
    }
    if let Err(error) = program::log(&cli.run.log) {
        return fault(&error);
    }
    match compare(&cli.run) {
        Ok(report) => match report.is_comparison() {
            true => ExitCode::SUCCESS,
            false => ExitCode::FAILURE,
        },
        Err(error) => fault(&format!("{error:#}")),
    }
}

fn fault(text: &str) -> ExitCode {
    eprintln!("weir-peers: {text}");
    ExitCode::from(EXIT_FAULT)
}

/// Runs everything, prints the table and writes the files.
fn compare(arguments: &Arguments) -> Result<Report> {
    let (candidates, skipped) =
        arguments.candidates(&std::env::var_os("PATH").unwrap_or_default())?;
    skipped.iter().for_each(|line| eprintln!("{line}"));
    for path in [&arguments.json, &arguments.markdown].into_iter().flatten() {
        program::check_writable(path).with_context(|| path.display().to_string())?;
    }
    machine::allow_files(FILES_EACH * (usize::from(arguments.subscribers) + 1))?;
    let (network, why) = Network::open(arguments.network)?;
    let cores = Cores::choose(arguments.core)?;
    let available = std::thread::available_parallelism().map_or(1, usize::from);
    let mut notes = Vec::new();
    notes.extend(
        why.map(|why| format!("On the machine's own addresses instead of a veth pair: {why}")),
    );
    if available == 1 {
        notes.push("Servers and participants share the only core.".into());
    }
    let conditions = Conditions {
        machine: machine::describe(),
        network: network.name().to_owned(),
        core: cores.measured,
        subscribers: arguments.subscribers.into(),
        kbps: arguments.kbps,
        rounds: arguments.rounds.into(),
        seconds: arguments.seconds.into(),
        notes,
    };
    let network = Arc::new(network);
    let setup = Setup {
        place: place(Arc::clone(&network), cores),
        server_ip: address(&network, Network::near_ip)?,
        own_ip: address(&network, Network::far_ip)?,
        subscribers: arguments.subscribers.into(),
        kbps: arguments.kbps,
    };
    let load = Load {
        window: Duration::from_secs(arguments.seconds.into()),
        settle: SETTLES,
        generator_cores: available.saturating_sub(1).max(1),
    };
    let mut report = Report {
        schema: "weir-peers/1",
        conditions,
        servers: candidates.iter().map(compared).collect(),
        skipped,
    };
    // Participants and the homeserver are at the far end, in this process.
    network.far(|| {
        cores.leave_measured()?;
        let rounds = run(&candidates, &setup, load, &mut report);
        program::block_on(rounds).map_err(anyhow::Error::msg)
    })?;
    print!("{}", report.render(Layout::Terminal));
    arguments.write(&report)?;
    Ok(report)
}

/// All rounds, until the end or a signal.
async fn run(candidates: &[Candidate], setup: &Setup, load: Load, report: &mut Report) {
    let progress = Progress::new();
    let rounds = async {
        let count = report.conditions.rounds;
        for number in 1..=count {
            for turn in 1..=candidates.len() {
                let index = (number + turn - 2) % candidates.len();
                let candidate = &candidates[index];
                let about = format!("round {number} of {count}, {}", candidate.kind.name());
                let tell = |step: &str| progress.tell(&format!("{about}, {step}"));
                let measured = round::measure(candidate, setup, load, &tell).await;
                let (figures, failure) = match measured {
                    Ok(figures) => (Some(figures), None),
                    Err(error) => (None, Some(format!("{error:#}"))),
                };
                report.servers[index].rounds.push(Round {
                    round: number,
                    turn,
                    figures,
                    failure,
                });
            }
        }
    };
    tokio::select! {
        () = rounds => {}
        // A server that is being measured is killed with what it was measured for.
        () = program::interrupted() => report_interrupt(),
    }
    progress.clear();
}

fn report_interrupt() {
    eprintln!("weir-peers: interrupted; what was measured so far follows");
}

/// Starts servers at the near end, on their core.
fn place(network: Arc<Network>, cores: Cores) -> Place {
    Place::new(move |command| {
        let runtime = tokio::runtime::Handle::current();
        let spawn = || {
            let _entered = runtime.enter();
            // Of a thread of its own, which ends with this: the child has its core and its network.
            cores.enter_measured()?;
            Ok(command.spawn()?)
        };
        let spawned = std::thread::scope(|scope| scope.spawn(|| network.near(spawn)).join());
        let spawned = spawned.unwrap_or_else(|_| Err(anyhow::anyhow!("a thread panicked")));
        spawned.map_err(|error| std::io::Error::other(format!("{error:#}")))
    })
}

/// Janus takes no loopback addresses: then it is the one by which this machine is known to others.
fn address(network: &Network, end: impl Fn(&Network) -> IpAddr) -> Result<IpAddr> {
    let address = end(network);
    if !address.is_loopback() {
        return Ok(address);
    }
    let outward = weir_loadtest::network::local_address(ELSEWHERE.into());
    outward.context("this machine has no address but loopback, which Janus does not take; as root a veth pair can be made")
}

fn compared(candidate: &Candidate) -> Compared {
    let own = || env!("CARGO_PKG_VERSION").to_owned();
    let version = candidate.binary.as_deref().map_or_else(own, version_of);
    Compared {
        server: candidate.kind,
        version,
        rounds: Vec::new(),
    }
}

/// What a binary says that it is.
fn version_of(binary: &Path) -> String {
    let said = std::process::Command::new(binary).arg("--version").output();
    let said = said.map(|said| String::from_utf8_lossy(&said.stdout).into_owned());
    version_in(&said.unwrap_or_default()).unwrap_or_else(|| "of unknown version".into())
}

/// The first thing with two dots between numbers.
fn version_in(text: &str) -> Option<String> {
    let mut words = text.split(|of: char| !of.is_ascii_digit() && of != '.');
    let is_version = |word: &&str| {
        let parts: Vec<&str> = word.split('.').collect();
        parts.len() == 3 && parts.iter().all(|part| !part.is_empty())
    };
    words.find(is_version).map(str::to_owned)
}

impl Arguments {
    /// The servers that are there, and a line for each that is not.
    fn candidates(&self, path: &std::ffi::OsStr) -> Result<(Vec<Candidate>, Vec<String>)> {
        let wanted: BTreeSet<Kind> = self.only.iter().copied().collect();
        let is_wanted = |kind: Kind| wanted.is_empty() || wanted.contains(&kind);
        let (mut candidates, mut skipped) = (Vec::new(), Vec::new());
        let mut add = |kind, binary| candidates.push(Candidate { kind, binary });
        let named = [&self.weir, &self.janus, &self.livekit];
        for file in named.into_iter().flatten() {
            ensure!(file.is_file(), "{} does not exist", file.display());
        }
        if is_wanted(Kind::Weir) {
            add(Kind::Weir, self.weir.clone());
        }
        let others = [
            (
                Kind::Janus,
                &self.janus,
                "janus",
                "install the Debian package `janus`, or name a binary with --janus",
            ),
            (
                Kind::Livekit,
                &self.livekit,
                "livekit-server",
                "build it with Go (docs/peers.md says how), and name the binary with --livekit",
            ),
        ];
        for (kind, named, name, what_to_do) in others {
            if !is_wanted(kind) {
                continue;
            }
            let on_path = || {
                let all = std::env::split_paths(path).map(|folder| folder.join(name));
                all.into_iter().find(|file| file.is_file())
            };
            match named.clone().or_else(on_path) {
                Some(binary) => add(kind, Some(binary)),
                None => skipped.push(format!("{} is not here: {what_to_do}", kind.name())),
            }
        }
        ensure!(
            !candidates.is_empty(),
            "no server to measure: {}",
            skipped.join("; ")
        );
        Ok((candidates, skipped))
    }

    fn write(&self, report: &Report) -> Result<()> {
        if let Some(path) = &self.json {
            let text = serde_json::to_string_pretty(report)? + "\n";
            std::fs::write(path, text).with_context(|| path.display().to_string())?;
        }
        if let Some(path) = &self.markdown {
            let text = report.render(Layout::Markdown);
            std::fs::write(path, text).with_context(|| path.display().to_string())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(line: &[&str]) -> Arguments {
        let line = ["weir-peers"].iter().chain(line);
        Cli::try_parse_from(line).expect("arguments").run
    }

    #[test]
    fn a_server_that_is_not_there_is_left_out_with_a_line_that_says_what_to_do() {
        let nothing = std::ffi::OsStr::new("/nowhere");
        let (candidates, skipped) = arguments(&[]).candidates(nothing).expect("Weir");
        let kinds: Vec<_> = candidates.iter().map(|of| of.kind).collect();
        assert_eq!(kinds, [Kind::Weir]);
        assert!(skipped[0].starts_with("Janus is not here: install the Debian package"));
        assert!(skipped[1].starts_with("LiveKit is not here: build it with Go"));
        let error = arguments(&["--only", "janus"]).candidates(nothing);
        let error = error.expect_err("nothing").to_string();
        assert!(
            error.starts_with("no server to measure: Janus is not here"),
            "{error}"
        );
    }

    #[test]
    fn a_file_that_is_named_must_be_there() {
        let nothing = std::ffi::OsStr::new("");
        let own = std::env::current_exe()
            .expect("this test")
            .display()
            .to_string();
        let (candidates, _) = arguments(&["--only", "livekit", "--livekit", &own])
            .candidates(nothing)
            .expect("a binary");
        assert_eq!(candidates[0].binary, Some(own.into()));
        let error = arguments(&["--janus", "/nowhere/janus"]).candidates(nothing);
        let error = error.expect_err("not there").to_string();
        assert_eq!(error, "/nowhere/janus does not exist");
    }

    #[test]
    fn versions_are_found_in_what_binaries_say() {
        let janus = "Janus version: 1102 (1.1.2)\nJanus commit: not-a-git-repo\n";
        assert_eq!(version_in(janus).as_deref(), Some("1.1.2"));
        assert_eq!(
            version_in("livekit-server version 1.9.11").as_deref(),
            Some("1.9.11")
        );
        assert_eq!(version_in("v1.2"), None);
    }
}
