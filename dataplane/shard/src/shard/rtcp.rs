//! RTCP that comes in: publishers' sender reports, subscribers' receiver reports, NACKs and keyframe requests.

use std::time::Instant;

use weir_wire::Seq;
use weir_wire::rtcp::{Compound, Nack, Packet, ReportBlock, SenderReport};

use crate::buffer::ReceiveBuffer;
use crate::counters::DropReason;
use crate::ids::MediaKind;
use crate::limits::{NACK_LIST_MAX, RESENDS_PER_BATCH};
use crate::shard::Shard;
use crate::shard::forward::find_source;
use crate::shard::media::drop_reason;
use crate::timing::{self, ReportedTime};
use crate::transport::Feeds;
use crate::tx::{Again, Waiting};

impl Shard {
    pub(super) fn rtcp(&mut self, mut buffer: ReceiveBuffer, transport: u32, now: Instant) {
        if let Err(reason) = self.unprotect_rtcp(&mut buffer, transport, now) {
            return self.refuse(buffer, reason);
        }
        let Ok(compound) = Compound::parse(buffer.datagram()) else {
            return self.refuse(buffer, DropReason::RtcpMalformed);
        };
        self.counters.rtcp_received.add(1);
        for packet in compound.packets() {
            match packet {
                Ok(packet) => self.rtcp_packet(transport, &packet, now),
                Err(_) => self.counters.count_drop(DropReason::RtcpMalformed),
            }
        }
        self.packets.give_back(buffer);
    }

    fn unprotect_rtcp(
        &mut self,
        buffer: &mut ReceiveBuffer,
        transport: u32,
        now: Instant,
    ) -> Result<(), DropReason> {
        let of = self
            .transports
            .get_mut(transport)
            .ok_or(DropReason::UnknownAddress)?;
        let receiver = of.receiver.as_mut().ok_or(DropReason::NoKeys)?;
        match receiver.unprotect_rtcp(buffer.datagram_mut()) {
            Ok(len) => buffer.truncate(len),
            Err(error) => {
                if error == weir_srtp::Error::TooManySources {
                    of.forget_idle_stream(now);
                }
                return Err(drop_reason(error));
            }
        }
        Ok(())
    }

    fn rtcp_packet(&mut self, transport: u32, packet: &Packet<'_>, now: Instant) {
        match packet {
            Packet::SenderReport(report) => {
                self.sender_report(transport, report, now);
                report
                    .reports()
                    .for_each(|block| self.report_block(transport, &block, now));
            }
            Packet::ReceiverReport(report) => {
                report
                    .reports()
                    .for_each(|block| self.report_block(transport, &block, now));
            }
            Packet::Nack(nack) => self.nack(transport, nack, now),
            Packet::Pli(pli) => self.keyframe_request(transport, pli.media_ssrc, now),
            Packet::Fir(fir) => fir
                .entries()
                .for_each(|entry| self.keyframe_request(transport, entry.ssrc, now)),
            // Feedback on what the focus sends belongs to bandwidth estimation; sources are ended by signalling, not by BYE.
            Packet::TransportFeedback(_)
            | Packet::Remb(_)
            | Packet::Sdes(_)
            | Packet::Bye(_)
            | Packet::Unknown { .. } => {}
        }
    }

    fn sender_report(&mut self, transport: u32, report: &SenderReport<'_>, now: Instant) {
        let wall_clock =
            timing::wall_clock(self.unix_time + now.saturating_duration_since(self.epoch));
        let Some(of) = self.transports.get_mut(transport) else {
            return;
        };
        of.clock_shift
            .get_or_insert(wall_clock.wrapping_sub(report.info.ntp));
        let stream = of.streams.iter().find(|stream| stream.ssrc == report.ssrc);
        let Some(Feeds::Source(source)) = stream.map(|stream| stream.feeds) else {
            return;
        };
        if let Some(source) = self.sources.get_mut(source) {
            let (ntp, rtp) = (report.info.ntp, report.info.rtp_time);
            source.sender_report = Some(ReportedTime {
                ntp,
                rtp,
                arrival: now,
            });
        }
    }

    /// The subscription that a subscriber knows by this SSRC.
    fn subscription_of(&self, transport: u32, ssrc: u32) -> Option<u32> {
        let subscriptions = &self.transports.get(transport)?.subscriptions;
        let of = |index: &u32| {
            self.subscriptions
                .get(*index)
                .is_some_and(|of| of.ssrc == ssrc)
        };
        subscriptions.iter().copied().find(of)
    }

    fn report_block(&mut self, transport: u32, block: &ReportBlock, now: Instant) {
        let Some(index) = self.subscription_of(transport, block.ssrc) else {
            return;
        };
        if let Some(of) = self.subscriptions.get_mut(index) {
            of.handle_report(
                block.fraction_lost,
                block.last_sr,
                block.delay_since_last_sr,
                now,
            );
        }
    }

    /// A subscriber's decoder is stuck: a keyframe is asked for, of what it sees and of what it waits for.
    fn keyframe_request(&mut self, transport: u32, ssrc: u32, now: Instant) {
        let Some(index) = self.subscription_of(transport, ssrc) else {
            return;
        };
        let Some(of) = self
            .subscriptions
            .get_mut(index)
            .filter(|of| of.kind == MediaKind::Video)
        else {
            return;
        };
        self.counters.keyframe_requests_received.add(1);
        of.keyframe_asked = true;
        let (track, target, current) = (of.track, of.target, of.rewriter.source());
        let Some(track) = self.tracks.get(track) else {
            return;
        };
        let watched = track.layers.iter().enumerate().filter_map(|(layer, of)| {
            let source = of.source?;
            let is_current = self
                .sources
                .get(source)
                .is_some_and(|source| Some(source.id) == current);
            let is_target = target.is_some_and(|target| target.layer == layer);
            (is_target || is_current).then_some(source)
        });
        let mut sources = watched.fuse();
        let (first, second) = (sources.next(), sources.next());
        drop(sources);
        for source in [first, second].into_iter().flatten() {
            self.want_keyframe(source, now);
        }
    }

    fn nack(&mut self, transport: u32, nack: &Nack<'_>, now: Instant) {
        let Some(index) = self.subscription_of(transport, nack.media_ssrc) else {
            return;
        };
        let missing = nack.seqs().take(NACK_LIST_MAX + 1).count();
        self.counters.nacks_received.add(missing as u64);
        if missing > NACK_LIST_MAX {
            return self.keyframe_request(transport, nack.media_ssrc, now);
        }
        for seq in nack.seqs() {
            if self.resend(transport, index, seq, now).is_none() {
                self.counters.resends_refused.add(1);
            }
        }
    }

    /// Queues a packet once more, as it went out the first time.
    fn resend(&mut self, transport: u32, index: u32, seq: Seq, now: Instant) -> Option<()> {
        let to = self
            .transports
            .get_mut(transport)
            .filter(|to| to.is_ready() && to.resends < RESENDS_PER_BATCH)?;
        let of = self.subscriptions.get_mut(index)?;
        let last = of.rewriter.last()?.seq;
        let before_keyframe = of
            .last_keyframe
            .is_some_and(|keyframe| last.nearest(seq) < keyframe);
        if of.kind == MediaKind::Video && (of.keyframe_asked || before_keyframe) {
            // A keyframe makes it useless.
            return None;
        }
        let sent = of.sent.take_resend(seq, of.reports.rtt, now).ok()?;
        let source = find_source(&self.tracks, &self.sources, of, sent.source)?;
        let slot = source.history.get(sent.source_seq)?;
        let (id, numbers, again) = (of.id, sent.numbers(), Again::Resend);
        let waiting = Waiting {
            subscription: index,
            id,
            slot,
            numbers,
            again,
            next: 0,
        };
        if !self.tx.push(transport, &mut to.queue, waiting) {
            return None;
        }
        to.resends += 1;
        self.packets.hold(slot);
        self.counters.resends.add(1);
        Some(())
    }
}
