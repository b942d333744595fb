//! Retransmissions on a stream of their own (RFC 4588): whether they repeat what they say they do.

use std::time::Instant;

use bytes::Buf;
use rtp::packet::Packet;

use crate::checks::{Allowed, Arrival, Repair, Sequence, Violations};
use crate::report::{RtxReport, Violation};

/// The RTX side of one stream.
#[derive(Debug, Default)]
pub(super) struct Rtx {
    /// Of the RTX stream itself.
    sequence: Sequence,
    pub(super) report: RtxReport,
}

/// A focus that misses more asks for a keyframe instead of so many packets, so no network loses so many retransmissions in a row.
const JUMP: u64 = 250;

impl Rtx {
    /// Another stream takes the place of this one.
    pub(super) fn restart(&mut self) {
        self.sequence.restart();
    }

    /// Takes a packet of the RTX stream; gives the original with its extended number if it is of use.
    pub(super) fn handle(
        &mut self,
        packet: &Packet,
        media_ssrc: u32,
        allowed: &Allowed,
        media: &mut Sequence,
        violations: &mut Violations,
        now: Instant,
    ) -> Option<(Arrival, Packet)> {
        let header = &packet.header;
        allowed.check_extensions(packet, violations);
        if allowed.rtx_payload_type != Some(header.payload_type) {
            violations.add(Violation::RtxMalformed, || {
                format!("payload type {} on the RTX stream", header.payload_type)
            });
            return None;
        }
        self.follow(packet, violations, now)?;
        if packet.payload.is_empty() {
            self.report.padding += 1;
            return None;
        }
        let mut payload = packet.payload.clone();
        if payload.len() < 2 {
            violations.add(Violation::RtxMalformed, || "one byte of payload".into());
            return None;
        }
        let number = payload.get_u16();
        let mut original = Packet {
            header: header.clone(),
            payload,
        };
        original.header.sequence_number = number;
        original.header.ssrc = media_ssrc;
        original.header.payload_type = allowed.payload_types.first().copied()?;
        self.report.packets += 1;
        self.sort(media.repair(&original, now), original, violations)
    }

    /// The RTX stream's own numbers; `None` for a packet that came twice.
    fn follow(&mut self, packet: &Packet, violations: &mut Violations, now: Instant) -> Option<()> {
        let (before, mut own) = (self.sequence.highest(), Violations::default());
        let arrival = self.sequence.handle(packet, &mut own, now);
        self.sequence.handle_timeout(now);
        let jump = match (before, arrival) {
            (Some(before), Arrival::Newest(number)) => number - before > JUMP,
            _ => false,
        };
        if jump || !own.is_empty() {
            violations.add(Violation::RtxSequenceJump, || {
                let before = before.unwrap_or(0) as u16;
                format!("{} after {before}", packet.header.sequence_number)
            });
        }
        (arrival != Arrival::Duplicate).then_some(())
    }

    fn sort(
        &mut self,
        repair: Repair,
        original: Packet,
        violations: &mut Violations,
    ) -> Option<(Arrival, Packet)> {
        let number = original.header.sequence_number;
        match repair {
            Repair::Useful(arrival) => {
                self.report.repaired += 1;
                Some((arrival, original))
            }
            Repair::TooLate => {
                self.report.late += 1;
                None
            }
            Repair::Differs { was_missing: true } => {
                violations.add(Violation::RtxContentWrong, || {
                    format!("number {number} with another content than it came with")
                });
                None
            }
            Repair::Differs { was_missing: false } => {
                violations.add(Violation::RtxNumberWrong, || {
                    format!("number {number} was never missing, and had another content")
                });
                None
            }
            Repair::OutOfPlace => {
                violations.add(Violation::RtxNumberWrong, || {
                    format!(
                        "number {number} cannot have time {}",
                        original.header.timestamp
                    )
                });
                None
            }
        }
    }
}
