//! The last packets of one source, found by their number: for retransmission, for keyframes that come reordered, and to
//! know a packet that came twice by different ways.

use weir_wire::ExtSeq;

use crate::packet::Slot;

/// Stands where a packet was let go of while its number is still in the window.
const GONE: Slot = Slot::MAX;

/// The last `capacity` numbers of a source.
#[derive(Debug)]
pub(crate) struct History {
    places: Vec<Option<(ExtSeq, Slot)>>,
    newest: Option<ExtSeq>,
    /// The oldest number that may be kept.
    oldest: ExtSeq,
}

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Inserted {
    /// Kept. The history holds one reference to its slot.
    Kept,
    /// The number is already there.
    Duplicate,
    /// From before the window.
    TooOld,
}

impl History {
    /// Allocates room for `capacity` packets, a power of two.
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            places: vec![None; capacity.next_power_of_two()],
            newest: None,
            oldest: ExtSeq(0),
        }
    }

    pub(crate) fn newest(&self) -> Option<ExtSeq> {
        self.newest
    }

    fn place(&self, seq: ExtSeq) -> usize {
        seq.0 as usize & (self.places.len() - 1)
    }

    /// The packet with this number.
    pub(crate) fn get(&self, seq: ExtSeq) -> Option<Slot> {
        self.places[self.place(seq)]
            .and_then(|(at, slot)| (at == seq && slot != GONE).then_some(slot))
    }

    /// Whether the number has come, whether its packet is still there or not.
    fn is_taken(&self, seq: ExtSeq) -> bool {
        self.places[self.place(seq)].is_some_and(|(at, _)| at == seq)
    }

    /// Where a packet with this number would go, without changing anything.
    pub(crate) fn check(&self, seq: ExtSeq) -> Inserted {
        match self.newest {
            Some(newest) if seq <= newest && seq.0 + self.places.len() as u64 <= newest.0 => {
                Inserted::TooOld
            }
            _ if self.is_taken(seq) => Inserted::Duplicate,
            _ => Inserted::Kept,
        }
    }

    /// Keeps a packet that [`History::check`] found room for, and the newest `window` numbers of the rest; `evicted` gets
    /// what goes.
    pub(crate) fn insert(
        &mut self,
        seq: ExtSeq,
        slot: Slot,
        window: u64,
        mut evicted: impl FnMut(Slot),
    ) {
        let newest = self.newest.map_or(seq, |newest| newest.max(seq));
        let window = window.min(self.places.len() as u64);
        let oldest = ExtSeq((newest.0 + 1).saturating_sub(window)).max(self.oldest);
        // A jump of the numbers costs one walk over the places, not over the numbers.
        let walk = (oldest.0 - self.oldest.0).min(self.places.len() as u64);
        for number in oldest.0 - walk..oldest.0 {
            self.evict(ExtSeq(number), oldest, &mut evicted);
        }
        self.newest = Some(newest);
        self.oldest = oldest;
        let place = self.place(seq);
        if let Some((_, old)) = self.places[place].replace((seq, slot))
            && old != GONE
        {
            evicted(old);
        }
    }

    fn evict(&mut self, seq: ExtSeq, oldest: ExtSeq, evicted: &mut impl FnMut(Slot)) {
        let place = self.place(seq);
        if let Some((_, slot)) = self.places[place].take_if(|(at, _)| *at < oldest)
            && slot != GONE
        {
            evicted(slot);
        }
    }

    /// Lets go of one packet and returns its slot. Its number stays taken: it has gone out under some number, and should it come
    /// once more by another way, what it holds then would be sealed under the same.
    pub(crate) fn let_go(&mut self, seq: ExtSeq) -> Option<Slot> {
        let slot = self.get(seq)?;
        let place = self.place(seq);
        self.places[place] = Some((seq, GONE));
        Some(slot)
    }

    /// Forgets everything; `evicted` gets all slots.
    pub(crate) fn clear(&mut self, mut evicted: impl FnMut(Slot)) {
        self.places
            .iter_mut()
            .filter_map(Option::take)
            .filter(|(_, slot)| *slot != GONE)
            .for_each(|(_, slot)| evicted(slot));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keep(history: &mut History, seq: u64, window: u64) -> (Inserted, Vec<Slot>) {
        let checked = history.check(ExtSeq(seq));
        let mut gone = Vec::new();
        if checked == Inserted::Kept {
            history.insert(ExtSeq(seq), seq as Slot, window, |slot| gone.push(slot));
        }
        (checked, gone)
    }

    #[test]
    fn keeps_the_newest_and_knows_duplicates_and_the_too_old() {
        let mut history = History::new(8);
        for seq in 100..108 {
            assert_eq!(keep(&mut history, seq, 8), (Inserted::Kept, vec![]));
        }
        assert_eq!(keep(&mut history, 103, 8), (Inserted::Duplicate, vec![]));
        assert_eq!(
            keep(&mut history, 110, 8),
            (Inserted::Kept, vec![100, 101, 102])
        );
        assert_eq!(keep(&mut history, 102, 8), (Inserted::TooOld, vec![]));
        assert_eq!(keep(&mut history, 109, 8), (Inserted::Kept, vec![]));
        assert_eq!(history.get(ExtSeq(103)), Some(103));
        assert_eq!(history.get(ExtSeq(108)), None);
    }

    #[test]
    fn a_smaller_window_lets_go_early_and_a_jump_lets_go_of_all() {
        let mut history = History::new(8);
        for seq in 0..8 {
            keep(&mut history, seq, 8);
        }
        assert_eq!(
            keep(&mut history, 8, 3),
            (Inserted::Kept, vec![0, 1, 2, 3, 4, 5])
        );
        assert_eq!(
            keep(&mut history, 1_000_000, 8),
            (Inserted::Kept, vec![6, 7, 8])
        );
        assert_eq!(history.let_go(ExtSeq(1_000_000)), Some(1_000_000));
        assert_eq!(history.let_go(ExtSeq(1_000_000)), None);
    }

    #[test]
    fn a_number_that_was_let_go_of_is_not_taken_again() {
        let mut history = History::new(8);
        keep(&mut history, 100, 8);
        keep(&mut history, 101, 8);
        assert_eq!(history.let_go(ExtSeq(100)), Some(100));
        assert_eq!(history.get(ExtSeq(100)), None);
        assert_eq!(keep(&mut history, 100, 8), (Inserted::Duplicate, vec![]));
        assert_eq!(
            keep(&mut history, 108, 8),
            (Inserted::Kept, vec![]),
            "in the place of 100, whose slot is gone"
        );
        let mut left = Vec::new();
        history.clear(|slot| left.push(slot));
        assert_eq!(left, [108, 101]);
    }

    #[test]
    fn keeps_and_lets_go_of_each_slot_exactly_once() {
        let mut history = History::new(16);
        let mut held = std::collections::BTreeSet::new();
        let mut numbers = crate::table::Numbers::new(5);
        let mut top = 50;
        for slot in 0..20_000u32 {
            let random = numbers.next();
            let seq = ExtSeq(if random.is_multiple_of(50) {
                top + random % 40
            } else {
                (top + 2).saturating_sub(random % 20)
            });
            let window = if random.is_multiple_of(7) { 4 } else { 16 };
            if history.check(seq) == Inserted::Kept {
                held.insert(slot);
                history.insert(seq, slot, window, |gone| assert!(held.remove(&gone)));
                top = top.max(seq.0);
            }
            assert!(held.len() <= 16);
        }
        history.clear(|gone| assert!(held.remove(&gone)));
        assert!(held.is_empty());
    }
}
