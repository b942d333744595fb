//! `weir-relay`: a UDP relay that behaves like a bad network, for tests and for people. See `docs/testing.md`.

use std::fs::File;
use std::io::LineWriter;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines, Stdin};
use tokio::signal::unix::{SignalKind, signal};
use weir_relay::profile::Schedule;
use weir_relay::relay::{Config, Direction, Relay};
use weir_relay::trace::Trace;

const NOTATION: &str = "\
A network is a list of key=value, for ever or from a time on:

  loss=5%, delay=25ms, jitter=5ms
  delay=25ms, rate=3M; 20s: rate=500k; 40s: rate=3M

  loss           chance that a datagram is lost by itself
  burst          chance that a burst of loss begins at a datagram
  burst_packets  how many datagrams a burst lasts on average (5)
  burst_loss     chance that a datagram in a burst is lost (100%)
  delay          what every datagram takes
  jitter         what it takes besides, from nothing to this; order is kept
  reorder        chance that a datagram is held back and overtaken
  reorder_by     for how long (20ms)
  duplicate      chance that a datagram arrives twice
  rate           bits per second of IP datagrams (500k, 3M, none)
  queue          how long a datagram may wait for its turn at the rate, else it is dropped (200ms)

A later stage changes only what it names. The first line on standard output says where the relay listens:
  {\"listen\":\"127.0.0.1:45678\"}
Then a line of counters as JSON each --every, at SIGUSR1, for the command `report` on standard input, and at the end.
Other commands on standard input: `up NETWORK` and `down NETWORK` begin another schedule; `quit`.";

/// A UDP relay that behaves like a bad network: put it between a client and the focus.
#[derive(Debug, Parser)]
#[command(name = "weir-relay", version, after_help = NOTATION)]
struct Arguments {
    /// Where clients send to; port 0 lets the system choose.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Where the focus is.
    #[arg(long, value_name = "ADDRESS")]
    to: SocketAddr,
    /// The network from clients to the focus.
    #[arg(long, value_name = "NETWORK", default_value = "")]
    up: Schedule,
    /// The network from the focus to clients.
    #[arg(long, value_name = "NETWORK", default_value = "")]
    down: Schedule,
    /// Of everything that is random: the same datagrams at the same times have the same fate.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Prints the counters this often, in seconds.
    #[arg(long, value_name = "SECONDS")]
    every: Option<f64>,
    /// Writes a line for every RTP packet that comes in on either side: time, direction and header, as CSV.
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let Arguments {
        listen,
        to,
        up,
        down,
        seed,
        every,
        trace,
    } = Arguments::parse();
    let every = every
        .map(Duration::try_from_secs_f64)
        .transpose()
        .context("--every")?
        .filter(|every| !every.is_zero());
    let mut relay = Relay::bind(Config {
        listen,
        to,
        up,
        down,
        seed,
    })
    .await
    .with_context(|| format!("cannot listen on {listen}"))?;
    if let Some(path) = trace {
        let open = || Trace::new(Box::new(LineWriter::new(File::create(&path)?)));
        relay.set_trace(open().with_context(|| format!("--trace {}", path.display()))?);
    }
    println!("{}", serde_json::json!({ "listen": relay.address()? }));
    run(relay, every).await
}

/// Lets datagrams pass until it is told to stop.
async fn run(mut relay: Relay, every: Option<Duration>) -> anyhow::Result<()> {
    let mut commands = Some(BufReader::new(tokio::io::stdin()).lines());
    let mut asked = signal(SignalKind::user_defined1())?;
    let mut terminated = signal(SignalKind::terminate())?;
    let mut interrupted = signal(SignalKind::interrupt())?;
    // Without --every the first tick is the only one within a lifetime.
    let mut ticks = tokio::time::interval(every.unwrap_or(Duration::from_secs(1 << 30)));
    ticks.tick().await;
    loop {
        tokio::select! {
            received = relay.receive() => received?,
            _ = asked.recv() => print_report(&relay)?,
            _ = ticks.tick() => print_report(&relay)?,
            command = next_command(&mut commands) => {
                if !obey(&command, &mut relay)? {
                    break;
                }
            }
            _ = terminated.recv() => break,
            _ = interrupted.recv() => break,
        }
        relay.deliver().await;
    }
    print_report(&relay)
}

/// The next line on standard input. Its end is not the relay's: it may have been started without one.
async fn next_command(commands: &mut Option<Lines<BufReader<Stdin>>>) -> String {
    if let Some(lines) = commands {
        match lines.next_line().await {
            Ok(Some(line)) => return line,
            Ok(None) | Err(_) => *commands = None,
        }
    }
    std::future::pending().await
}

/// Does what a line says; false when it is time to stop. What cannot be understood is said on standard error.
fn obey(line: &str, relay: &mut Relay) -> anyhow::Result<bool> {
    let (command, network) = line.trim().split_once(' ').unwrap_or((line.trim(), ""));
    let direction = match command {
        "up" => Direction::Up,
        "down" => Direction::Down,
        "report" => return print_report(relay).map(|()| true),
        "quit" => return Ok(false),
        "" => return Ok(true),
        unknown => {
            eprintln!("weir-relay: {unknown:?} is none of up, down, report, quit");
            return Ok(true);
        }
    };
    match network.parse::<Schedule>() {
        Ok(schedule) => relay.set_schedule(direction, schedule),
        Err(error) => eprintln!("weir-relay: {command}: {error}"),
    }
    Ok(true)
}

fn print_report(relay: &Relay) -> anyhow::Result<()> {
    println!("{}", serde_json::to_string(&relay.report())?);
    Ok(())
}
