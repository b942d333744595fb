//! The participant as a whole: from a Matrix login to a leave. What the parts do is in their modules; this one owns their
//! order and the task that runs them.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rand::SeedableRng as _;
use rand::rngs::StdRng;
use tokio::sync::{mpsc, oneshot};

use crate::call::{self, End};
use crate::channel::{self, Dialect, Metadata};
use crate::clips::Clips;
use crate::encryption::{self, MediaKeys};
use crate::health::Counted;
use crate::matrix::{Device, MatrixError, ToDevice};
use crate::pictures::DecodeThread;
use crate::report::{CheckedHow, Kind, Latencies, Latest, Report};

/// A picture size in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Size {
    /// Pixels.
    pub width: u16,
    /// Pixels.
    pub height: u16,
}

/// The Matrix device that is the focus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FocusAddress {
    /// Its Matrix user id.
    pub user_id: String,
    /// Its Matrix device id.
    pub device_id: String,
}

/// What a participant publishes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Publish {
    /// The clip's pictures; `None` publishes none.
    pub video: Option<Camera>,
    /// The clip's sound.
    pub audio: bool,
}

impl Publish {
    /// Nothing: a spectator.
    pub const NOTHING: Publish = Publish {
        video: None,
        audio: false,
    };
    /// The clip in three layers as it is, and its sound.
    pub const ALL: Publish = Publish {
        video: Some(Camera::THREE_LAYERS),
        audio: true,
    };
    /// The sound alone.
    pub const AUDIO: Publish = Publish {
        video: None,
        audio: true,
    };
}

/// Which layers of the clip are sent, and how large they are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Camera {
    /// `f` (1280×720), `h` (640×360) and `q` (320×180), in this order; `None` leaves a layer out. One layer alone is sent without
    /// simulcast.
    pub layers: [Option<LayerRate>; 3],
}

impl Camera {
    /// All three layers as the clip has them: about 600, 300 and 120 kb/s.
    pub const THREE_LAYERS: Camera = Camera {
        layers: [Some(LayerRate::CLIP); 3],
    };
}

/// The bit rate of one layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerRate {
    /// Payload kilobits per second on average; frames are filled up with bytes that decoders do not look at. Less than the clip has
    /// leaves it as it is, `0` too.
    pub kbps: u32,
}

impl LayerRate {
    /// As the clip is.
    pub const CLIP: LayerRate = LayerRate { kbps: 0 };
}

/// How much of what arrives is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checks {
    /// Every packet and every frame.
    Full {
        /// What is decoded besides.
        decode: Decode,
    },
    /// Everything up to the first frames; after that the kernel drops media except for one packet in [`SAMPLE_ONE_IN`], and counts
    /// it. Signalling, ICE, DTLS, pings and receiver reports go on. Transport-wide numbers are not negotiated, since who does not
    /// see all packets cannot report on them: a focus does not limit what it sends to a light participant. Nothing is asked for
    /// again, for the same reason.
    Light,
}

/// Of the media of a light participant this part is looked at.
pub const SAMPLE_ONE_IN: u32 = 64;

impl Checks {
    /// All that there is.
    pub const ALL: Checks = Checks::Full {
        decode: Decode::ALL,
    };

    pub(crate) fn how(self) -> CheckedHow {
        match self {
            Checks::Full { .. } => CheckedHow::Full,
            Checks::Light => CheckedHow::Light,
        }
    }

    pub(crate) fn decode(self) -> Decode {
        match self {
            Checks::Full { decode } => decode,
            Checks::Light => Decode::NONE,
        }
    }
}

/// Which frames are decoded. Decoding is by far the dearest check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decode {
    /// One in so many streams of the process is decoded: 1 is all, 0 none.
    pub one_stream_in: u32,
    /// Which of its frames.
    pub frames: DecodedFrames,
}

/// Which frames of a stream are decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DecodedFrames {
    /// All.
    All,
    /// Each keyframe alone.
    Keyframes,
}

impl Decode {
    /// Everything.
    pub const ALL: Decode = Decode {
        one_stream_in: 1,
        frames: DecodedFrames::All,
    };
    /// Nothing.
    pub const NONE: Decode = Decode {
        one_stream_in: 0,
        frames: DecodedFrames::Keyframes,
    };
    /// The keyframes of every stream.
    pub const KEYFRAMES: Decode = Decode {
        one_stream_in: 1,
        frames: DecodedFrames::Keyframes,
    };
}

/// Whether the participant tells the focus what arrived when, so that the focus can estimate the bandwidth of the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransportFeedback {
    /// Transport-wide feedback every 100 ms, as browsers do. Ignored for [`Checks::Light`].
    Sent,
    /// None: a focus does not limit what it sends.
    None,
}

/// Whether media is encrypted from participant to participant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Encryption {
    /// A focus can read it.
    #[default]
    None,
    /// SFrame (RFC 9605) with keys that the participants exchange over Olm. All of a call must have the same setting.
    Sframe,
}

/// Where media is sent instead of to one of the focus's candidates.
#[derive(Clone)]
pub struct Detour(Arc<dyn Fn(SocketAddr) -> Option<SocketAddr> + Send + Sync>);

impl Detour {
    /// `towards` gives the address to use (of a relay) for an address of the focus, `None` leaves the candidate out.
    pub fn new(
        towards: impl Fn(SocketAddr) -> Option<SocketAddr> + Send + Sync + 'static,
    ) -> Detour {
        Detour(Arc::new(towards))
    }

    /// The address to use.
    pub fn towards(&self, focus: SocketAddr) -> Option<SocketAddr> {
        (self.0)(focus)
    }
}

impl std::fmt::Debug for Detour {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Detour")
    }
}

/// Changes what arrives between its decryption and the checks, so that a test can show what the checks catch.
#[derive(Clone)]
pub struct Tamper(Arc<Mutex<TamperFn>>);

type TamperFn = dyn FnMut(rtp::packet::Packet) -> Vec<rtp::packet::Packet> + Send;

impl Tamper {
    /// `change` gives the packets that are checked instead of the one that arrived: none, one or several.
    pub fn new(
        change: impl FnMut(rtp::packet::Packet) -> Vec<rtp::packet::Packet> + Send + 'static,
    ) -> Tamper {
        Tamper(Arc::new(Mutex::new(change)))
    }

    pub(crate) fn apply(&self, packet: rtp::packet::Packet) -> Vec<rtp::packet::Packet> {
        (self.0.lock().unwrap_or_else(PoisonError::into_inner))(packet)
    }
}

impl std::fmt::Debug for Tamper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tamper")
    }
}

/// All that is needed to join a call: [`JoinConfig::new`], then what is to be different.
#[derive(Debug, Clone)]
pub struct JoinConfig {
    /// Base address of the homeserver's Client-Server API, e.g. `http://127.0.0.1:8008`.
    pub homeserver: String,
    /// The user's local part; registered if it does not exist and the homeserver lets anyone register.
    pub user: String,
    /// Its password.
    pub password: String,
    /// The room of the call; joined if it is public or the user is invited.
    pub room_id: String,
    /// The call's id: the state key of its `m.call` event.
    pub conf_id: String,
    /// Whom to call.
    pub focus: FocusAddress,
    /// What to send.
    pub publish: Publish,
    /// The size asked for of every video; `None` subscribes to no video.
    pub wanted: Option<Size>,
    /// What is sent: [`Clips::committed`].
    pub clips: Clips,
    /// How much is checked.
    pub checks: Checks,
    /// What the focus is told about the way.
    pub transport_feedback: TransportFeedback,
    /// What is spoken on the data channel.
    pub dialect: Dialect,
    /// Whether media is encrypted for the other participants.
    pub encryption: Encryption,
    /// Sends media to other addresses than the focus said, e.g. to a relay that behaves like a bad network.
    pub detour: Option<Detour>,
    /// Whatever is random about a participant except for its keys follows from this number: SSRCs, first sequence numbers and times,
    /// the phase of its timers. `None` takes a random one.
    pub seed: Option<u64>,
    /// For tests of the checks themselves.
    pub tamper: Option<Tamper>,
}

impl JoinConfig {
    /// Publishes everything in the clear, wants 640×360 of everyone, checks and decodes everything, sends no transport-wide feedback,
    /// speaks the late dialect.
    pub fn new(homeserver: &str, user: &str, password: &str, focus: FocusAddress) -> JoinConfig {
        JoinConfig {
            homeserver: homeserver.to_owned(),
            user: user.to_owned(),
            password: password.to_owned(),
            room_id: String::new(),
            conf_id: String::new(),
            focus,
            publish: Publish::ALL,
            wanted: Some(Size {
                width: 640,
                height: 360,
            }),
            clips: Clips::committed(),
            checks: Checks::ALL,
            transport_feedback: TransportFeedback::None,
            dialect: Dialect::Late,
            encryption: Encryption::None,
            detour: None,
            seed: None,
            tamper: None,
        }
    }

    /// The same in this call.
    pub fn in_call(mut self, room_id: &str, conf_id: &str) -> JoinConfig {
        self.room_id = room_id.to_owned();
        self.conf_id = conf_id.to_owned();
        self
    }
}

/// Why a participant could not join.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// The homeserver refused or could not be reached.
    #[error("homeserver: {0}")]
    Homeserver(#[from] MatrixError),
}

/// One user's device in one call, running on its own tasks until it leaves or every handle is dropped.
#[derive(Debug, Clone)]
pub struct Participant {
    commands: mpsc::UnboundedSender<Command>,
    report: Latest,
}

/// What the owner of a participant wants of its task.
#[derive(Debug)]
pub(crate) enum Command {
    Wanted(Option<Size>),
    WantedOf(String, Option<Size>),
    Mute(Kind, bool),
    Text(String),
    Leave(oneshot::Sender<()>),
}

impl Participant {
    /// Logs in, joins the room and publishes the member event; the call itself is made, and made again if it ends, by the
    /// participant's own task. How it goes is in the [`report`](Self::report).
    pub async fn join(config: JoinConfig) -> Result<Participant, JoinError> {
        let began = Instant::now();
        let device = Device::login(&config.homeserver, &config.user, &config.password).await?;
        device.join_room(&config.room_id).await?;
        let (to_device, keys) = listen(&device, &config).await?;
        let session_id = crate::random_id(10);
        let focus = (
            config.focus.user_id.as_str(),
            config.focus.device_id.as_str(),
        );
        device
            .put_member(&config.room_id, &config.conf_id, &session_id, Some(focus))
            .await?;
        let report = Latest::new(Report {
            user_id: device.user_id().to_owned(),
            device_id: device.device_id().to_owned(),
            checks: config.checks.how(),
            latencies: Latencies {
                join_ms: Some(began.elapsed().as_secs_f64() * 1000.0),
                ..Latencies::default()
            },
            ..Report::default()
        });
        let (commands, receiver) = mpsc::unbounded_channel();
        let life = Life {
            wishes: Wishes {
                wanted: config.wanted,
                ..Wishes::default()
            },
            rng: StdRng::seed_from_u64(config.seed.unwrap_or_else(rand::random)),
            config,
            device,
            session_id,
            stream_id: crate::random_id(36),
            audio_track: crate::random_id(36),
            video_track: crate::random_id(36),
            to_device,
            commands: receiver,
            report: report.clone(),
            decoder: DecodeThread::shared(),
            keys,
            left: None,
            _counted: Counted::new(),
        };
        tokio::spawn(life.run());
        Ok(Participant { commands, report })
    }

    /// A snapshot of everything counted so far, at most a fifth of a second old, one second for light participants.
    pub fn report(&self) -> Report {
        Report::clone(&self.snapshot())
    }

    /// The same without a copy: cheap enough to ask thousands once a second.
    pub fn snapshot(&self) -> Arc<Report> {
        self.report.get()
    }

    /// Changes the size that is asked for of every video; `None` unsubscribes from all video.
    pub fn set_wanted(&self, wanted: Option<Size>) {
        let _ = self.commands.send(Command::Wanted(wanted));
    }

    /// Changes the size that is asked for of one user's videos, whatever [`set_wanted`](Self::set_wanted) says.
    pub fn set_wanted_of(&self, user_id: &str, wanted: Option<Size>) {
        let _ = self
            .commands
            .send(Command::WantedOf(user_id.to_owned(), wanted));
    }

    /// Stops or restarts sending and tells the focus.
    pub fn set_muted(&self, kind: Kind, muted: bool) {
        let _ = self.commands.send(Command::Mute(kind, muted));
    }

    /// Sends any text frame on the data channel, for tests of bad input.
    pub fn send_text(&self, text: impl Into<String>) {
        let _ = self.commands.send(Command::Text(text.into()));
    }

    /// Hangs up, takes the device out of the member event, logs it out and stops.
    pub async fn leave(self) {
        let (done, wait) = oneshot::channel();
        let _ = self.commands.send(Command::Leave(done));
        let _ = wait.await;
    }
}

/// Starts to sync, and if media is encrypted, to exchange keys.
async fn listen(
    device: &Device,
    config: &JoinConfig,
) -> Result<(mpsc::Receiver<ToDevice>, Option<MediaKeys>), MatrixError> {
    match config.encryption {
        Encryption::None => Ok((device.start_sync().await?, None)),
        Encryption::Sframe => {
            let types = &encryption::EVENT_TYPES;
            let (to_device, news) = device.start_sync_watching(&config.room_id, types).await?;
            let conference = weir_sframe::Conference {
                room_id: config.room_id.clone(),
                call_id: config.conf_id.clone(),
            };
            let keys = encryption::start(device, conference, news).await?;
            Ok((to_device, Some(keys)))
        }
    }
}

/// What the participant wants, over all its calls.
#[derive(Debug, Default)]
pub(crate) struct Wishes {
    wanted: Option<Size>,
    wanted_of: BTreeMap<String, Option<Size>>,
    audio_muted: bool,
    video_muted: bool,
}

impl Wishes {
    pub(crate) fn handle(&mut self, command: &Command) {
        match command {
            Command::Wanted(wanted) => self.wanted = *wanted,
            Command::WantedOf(user_id, wanted) => {
                let _ = self.wanted_of.insert(user_id.clone(), *wanted);
            }
            Command::Mute(Kind::Audio, muted) => self.audio_muted = *muted,
            Command::Mute(Kind::Video, muted) => self.video_muted = *muted,
            Command::Text(_) | Command::Leave(_) => {}
        }
    }

    pub(crate) fn wanted_of(&self, user_id: &str) -> Option<Size> {
        self.wanted_of.get(user_id).copied().unwrap_or(self.wanted)
    }

    pub(crate) fn muted(&self, kind: Kind) -> bool {
        match kind {
            Kind::Audio => self.audio_muted,
            Kind::Video => self.video_muted,
        }
    }
}

/// What outlives a call: the device, the names, the wishes.
#[derive(Debug)]
pub(crate) struct Life {
    pub(crate) config: JoinConfig,
    pub(crate) device: Device,
    pub(crate) session_id: String,
    pub(crate) stream_id: String,
    pub(crate) audio_track: String,
    pub(crate) video_track: String,
    pub(crate) to_device: mpsc::Receiver<ToDevice>,
    pub(crate) commands: mpsc::UnboundedReceiver<Command>,
    pub(crate) wishes: Wishes,
    pub(crate) decoder: DecodeThread,
    pub(crate) rng: StdRng,
    /// If media is encrypted.
    pub(crate) keys: Option<MediaKeys>,
    report: Latest,
    left: Option<oneshot::Sender<()>>,
    _counted: Counted,
}

/// A member event names the device for an hour, and the published client renews it so often.
const RENEW_EVERY: Duration = Duration::from_secs(45 * 60);

/// Renews the member event until it is aborted: whoever is not named any more gets no keys.
async fn renew_member(device: Device, config: JoinConfig, session_id: String) {
    let focus = (
        config.focus.user_id.as_str(),
        config.focus.device_id.as_str(),
    );
    let (room_id, conf_id) = (&config.room_id, &config.conf_id);
    loop {
        tokio::time::sleep(RENEW_EVERY).await;
        let renewed = device.put_member(room_id, conf_id, &session_id, Some(focus));
        if let Err(error) = renewed.await {
            tracing::warn!(%error, "the member event could not be renewed");
        }
    }
}

/// The published client calls again within five seconds of a hang-up.
const CALL_AGAIN: Duration = Duration::from_secs(1);
const CALL_AGAIN_MAX: Duration = Duration::from_secs(5);

impl Life {
    async fn run(mut self) {
        let (device, config) = (self.device.clone(), self.config.clone());
        let renewal = tokio::spawn(renew_member(device, config, self.session_id.clone()));
        let mut pause = CALL_AGAIN;
        loop {
            match call::run(&mut self).await {
                End::Left => break,
                End::Ended(reason) => {
                    tracing::info!(reason, "the call ended");
                    self.update(|report| report.ends.push(reason));
                }
            }
            let connected = self.report().connected_after_ms.is_some();
            pause = if connected {
                CALL_AGAIN
            } else {
                (pause * 2).min(CALL_AGAIN_MAX)
            };
            if self.pause(pause).await {
                break;
            }
        }
        renewal.abort();
        let member = self.device.put_member(
            &self.config.room_id,
            &self.config.conf_id,
            &self.session_id,
            None,
        );
        if let Err(error) = member.await {
            tracing::warn!(%error, "the member event could not be taken back");
        }
        if let Err(error) = self.device.log_out().await {
            tracing::warn!(%error, "the device could not be logged out");
        }
        if let Some(left) = self.left.take() {
            let _ = left.send(());
        }
    }

    /// Waits before the next call; true if the participant leaves meanwhile.
    async fn pause(&mut self, pause: Duration) -> bool {
        let deadline = tokio::time::sleep(pause);
        tokio::pin!(deadline);
        loop {
            tokio::select! {
                () = &mut deadline => return false,
                // Messages of the call that ended.
                Some(_) = self.to_device.recv() => {}
                command = self.commands.recv() => match command {
                    None | Some(Command::Leave(_)) => {
                        self.leaving(command);
                        return true;
                    }
                    Some(command) => self.wishes.handle(&command),
                }
            }
        }
    }

    /// Remembers whom to tell when all is done.
    pub(crate) fn leaving(&mut self, command: Option<Command>) -> End {
        if let Some(Command::Leave(done)) = command {
            self.left = Some(done);
        }
        End::Left
    }

    /// Own streams.
    pub(crate) fn metadata(&self) -> Metadata {
        let publish = self.config.publish;
        let mut stream = channel::Stream {
            user_id: self.device.user_id().to_owned(),
            device_id: self.device.device_id().to_owned(),
            purpose: "m.usermedia".to_owned(),
            audio_muted: self.wishes.audio_muted || !publish.audio,
            video_muted: self.wishes.video_muted || publish.video.is_none(),
            ..channel::Stream::default()
        };
        let mut add = |kind, id: &str, size: Option<(u16, u16)>| {
            let (width, height) = (
                size.map(|size| size.0.into()),
                size.map(|size| size.1.into()),
            );
            let kind = channel::kind_name(kind).to_owned();
            stream.tracks.insert(
                id.to_owned(),
                channel::Track {
                    kind,
                    width,
                    height,
                },
            );
        };
        if publish.audio {
            add(Kind::Audio, &self.audio_track, None);
        }
        if let Some(layer) = publish
            .video
            .and_then(|camera| self.config.clips.largest(&camera))
        {
            add(
                Kind::Video,
                &self.video_track,
                Some((layer.width, layer.height)),
            );
        }
        Metadata::from([(self.stream_id.clone(), stream)])
    }

    /// The rids of what is sent.
    pub(crate) fn rids(&self) -> Vec<String> {
        let camera = self
            .config
            .publish
            .video
            .map_or([None; 3], |camera| camera.layers);
        let layers = self.config.clips.layers.iter().zip(camera);
        layers
            .filter_map(|(layer, rate)| rate.map(|_| layer.rid.to_owned()))
            .collect()
    }

    /// The homeserver's address where its name is one: the focus is looked for in the same direction.
    pub(crate) fn homeserver_ip(&self) -> Option<IpAddr> {
        let url = reqwest::Url::parse(&self.config.homeserver).ok()?;
        match url.host_str()? {
            "localhost" => Some(Ipv4Addr::LOCALHOST.into()),
            host => host.trim_matches(['[', ']']).parse().ok(),
        }
    }

    pub(crate) fn report(&self) -> Report {
        Report::clone(&self.report.get())
    }

    pub(crate) fn update(&self, change: impl FnOnce(&mut Report)) {
        let mut report = self.report();
        change(&mut report);
        self.publish(&report);
    }

    /// Makes a report the latest one.
    pub(crate) fn publish(&self, report: &Report) {
        self.report.set(report);
    }
}
