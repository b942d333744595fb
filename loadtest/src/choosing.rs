//! Foci at several distances, all in this process, and a device that chooses between them again and again: `weir-loadtest choose`.
//!
//! ```text
//!   device ─────────► homeserver ◄── FarAway ── focus
//!      └── relay (UDP), FarAway (blip port) ─────►┘
//! ```
//! What goes between a focus and anybody else takes half the focus's round trip, each way.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, bail};
use weir::config::{Blip, Config};
use weir::focus::Focus;
use weir_client::choose::{Choice, Criterion, Rules, Using};
use weir_client::matrix::{Device, Foci};
use weir_client::measure::{Hold, Surveyor};
use weir_client::{Detour, FocusAddress, unix_ms};
use weir_homeserver::Homeserver;
use weir_relay::profile::Schedule;
use weir_relay::tcp::FarAway;

use crate::network::Network;
use crate::stage::{self, PASSWORD, StageConfig, Store};

const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// A focus that is called by the same user over and over must not take that for an attack.
const INVITES_PER_SECOND: f64 = 100.0;

/// What `weir-loadtest choose` is to do.
#[derive(Debug, Clone)]
pub struct Options {
    /// Round trips of the foci in milliseconds.
    pub round_trips_ms: Vec<u64>,
    /// How often is chosen by each criterion.
    pub runs: usize,
}

/// A focus somewhere.
struct Distant {
    focus: Focus,
    network: Network,
    blip: FarAway,
    /// The focus's way to its homeserver. Dropped after the focus.
    _homeserver: FarAway,
    _store: Store,
}

/// A homeserver, foci at distances, and a room with a call that all of them have joined.
pub struct World {
    /// Where all of them are users.
    pub homeserver: Homeserver,
    foci: Vec<Distant>,
    /// The room.
    pub room_id: String,
    /// The call's id.
    pub conf_id: String,
}

/// What was chosen by one criterion.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// By what.
    pub criterion: Criterion,
    /// How often each focus was chosen, in the order of the options.
    pub chosen: Vec<usize>,
    /// What was measured of each, in milliseconds: the median; `None` if it was not measured once.
    pub medians_ms: Vec<Option<f64>>,
    /// The median of the bandwidth, in bits per second, where that was measured.
    pub bandwidths_bps: Vec<Option<f64>>,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// Round trips of the foci in milliseconds.
    pub round_trips_ms: Vec<u64>,
    /// One for each criterion.
    pub rows: Vec<Row>,
}

impl World {
    /// Starts everything. The foci are users `focus1` and so on, in the order of their round trips here.
    ///
    /// # Errors
    /// Whatever does not start, by name.
    pub async fn start(
        round_trips: &[Duration],
        progress: &(dyn Fn(&str) + Sync),
    ) -> anyhow::Result<World> {
        progress("starting the homeserver");
        let homeserver = Homeserver::start(weir_homeserver::Config {
            server_name: "localhost".into(),
            listen: ANY,
        });
        let homeserver = homeserver.await?;
        let mut foci = Vec::with_capacity(round_trips.len());
        for (index, round_trip) in round_trips.iter().enumerate() {
            progress(&format!(
                "starting focus {} of {}",
                index + 1,
                round_trips.len()
            ));
            foci.push(Distant::start(&homeserver, index + 1, *round_trip).await?);
        }
        homeserver.set_foci(foci.iter().map(Distant::recommended).collect());
        progress("making a room with a call");
        let addresses: Vec<FocusAddress> = foci.iter().map(Distant::address).collect();
        let (room_id, conf_id) = stage::make_call(&homeserver.url(), &addresses).await?;
        Ok(World {
            homeserver,
            foci,
            room_id,
            conf_id,
        })
    }

    /// Names of the foci.
    pub fn foci(&self) -> Vec<FocusAddress> {
        self.foci.iter().map(Distant::address).collect()
    }

    /// The ways to them.
    pub fn detours(&self) -> BTreeMap<FocusAddress, Detour> {
        let ways = self.foci.iter();
        ways.map(|distant| (distant.address(), distant.network.detour()))
            .collect()
    }

    /// Logs somebody in, and lists it as a member of the call that uses this focus and wants no other.
    ///
    /// # Errors
    /// What the homeserver says.
    pub async fn add_member(&self, user: &str, focus: &FocusAddress) -> anyhow::Result<()> {
        let device = Device::login(&self.homeserver.url(), user, PASSWORD).await?;
        device.join_room(&self.room_id).await?;
        let foci = Foci {
            active: vec![focus.clone()],
            preferred: Vec::new(),
        };
        let session_id = weir_client::random_id(10);
        let put = device.put_member(&self.room_id, &self.conf_id, &session_id, Some(&foci));
        put.await.context("a member event")
    }

    /// Stops all that runs.
    pub async fn stop(self) {
        for distant in self.foci {
            distant.focus.shutdown().await;
            distant.network.stop().await;
        }
        self.homeserver.shutdown().await;
    }
}

impl Distant {
    async fn start(
        homeserver: &Homeserver,
        number: usize,
        round_trip: Duration,
    ) -> anyhow::Result<Distant> {
        let one_way = round_trip / 2;
        let user = format!("focus{number}");
        // Registers the account.
        let account = Device::login(&homeserver.url(), &user, PASSWORD).await;
        account.context("the account of a focus")?;
        let way = FarAway::start(ANY, homeserver.address(), one_way).await?;
        let store = Store::new();
        let url = format!("http://{}", way.address());
        let focus = Focus::start(config(&url, &store, user)).await;
        let focus = focus.with_context(|| format!("focus {number}"))?;
        let blip = focus.blip_address().context("the blip port")?;
        let schedule: Schedule = format!("delay={}us", one_way.as_micros()).parse()?;
        Ok(Distant {
            focus,
            network: Network::new(schedule, number as u64),
            blip: FarAway::start(ANY, blip, one_way).await?,
            _homeserver: way,
            _store: store,
        })
    }

    fn address(&self) -> FocusAddress {
        stage::address_of(&self.focus)
    }

    /// As the well-known document has it, with the way around for its blip port.
    fn recommended(&self) -> weir_homeserver::Focus {
        let FocusAddress { user_id, device_id } = self.address();
        weir_homeserver::Focus {
            user_id,
            device_id,
            blip_url: Some(format!("https://{}/", self.blip.address())),
        }
    }
}

fn config(homeserver: &str, store: &Store, user: String) -> Config {
    let mut config = stage::focus_config(&StageConfig::default(), homeserver, store);
    config.matrix.user = user;
    config.media.pin = false;
    config.http.conferences = false;
    config.blip = Blip {
        listen: Some(ANY),
        ..Blip::default()
    };
    config.limits.invites_per_user_per_second = INVITES_PER_SECOND;
    config
}

/// Chooses by each criterion alone, as often as the options say. Each focus has a member that uses it, so that only what is measured
/// counts.
///
/// # Errors
/// Whatever keeps it from choosing at all.
pub async fn run(options: &Options, progress: &(dyn Fn(&str) + Sync)) -> anyhow::Result<Outcome> {
    let millis = options.round_trips_ms.iter().copied();
    let round_trips: Vec<Duration> = millis.map(Duration::from_millis).collect();
    let world = World::start(&round_trips, progress).await?;
    let chosen = choose_by_each(options, &world, progress).await;
    world.stop().await;
    Ok(Outcome {
        round_trips_ms: options.round_trips_ms.clone(),
        rows: chosen?,
    })
}

async fn choose_by_each(
    options: &Options,
    world: &World,
    progress: &(dyn Fn(&str) + Sync),
) -> anyhow::Result<Vec<Row>> {
    let foci = world.foci();
    for (index, focus) in foci.iter().enumerate() {
        world.add_member(&format!("member{index}"), focus).await?;
    }
    let device = Device::login(&world.homeserver.url(), "chooser", PASSWORD).await?;
    device.join_room(&world.room_id).await?;
    let mut to_device = device.start_sync().await?;
    let mut rows = Vec::new();
    for criterion in Criterion::ALL.into_iter().rev() {
        let surveyor = Surveyor {
            device: device.clone(),
            conf_id: world.conf_id.clone(),
            session_id: weir_client::random_id(10),
            towards: Some(Ipv4Addr::LOCALHOST.into()),
            detours: world.detours(),
            criteria: vec![criterion],
        };
        let mut choices = Vec::with_capacity(options.runs);
        for run in 1..=options.runs {
            progress(&format!("{} {run} of {}", name(criterion), options.runs));
            let mut choice = learn(world, &device, criterion).await?;
            surveyor
                .inform(&mut choice, Hold::Nothing, &mut to_device)
                .await;
            choices.push(choice);
        }
        rows.push(Row::of(criterion, &foci, choices)?);
    }
    Ok(rows)
}

/// A choice that knows all but how near the foci are.
async fn learn(world: &World, device: &Device, criterion: Criterion) -> anyhow::Result<Choice> {
    let rules = Rules {
        criteria: vec![criterion],
        ..Rules::default()
    };
    let (user_id, device_id) = (device.user_id(), device.device_id());
    let mut choice = Choice::new(rules, &world.conf_id, user_id, device_id);
    choice.handle_well_known(&device.well_known().await?);
    for event in device.room_state(&world.room_id).await? {
        choice.handle_state(&event.event_type, &event.state_key, &event.content);
    }
    Ok(choice)
}

impl Row {
    fn of(
        criterion: Criterion,
        foci: &[FocusAddress],
        choices: Vec<Choice>,
    ) -> anyhow::Result<Row> {
        let mut row = Row {
            criterion,
            chosen: vec![0; foci.len()],
            medians_ms: Vec::new(),
            bandwidths_bps: Vec::new(),
        };
        for focus in foci {
            let measured = || choices.iter().filter_map(|of| of.measured().get(focus));
            let times = measured().filter_map(|of| Some(criterion.of(of)?.as_secs_f64() * 1000.0));
            row.medians_ms.push(median(times.collect()));
            let bandwidths = measured().filter_map(|of| Some(of.media?.bandwidth_bps as f64));
            row.bandwidths_bps.push(median(bandwidths.collect()));
        }
        for mut choice in choices {
            let decision = choice.poll_decision(unix_ms());
            let Some(Using::Foci(used)) = decision.map(|decision| decision.using) else {
                bail!("{}: no focus was chosen", name(criterion));
            };
            let chosen = foci.iter().position(|focus| *focus == used[0]);
            row.chosen[chosen.context("a focus of ours")?] += 1;
        }
        Ok(row)
    }
}

impl Outcome {
    /// Whether the nearest focus was chosen each time, and every focus was measured by everything.
    pub fn is_right(&self) -> bool {
        let nearest = (0..self.round_trips_ms.len()).min_by_key(|at| self.round_trips_ms[*at]);
        self.rows.iter().all(|row| {
            let others = row.chosen.iter().enumerate();
            let wrong: usize = others
                .filter(|(at, _)| Some(*at) != nearest)
                .map(|(_, count)| count)
                .sum();
            wrong == 0 && row.medians_ms.iter().all(Option::is_some)
        })
    }

    /// As a table.
    pub fn render(&self) -> String {
        let mut out = String::from("chosen by   ");
        for round_trip in &self.round_trips_ms {
            let _ = write!(out, "{:>24}", format!("at {round_trip} ms"));
        }
        out.push('\n');
        for row in &self.rows {
            let _ = write!(out, "{:<12}", name(row.criterion));
            for (at, median) in row.medians_ms.iter().enumerate() {
                let measured = median.map_or_else(|| "-".into(), |ms| format!("{ms:.1} ms"));
                let times = row.chosen[at];
                let _ = write!(out, "{:>24}", format!("{times} times  ({measured})"));
            }
            out.push('\n');
        }
        out
    }
}

fn name(criterion: Criterion) -> &'static str {
    match criterion {
        Criterion::Answer => "answer",
        Criterion::Blip => "blip",
        Criterion::Channel => "channel",
        Criterion::Media => "media",
    }
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(chosen: [usize; 2], medians_ms: [Option<f64>; 2]) -> Outcome {
        let row = Row {
            criterion: Criterion::Blip,
            chosen: chosen.into(),
            medians_ms: medians_ms.into(),
            bandwidths_bps: vec![None; 2],
        };
        Outcome {
            round_trips_ms: vec![40, 5],
            rows: vec![row],
        }
    }

    #[test]
    fn is_right_only_if_the_nearest_was_chosen_each_time_and_all_were_measured() {
        let (far, near) = (Some(41.0), Some(6.25));
        assert!(outcome([0, 20], [far, near]).is_right());
        assert!(!outcome([1, 19], [far, near]).is_right());
        assert!(!outcome([0, 20], [None, near]).is_right());
        let table = outcome([0, 20], [far, None]).render();
        assert!(
            table.contains("0 times  (41.0 ms)") && table.contains("20 times  (-)"),
            "{table}"
        );
    }
}
