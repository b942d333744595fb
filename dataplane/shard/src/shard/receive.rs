//! Sorting of what comes in: whose it is, which protocol it is, whether it may enter at all.

use std::time::Instant;

use weir_wire::Kind;

use crate::buffer::ReceiveBuffer;
use crate::counters::DropReason;
use crate::event::Event;
use crate::limits::DATAGRAM_BYTES_MAX;
use crate::path::Path;
use crate::reason::Stage;
use crate::shard::{Opened, Shard};

impl Shard {
    /// Media comes back authenticated and decrypted; everything else is dealt with.
    pub(super) fn receive(
        &mut self,
        buffer: ReceiveBuffer,
        path: Path,
        now: Instant,
    ) -> Option<Opened> {
        let kind = Kind::of(buffer.datagram());
        match (kind, self.paths.get(&path).copied()) {
            (Kind::Stun, _) => {
                self.stun(buffer.datagram(), path, now);
                self.packets.give_back(buffer);
            }
            (Kind::Unknown, _) => self.refuse(buffer, DropReason::Garbage),
            (_, None) => self.refuse(buffer, DropReason::UnknownAddress),
            (Kind::Rtp, Some(transport)) => {
                let bytes = buffer.datagram().len();
                self.counters.pass(Stage::Received, bytes);
                return self.open_rtp(buffer, transport, now);
            }
            (Kind::Rtcp, Some(transport)) => self.rtcp(buffer, transport, now),
            (_, Some(transport)) => self.dtls(buffer, transport, now),
        }
        None
    }

    /// Passes a DTLS datagram on to control.
    fn dtls(&mut self, buffer: ReceiveBuffer, transport: u32, now: Instant) {
        let Some(of) = self.transports.get_mut(transport) else {
            return self.refuse(buffer, DropReason::UnknownAddress);
        };
        of.count_received(buffer.datagram().len(), &self.counters);
        if buffer.datagram().len() > DATAGRAM_BYTES_MAX {
            return self.refuse(buffer, DropReason::TooLarge);
        }
        if !of.take_datagram(now) {
            return self.refuse(buffer, DropReason::DatagramRate);
        }
        let id = of.id;
        self.event(Event::Datagram {
            id,
            datagram: buffer.datagram().to_vec(),
        });
        self.packets.give_back(buffer);
    }
}
