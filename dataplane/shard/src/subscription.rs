//! One subscriber's view of one track: which layer feeds it, which it waits for, and what has been sent.

use std::time::{Duration, Instant};

use weir_wire::ExtSeq;

use crate::command::Subscribe;
use crate::ids::{Codec, ExtensionIds, MediaKind, Size, SubscriptionId};
use crate::layers::Target;
use crate::limits::{SENT_AUDIO_PACKETS, SENT_VIDEO_PACKETS};
use crate::publisher::{SourceId, Tag};
use crate::reason::Limit;
use crate::rewriter::Rewriter;
use crate::sent::SentRing;

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
    payload_types: Vec<(Codec, u8)>,
    pub(crate) extensions: ExtensionIds,
    pub(crate) wanted: Option<Size>,
    /// What it should get; `None` is nothing.
    pub(crate) target: Option<Target>,
    /// Why it is not what was asked for.
    #[allow(dead_code, reason = "read by the status that is told")]
    pub(crate) limit: Limit,
    pub(crate) rewriter: Rewriter,
    pub(crate) sent: SentRing,
    /// The outgoing number of the last keyframe's first packet.
    pub(crate) last_keyframe: Option<ExtSeq>,
    /// The subscriber asked for a keyframe and none has been sent since.
    pub(crate) keyframe_asked: bool,
    pub(crate) packets: u32,
    pub(crate) octets: u32,
    pub(crate) reports: ReportState,
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
        first: ExtSeq,
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
            payload_types: of.payload_types,
            extensions: of.extensions,
            wanted: of.wanted,
            target: None,
            limit: Limit::None,
            rewriter: Rewriter::new(first),
            sent: SentRing::new(capacity, now),
            last_keyframe: None,
            keyframe_asked: false,
            packets: 0,
            octets: 0,
            reports: ReportState::default(),
        })
    }

    pub(crate) fn payload_type(&self, codec: Codec) -> Option<u8> {
        self.payload_types
            .iter()
            .find(|(taken, _)| *taken == codec)
            .map(|(_, payload_type)| *payload_type)
    }

    /// Whether it waits for a place to start in `source`, which feeds `layer`.
    pub(crate) fn waits_for(&self, source: SourceId, layer: usize) -> bool {
        self.targets(layer) && self.rewriter.source() != Some(source)
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
