//! How the numbers of one source become those of a subscription.

use weir_wire::ExtSeq;

use super::Picture;
use crate::publisher::SourceId;

/// Removed packets that a mapping remembers, to number late packets from before them.
pub(super) const REMOVED_MAX: usize = 32;

/// What is added to the numbers of one source.
#[derive(Debug)]
pub(super) struct Mapping {
    pub(super) source: SourceId,
    pub(super) first: ExtSeq,
    /// The highest number seen of the source.
    pub(super) highest: ExtSeq,
    /// The same without padding. After a switch nothing above it goes out any more: it may be of a newer picture than the
    /// last that was counted.
    pub(super) highest_media: ExtSeq,
    /// Added to sequence numbers, modulo 2^64, before removed packets are taken off.
    pub(super) seq: u64,
    pub(super) timestamp: u32,
    pub(super) picture: Picture,
    pub(super) removed: [ExtSeq; REMOVED_MAX],
    pub(super) removed_count: u64,
}

impl Mapping {
    /// Leaves the newest packet out: all behind it move up by one.
    pub(super) fn remove(&mut self, seq: ExtSeq) {
        self.removed[self.removed_count as usize % REMOVED_MAX] = seq;
        self.removed_count += 1;
        self.highest = seq;
    }

    pub(super) fn number(&self, seq: ExtSeq) -> Option<ExtSeq> {
        let remembered = &self.removed[..(self.removed_count as usize).min(REMOVED_MAX)];
        let later = remembered.iter().filter(|removed| **removed > seq).count();
        if later == REMOVED_MAX && self.removed_count > REMOVED_MAX as u64 {
            // From before the oldest removal that is remembered: how many were removed before it is not known.
            return None;
        }
        let before = self.removed_count - later as u64;
        Some(ExtSeq(seq.0.wrapping_add(self.seq).wrapping_sub(before)))
    }
}
