//! RTP header extensions by meaning instead of URI.

/// Ids of the header extensions that the focus reads, writes or forwards, in one section.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ExtensionIds {
    /// `urn:ietf:params:rtp-hdrext:sdes:mid`
    pub mid: Option<u8>,
    /// `urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id`
    pub rid: Option<u8>,
    /// `urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id`
    pub repaired_rid: Option<u8>,
    /// Transport-wide sequence numbers.
    pub transport_cc: Option<u8>,
    /// RFC 6464
    pub audio_level: Option<u8>,
    /// Absolute send time.
    pub abs_send_time: Option<u8>,
    /// `urn:3gpp:video-orientation`
    pub video_orientation: Option<u8>,
    /// Playout delay.
    pub playout_delay: Option<u8>,
    /// AV1's dependency descriptor, also sent with VP8.
    pub dependency_descriptor: Option<u8>,
    /// Video layers allocation.
    pub video_layers_allocation: Option<u8>,
}
