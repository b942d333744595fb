//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::{Args, Parser, Subcommand, ValueEnum};
use weir_shard::Profile;

use crate::audience::Audience;
use crate::fanout::{self, Load, Outcome, Pace};
use crate::floor::{self, Pattern};
use crate::kernel::Run;
use crate::micro;
use crate::report::{Fanout, Floor, Report};
use crate::source::Medium;
use weir_bench::machine::{self, Cores};
use weir_bench::network::{Choice, Network};
use weir_bench::statistics::{median, spread};
use weir_bench::table::Layout;

/// Measures what forwarding a packet costs.
#[derive(Debug, Parser)]
#[command(name = "weir-bench", version)]
struct Cli {
    #[command(subcommand)]
    what: What,
    /// Writes the figures as JSON to this file; `-` is standard output, instead of the tables.
    #[arg(long, global = true, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Prints the tables as Markdown.
    #[arg(long, global = true)]
    markdown: bool,
}

#[derive(Debug, Subcommand)]
enum What {
    /// The steps of the packet path one by one: parse, unprotect, route, rewrite, seal.
    Micro(MicroArgs),
    /// One publisher and many subscribers through the real shard and ring, and beside it what the kernel alone takes.
    Fanout(FanoutArgs),
    /// What the kernel alone takes for sends of a given shape.
    Floor(FloorArgs),
    /// Everything for docs/performance.md: fanout with 10, 100 and 1000 subscribers at a camera's pace and saturated, and micro.
    All(AllArgs),
}

#[derive(Debug, Args)]
struct MicroArgs {
    /// Samples of each step, of 2 ms each.
    #[arg(long, default_value_t = 51, value_parser = clap::value_parser!(u16).range(1..))]
    samples: u16,
    /// Only steps whose name contains this.
    #[arg(long, default_value = "")]
    only: String,
}

#[derive(Debug, Args)]
struct Place {
    /// Where the packets travel.
    #[arg(long, value_enum, default_value_t = Choice::Auto)]
    network: Choice,
    /// The core that is measured; the last one by default. Everything else runs on the others.
    #[arg(long)]
    core: Option<usize>,
    /// Rounds; every figure is the median of them.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// Seconds that are measured in each round.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Seconds before that, behind the second and a half in which the streams start.
    #[arg(long, default_value_t = 0.5)]
    warm_up: f64,
}

#[derive(Debug, Args)]
struct FanoutArgs {
    #[command(flatten)]
    place: Place,
    /// How many subscribers, several with commas.
    #[arg(long, value_delimiter = ',', default_values_t = [10, 100, 1000])]
    subscribers: Vec<usize>,
    /// What is published.
    #[arg(long, value_enum, default_value_t = Medium::Camera)]
    medium: Medium,
    /// The protection profile.
    #[arg(long, value_enum, default_value_t = ProfileChoice::Aes128Gcm)]
    profile: ProfileChoice,
    /// How many times as fast as a camera or microphone is published.
    #[arg(long, default_value_t = 1.0, conflicts_with = "saturate")]
    speed: f64,
    /// Publishes as fast as the shard takes it.
    #[arg(long)]
    saturate: bool,
    /// With --saturate: frames that are sent before the shard has received those before.
    #[arg(long, default_value_t = 1, value_name = "FRAMES", value_parser = clap::value_parser!(u16).range(1..))]
    ahead: u16,
    /// Leaves the floor out.
    #[arg(long)]
    no_floor: bool,
}

#[derive(Debug, Args)]
struct FloorArgs {
    #[command(flatten)]
    place: Place,
    /// How many destinations, several with commas.
    #[arg(long, value_delimiter = ',', default_values_t = [10, 100, 1000])]
    subscribers: Vec<usize>,
    /// Datagrams in one send, several with commas.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 2, 4, 8, 16])]
    segments: Vec<usize>,
    /// Bytes of one datagram.
    #[arg(long, default_value_t = 1060)]
    bytes: usize,
}

#[derive(Debug, Args)]
struct AllArgs {
    #[command(flatten)]
    place: Place,
    /// Samples of each step of micro.
    #[arg(long, default_value_t = 51, value_parser = clap::value_parser!(u16).range(1..))]
    samples: u16,
}

/// [`Profile`] by name.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum ProfileChoice {
    Aes128Gcm,
    Aes256Gcm,
    Aes128CmSha1,
}

impl From<ProfileChoice> for Profile {
    fn from(choice: ProfileChoice) -> Self {
        match choice {
            ProfileChoice::Aes128Gcm => Self::AeadAes128Gcm,
            ProfileChoice::Aes256Gcm => Self::AeadAes256Gcm,
            ProfileChoice::Aes128CmSha1 => Self::Aes128CmHmacSha1_80,
        }
    }
}

/// At saturation one packet of so many is read: the readers share their core with the publisher.
const READ_EVERY_SATURATED: u16 = 64;
/// Consent ends 30 s after the check, which is made once.
const RUN_SECONDS_MAX: f64 = 20.0;
/// The shard forwards one track to at most so many.
const SUBSCRIBERS_MAX: usize = weir_shard::limits::SUBSCRIPTIONS_PER_TRACK - 1;
/// `UDP_SEGMENT` takes at most so many, and a send so many bytes.
const SEGMENTS_MAX: usize = weir_shard::limits::SEGMENTS_MAX;
const SEND_BYTES_MAX: usize = 65_000;

/// Does what the command line says.
pub(crate) fn run() -> Result<()> {
    let cli = Cli::parse();
    let mut report = Report {
        machine: machine::describe(),
        ..Report::default()
    };
    match &cli.what {
        What::Micro(args) => report.micro = micro::run(args.samples.into(), &args.only)?,
        What::Fanout(args) => {
            let loads: Vec<Load> = args.subscribers.iter().map(|n| args.load(*n)).collect();
            fan_out(&args.place, &loads, !args.no_floor, &mut report)?;
        }
        What::Floor(args) => floors(args, &mut report)?,
        What::All(args) => all(args, &mut report)?,
    }
    if let Some(path) = &cli.json {
        report.write_json(path)?;
    }
    if cli
        .json
        .as_deref()
        .is_none_or(|path| path.as_os_str() != "-")
    {
        let layout = if cli.markdown {
            Layout::Markdown
        } else {
            Layout::Terminal
        };
        print!("{}", report.render(layout));
    }
    Ok(())
}

impl FanoutArgs {
    fn load(&self, subscribers: usize) -> Load {
        let pace = if self.saturate {
            Pace::Saturated {
                frames_ahead: self.ahead.into(),
            }
        } else {
            Pace::Times(self.speed)
        };
        Load {
            medium: self.medium,
            profile: self.profile.into(),
            ..self.place.load(subscribers, pace)
        }
    }
}

impl Place {
    fn load(&self, subscribers: usize, pace: Pace) -> Load {
        Load {
            subscribers,
            medium: Medium::Camera,
            pace,
            profile: Profile::AeadAes128Gcm,
            warm_up: Duration::from_secs_f64(self.warm_up.max(0.0)),
            duration: Duration::from_secs_f64(self.seconds.max(0.0)),
        }
    }

    fn validate(&self) -> Result<()> {
        ensure!(
            self.seconds > 0.0
                && self.warm_up >= 0.0
                && self.seconds + self.warm_up <= RUN_SECONDS_MAX,
            "--seconds {} and --warm-up {}: together at most {RUN_SECONDS_MAX}, which is how long one check lets a transport send",
            self.seconds,
            self.warm_up
        );
        Ok(())
    }

    fn open(&self, report: &mut Report) -> Result<(Network, Cores)> {
        self.validate()?;
        let (network, why) = Network::open(self.network)?;
        report.network = network.name().to_owned();
        if let Some(why) = why {
            report
                .notes
                .push(format!("loopback instead of a veth pair: {why}"));
        }
        let cores = Cores::choose(self.core)?;
        cores.leave_measured()?;
        Ok((network, cores))
    }
}

/// Runs all loads round by round, each with its floor right behind it, so that what changes over time changes all of them.
fn fan_out(place: &Place, loads: &[Load], with_floor: bool, report: &mut Report) -> Result<()> {
    for load in loads {
        ensure!(
            (1..=SUBSCRIBERS_MAX).contains(&load.subscribers),
            "--subscribers {}: 1 to {SUBSCRIBERS_MAX}",
            load.subscribers
        );
        if let Pace::Times(times) = load.pace {
            ensure!(
                times > 0.0 && times <= 1000.0,
                "--speed {times}: more than 0, at most 1000"
            );
        }
    }
    let (network, cores) = place.open(report)?;
    let mut found: Vec<(Vec<Outcome>, Vec<Outcome>)> = vec![Default::default(); loads.len()];
    for round in 1..=place.rounds {
        for (load, (rounds, floors)) in loads.iter().zip(&mut found) {
            let what = || format!("round {round}, {} subscribers", load.subscribers);
            eprintln!("{}, {:?}", what(), load.pace);
            let every = match load.pace {
                Pace::Times(_) => 1,
                Pace::Saturated { .. } => READ_EVERY_SATURATED,
            };
            let mut audience = Audience::open(&network, load.subscribers, load.medium, every)?;
            let outcome = fanout::run(&network, &cores, load, &mut audience).with_context(what)?;
            if with_floor {
                let pattern = Pattern::of(&outcome, load.subscribers);
                let floor = floor::run(&network, &cores, load, &mut audience, pattern);
                floors.push(floor.with_context(|| format!("{}, floor", what()))?);
            }
            rounds.push(outcome);
        }
    }
    for (load, (rounds, floors)) in loads.iter().zip(&found) {
        report.fanout.push(Fanout::of(load, rounds, floors));
    }
    Ok(())
}

fn floors(args: &FloorArgs, report: &mut Report) -> Result<()> {
    let (network, cores) = args.place.open(report)?;
    let shapes = args.subscribers.iter().flat_map(|subscribers| {
        let segments = args.segments.iter();
        segments.map(|segments| (*subscribers, *segments))
    });
    let shapes: Vec<(usize, usize)> = shapes.collect();
    for (subscribers, segments) in &shapes {
        ensure!(
            (1..=SEGMENTS_MAX).contains(segments) && segments * args.bytes <= SEND_BYTES_MAX,
            "--segments {segments}: 1 to {SEGMENTS_MAX}, and with --bytes {} at most {SEND_BYTES_MAX} bytes together",
            args.bytes
        );
        ensure!(
            (28..=1472).contains(&args.bytes) && *subscribers > 0,
            "--bytes {}: 28 to 1472",
            args.bytes
        );
    }
    let mut found = vec![Vec::new(); shapes.len()];
    for _ in 0..args.place.rounds {
        for ((subscribers, segments), found) in shapes.iter().zip(&mut found) {
            let pace = Pace::Saturated { frames_ahead: 1 };
            let load = args.place.load(*subscribers, pace);
            let mut audience = Audience::open(&network, *subscribers, load.medium, 1)?;
            let run = Run {
                segments: *segments,
                segment_bytes: args.bytes,
            };
            let outcome = floor::run(&network, &cores, &load, &mut audience, Pattern::Fixed(run))?;
            found.push(outcome.ns_per_packet());
        }
    }
    for ((subscribers, segments), found) in shapes.iter().zip(&found) {
        report.floor.push(Floor {
            subscribers: *subscribers,
            segments: *segments,
            segment_bytes: args.bytes,
            ns_per_packet: median(found),
            ns_spread: spread(found),
            packets_per_core_second: 1e9 / median(found),
        });
    }
    Ok(())
}

fn all(args: &AllArgs, report: &mut Report) -> Result<()> {
    let paces = [Pace::Times(1.0), Pace::Saturated { frames_ahead: 1 }];
    let loads: Vec<Load> = paces
        .into_iter()
        .flat_map(|pace| [10, 100, 1000].map(|subscribers| args.place.load(subscribers, pace)))
        .collect();
    fan_out(&args.place, &loads, true, report)?;
    report.micro = micro::run(args.samples.into(), "")?;
    Ok(())
}
