//! RTCP that goes out: feedback, receiver reports and requests to publishers, sender reports to subscribers.

use std::time::Instant;

use weir_wire::rtcp::twcc::{self, STATUSES_MAX};
use weir_wire::rtcp::{self, ReportBlock, SenderInfo};
use weir_wire::{NoRoom, Seq};

use crate::limits::NACK_LIST_MAX;
use crate::publisher::Source;
use crate::shard::Shard;
use crate::shard::egress::SCRATCH_BYTES;
use crate::shard::forward::find_source;
use crate::shard::quality::count_way_up;
use crate::subscription::Subscription;
use crate::timing;

/// The name of the focus itself in receiver reports; it tells nothing about anyone.
const OWN_CNAME: &str = "weir";

/// Room left for SRTCP's index and tag behind a compound packet.
const REPORT_BYTES_MAX: usize = SCRATCH_BYTES - 100;

impl Shard {
    /// Lets `write` put a compound packet together and sends it. Nothing is sent when nothing was written.
    fn send_compound(
        &mut self,
        transport: u32,
        write: impl FnOnce(&mut rtcp::Writer<'_>) -> Result<(), NoRoom>,
    ) {
        let len = compound(&mut self.scratch[..], write);
        self.send_rtcp(transport, len);
    }

    /// Tells a publisher when each of its packets arrived.
    pub(super) fn feedback_when_due(&mut self, index: u32, now: Instant) {
        let Some(transport) = self.transports.get_mut(index) else {
            return;
        };
        let (sender_ssrc, ready, epoch) = (transport.report_ssrc, transport.is_ready(), self.epoch);
        let Some(report) = transport.feedback.report(now) else {
            return;
        };
        let mut arrivals = [None; STATUSES_MAX];
        let mut count = 0;
        for (place, at) in arrivals.iter_mut().zip(report.statuses()) {
            *place = at.map(|at| at.saturating_duration_since(epoch).as_micros() as u64);
            count += 1;
        }
        let feedback = twcc::Feedback {
            sender_ssrc,
            media_ssrc: report.media_ssrc,
            feedback_count: report.count,
            base: report.base.seq(),
        };
        transport.feedback.clear();
        if ready {
            self.send_compound(index, |writer| {
                writer
                    .transport_feedback(&feedback, &arrivals[..count])
                    .map(|_| ())
            });
        }
    }

    /// Reports to a participant on what it sends and on what it is sent.
    pub(super) fn reports_when_due(&mut self, index: u32, now: Instant) {
        let Some(transport) = self.transports.get_mut(index) else {
            return;
        };
        if transport.report_due.is_none_or(|due| due > now) {
            return;
        }
        transport.report_due = None;
        if transport.is_ready() {
            // As many as it takes; each holds 31 streams at most.
            while self.send_receiver_report(index, now) == rtcp::COUNT_MAX {}
            self.send_sender_reports(index, now);
        }
    }

    /// Of how many streams it reports: those that something came of since their last report.
    fn send_receiver_report(&mut self, index: u32, now: Instant) -> usize {
        let Some(transport) = self.transports.get(index) else {
            return 0;
        };
        let own = transport.report_ssrc;
        let mut blocks = [NO_BLOCK; rtcp::COUNT_MAX];
        let mut count = 0;
        let tracks = transport
            .tracks
            .iter()
            .filter_map(|track| self.tracks.get(*track));
        let sources = tracks.flat_map(|track| track.layers.iter().filter_map(|layer| layer.source));
        for source in sources {
            let Some(source) = self.sources.get_mut(source) else {
                continue;
            };
            if let Some(place) = blocks.get_mut(count).filter(|_| source.reception.is_due()) {
                *place = source
                    .reception
                    .report(source.ssrc, source.sender_report, now);
                count_way_up(source, &self.counters);
                count += 1;
            }
        }
        if count > 0 {
            self.send_compound(index, |writer| {
                writer.receiver_report(own, &blocks[..count])?;
                writer.cname(own, OWN_CNAME)
            });
        }
        count
    }

    fn send_sender_reports(&mut self, index: u32, now: Instant) {
        let count = self
            .transports
            .get(index)
            .map_or(0, |transport| transport.subscriptions.len());
        for at in 0..count {
            let of = self.transports.get(index);
            let Some(subscription) =
                of.and_then(|transport| transport.subscriptions.get(at).copied())
            else {
                return;
            };
            self.send_sender_report(index, subscription, now);
        }
    }

    /// The publisher's time on the shard's wall clock, with the subscription's numbers.
    fn send_sender_report(&mut self, transport: u32, index: u32, now: Instant) {
        let Some(of) = self.subscriptions.get(index) else {
            return;
        };
        let Some(info) = self.sender_info(of, now) else {
            return;
        };
        let Some(of) = self.subscriptions.get_mut(index) else {
            return;
        };
        of.reports.last = Some(((info.ntp >> 16) as u32, now));
        of.reports.packets = of.packets;
        let len = compound(&mut self.scratch[..], |writer| {
            writer.sender_report(of.ssrc, &info, &[])?;
            writer.cname(of.ssrc, &of.cname)
        });
        self.send_rtcp(transport, len);
    }

    /// `None` when nothing was sent since the last report, or the publisher has not said what its clock shows.
    fn sender_info(&self, of: &Subscription, now: Instant) -> Option<SenderInfo> {
        if of.packets == of.reports.packets {
            return None;
        }
        let offset = of.rewriter.timestamp_offset()?;
        let source = find_source(&self.tracks, &self.sources, of, of.rewriter.source()?)?;
        let report = source.sender_report?;
        let publisher = self.tracks.get(of.track)?.transport;
        let shift = self.transports.get(publisher)?.clock_shift?;
        let since = now.saturating_duration_since(report.arrival);
        Some(SenderInfo {
            ntp: report
                .ntp
                .wrapping_add(shift)
                .wrapping_add(timing::ntp(since)),
            rtp_time: report
                .rtp
                .add(offset)
                .add(timing::units(since, source.clock_rate) as u32),
            packet_count: of.packets,
            octet_count: of.octets,
        })
    }

    /// Sends a keyframe request if one is wanted, due, and somebody still waits for it.
    pub(super) fn request_keyframe_when_due(&mut self, index: u32, now: Instant) {
        let Some(source) = self.sources.get(index) else {
            return;
        };
        let watched = self.is_watched(source);
        let Some(track) = self.tracks.get(source.track) else {
            return;
        };
        let (transport, media_ssrc) = (track.transport, source.ssrc);
        let own = self
            .transports
            .get(transport)
            .filter(|transport| transport.is_ready())
            .map(|of| of.report_ssrc);
        let Some(source) = self.sources.get_mut(index) else {
            return;
        };
        if !watched {
            return source.keyframes.satisfied();
        }
        if !source.keyframes.take_due(now) {
            return;
        }
        if let Some(own) = own {
            self.counters.keyframe_requests_sent.add(1);
            self.send_compound(transport, |writer| writer.pli(own, media_ssrc));
        }
    }

    /// Whether a subscriber that can be sent to gets the source, or is to get it.
    fn is_watched(&self, source: &Source) -> bool {
        let Some(track) = self.tracks.get(source.track) else {
            return false;
        };
        let watches = |of: &Subscription| {
            of.target.is_some_and(|target| target.layer == source.layer)
                || of.rewriter.source() == Some(source.id)
        };
        let ready = |of: &Subscription| {
            let to = self.transports.get(of.transport);
            to.is_some_and(|to| to.is_ready())
        };
        let subscriptions = track.subscriptions.iter();
        subscriptions
            .filter_map(|index| self.subscriptions.get(*index))
            .any(|of| watches(of) && ready(of))
    }

    /// Reports holes in a source's numbers to its publisher, while somebody watches it. What has been reported for long enough
    /// is lost for good, and decoders cannot go on without it: then a keyframe is asked for.
    pub(super) fn report_missing_when_due(&mut self, index: u32, now: Instant) {
        let Some(source) = self.sources.get(index) else {
            return;
        };
        if source.missing.poll_timeout().is_none_or(|due| due > now) {
            return;
        }
        let watched = self.is_watched(source);
        let Some(transport) = self.tracks.get(source.track).map(|track| track.transport) else {
            return;
        };
        let to = self.transports.get(transport).filter(|of| of.is_ready());
        let Some(source) = self.sources.get_mut(index) else {
            return;
        };
        let (true, Some(to)) = (watched, to) else {
            return source.missing.clear();
        };
        let (own, rtt, media_ssrc) = (to.report_ssrc, to.round_trip.smoothed(), source.ssrc);
        let mut missing = [Seq(0); NACK_LIST_MAX];
        let mut count = 0;
        let given_up = source.missing.take_due(rtt, now, |seq| {
            if let Some(place) = missing.get_mut(count) {
                *place = seq.seq();
                count += 1;
            }
        });
        self.counters.nacks_sent.add(count as u64);
        self.send_compound(transport, |writer| {
            writer.nack(own, media_ssrc, &missing[..count])
        });
        if given_up.is_some() {
            self.want_keyframe(index, now);
        }
    }
}

/// What stands in a list of blocks before it is filled.
const NO_BLOCK: ReportBlock = ReportBlock {
    ssrc: 0,
    fraction_lost: 0,
    cumulative_lost: 0,
    highest_sequence: 0,
    jitter: 0,
    last_sr: 0,
    delay_since_last_sr: 0,
};

/// Puts a compound packet together and says how long it is. What does not fit is left out whole: the rest is good
/// without it.
fn compound(
    scratch: &mut [u8],
    write: impl FnOnce(&mut rtcp::Writer<'_>) -> Result<(), NoRoom>,
) -> usize {
    let mut writer = rtcp::Writer::new(&mut scratch[..REPORT_BYTES_MAX]);
    let _ = write(&mut writer);
    writer.len()
}
