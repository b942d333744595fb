//! What a participant saw, as plain data that can be printed or written as JSON. No judgement is made here: whoever asked
//! for the report decides which numbers are good enough.

use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use weir_sframe::{ReceiverCounters, SenderCounters};

use crate::histogram::Histogram;

/// Audio or video.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Opus.
    #[default]
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
    /// Whether all packets are checked, or media is only counted and sampled.
    pub checks: CheckedHow,
    /// Whether ICE and DTLS are up at this moment.
    pub connected: bool,
    /// Invites sent so far: 1 for an undisturbed call.
    pub invites: u32,
    /// From sending the (latest) invite to DTLS being up; `None` until then.
    pub connected_after_ms: Option<u64>,
    /// From sending the (latest) invite to the first decoded picture of anybody; `None` until then.
    pub first_frame_after_ms: Option<u64>,
    /// When all of this was counted: milliseconds from sending the (latest) invite, 0 before.
    #[serde(default)]
    pub counted_at_ms: f64,
    /// All steps of the (latest) call's setup.
    pub latencies: Latencies,
    /// What the socket received and sent.
    pub transport: TransportReport,
    /// What the focus says it can send to this participant, bits per second; `None` if it has not said so.
    pub estimate_bps: Option<u64>,
    /// User ids of those who speak, as the focus last said, the loudest first.
    pub speakers: Vec<String>,
    /// Offers of the focus answered over the data channel.
    pub negotiations: u32,
    /// Signs of life of the focus: pings, which were answered, or `alive`.
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
    /// What became of frames and keys, if media is encrypted, over all calls.
    pub encryption: Option<EncryptionReport>,
}

/// Media encryption of one participant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EncryptionReport {
    /// Own frames and keys.
    pub sent: SenderCounters,
    /// Others' frames and keys.
    pub received: ReceiverCounters,
}

impl std::ops::AddAssign for EncryptionReport {
    fn add_assign(&mut self, other: EncryptionReport) {
        self.sent += other.sent;
        self.received += other.received;
    }
}

/// The latest report: whoever reads it holds what its writer has finished. Clones are the same one.
#[derive(Debug, Clone)]
pub(crate) struct Latest(Arc<Mutex<Arc<Report>>>);

impl Latest {
    pub(crate) fn new(report: Report) -> Latest {
        Latest(Arc::new(Mutex::new(Arc::new(report))))
    }

    pub(crate) fn get(&self) -> Arc<Report> {
        Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The copy is made before anybody is kept waiting.
    pub(crate) fn set(&self, report: &Report) {
        let report = Arc::new(report.clone());
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = report;
    }
}

/// How much of what arrives is checked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckedHow {
    /// Every packet. Counts of streams are exact.
    #[default]
    Full,
    /// Every packet up to the first frames, then a sample of the media. [`TransportReport`] is exact, counts of streams are
    /// those of the sample, and what a stream was sent comes from its sequence numbers ([`StreamReport::sample`]).
    Light,
}

/// How long each step took, milliseconds; `None` until it is done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Latencies {
    /// Login, joining the room, first sync and member event together, before the call.
    pub join_ms: Option<f64>,
    /// From the beginning of sending the invite to the answer. The following ones count from the same moment.
    pub answer_ms: Option<f64>,
    /// To the first working candidate pair.
    pub ice_ms: Option<f64>,
    /// To the end of the DTLS handshake.
    pub connected_ms: Option<f64>,
    /// To the data channel being open.
    pub channel_ms: Option<f64>,
    /// To the first media packet.
    pub first_packet_ms: Option<f64>,
    /// To the last packet of the first frame of which all packets are there.
    pub first_frame_ms: Option<f64>,
    /// To the first decoded picture.
    pub first_picture_ms: Option<f64>,
}

/// What a participant's socket saw. Exact, where nothing else is said.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct TransportReport {
    /// Datagrams of all kinds that reached the participant.
    pub received: u64,
    /// Their bytes, without IP and UDP headers.
    pub received_bytes: u64,
    /// Among them RTP packets.
    pub rtp_packets: u64,
    /// RTP packets that the filter of a light participant dropped in the kernel: they arrived, but were not looked at.
    pub filtered: u64,
    /// Datagrams that were lost because the socket's buffer was full. Exact for full participants. The kernel counts for light ones
    /// both in one number; it is taken for the filter's, unless the buffer was seen more than half full, then for this one (estimated).
    pub overflowed: u64,
    /// RTP or RTCP packets that did not authenticate.
    pub unauthenticated: u64,
    /// Packets thrown away because the participant's task did not take them in time: the generator's fault.
    pub queue_overflows: u64,
    /// Datagrams sent.
    pub sent: u64,
    /// Their bytes.
    pub sent_bytes: u64,
    /// Transport-wide feedback packets sent.
    pub feedbacks_sent: u64,
}

impl TransportReport {
    /// RTP packets that arrived at the host: those that were looked at and those that were only counted.
    pub fn rtp_arrived(&self) -> u64 {
        self.rtp_packets + self.filtered
    }
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
    /// How late frames or audio packets were sent, against the schedule.
    pub late: Histogram,
}

/// One track that the participant receives.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct StreamReport {
    /// Who sends it, from the metadata.
    pub user_id: String,
    /// The sender's device, from the metadata.
    pub device_id: String,
    /// `m.usermedia` or `m.screenshare`.
    pub purpose: String,
    /// Whether it is muted, from the metadata.
    pub muted: bool,
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
    /// From sending the invite to the stream's first packet; `None` until then.
    pub first_packet_ms: Option<f64>,
    /// From the moment the publisher meant to send a frame (video: to its last packet, repairs included; audio: a packet) to
    /// its arrival here.
    pub delay: Histogram,
    /// What `delay` was measured by; `None` as long as it is empty.
    pub delay_by: Option<DelayBy>,
    /// What came on the stream's RTX SSRC; `None` if none was negotiated.
    pub rtx: Option<RtxReport>,
    /// For light participants, from the moment when media is only sampled.
    pub sample: Option<SampleReport>,
    /// What came whole and was not decrypted; `None` if there was no such thing.
    #[serde(default)]
    pub undecrypted: Option<UndecryptedReport>,
    /// Rules that the stream broke, each kind once with a count and the first occurrence in words.
    pub violations: Vec<ViolationCount>,
    /// For a video track.
    pub video: Option<VideoReport>,
    /// For an audio track.
    pub audio: Option<AudioReport>,
}

/// What the one-way delay was measured by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DelayBy {
    /// The frame is one of the known clips, and its publisher runs in this process: its schedule is known. Exact.
    Schedule,
    /// Sender reports. The focus may have put them on its own clock: then the way from the publisher to the focus is not in it.
    SenderReports,
}

/// Retransmissions by RFC 4588.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RtxReport {
    /// Packets, padding not counted.
    pub packets: u64,
    /// Among them those that filled a hole.
    pub repaired: u64,
    /// Among them those whose original had come in the meantime, or had been repaired already.
    pub late: u64,
    /// Packets of nothing but padding (probes).
    pub padding: u64,
}

/// What a sample of a stream tells of all of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SampleReport {
    /// Packets that were looked at.
    pub packets: u64,
    /// Packets that were sent from the first to the last that was looked at, by their sequence numbers.
    pub expected: u64,
}

/// Frames of a picture, or packets of sound, of which everything arrived and that were not decrypted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UndecryptedReport {
    /// All of them.
    pub frames: u64,
    /// Among them those of a session of which there was no key: not yet, or no longer.
    pub unknown_session: u64,
    /// Among them those from before the index at which their session was shared.
    pub before_key: u64,
    /// Among them those that came so late that their key was gone.
    pub too_late: u64,
    /// When the first of them came, milliseconds since 1970.
    pub first_at_ms: u64,
    /// The latest one.
    pub last_at_ms: u64,
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
    /// When that was, milliseconds since 1970.
    pub first_at_ms: u64,
    /// The latest one.
    pub last_at_ms: u64,
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
    /// A complete frame that does not decrypt with the key that it names, or did before.
    Undecryptable,
    /// A complete frame that the decoder refuses.
    Undecodable,
    /// A decoded picture without a readable frame number, after numbers had been readable.
    NumberUnreadable,
    /// The frame number in the picture went back, or jumped, where no packet was lost.
    NumberJump,
    /// A frame begins like one of the known clip and goes on differently.
    ContentChanged,
    /// The picture changed to another layer in the middle of a group of pictures.
    SwitchWithoutKeyframe,
    /// Part of a frame is not there, though no sequence number is missing.
    FrameIncomplete,
    /// A hole was neither filled nor followed by a keyframe for seconds, though both were asked for.
    NotRepaired,
    /// Audio is missing, though no sequence number is.
    AudioGap,
    /// A retransmission carries the number of another packet than its own.
    RtxNumberWrong,
    /// A retransmission differs from the packet that it repeats.
    RtxContentWrong,
    /// The RTX stream's own sequence numbers are not continuous.
    RtxSequenceJump,
    /// A retransmission too short to name a packet, or of a payload type that is not RTX of this stream.
    RtxMalformed,
}

/// What the decoder made of a video track.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct VideoReport {
    /// Frames of which every packet arrived, and which could be decrypted if they had to be.
    pub frames: u64,
    /// Keyframes among them.
    pub keyframes: u64,
    /// Frames with a missing packet, or given up because one they need is missing.
    pub broken: u64,
    /// Frames without an end, because the focus switched to another layer within them: nothing is missing but that end.
    pub cut: u64,
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
    /// The longest freeze: time between two complete frames after the first.
    pub longest_gap_ms: u64,
    /// Complete frames that are those of a known clip.
    pub recognised: u64,
    /// Changes between layers of a known clip.
    pub switches: u64,
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
    /// Times of more than 60 ms between two packets.
    pub gaps: u64,
    /// Packets in the last full second.
    pub packets_per_second: f32,
    /// Packets whose audio level extension was readable.
    pub levels: u64,
    /// Packets whose payload is one of the known clip's packets.
    pub recognised: u64,
}
