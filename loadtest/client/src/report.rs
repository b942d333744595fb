//! What a participant saw, as plain data that can be printed or written as JSON. No judgement is made here: whoever asked
//! for the report decides which numbers are good enough.

use serde::{Deserialize, Serialize};

/// Audio or video.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Opus.
    Audio,
    /// VP8.
    Video,
}

/// Everything one participant knows about its call so far.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Own Matrix user id.
    pub user_id: String,
    /// Own Matrix device id.
    pub device_id: String,
    /// Whether ICE and DTLS are up at this moment.
    pub connected: bool,
    /// Invites sent so far: 1 for an undisturbed call.
    pub invites: u32,
    /// From sending the (latest) invite to DTLS being up; `None` until then.
    pub connected_after_ms: Option<u64>,
    /// From sending the (latest) invite to the first decoded picture of anybody; `None` until then.
    pub first_frame_after_ms: Option<u64>,
    /// Offers of the focus answered over the data channel.
    pub negotiations: u32,
    /// Pings of the focus answered.
    pub pings: u32,
    /// Transport-wide feedback packets received.
    pub transport_feedbacks: u64,
    /// Receiver reports received.
    pub receiver_reports: u64,
    /// Sender reports received.
    pub sender_reports: u64,
    /// Errors that the focus sent over the data channel, and descriptions that break a rule.
    pub errors: Vec<String>,
    /// Why calls ended that the participant did not end.
    pub ends: Vec<String>,
    /// What is sent, one entry for the microphone and one per simulcast layer.
    pub sent: Vec<SentReport>,
    /// What arrives, one entry per track that was ever bound, in the order of their binding.
    pub streams: Vec<StreamReport>,
    /// Packets with an SSRC that no description announced.
    pub unbound_packets: u64,
}

/// One RTP stream that the participant sends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SentReport {
    /// Audio or video.
    pub kind: Kind,
    /// The simulcast layer's rid, `None` for audio.
    pub rid: Option<String>,
    /// Its SSRC.
    pub ssrc: u32,
    /// Packets sent, retransmissions not counted.
    pub packets: u64,
    /// Payload bytes sent.
    pub bytes: u64,
    /// Packets repeated because of a NACK.
    pub retransmitted: u64,
    /// Picture loss indications received.
    pub plis: u64,
}

/// One track that the participant receives.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StreamReport {
    /// Who sends it, from the metadata.
    pub user_id: String,
    /// The sender's device, from the metadata.
    pub device_id: String,
    /// `m.usermedia` or `m.screenshare`.
    pub purpose: String,
    /// MSC3077 stream id.
    pub stream_id: String,
    /// MSC3077 track id.
    pub track_id: String,
    /// Audio or video.
    pub kind: Kind,
    /// The m-line that carries it.
    pub mid: String,
    /// Whether the m-line is active and the metadata still lists the track.
    pub live: bool,
    /// The one SSRC it may have; 0 before the first packet.
    pub ssrc: u32,
    /// Packets received.
    pub packets: u64,
    /// Payload bytes received.
    pub bytes: u64,
    /// Sequence numbers that never arrived (holes older than the reorder window).
    pub lost: u64,
    /// Packets that arrived after a later one.
    pub reordered: u64,
    /// Packets that arrived twice.
    pub duplicates: u64,
    /// The longest time between two packets.
    pub longest_packet_gap_ms: u64,
    /// Rules that the stream broke, each kind once with a count and the first occurrence in words.
    pub violations: Vec<ViolationCount>,
    /// For a video track.
    pub video: Option<VideoReport>,
    /// For an audio track.
    pub audio: Option<AudioReport>,
}

/// How often a rule was broken.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ViolationCount {
    /// The rule.
    pub violation: Violation,
    /// How often.
    pub count: u64,
    /// The first occurrence, with the numbers.
    pub first: String,
}

/// The rules of one outgoing stream of a focus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Violation {
    /// The SSRC changed during the stream's life.
    SsrcChanged,
    /// The payload type is not one that was negotiated for the m-line.
    PayloadTypeUnknown,
    /// A header extension of the publisher (mid, rid, transport-wide number) that was not negotiated here came through.
    ExtensionLeaked,
    /// A sequence number far from the expected one.
    SequenceJump,
    /// Two packets with one sequence number and different content.
    NumberUsedTwice,
    /// The time stamp went back for a later packet.
    TimestampBack,
    /// The time stamp moved far more or less than the clock.
    TimestampJump,
    /// The first frame was no keyframe.
    NoKeyframeFirst,
    /// The payload descriptor cannot be parsed.
    DescriptorInvalid,
    /// The picture id did not grow by one.
    PictureIdGap,
    /// The picture id changed its width.
    PictureIdWidth,
    /// TL0PICIDX did not follow the base layer.
    Tl0Gap,
    /// KEYIDX moved without a keyframe, or by more than one.
    KeyIndexGap,
    /// A complete frame that the decoder refuses.
    Undecodable,
    /// A decoded picture without a readable frame number, after numbers had been readable.
    NumberUnreadable,
    /// The frame number in the picture went back, or jumped, where no packet was lost.
    NumberJump,
}

/// What the decoder made of a video track.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct VideoReport {
    /// Frames of which every packet arrived.
    pub frames: u64,
    /// Keyframes among them.
    pub keyframes: u64,
    /// Frames with a missing packet, or given up because one they need is missing.
    pub broken: u64,
    /// Frames that were decoded.
    pub decoded: u64,
    /// Frames that were assembled while the decoder was busy and skipped up to the next keyframe.
    pub skipped: u64,
    /// Width of the latest picture.
    pub width: u16,
    /// Height of the latest picture.
    pub height: u16,
    /// Changes of the picture's size.
    pub size_changes: u64,
    /// Decoded pictures whose frame number was read.
    pub numbered: u64,
    /// The latest frame number.
    pub last_number: Option<u32>,
    /// Frame numbers that the publisher sent and that were never seen, layer changes not counted.
    pub numbers_missed: u64,
    /// The longest time between two complete frames after the first.
    pub longest_gap_ms: u64,
    /// Complete frames in the last full second.
    pub fps: f32,
    /// Payload bit rate in the last full second.
    pub kbps: u32,
    /// Picture loss indications sent.
    pub plis: u64,
    /// NACKs sent.
    pub nacks: u64,
}

/// What arrived of an audio track.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct AudioReport {
    /// The longest time between two packets after the first.
    pub longest_gap_ms: u64,
    /// Packets in the last full second.
    pub packets_per_second: f32,
    /// Packets whose audio level extension was readable.
    pub levels: u64,
    /// Packets whose payload is one of the known clip's packets.
    pub recognised: u64,
}
