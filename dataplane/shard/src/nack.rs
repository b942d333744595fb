//! Missing numbers of a publisher's source: when to report them, how often, until when.

use std::time::Instant;

use weir_wire::ExtSeq;

use crate::limits::{NACK_AGE_MAX, NACK_LIST_MAX, NACK_REORDER, NACK_RETRY, NACK_TRIES_MAX};

#[derive(Clone, Copy, Debug)]
struct Hole {
    seq: ExtSeq,
    since: Instant,
    due: Instant,
    tries: u8,
}

/// The holes in one source's numbers.
#[derive(Debug)]
pub(crate) struct Missing {
    holes: Vec<Hole>,
}

/// There are so many holes that a keyframe costs less.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooMany;

impl Missing {
    pub(crate) fn new() -> Self {
        Self {
            holes: Vec::with_capacity(NACK_LIST_MAX),
        }
    }

    /// Notes the numbers after `newest` and before `seq`.
    pub(crate) fn note(
        &mut self,
        newest: ExtSeq,
        seq: ExtSeq,
        now: Instant,
    ) -> Result<(), TooMany> {
        let holes = seq.0.saturating_sub(newest.0 + 1);
        if holes as usize > NACK_LIST_MAX - self.holes.len().min(NACK_LIST_MAX) {
            self.holes.clear();
            return Err(TooMany);
        }
        for number in newest.0 + 1..seq.0 {
            self.holes.push(Hole {
                seq: ExtSeq(number),
                since: now,
                due: now + NACK_REORDER,
                tries: 0,
            });
        }
        Ok(())
    }

    /// A late packet fills its hole.
    pub(crate) fn fill(&mut self, seq: ExtSeq) {
        if let Some(at) = self.holes.iter().position(|hole| hole.seq == seq) {
            self.holes.remove(at);
        }
    }

    /// Forgets everything, e.g. because nobody is subscribed any more.
    pub(crate) fn clear(&mut self) {
        self.holes.clear();
    }

    /// Calls `report` with each number that is due, in order, and gives up on those that are too old.
    pub(crate) fn take_due(&mut self, now: Instant, mut report: impl FnMut(ExtSeq)) {
        self.holes.retain_mut(|hole| {
            if now.saturating_duration_since(hole.since) >= NACK_AGE_MAX
                || hole.tries >= NACK_TRIES_MAX
            {
                return false;
            }
            if hole.due <= now {
                hole.tries += 1;
                hole.due = now + NACK_RETRY;
                report(hole.seq);
            }
            true
        });
    }

    /// When the next number is due.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.holes.iter().map(|hole| hole.due).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const MS: Duration = Duration::from_millis(1);

    fn due(missing: &mut Missing, now: Instant) -> Vec<u64> {
        let mut seqs = Vec::new();
        missing.take_due(now, |seq| seqs.push(seq.0));
        seqs
    }

    #[test]
    fn reports_after_the_reorder_allowance_and_again_until_filled() {
        let start = Instant::now();
        let mut missing = Missing::new();
        missing.note(ExtSeq(10), ExtSeq(14), start).unwrap();
        assert_eq!(due(&mut missing, start + 9 * MS), []);
        missing.fill(ExtSeq(12));
        assert_eq!(due(&mut missing, start + 10 * MS), [11, 13]);
        assert_eq!(due(&mut missing, start + 109 * MS), []);
        assert_eq!(due(&mut missing, start + 110 * MS), [11, 13]);
        missing.fill(ExtSeq(11));
        missing.fill(ExtSeq(13));
        assert_eq!(missing.poll_timeout(), None);
    }

    #[test]
    fn gives_up_after_a_second() {
        let start = Instant::now();
        let mut missing = Missing::new();
        missing.note(ExtSeq(10), ExtSeq(12), start).unwrap();
        let reports: usize = (0..5000)
            .step_by(5)
            .map(|ms| due(&mut missing, start + ms * MS).len())
            .sum();
        assert_eq!(reports, 10);
        assert_eq!(missing.poll_timeout(), None);
    }

    #[test]
    fn too_many_holes_are_none() {
        let start = Instant::now();
        let mut missing = Missing::new();
        assert_eq!(missing.note(ExtSeq(0), ExtSeq(251), start), Ok(()));
        assert_eq!(missing.note(ExtSeq(251), ExtSeq(253), start), Err(TooMany));
        assert_eq!(missing.poll_timeout(), None);
        assert_eq!(
            missing.note(ExtSeq(0), ExtSeq(1 << 40), start),
            Err(TooMany)
        );
    }
}
