//! One subscriber's view of one track: which layer feeds it, which it waits for, and what has been sent.

use std::time::{Duration, Instant};

use weir_wire::ExtSeq;

use crate::command::Subscribe;
use crate::ids::{Codec, CodecMapping, ExtensionIds, MediaKind, Size, SubscriptionId};
use crate::layers::Target;
use crate::limits::{SENT_AUDIO_PACKETS, SENT_VIDEO_PACKETS};
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
    /// The spurt of the voice that the numbers are made for.
    pub(crate) spurt: u32,
    pub(crate) sent: SentRing,
    /// Retransmissions, where they have an SSRC of their own.
    pub(crate) rtx: Option<Rtx>,
    /// The outgoing number of the last keyframe's first packet.
    pub(crate) last_keyframe: Option<ExtSeq>,
    /// The subscriber asked for a keyframe and none has been sent since.
    pub(crate) keyframe_asked: bool,
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
    pub(crate) rtt: Option<Duration>,
    /// In 256ths, as the subscriber last reported.
    pub(crate) fraction_lost: u8,
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
            spurt: 0,
            sent: SentRing::new(capacity, now),
            rtx: of
                .rtx_ssrc
                .zip(first.rtx)
                .map(|(ssrc, next)| Rtx { ssrc, next }),
            last_keyframe: None,
            keyframe_asked: false,
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

    /// Whether it waits for a place to start in `source`, which feeds `layer`.
    pub(crate) fn waits_for(&self, source: SourceId, layer: usize) -> bool {
        self.targets(layer) && self.rewriter.source() != Some(source)
    }

    /// Whether the numbers have to go on from another place of the source that feeds it: what lay in between was left out.
    pub(crate) fn resumes(&self, source: SourceId, spurt: u32) -> bool {
        self.spurt != spurt && self.rewriter.source() == Some(source)
    }

    /// Whether it should get this layer.
    pub(crate) fn targets(&self, layer: usize) -> bool {
        self.target.is_some_and(|target| target.layer == layer)
    }

    /// Takes what the subscriber reports (RFC 3550 §6.4.1).
    pub(crate) fn handle_report(
        &mut self,
        fraction_lost: u8,
        last_report: u32,
        delay: u32,
        now: Instant,
    ) {
        self.reports.fraction_lost = fraction_lost;
        if let Some((sent, at)) = self.reports.last
            && sent == last_report
        {
            let held = Duration::from_micros(u64::from(delay) * 1_000_000 / 65_536);
            self.reports.rtt = now
                .saturating_duration_since(at)
                .checked_sub(held)
                .or(self.reports.rtt);
        }
    }
}
