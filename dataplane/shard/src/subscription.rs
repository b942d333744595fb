//! One subscriber's view of one track: which layer feeds it, which it waits for, and what has been sent.

use std::time::{Duration, Instant};

use weir_wire::rtcp::ReportBlock;
use weir_wire::{ExtSeq, Seq};

use crate::command::Subscribe;
use crate::ids::{Codec, CodecMapping, ExtensionIds, MediaKind, Size, SubscriptionId};
use crate::keyframe::Wishes;
use crate::layers::Target;
use crate::limits::{
    KEYFRAME_AWAITED, KEYFRAME_DECODED, KEYFRAME_ON_ITS_WAY_MAX, ROUND_TRIP_DEFAULT,
    SENT_AUDIO_PACKETS, SENT_VIDEO_PACKETS,
};
use crate::publisher::{SourceId, Tag};
use crate::reason::Limit;
use crate::rewriter::Rewriter;
use crate::sent::SentRing;
use crate::status::SubscriptionStatus;

/// What a subscription's streams start with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FirstNumbers {
    pub(crate) media: ExtSeq,
    pub(crate) rtx: Option<ExtSeq>,
}

/// One subscription.
#[derive(Debug)]
pub(crate) struct Subscription {
    pub(crate) id: SubscriptionId,
    /// The subscriber's table index.
    pub(crate) transport: u32,
    /// The track's table index.
    pub(crate) track: u32,
    pub(crate) kind: MediaKind,
    pub(crate) mid: Tag,
    pub(crate) ssrc: u32,
    pub(crate) cname: Box<str>,
    codecs: Vec<CodecMapping>,
    pub(crate) extensions: ExtensionIds,
    pub(crate) wanted: Option<Size>,
    /// What it should get; `None` is nothing.
    pub(crate) target: Option<Target>,
    /// Why it is not what was asked for.
    pub(crate) limit: Limit,
    pub(crate) rewriter: Rewriter,
    /// Nothing goes out until a keyframe: the target was taken away.
    pub(crate) resting: bool,
    /// Since when it waits for a keyframe to start or to switch at.
    pub(crate) waits_since: Option<Instant>,
    /// The spurt of the voice that the numbers are made for.
    pub(crate) spurt: u32,
    pub(crate) sent: SentRing,
    /// Retransmissions, where they have an SSRC of their own.
    pub(crate) rtx: Option<Rtx>,
    /// The outgoing number of the last keyframe's first packet.
    pub(crate) last_keyframe: Option<ExtSeq>,
    /// When its first packet was forwarded.
    pub(crate) last_keyframe_at: Option<Instant>,
    /// When the subscriber asked for a keyframe, if none has been sent since.
    pub(crate) keyframe_asked: Option<Instant>,
    pub(crate) wishes: Wishes,
    pub(crate) packets: u32,
    pub(crate) octets: u32,
    pub(crate) reports: ReportState,
    /// What control was told of it.
    pub(crate) told: Option<SubscriptionStatus>,
}

/// The stream of a subscription's retransmissions (RFC 4588 §4, SSRC multiplexing).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rtx {
    pub(crate) ssrc: u32,
    /// The number of the next packet; none is left out and none is used twice.
    pub(crate) next: ExtSeq,
}

/// Sender reports of one subscription, and what comes back.
#[derive(Debug, Default)]
pub(crate) struct ReportState {
    /// The middle 32 bits of the last report's NTP time, and when it went out.
    pub(crate) last: Option<(u32, Instant)>,
    /// Packets sent when it went out.
    pub(crate) packets: u32,
    /// As the subscriber last reported, in 256ths.
    pub(crate) fraction_lost: u8,
    /// The same way, in RTP time units.
    pub(crate) jitter: u32,
    /// The highest number that it has reported.
    pub(crate) highest: Option<u32>,
}

impl Subscription {
    /// `None` when the mid is too long.
    pub(crate) fn new(
        of: Subscribe,
        track: u32,
        transport: u32,
        kind: MediaKind,
        first: FirstNumbers,
        now: Instant,
    ) -> Option<Self> {
        let capacity = match kind {
            MediaKind::Audio => SENT_AUDIO_PACKETS,
            MediaKind::Video => SENT_VIDEO_PACKETS,
        };
        Some(Self {
            id: of.id,
            transport,
            track,
            kind,
            mid: Tag::new(of.mid.as_bytes())?,
            ssrc: of.ssrc,
            cname: of.cname.into(),
            codecs: of.codecs,
            extensions: of.extensions,
            wanted: of.wanted,
            target: None,
            limit: Limit::None,
            rewriter: Rewriter::new(first.media),
            resting: false,
            waits_since: None,
            spurt: 0,
            sent: SentRing::new(capacity, now),
            rtx: of
                .rtx_ssrc
                .zip(first.rtx)
                .map(|(ssrc, next)| Rtx { ssrc, next }),
            last_keyframe: None,
            last_keyframe_at: None,
            keyframe_asked: None,
            wishes: Wishes::new(now),
            packets: 0,
            octets: 0,
            reports: ReportState::default(),
            told: None,
        })
    }

    fn mapping(&self, codec: Codec) -> Option<&CodecMapping> {
        self.codecs.iter().find(|taken| taken.codec == codec)
    }

    pub(crate) fn payload_type(&self, codec: Codec) -> Option<u8> {
        self.mapping(codec).map(|taken| taken.payload_type)
    }

    /// The payload type and the stream of this codec's retransmissions. `None`: packets are sent again as they were.
    pub(crate) fn rtx(&self, codec: Codec) -> Option<(u8, Rtx)> {
        self.mapping(codec)?.rtx_payload_type.zip(self.rtx)
    }

    /// The payload type and the stream of any retransmissions that the subscriber takes.
    pub(crate) fn any_rtx(&self) -> Option<(u8, Rtx)> {
        let payload_type = self.codecs.iter().find_map(|taken| taken.rtx_payload_type);
        payload_type.zip(self.rtx)
    }

    /// The next number of the retransmissions is used up.
    pub(crate) fn use_rtx_number(&mut self) {
        if let Some(rtx) = &mut self.rtx {
            rtx.next = rtx.next.add(1);
        }
    }

    /// Whether it waits for a place to start in `source`, which feeds `layer`.
    pub(crate) fn waits_for(&self, source: SourceId, layer: usize) -> bool {
        self.targets(layer) && (self.resting || self.rewriter.source() != Some(source))
    }

    /// Whether the numbers have to go on from another place of the source that feeds it: what lay in between was left out.
    pub(crate) fn resumes(&self, source: SourceId, spurt: u32) -> bool {
        self.spurt != spurt && self.rewriter.source() == Some(source)
    }

    /// Whether it should get this layer.
    pub(crate) fn targets(&self, layer: usize) -> bool {
        self.target.is_some_and(|target| target.layer == layer)
    }

    /// Takes what the subscriber reports (RFC 3550 §6.4.1), and says what the round trip was, if the report tells.
    pub(crate) fn handle_report(&mut self, block: &ReportBlock, now: Instant) -> Option<Duration> {
        self.reports.fraction_lost = block.fraction_lost;
        self.reports.jitter = block.jitter;
        let (sent, at) = self.reports.last?;
        if sent != block.last_sr {
            return None;
        }
        let held = u64::from(block.delay_since_last_sr) * 1_000_000 / 65_536;
        now.saturating_duration_since(at)
            .checked_sub(Duration::from_micros(held))
    }

    /// Whether a packet is of no use to the subscriber any more: a keyframe has been sent since, or is about to be.
    pub(crate) fn is_superseded(&self, seq: Seq, now: Instant) -> bool {
        let (MediaKind::Video, Some(last)) = (self.kind, self.rewriter.last()) else {
            return false;
        };
        let asked = self
            .keyframe_asked
            .is_some_and(|at| now.saturating_duration_since(at) < KEYFRAME_AWAITED);
        let sent = self
            .last_keyframe
            .is_some_and(|keyframe| last.seq.nearest(seq) < keyframe);
        asked || sent
    }

    /// Whether a keyframe has been sent so lately that what the subscriber says now, it said without knowing of it.
    pub(crate) fn has_keyframe_on_its_way(&self, rtt: Option<Duration>, now: Instant) -> bool {
        let way = rtt
            .unwrap_or(ROUND_TRIP_DEFAULT)
            .min(KEYFRAME_ON_ITS_WAY_MAX);
        self.last_keyframe_at
            .is_some_and(|at| now.saturating_duration_since(at) < way + KEYFRAME_DECODED)
    }
}
