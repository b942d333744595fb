//! A session description as a typed model, for either side of a call.

use super::{Candidate, SdpError};

/// What a section carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SectionKind {
    /// `m=audio`
    Audio,
    /// `m=video`
    Video,
    /// `m=application` with SCTP over DTLS: data channels.
    Application,
    /// Anything else.
    Other,
}

/// Which way media flows, as said by the description's author.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Direction {
    /// Both ways. Also what no attribute means.
    #[default]
    SendRecv,
    /// The author sends only.
    SendOnly,
    /// The author receives only.
    RecvOnly,
    /// Neither.
    Inactive,
}

/// Whether the author of a description sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sends(pub bool);

/// Whether the author of a description receives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receives(pub bool);

/// `send` or `recv`, in rid lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SendOrReceive {
    /// `send`
    Send,
    /// `recv`
    Receive,
}

/// DTLS role (RFC 8842).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Setup {
    /// Either role.
    ActPass,
    /// The author is the client.
    Active,
    /// The author is the server.
    Passive,
    /// No association.
    HoldConn,
}

/// Media stream and track ids of a section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Msid {
    /// The stream; `-` for none.
    pub stream_id: String,
    /// The track, if said.
    pub track_id: Option<String>,
}

/// A `a=rid` line without its restrictions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rid {
    /// The id.
    pub id: String,
    /// Who sends it.
    pub direction: SendOrReceive,
}

/// One layer of `a=simulcast`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SimulcastLayer {
    /// The rid.
    pub rid: String,
    /// `~`: described but not flowing at first.
    pub paused: bool,
}

/// One payload type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CodecDescription {
    /// 0 to 127.
    pub payload_type: u8,
    /// As in `a=rtpmap`, e.g. `VP8`.
    pub name: String,
    /// Hz.
    pub clock_rate: u32,
    /// Audio channels, 1 where not said.
    pub channels: u8,
    /// Parameters of `a=fmtp`, each once, in order; empty where there is none.
    pub fmtp: String,
    /// Values of `a=rtcp-fb`, e.g. `nack pli`.
    pub rtcp_fb: Vec<String>,
}

/// One header extension.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExtMap {
    /// 1 to 255.
    pub id: u8,
    /// What it means.
    pub uri: String,
}

/// `a=ssrc-group`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SsrcGroup {
    /// `FID` (retransmission), `SIM`, …
    pub semantics: String,
    /// The sources in order.
    pub ssrcs: Vec<u32>,
}

/// ICE user name fragment and password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IceCredentials {
    /// `a=ice-ufrag`
    pub ufrag: String,
    /// `a=ice-pwd`
    pub pwd: String,
}

/// Hash of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fingerprint {
    /// `sha-256`, in lower case.
    pub algorithm: String,
    /// The hash.
    pub bytes: Vec<u8>,
}

/// One section (m-line) with session-level defaults filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// What it carries.
    pub kind: SectionKind,
    /// The word after `m=`.
    pub media: String,
    /// 0 means rejected (or, in an offer with `bundle_only`, only together with the bundle).
    pub port: u16,
    /// E.g. `UDP/TLS/RTP/SAVPF`.
    pub protocol: String,
    /// The rest of the m-line: payload types, or `webrtc-datachannel`.
    pub formats: Vec<String>,
    /// `a=mid`
    pub mid: Option<String>,
    /// Which way.
    pub direction: Direction,
    /// First `a=msid`, or else the one of an `a=ssrc` line.
    pub msid: Option<Msid>,
    /// `a=rid` lines.
    pub rids: Vec<Rid>,
    /// `a=simulcast:send`, first alternative of each layer.
    pub simulcast_send: Vec<SimulcastLayer>,
    /// `a=simulcast:recv`, first alternative of each layer.
    pub simulcast_recv: Vec<SimulcastLayer>,
    /// Payload types that have an `a=rtpmap`, in the order of the m-line.
    pub codecs: Vec<CodecDescription>,
    /// `a=extmap` lines.
    pub extmaps: Vec<ExtMap>,
    /// Sources of `a=ssrc` lines, each once, in order.
    pub ssrcs: Vec<u32>,
    /// `a=ssrc-group` lines.
    pub ssrc_groups: Vec<SsrcGroup>,
    /// ICE credentials, the section's or the session's.
    pub ice: Option<IceCredentials>,
    /// Fingerprints, the section's or the session's.
    pub fingerprints: Vec<Fingerprint>,
    /// DTLS role, the section's or the session's.
    pub setup: Option<Setup>,
    /// `a=sctp-port`
    pub sctp_port: Option<u16>,
    /// `a=max-message-size`
    pub max_message_size: Option<u64>,
    /// Usable candidates.
    pub candidates: Vec<Candidate>,
    /// `a=end-of-candidates`
    pub end_of_candidates: bool,
    /// `a=rtcp-mux`
    pub rtcp_mux: bool,
    /// `a=bundle-only`
    pub bundle_only: bool,
}

/// A session description.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// Of the `o=` line.
    pub session_id: u64,
    /// Of the `o=` line.
    pub session_version: u64,
    /// Mids of the first `a=group:BUNDLE`.
    pub bundle: Vec<String>,
    /// `a=ice-lite`
    pub ice_lite: bool,
    /// `a=extmap-allow-mixed` at session level.
    pub extmap_allow_mixed: bool,
    /// The sections in order.
    pub sections: Vec<Section>,
}

impl Description {
    /// Reads a session description; bounded by [`crate::limits`].
    pub fn parse(text: &str) -> Result<Description, SdpError> {
        super::parse::description(text)
    }

    /// The section of that mid.
    pub fn by_mid(&self, mid: &str) -> Option<&Section> {
        self.sections
            .iter()
            .find(|section| section.mid.as_deref() == Some(mid))
    }

    /// ICE credentials of the bundle: those of the first section that is not rejected.
    pub fn ice(&self) -> Option<&IceCredentials> {
        self.sections
            .iter()
            .find(|section| !section.is_rejected())
            .and_then(|section| section.ice.as_ref())
    }
}

impl Section {
    /// Whether the author does not want this section at all.
    pub fn is_rejected(&self) -> bool {
        self.port == 0 && !self.bundle_only
    }
}

impl Direction {
    /// The direction of an author who sends and receives as said.
    pub fn new(sends: Sends, receives: Receives) -> Direction {
        match (sends.0, receives.0) {
            (true, true) => Direction::SendRecv,
            (true, false) => Direction::SendOnly,
            (false, true) => Direction::RecvOnly,
            (false, false) => Direction::Inactive,
        }
    }

    /// Whether the author sends.
    pub fn sends(self) -> bool {
        matches!(self, Direction::SendRecv | Direction::SendOnly)
    }

    /// Whether the author receives.
    pub fn receives(self) -> bool {
        matches!(self, Direction::SendRecv | Direction::RecvOnly)
    }

    /// The attribute's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Direction::SendRecv => "sendrecv",
            Direction::SendOnly => "sendonly",
            Direction::RecvOnly => "recvonly",
            Direction::Inactive => "inactive",
        }
    }
}
