//! The words that control and the shard share: ids, kinds, sizes, codecs, header extension ids.

/// One ICE + DTLS + SRTP association; chosen by control, never used twice in a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TransportId(pub u32);

/// One published track; chosen by control, never used twice in a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TrackId(pub u32);

/// One subscriber's view of one track; chosen by control, never used twice in a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SubscriptionId(pub u32);

/// One conference: its loudest voices and active speakers are chosen together; chosen by control, never used twice in a
/// process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConferenceId(pub u32);

/// What a track shows or says, as signalled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Purpose {
    /// A camera or a microphone.
    #[default]
    UserMedia,
    /// A shared screen or its sound: goes before cameras of the same size, and its sound competes with no voice.
    ScreenShare,
}

/// Some of a track's simulcast layers, by their index in [`AddTrack::rids`](crate::AddTrack::rids).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LayerSet(u8);

impl LayerSet {
    /// The set with `layer` in it, too.
    #[must_use]
    pub const fn with(self, layer: usize) -> Self {
        Self(self.0 | (1 << layer))
    }

    /// Whether `layer` is in the set.
    pub const fn contains(self, layer: usize) -> bool {
        (self.0 >> layer) & 1 == 1
    }
}

const _: () = assert!(
    crate::limits::LAYERS_MAX <= 8,
    "a layer set has a bit for each layer"
);

/// What a track carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MediaKind {
    /// Forwarded as it comes, never switched.
    Audio,
    /// Forwarded layer by layer, switched at keyframes.
    Video,
}

/// A picture's size in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Pixels from left to right.
    pub width: u16,
    /// Pixels from top to bottom.
    pub height: u16,
}

impl Size {
    /// A size of `width` by `height` pixels.
    pub const fn new(width: u16, height: u16) -> Self {
        Self { width, height }
    }

    /// Its number of pixels.
    pub(crate) fn area(self) -> u32 {
        u32::from(self.width) * u32::from(self.height)
    }

    /// Whether a picture of this size has enough pixels for a tile of `wanted`, in either orientation: a phone that is
    /// turned swaps the sides of its pictures, and the tile stays as it is.
    pub(crate) fn covers(self, wanted: Size) -> bool {
        self.width.max(self.height) >= wanted.width.max(wanted.height)
            && self.width.min(self.height) >= wanted.width.min(wanted.height)
    }
}

impl From<(u16, u16)> for Size {
    fn from((width, height): (u16, u16)) -> Self {
        Self { width, height }
    }
}

/// What the payload of a packet is encoded with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// RFC 7587.
    Opus,
    /// Redundant audio, RFC 2198.
    Red,
    /// RFC 7741.
    Vp8,
    /// RFC 9628.
    Vp9,
    /// RFC 6184.
    H264,
    /// The AOMedia payload format.
    Av1,
}

/// One payload type of a published track.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CodecMapping {
    /// The payload type in the publisher's packets.
    pub payload_type: u8,
    /// What it stands for.
    pub codec: Codec,
    /// RTP time units a second.
    pub clock_rate: u32,
    /// The payload type of retransmissions (RFC 4588) of this one, if negotiated.
    pub rtx_payload_type: Option<u8>,
}

/// Header extension ids (1 to 14, or to 255 in two-byte form) as negotiated for one media section; `None` where it is not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExtensionIds {
    /// `urn:ietf:params:rtp-hdrext:sdes:mid`
    pub mid: Option<u8>,
    /// `urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id`
    pub rid: Option<u8>,
    /// `urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id`
    pub repaired_rid: Option<u8>,
    /// The transport-wide sequence number (draft-holmer-rmcat-transport-wide-cc-extensions).
    pub transport_cc: Option<u8>,
    /// `urn:ietf:params:rtp-hdrext:ssrc-audio-level` (RFC 6464)
    pub audio_level: Option<u8>,
    /// The absolute send time, never forwarded.
    pub abs_send_time: Option<u8>,
    /// `urn:3gpp:video-orientation`, forwarded: without it a phone's picture lies on its side.
    pub video_orientation: Option<u8>,
    /// The AV1 dependency descriptor.
    pub dependency_descriptor: Option<u8>,
}
