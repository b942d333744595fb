//! RTCP that comes in: publishers' sender reports, subscribers' receiver reports, NACKs and keyframe requests.

use std::time::Instant;

use weir_wire::rtcp::{Compound, Packet, ReportBlock, SenderReport};

use crate::buffer::ReceiveBuffer;
use crate::counters::DropReason;
use crate::shard::Shard;
use crate::shard::media::drop_reason;
use crate::timing::{self, ReportedTime};
use crate::transport::Feeds;

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
        of.count_received(buffer.datagram().len(), &self.counters);
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
            Packet::TransportFeedback(feedback) => {
                self.transport_feedback(transport, feedback, now)
            }
            Packet::Remb(remb) => self.remb(transport, remb.bitrate_bps, now),
            // Sources are ended by signalling, not by BYE.
            Packet::Sdes(_) | Packet::Bye(_) | Packet::Unknown { .. } => {}
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
    pub(super) fn subscription_of(&self, transport: u32, ssrc: u32) -> Option<u32> {
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
        let of = self.subscriptions.get_mut(index);
        let round_trip = of.and_then(|of| of.handle_report(block, now));
        if let (Some(sample), Some(of)) = (round_trip, self.transports.get_mut(transport)) {
            of.round_trip.record(sample, now);
            let micros = sample.as_micros() as u64;
            self.counters.round_trips.record(micros);
        }
        self.count_way_down(index);
        self.loss_report(transport, index, block, now);
    }
}
