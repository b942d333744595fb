//! What a participant is to do: whom it calls, what it sends, what it asks for, and how closely it looks.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use crate::channel::Dialect;
use crate::choose::{Known, Rules};
use crate::clips::Clips;
use crate::report::CheckedHow;

/// A picture size in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Size {
    /// Pixels.
    pub width: u16,
    /// Pixels.
    pub height: u16,
}

/// The Matrix device that is the focus.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
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

/// How a focus is chosen (MSC3898 "Choosing a focus").
#[derive(Debug, Clone, Default)]
pub struct Choosing {
    /// By what. A full mesh and several foci at a time are out of a synthetic participant's reach, whatever they say.
    pub rules: Rules,
    /// The configured foci. Those of the homeserver's well-known document come besides.
    pub foci: Vec<Known>,
    /// Sends what measures to other addresses than these foci said.
    pub detours: BTreeMap<FocusAddress, Detour>,
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
    /// Whom to call. Where the focus is chosen, what is chosen takes its place.
    pub focus: FocusAddress,
    /// Chooses a focus before joining, and follows the choice; `None` calls `focus` and no other.
    pub choosing: Option<Choosing>,
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
            choosing: None,
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

    /// The homeserver's address where its name is one: the focus is looked for in the same direction.
    pub(crate) fn homeserver_ip(&self) -> Option<IpAddr> {
        let url = reqwest::Url::parse(&self.homeserver).ok()?;
        match url.host_str()? {
            "localhost" => Some(Ipv4Addr::LOCALHOST.into()),
            host => host.trim_matches(['[', ']']).parse().ok(),
        }
    }

    /// The same in this call.
    pub fn in_call(mut self, room_id: &str, conf_id: &str) -> JoinConfig {
        self.room_id = room_id.to_owned();
        self.conf_id = conf_id.to_owned();
        self
    }
}
