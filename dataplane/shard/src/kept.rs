//! The shard-wide bound of the histories: of all packets received, only the last so many are kept, whoever sent them.

use std::collections::VecDeque;

use weir_wire::ExtSeq;

use crate::packet::Slot;
use crate::room;

/// One packet in some source's history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KeptPacket {
    /// Table index of the source.
    pub(crate) source: u32,
    pub(crate) seq: ExtSeq,
    pub(crate) slot: Slot,
    /// Tells this use of the slot from later ones.
    pub(crate) serial: u64,
}

/// The packets in all histories, oldest first. Some may have left already.
#[derive(Debug)]
pub(crate) struct Kept {
    order: VecDeque<KeptPacket>,
    limit: usize,
}

impl Kept {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            order: room::queue(limit + 1),
            limit,
        }
    }

    /// Notes the newest packet and returns the one that must go for it.
    pub(crate) fn push(&mut self, packet: KeptPacket) -> Option<KeptPacket> {
        self.order.push_back(packet);
        if self.order.len() > self.limit {
            self.order.pop_front()
        } else {
            None
        }
    }
}
