//! The command line of `weir-loadtest`, and what it means. Nothing is started here.

use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand};
use weir_client::{Camera, Clips, Encryption, FocusAddress, LayerRate, TransportFeedback};
use weir_relay::profile::Schedule;

use crate::child::focus::FocusProgram;
use crate::criteria::Criteria;
use crate::fault::Fault;
use crate::report::LayerSent;
use crate::scenario::{Layout, Scenario, Settings, Speech};
use crate::site::{Remote, SiteConfig};

const AFTER_HELP: &str = "\
Examples:
  weir-loadtest run lecture --subscribers 500 --seconds 30 --html report.html
  weir-loadtest run conference --participants 16 --json report.json
  weir-loadtest run lossy --network \"loss=10%, delay=50ms\"
  weir-loadtest run ramp --step 100 --max-delay-ms 50
  weir-loadtest run rooms --homeserver https://matrix.example.org --password-file pw \\
      --focus-user @focus:example.org --focus-device WEIR --metrics http://127.0.0.1:7880/metrics

Exit codes: 0 nothing went wrong, 1 a rule was broken, a join failed or a call was dropped, 2 nothing could be measured
(the last line says why). docs/loadtest.md in the repository is the manual.";

/// Synthetic participants for a Matrix call through a focus, who check what they receive.
///
/// Without further flags everything is started on this machine: a homeserver in this process and the focus `weir` as a child
/// process. With --homeserver, --focus-user and --focus-device any homeserver and focus can be loaded.
#[derive(Debug, Parser)]
#[command(name = "weir-loadtest", version, after_help = AFTER_HELP)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Perform a scenario
    Run(Box<RunArguments>),
    /// Choose between foci at several distances, by each of the four measurements alone
    Choose(ChooseArguments),
    /// Say what each scenario does and what its defaults are
    List,
    /// Be the focus that a run starts
    #[command(hide = true)]
    Focus {
        /// The configuration, a TOML file
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
}

/// Flags of `choose`.
#[derive(Debug, Args)]
pub struct ChooseArguments {
    /// Round trips of the foci, which are all started in this process
    #[arg(
        long,
        value_name = "MS,…",
        value_delimiter = ',',
        default_value = "150,40,5"
    )]
    pub round_trips: Vec<u64>,
    /// How often is chosen by each measurement
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub runs: usize,
    /// What is logged to standard error, as in RUST_LOG
    #[arg(
        long,
        value_name = "FILTER",
        env = "WEIR_LOG",
        default_value = "error,matrix_sdk::http_client=off"
    )]
    pub log: String,
}

/// Flags of `run`. What is not given is the scenario's own default.
#[derive(Debug, Args)]
pub struct RunArguments {
    /// What is performed; `weir-loadtest list` says more about each
    #[arg(value_enum)]
    pub scenario: Scenario,
    /// Participants: those who watch in lecture, switching and ramp (there at most), of one room in rooms, else all
    #[arg(long, visible_alias = "subscribers", value_name = "N")]
    pub participants: Option<usize>,
    /// How many of them publish
    #[arg(long, value_name = "N")]
    pub publishers: Option<usize>,
    /// Conferences, in rooms
    #[arg(long, value_name = "N")]
    pub rooms: Option<usize>,
    /// How long is measured after everybody has joined; in ramp, each step
    #[arg(long, value_name = "S")]
    pub seconds: Option<f64>,
    /// Payload of the largest layer of a camera, in kb/s; the others follow in proportion. Less than the clip has changes nothing
    #[arg(long, value_name = "KBPS")]
    pub bitrate: Option<u32>,
    /// Which layers a camera sends: f (1280×720), h (640×360), q (320×180)
    #[arg(long, value_name = "LETTERS", default_value = "fhq", value_parser = parse_layers)]
    pub layers: [bool; 3],
    /// Joins per second; in churn, joins and as many leaves
    #[arg(long, value_name = "N")]
    pub join_rate: Option<f64>,
    /// Changes of a size per second, in switching
    #[arg(long, value_name = "N")]
    pub change_rate: Option<f64>,
    /// Viewers that each step adds, in ramp
    #[arg(long, value_name = "N")]
    pub step: Option<usize>,
    /// Part of the participants that check every packet and frame, from 0 to 1; the others only count media
    #[arg(long, value_name = "SHARE")]
    pub full_share: Option<f64>,
    /// Lets those who check in full tell the focus what arrived when, as browsers do: it limits what it sends to them then
    #[arg(long)]
    pub feedback: bool,
    /// Encrypts media from participant to participant (SFrame), with keys that they exchange over Olm
    #[arg(long)]
    pub encrypt: bool,
    /// How pictures are laid out at each viewer
    #[arg(long, value_enum)]
    pub layout: Option<Layout>,
    /// Which dialect of MSC3898 is spoken on the data channel
    #[arg(long, value_enum, default_value = "late")]
    pub dialect: Speech,
    /// Of everything that is random
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// A bad network between everybody and the focus, each way, in the notation of weir-relay: "loss=5%, delay=25ms"
    #[arg(long, value_name = "NETWORK")]
    pub network: Option<String>,
    /// Writes all that was seen as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Writes a page with drawings
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// What is logged to standard error, as in RUST_LOG
    #[arg(
        long,
        value_name = "FILTER",
        env = "WEIR_LOG",
        default_value = "error,weir_loadtest=warn"
    )]
    pub log: String,
    /// When a ramp ends.
    #[command(flatten)]
    pub criteria: CriteriaArguments,
    /// What is started here.
    #[command(flatten)]
    pub here: HereArguments,
    /// What is somebody's.
    #[command(flatten)]
    pub remote: RemoteArguments,
}

/// When a ramp ends.
#[derive(Debug, Args)]
#[command(next_help_heading = "When a ramp ends")]
pub struct CriteriaArguments {
    /// Packets that may be lost in a step, in per cent
    #[arg(long, value_name = "PERCENT", default_value_t = Criteria::default().loss_percent_max)]
    pub max_loss: f64,
    /// Within which 99 % of the packets must arrive
    #[arg(long, value_name = "MS", default_value_t = Criteria::default().delay_p99_ms_max)]
    pub max_delay_ms: f64,
    /// What the busiest thread of the focus may use, in cores
    #[arg(long, value_name = "CORES", default_value_t = Criteria::default().focus_thread_max)]
    pub max_focus_thread: f64,
    /// Joins of a step that may fail
    #[arg(long, value_name = "N", default_value_t = Criteria::default().failed_joins_max)]
    pub max_failed_joins: u64,
}

/// What is started here.
#[derive(Debug, Args)]
#[command(next_help_heading = "The focus that is started here")]
pub struct HereArguments {
    /// A binary `weir` to start; else the focus is this program started again, the same code of the same build
    #[arg(long, value_name = "FILE", conflicts_with = "homeserver")]
    pub weir: Option<PathBuf>,
    /// Its threads that forward media
    #[arg(long, value_name = "N", conflicts_with = "homeserver")]
    pub shards: Option<usize>,
    /// UDP port of its first shard; 0 lets the system choose
    #[arg(
        long,
        value_name = "PORT",
        default_value_t = 0,
        conflicts_with = "homeserver"
    )]
    pub media_port: u16,
    /// Port of its metrics; 0 takes a free one
    #[arg(
        long,
        value_name = "PORT",
        default_value_t = 0,
        conflicts_with = "homeserver"
    )]
    pub http_port: u16,
    /// Port of the embedded homeserver; 0 lets the system choose
    #[arg(
        long,
        value_name = "PORT",
        default_value_t = 0,
        conflicts_with = "homeserver"
    )]
    pub homeserver_port: u16,
}

/// What is somebody's.
#[derive(Debug, Args)]
#[command(next_help_heading = "Any other focus and homeserver")]
pub struct RemoteArguments {
    /// Base address of the homeserver's Client-Server API
    #[arg(long, value_name = "URL", requires_all = ["focus_user", "focus_device"])]
    pub homeserver: Option<String>,
    /// Matrix user id of the focus
    #[arg(long, value_name = "USER_ID", requires = "homeserver")]
    pub focus_user: Option<String>,
    /// Matrix device id of the focus
    #[arg(long, value_name = "DEVICE_ID", requires = "homeserver")]
    pub focus_device: Option<String>,
    /// Participants are this and a number; accounts that do not exist are registered if the homeserver lets anyone do that
    #[arg(long, value_name = "NAME", default_value = "load")]
    pub user_prefix: String,
    /// Password of all of them; better in the environment or a file, where nobody else sees it
    #[arg(long, env = "WEIR_LOADTEST_PASSWORD", hide_env_values = true)]
    pub password: Option<String>,
    /// File with the password; counts before the environment
    #[arg(long, value_name = "FILE")]
    pub password_file: Option<PathBuf>,
    /// Room of the call; else one is made for each conference, and the focus invited
    #[arg(long, value_name = "ROOM_ID", requires = "homeserver")]
    pub room: Option<String>,
    /// The call's id in that room; else a new one is announced
    #[arg(long, value_name = "ID", requires = "room")]
    pub call: Option<String>,
    /// The focus's metrics
    #[arg(long, value_name = "URL", requires = "homeserver")]
    pub metrics: Option<String>,
}

/// Everything that a run needs, checked.
#[derive(Debug, Clone)]
pub struct Options {
    /// What is performed.
    pub settings: Settings,
    /// Where.
    pub site: SiteConfig,
    /// What a camera sends.
    pub camera: Camera,
    /// Whether people who check in full send transport-wide feedback.
    pub feedback: TransportFeedback,
    /// Whether media is encrypted between people.
    pub encryption: Encryption,
    /// The network in between, as written and as meant.
    pub network: Option<(String, Schedule)>,
    /// When a ramp ends.
    pub criteria: Criteria,
    /// Where JSON goes.
    pub json: Option<PathBuf>,
    /// Where the page goes.
    pub html: Option<PathBuf>,
}

/// What a call of the program has room for: a lecture to some thousands.
const PARTICIPANTS_MAX: usize = 20_000;

impl RunArguments {
    /// Fills in the scenario's defaults and checks every value.
    ///
    /// # Errors
    /// [`Fault::Usage`] with the flag, [`Fault::File`] for a password that cannot be read.
    pub fn options(&self) -> Result<Options, Fault> {
        let settings = self.settings()?;
        let network = self
            .network
            .as_deref()
            .or(self.scenario.network())
            .map(|text| {
                let schedule = text.parse::<Schedule>();
                let schedule = schedule.map_err(|error| usage(format!("--network: {error}")))?;
                Ok::<_, Fault>((text.to_owned(), schedule))
            });
        let criteria = Criteria {
            failed_joins_max: self.criteria.max_failed_joins,
            loss_percent_max: self.criteria.max_loss,
            delay_p99_ms_max: self.criteria.max_delay_ms,
            focus_thread_max: self.criteria.max_focus_thread,
        };
        Ok(Options {
            settings,
            site: self.site()?,
            camera: camera(self.layers, self.bitrate),
            feedback: match self.feedback {
                true => TransportFeedback::Sent,
                false => TransportFeedback::None,
            },
            encryption: match self.encrypt {
                true => Encryption::Sframe,
                false => Encryption::None,
            },
            network: network.transpose()?,
            criteria,
            json: self.json.clone(),
            html: self.html.clone(),
        })
    }

    fn settings(&self) -> Result<Settings, Fault> {
        let defaults = self.scenario.defaults();
        let participants = self.participants.unwrap_or(defaults.participants);
        let settings = Settings {
            participants,
            publishers: self.publishers.unwrap_or(defaults.publishers),
            rooms: self.rooms.unwrap_or(defaults.rooms),
            seconds: self.seconds.unwrap_or(defaults.seconds),
            join_rate: self.join_rate.unwrap_or(defaults.join_rate),
            change_rate: self.change_rate.unwrap_or(defaults.change_rate),
            step: self.step.unwrap_or(defaults.step),
            full_share: self.full_share.unwrap_or(defaults.full_share),
            layout: self.layout.unwrap_or(defaults.layout),
            dialect: self.dialect,
            seed: self.seed,
            ..defaults
        };
        let settings = Settings {
            publishers: if settings.watches() {
                settings.publishers
            } else {
                settings.publishers.min(participants)
            },
            ..settings
        };
        let all =
            participants
                .saturating_mul(settings.rooms)
                .saturating_add(if settings.watches() {
                    settings.publishers
                } else {
                    0
                });
        let positive = |flag: &str, value: f64| match value.is_finite() && value > 0.0 {
            true => Ok(()),
            false => Err(usage(format!("{flag} {value}: must be greater than 0"))),
        };
        positive("--participants", participants as f64)?;
        positive("--publishers", settings.publishers as f64)?;
        positive("--rooms", settings.rooms as f64)?;
        positive("--step", settings.step as f64)?;
        positive("--seconds", settings.seconds)?;
        positive("--join-rate", settings.join_rate)?;
        positive("--change-rate", settings.change_rate)?;
        if all > PARTICIPANTS_MAX {
            return Err(usage(format!(
                "{all} participants: at most {PARTICIPANTS_MAX} in all"
            )));
        }
        if !(0.0..=1.0).contains(&settings.full_share) {
            return Err(usage(format!(
                "--full-share {}: must be from 0 to 1",
                settings.full_share
            )));
        }
        Ok(settings)
    }

    fn site(&self) -> Result<SiteConfig, Fault> {
        let (here, remote) = (&self.here, &self.remote);
        let focus = remote.focus_user.clone().zip(remote.focus_device.clone());
        let address = remote.homeserver.clone().zip(focus);
        let remote_site = address.map(|(homeserver, (user_id, device_id))| Remote {
            homeserver,
            focus: FocusAddress { user_id, device_id },
            room: remote.room.clone(),
            call: remote.call.clone(),
            metrics: remote.metrics.clone(),
        });
        let password = match &remote.password_file {
            Some(path) => Some(read_password(path)?),
            None => remote.password.clone(),
        };
        if remote_site.is_some() && password.is_none() {
            let text = "a homeserver of somebody's needs --password-file, --password or WEIR_LOADTEST_PASSWORD";
            return Err(usage(text.into()));
        }
        if let Some(url) = &remote.homeserver
            && !url.starts_with("http://")
            && !url.starts_with("https://")
        {
            return Err(usage(format!(
                "--homeserver {url}: must begin with https:// or http://"
            )));
        }
        let program = here
            .weir
            .clone()
            .map_or(FocusProgram::Own, FocusProgram::Weir);
        Ok(SiteConfig {
            remote: remote_site,
            password: password.unwrap_or_default(),
            shards: here.shards,
            media_port: here.media_port,
            http_port: here.http_port,
            homeserver_port: here.homeserver_port,
            ..SiteConfig::here(&remote.user_prefix, program)
        })
    }
}

fn usage(text: String) -> Fault {
    Fault::Usage(text)
}

fn read_password(path: &Path) -> Result<String, Fault> {
    let text = std::fs::read_to_string(path).map_err(|error| Fault::File {
        path: path.display().to_string(),
        cause: error.to_string(),
    })?;
    Ok(text.trim_end_matches(['\n', '\r']).to_owned())
}

fn parse_layers(text: &str) -> Result<[bool; 3], String> {
    let layers = ['f', 'h', 'q'].map(|rid| text.contains(rid));
    let known = text.chars().all(|rid| "fhq".contains(rid));
    match known && layers.contains(&true) {
        true => Ok(layers),
        false => Err("must be some of the letters f, h and q".into()),
    }
}

/// The clip's layers are about 600, 300 and 120 kb/s.
const CLIP_KBPS: [u32; 3] = [600, 300, 120];

/// `bitrate` is that of the largest layer that is sent.
fn camera(layers: [bool; 3], bitrate: Option<u32>) -> Camera {
    let largest = layers.iter().position(|sent| *sent).unwrap_or_default();
    let rate = |index: usize| {
        let kbps = bitrate.map_or(0, |bitrate| {
            (u64::from(bitrate) * u64::from(CLIP_KBPS[index]) / u64::from(CLIP_KBPS[largest]))
                as u32
        });
        layers[index].then_some(LayerRate { kbps })
    };
    Camera {
        layers: [rate(0), rate(1), rate(2)],
    }
}

/// What a camera sends, for the report.
pub fn layers_sent(camera: &Camera, clips: &Clips) -> Vec<LayerSent> {
    let sent = clips.layers.iter().zip(camera.layers);
    sent.filter_map(|(layer, rate)| {
        let rate = rate?;
        let bytes: usize = layer.rare.iter().map(|frame| frame.len()).sum();
        // 30 frames a second.
        let clip_kbps = (bytes as u64 * 8 * 30 / layer.rare.len().max(1) as u64 / 1000) as u32;
        Some(LayerSent {
            rid: layer.rid.to_owned(),
            width: layer.width,
            height: layer.height,
            kbps: rate.kbps.max(clip_kbps),
        })
    })
    .collect()
}

/// The command line for the report: without passwords.
pub fn shown(arguments: impl Iterator<Item = String>) -> String {
    let mut shown = vec!["weir-loadtest".to_owned()];
    let mut hide = false;
    for argument in arguments.skip(1) {
        let argument = match argument.split_once('=') {
            _ if hide => "***".to_owned(),
            Some(("--password", _)) => "--password=***".to_owned(),
            _ => argument,
        };
        hide = argument == "--password";
        let plain = |char: char| char.is_alphanumeric() || "-_./:@=*!$".contains(char);
        shown.push(match !argument.is_empty() && argument.chars().all(plain) {
            true => argument,
            false => format!("\"{argument}\""),
        });
    }
    shown.join(" ")
}

/// What `list` prints.
pub fn list() -> String {
    let mut out = String::new();
    for scenario in Scenario::ALL {
        let defaults = scenario.defaults();
        let mut flags = vec![
            format!("--participants {}", defaults.participants),
            format!("--seconds {}", defaults.seconds),
            format!("--join-rate {}", defaults.join_rate),
            format!("--full-share {}", defaults.full_share),
        ];
        if defaults.publishers != usize::MAX {
            flags.insert(1, format!("--publishers {}", defaults.publishers));
        }
        match scenario {
            Scenario::Switching => flags.push(format!("--change-rate {}", defaults.change_rate)),
            Scenario::Ramp => flags.push(format!("--step {}", defaults.step)),
            Scenario::Rooms => flags.push(format!("--rooms {}", defaults.rooms)),
            Scenario::Lossy => flags.push(format!(
                "--network \"{}\"",
                scenario.network().unwrap_or_default()
            )),
            _ => {}
        }
        let about = scenario.about().replace('\n', "\n  ");
        out.push_str(&format!(
            "{}\n  {about}\n  defaults: {}\n\n",
            scenario.name(),
            flags.join(" ")
        ));
    }
    out.push_str(
        "Everywhere: --layers fhq (1280×720 at 600 kb/s, 640×360 at 300 kb/s, 320×180 at 120 kb/s), --layout grid, --dialect late, --seed 1\n",
    );
    out
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn run(line: &str) -> Result<Options, String> {
        let words = ["weir-loadtest", "run"].into_iter().chain(line.split(' '));
        let arguments = Arguments::try_parse_from(words).map_err(|error| error.to_string())?;
        let Command::Run(arguments) = arguments.command else {
            panic!("run")
        };
        arguments.options().map_err(|fault| fault.to_string())
    }

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn what_is_not_said_is_the_scenarios_default() {
        let options = run("lecture --subscribers 500 --seconds 30").expect("good");
        assert_eq!(
            options.settings,
            Settings {
                participants: 500,
                seconds: 30.0,
                ..Scenario::Lecture.defaults()
            }
        );
        assert!(options.site.remote.is_none() && options.network.is_none());
        assert_eq!(options.settings.dialect, Speech::Late);
        let mixed = run("conference --dialect mixed").expect("good");
        assert_eq!(mixed.settings.dialect, Speech::Mixed);
        let lossy = run("lossy").expect("good");
        assert_eq!(lossy.network.expect("a network").0, "loss=5%, delay=25ms");
        assert_eq!(lossy.settings.publishers, 4, "no more than there are");
    }

    #[test]
    fn wrong_values_are_named() {
        for (line, says) in [
            (
                "lecture --full-share 2",
                "--full-share 2: must be from 0 to 1",
            ),
            (
                "churn --join-rate 0",
                "--join-rate 0: must be greater than 0",
            ),
            (
                "lecture --participants 0",
                "--participants 0: must be greater",
            ),
            (
                "lecture --subscribers 30000",
                "30001 participants: at most 20000",
            ),
            ("lecture --layers fx", "letters f, h and q"),
            (
                "lecture --dialect old",
                "[possible values: late, early, mixed]",
            ),
            (
                "lossy --network loss",
                "--network: \"loss\" is no key=value",
            ),
            ("lecture --homeserver http://x", "--focus-user"),
            (
                "lecture --homeserver x --focus-user @f:x --focus-device D --password p",
                "must begin with https:// or http://",
            ),
            (
                "lecture --homeserver http://x --focus-user @f:x --focus-device D --password-file /nowhere/pw",
                "/nowhere/pw: ",
            ),
        ] {
            let said = run(line).expect_err(line);
            assert!(said.contains(says), "{line}: {said}");
        }
    }

    #[test]
    fn layers_and_their_rates() {
        let kbps = |line: &str| {
            let layers = run(line).expect("good").camera.layers;
            layers.map(|layer| layer.map(|rate| rate.kbps))
        };
        assert_eq!(kbps("lecture"), [Some(0), Some(0), Some(0)]);
        assert_eq!(
            kbps("lecture --bitrate 1800"),
            [Some(1800), Some(900), Some(360)]
        );
        assert_eq!(
            kbps("lecture --layers qh --bitrate 500"),
            [None, Some(500), Some(200)]
        );
        let clips = Clips::committed();
        let sent = layers_sent(&camera([true, false, true], Some(2000)), &clips);
        let shown: Vec<_> = sent
            .iter()
            .map(|layer| (layer.rid.as_str(), layer.kbps))
            .collect();
        assert_eq!(shown, [("f", 2000), ("q", 400)]);
    }

    #[test]
    fn passwords_are_not_shown() {
        let words = "x run lecture --password secret --password=secret2 --room !a:b --network loss=5%, delay=1ms";
        let words = words.split(' ').map(str::to_owned);
        let text = shown(words);
        assert!(!text.contains("secret"), "{text}");
        assert!(
            text.starts_with("weir-loadtest run lecture --password *** --password=*** --room !a:b"),
            "{text}"
        );
    }

    #[test]
    fn every_scenario_is_listed() {
        let text = list();
        for scenario in Scenario::ALL {
            assert!(text.contains(&format!("{}\n  ", scenario.name())), "{text}");
        }
    }
}
