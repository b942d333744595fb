//! The codecs that the focus forwards, and how a section's payload types are narrowed to them.

/// A codec that the focus forwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Codec {
    /// RFC 7587
    Opus,
    /// Redundant audio, RFC 2198
    Red,
    /// RFC 7741
    Vp8,
    /// RFC 9628, profile 0
    Vp9,
    /// RFC 6184, baseline, packetisation mode 1
    H264,
    /// Profile 0
    Av1,
}

/// One codec of a section with its numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CodecMapping {
    /// Payload type of the codec itself.
    pub payload_type: u8,
    /// Which.
    pub codec: Codec,
    /// Hz.
    pub clock_rate: u32,
    /// Payload type of its retransmissions (RFC 4588).
    pub rtx_payload_type: Option<u8>,
}
