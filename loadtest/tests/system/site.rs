//! A homeserver and a focus, or several, with as many rooms, calls and participants as a test wants.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{Mutex, MutexGuard};
use weir::config::{Config, Http, Matrix, Media, Secret};
use weir::focus::Focus;
use weir_client::matrix::Device;
use weir_client::report::ViolationCount;
use weir_client::{
    FocusAddress, JoinConfig, Kind, Participant, Report, Size, StreamReport, Violation,
};
use weir_homeserver::Homeserver;

pub(crate) const LARGE: Size = Size {
    width: 1280,
    height: 720,
};
pub(crate) const MEDIUM: Size = Size {
    width: 640,
    height: 360,
};
pub(crate) const SMALL: Size = Size {
    width: 320,
    height: 180,
};
pub(crate) const PASSWORD: &str = "weir-test";

/// Far longer than anything here takes on a machine that has nothing else to do.
const PATIENCE: Duration = Duration::from_secs(30);

/// Waits for a condition, and says what was waited for if it does not come true.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    until_some(what, async || holds().then_some(())).await;
}

/// The same for a condition that has to be asked for and a value that comes with it.
pub(crate) async fn until_some<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(
            start.elapsed() < PATIENCE,
            "not within {PATIENCE:?}: {what}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A stall from which packets come late enough to be taken for a jump in time, which is one of half a second.
const STALL_MS: u64 = 250;

static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

/// What runs under every test.
pub(crate) struct Site<H = Homeserver> {
    pub(crate) homeserver: H,
    /// Where the homeserver is.
    pub(crate) url: String,
    /// Most tests have one.
    foci: Vec<Running>,
    /// Who makes rooms and calls, and may send people away.
    pub(crate) host: Device,
    stall_ms: Arc<AtomicU64>,
    _turn: Turn,
}

/// The right to run.
pub(crate) type Turn = MutexGuard<'static, ()>;

/// Waits until no other test runs.
pub(crate) async fn turn() -> Turn {
    ONE_AT_A_TIME.lock().await
}

/// A focus and what it was started with.
struct Running {
    config: Config,
    focus: Focus,
}

/// A call in a room that all foci have joined.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) room_id: String,
    pub(crate) conf_id: String,
}

impl Site {
    /// A focus with so many shards, all on the loopback interface of the address.
    pub(crate) async fn start(shards: usize, listen: &str) -> Site {
        Site::start_foci(1, shards, listen).await
    }

    /// Several foci, each with so many shards.
    pub(crate) async fn start_foci(foci: usize, shards: usize, listen: &str) -> Site {
        let turn = turn().await;
        let homeserver = Homeserver::start(weir_homeserver::Config {
            server_name: "localhost".into(),
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        });
        let homeserver = homeserver.await.unwrap();
        let url = homeserver.url();
        let mut configs = Vec::new();
        for number in 0..foci {
            let mut config = config(&url, shards, vec![listen.parse().unwrap()]);
            if number > 0 {
                config.matrix.user = format!("focus{number}");
            }
            // Registers the account.
            Device::login(&url, &config.matrix.user, PASSWORD)
                .await
                .unwrap();
            configs.push(config);
        }
        Site::around(homeserver, &url, configs, turn).await
    }

    /// Everybody leaves, and everything stops.
    pub(crate) async fn stop(self, participants: Vec<Participant>) {
        self.leave(participants).await.shutdown().await;
    }
}

impl<H> Site<H> {
    /// Foci beside a homeserver that runs.
    pub(crate) async fn around(
        homeserver: H,
        url: &str,
        configs: Vec<Config>,
        turn: Turn,
    ) -> Site<H> {
        let mut foci = Vec::new();
        for config in configs {
            foci.push(Running::start(config).await);
        }
        let host = Device::login(url, "host", PASSWORD).await.unwrap();
        Site {
            homeserver,
            url: url.to_owned(),
            foci,
            host,
            stall_ms: watch_for_stalls(),
            _turn: turn,
        }
    }

    /// Stops the first focus and starts it again on the same store; the host may do something meanwhile.
    pub(crate) async fn restart(mut self, meanwhile: impl AsyncFnOnce(&Device)) -> Site<H> {
        let Running { config, focus } = self.foci.remove(0);
        focus.shutdown().await;
        meanwhile(&self.host).await;
        self.foci.insert(0, Running::start(config).await);
        self
    }

    /// Stops the last focus in good order.
    pub(crate) async fn stop_last_focus(&mut self) {
        self.foci.pop().unwrap().stop().await;
    }

    /// Everybody leaves, and the foci stop; gives the homeserver.
    pub(crate) async fn leave(self, participants: Vec<Participant>) -> H {
        for participant in participants {
            participant.leave().await;
        }
        for running in self.foci {
            running.stop().await;
        }
        self.homeserver
    }

    /// Makes a room with a call, and waits until all foci are in it.
    pub(crate) async fn call(&self) -> Call {
        let room_id = self.host.create_room().await.unwrap();
        let path = format!("rooms/{}/joined_members", room_id.replace('!', "%21"));
        for running in &self.foci {
            let focus = &running.focus.id().user_id;
            self.host.invite(&room_id, focus).await.unwrap();
            until_some("the focus joins the room", async || {
                let members = self.host.get(&path).await.unwrap();
                members["joined"].get(focus).map(drop)
            })
            .await;
        }
        let conf_id = weir_client::random_id(16);
        self.host.put_call(&room_id, &conf_id).await.unwrap();
        Call { room_id, conf_id }
    }

    /// A participant that publishes everything and wants every video at this size.
    pub(crate) async fn join(&self, call: &Call, user: &str, wanted: Size) -> Participant {
        self.join_at(0, call, user, wanted).await
    }

    /// The same at the focus of that number.
    pub(crate) async fn join_at(
        &self,
        focus: usize,
        call: &Call,
        user: &str,
        wanted: Size,
    ) -> Participant {
        let config = JoinConfig {
            wanted: Some(wanted),
            ..JoinConfig::new(&self.url, user, PASSWORD, self.foci[focus].address())
        };
        let config = config.in_call(&call.room_id, &call.conf_id);
        Participant::join(config).await.unwrap()
    }

    pub(crate) fn focus_address(&self) -> FocusAddress {
        self.foci[0].address()
    }

    /// HTTP status of `/health/ready`.
    pub(crate) async fn ready(&self) -> u16 {
        self.get("/health/ready").await.0
    }

    /// All metrics as they are now. They are exported once a second.
    pub(crate) async fn metrics(&self) -> Metrics {
        self.metrics_of(0).await
    }

    /// The same of the focus of that number.
    pub(crate) async fn metrics_of(&self, focus: usize) -> Metrics {
        let (status, text) = self.foci[focus].get("/metrics").await;
        assert_eq!(status, 200);
        let line = |line: &str| {
            let (name, value) = line.rsplit_once(' ')?;
            Some((name.to_owned(), value.parse().ok()?))
        };
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        Metrics(lines.filter_map(line).collect())
    }

    /// What the focus of that number says of its only conference, as an operator sees it.
    pub(crate) async fn conference_of(&self, focus: usize) -> serde_json::Value {
        let (status, text) = self.foci[focus].get("/conferences").await;
        assert_eq!(status, 200);
        let mut document: serde_json::Value = serde_json::from_str(&text).unwrap();
        document["foci"][0]["conferences"][0].take()
    }

    /// What a scrape gets.
    pub(crate) async fn metrics_text(&self) -> String {
        let (status, text) = self.get("/metrics").await;
        assert_eq!(status, 200);
        text
    }

    /// Where health and metrics are.
    pub(crate) fn http_address(&self) -> SocketAddr {
        self.foci[0].focus.http_address()
    }

    /// Waits until a metric has at least this value.
    pub(crate) async fn until_metric(&self, name: &str, at_least: f64) {
        let mut last = 0.0;
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            last = self.metrics().await.get(name);
            if last >= at_least {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("{name} is {last}, not yet {at_least}");
    }

    /// Waits until nothing is left of any call.
    pub(crate) async fn until_empty(&self) {
        let gauges = [
            "weir_conferences",
            "weir_participants",
            "weir_transports",
            "weir_shard_transports{shard=\"0\"}",
            "weir_shard_tracks{shard=\"0\"}",
            "weir_shard_subscriptions{shard=\"0\"}",
        ];
        for gauge in gauges {
            until_some(&format!("{gauge} 0"), async || {
                (self.metrics().await.get(gauge) == 0.0).then_some(())
            })
            .await;
        }
    }

    /// For how long at most the machine held everybody up, in milliseconds: no gap of the focus's making.
    pub(crate) fn stall_ms(&self) -> u64 {
        self.stall_ms.load(Relaxed)
    }

    /// The rules that a stream broke. A jump in time is none if the machine stood still.
    pub(crate) fn violations(&self, stream: &StreamReport) -> Vec<ViolationCount> {
        let mut violations = stream.violations.clone();
        if self.stall_ms() >= STALL_MS {
            violations.retain(|broken| broken.violation != Violation::TimestampJump);
        }
        violations
    }

    /// Panics if a participant's call was disturbed, or a stream that is there broke a rule.
    pub(crate) fn assert_undisturbed(&self, participant: &Participant) {
        let report = participant.report();
        let user_id = &report.user_id;
        assert_eq!(
            report.invites, 1,
            "{user_id} called again: {:?}",
            report.ends
        );
        assert_eq!(report.errors, Vec::<String>::new(), "{user_id}");
        for stream in report.streams.iter().filter(|stream| stream.live) {
            let what = format!("{:?} of {} at {user_id}", stream.kind, stream.user_id);
            assert_eq!(self.violations(stream), [], "{what}");
            // A socket that nobody reads while the machine stands still overflows, and what is lost then is lost.
            if let Some(video) = &stream.video
                && self.stall_ms() < STALL_MS
            {
                let broken = (video.broken, video.numbers_missed);
                assert_eq!(broken, (0, 0), "broken frames, missed pictures: {what}");
            }
            if let Some(audio) = &stream.audio {
                assert_eq!(audio.recognised, stream.packets, "{what}");
            }
        }
    }

    /// Status and body of a path of the first focus's HTTP side.
    pub(crate) async fn get(&self, path: &str) -> (u16, String) {
        self.foci[0].get(path).await
    }
}

impl Running {
    async fn start(config: Config) -> Running {
        let focus = Focus::start(config.clone()).await.unwrap();
        Running { config, focus }
    }

    fn address(&self) -> FocusAddress {
        let id = self.focus.id();
        FocusAddress {
            user_id: id.user_id.clone(),
            device_id: id.device_id.clone(),
        }
    }

    async fn stop(self) {
        self.focus.shutdown().await;
        // It lies in the folder for temporary files: if it cannot be removed, the system will.
        let _ = std::fs::remove_dir_all(&self.config.matrix.store);
    }

    async fn get(&self, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.focus.http_address()).await.unwrap();
        let request = format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, body.to_owned())
    }
}

/// Name with labels to value.
#[derive(Debug, Clone)]
pub(crate) struct Metrics(BTreeMap<String, f64>);

impl Metrics {
    /// Every series is there from the start, so that one that is not there has another name.
    pub(crate) fn get(&self, name: &str) -> f64 {
        let value = self.0.get(name).copied();
        value.unwrap_or_else(|| panic!("there is no {name}"))
    }

    /// Of all series, in order.
    pub(crate) fn names(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }

    pub(crate) fn refusals(&self, reason: &str) -> f64 {
        self.get(&refusals(reason))
    }
}

/// The name of the metric that counts refusals for this reason.
pub(crate) fn refusals(reason: &str) -> String {
    format!("weir_refusals_total{{reason=\"{reason}\"}}")
}

/// The name of the metric that counts what shard 0 dropped for this reason, before it was known which track it is of or after.
pub(crate) fn drops(reason: &str) -> String {
    let stage = match reason {
        "payload_malformed" | "unknown_payload_type" => "bound",
        _ => "received",
    };
    format!("weir_shard_dropped_total{{shard=\"0\",stage=\"{stage}\",reason=\"{reason}\"}}")
}

/// A participant's live stream of somebody else.
pub(crate) fn stream(of: &Report, sender: &str, kind: Kind) -> Option<StreamReport> {
    let wanted =
        |stream: &&StreamReport| stream.live && stream.user_id == sender && stream.kind == kind;
    of.streams.iter().find(wanted).cloned()
}

/// How many frames or sounds of this kind arrived whole, and could be used.
pub(crate) fn usable(stream: &StreamReport) -> u64 {
    match (&stream.video, &stream.audio) {
        (Some(video), _) => video.decoded,
        (_, Some(audio)) => audio.recognised,
        _ => 0,
    }
}

/// Waits until everybody got two seconds more of everybody's picture and sound.
pub(crate) async fn until_media_flows(participants: &[&Participant]) {
    let reports: Vec<_> = participants.iter().map(|one| one.report()).collect();
    for (participant, before) in participants.iter().zip(&reports) {
        for sender in reports.iter().filter(|of| of.user_id != before.user_id) {
            for (kind, more) in [(Kind::Video, 50), (Kind::Audio, 100)] {
                let count = |report: &Report| {
                    stream(report, &sender.user_id, kind).map_or(0, |stream| usable(&stream))
                };
                let target = count(before) + more;
                let what = format!("{} gets {kind:?} of {}", before.user_id, sender.user_id);
                until(&what, || count(&participant.report()) >= target).await;
            }
        }
    }
}

/// Notes for how long at most a thread that only sleeps was held up, until the last handle is dropped.
fn watch_for_stalls() -> Arc<AtomicU64> {
    const NAP: Duration = Duration::from_millis(5);
    let longest = Arc::new(AtomicU64::new(0));
    let watched = Arc::downgrade(&longest);
    std::thread::spawn(move || {
        while let Some(longest) = watched.upgrade() {
            let start = Instant::now();
            std::thread::sleep(NAP);
            let late = start.elapsed().saturating_sub(NAP);
            longest.fetch_max(late.as_millis() as u64, Relaxed);
        }
    });
    longest
}

/// An ordinary account's, with a store of its own.
pub(crate) fn config(homeserver: &str, shards: usize, listen: Vec<SocketAddr>) -> Config {
    let store = std::env::temp_dir().join(format!("weir-test-{}", weir_client::random_id(8)));
    let matrix = Matrix {
        homeserver: homeserver.into(),
        user: "focus".into(),
        password: Some(Secret::new(PASSWORD)),
        access_token: None,
        device_id: None,
        store,
        store_passphrase: None,
        display_name: "Weir test".into(),
        rooms_max: 16,
    };
    Config {
        media: Media {
            listen,
            shards: Some(shards),
            // The decoders of all participants want the same cores.
            pin: false,
            ..Media::default()
        },
        http: Http {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            page: false,
            conferences: true,
        },
        ..Config::new(matrix)
    }
}
