//! Arrivals of one publisher's packets for transport-wide feedback (draft-holmer-rmcat-transport-wide-cc-extensions-01).

use std::time::Instant;

use weir_wire::{ExtSeq, Seq, SeqUnwrapper};

use crate::limits::{FEEDBACK_INTERVAL, FEEDBACK_PACKETS_MAX};

/// Numbers that a report may say were lost in a row; a larger jump is taken for a restart of the numbers.
const GAP_MAX: u64 = 512;

/// What arrived since the last feedback.
#[derive(Debug)]
pub(crate) struct Feedback {
    unwrapper: SeqUnwrapper,
    /// In order of their numbers.
    arrivals: Vec<(ExtSeq, Instant)>,
    /// The first number that no feedback has spoken of.
    next: Option<ExtSeq>,
    due: Option<Instant>,
    count: u8,
    media_ssrc: u32,
}

/// One feedback message: statuses of consecutive numbers.
#[derive(Debug)]
pub(crate) struct Report<'a> {
    pub(crate) count: u8,
    pub(crate) media_ssrc: u32,
    pub(crate) base: ExtSeq,
    arrivals: &'a [(ExtSeq, Instant)],
}

impl Feedback {
    pub(crate) fn new() -> Self {
        Self {
            unwrapper: SeqUnwrapper::new(),
            arrivals: Vec::with_capacity(FEEDBACK_PACKETS_MAX),
            next: None,
            due: None,
            count: 0,
            media_ssrc: 0,
        }
    }

    /// Notes a packet and says when the next feedback is due.
    pub(crate) fn record(&mut self, seq: Seq, ssrc: u32, now: Instant) -> Instant {
        let seq = self.unwrapper.unwrap(seq);
        self.media_ssrc = ssrc;
        let at = self.arrivals.partition_point(|(before, _)| *before < seq);
        let known = self
            .arrivals
            .get(at)
            .is_some_and(|(known, _)| *known == seq);
        if !known && self.arrivals.len() < FEEDBACK_PACKETS_MAX {
            self.arrivals.insert(at, (seq, now));
        }
        let full = self.arrivals.len() == FEEDBACK_PACKETS_MAX;
        let due = if full {
            now
        } else {
            self.due.unwrap_or(now + FEEDBACK_INTERVAL)
        };
        self.due = Some(due);
        due
    }

    /// When the next feedback is due, if anything arrived.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.due
    }

    /// The feedback that is due now.
    pub(crate) fn report(&mut self, now: Instant) -> Option<Report<'_>> {
        self.due.filter(|due| *due <= now)?;
        self.due = None;
        let (first, last) = (self.arrivals.first()?.0, self.arrivals.last()?.0);
        let base = match self.next {
            // What was lost since the last feedback is part of this one.
            Some(next) if next < first && first.0 - next.0 <= GAP_MAX => next,
            _ => first,
        };
        self.next = Some(last.add(1).max(self.next.unwrap_or(ExtSeq(0))));
        let count = self.count;
        self.count = self.count.wrapping_add(1);
        Some(Report {
            count,
            media_ssrc: self.media_ssrc,
            base,
            arrivals: &self.arrivals,
        })
    }

    /// Forgets what was reported.
    pub(crate) fn clear(&mut self) {
        self.arrivals.clear();
    }
}

impl Report<'_> {
    /// When each number from `base` on arrived; `None` for those that did not.
    pub(crate) fn statuses(&self) -> impl Iterator<Item = Option<Instant>> + Clone {
        let last = self.arrivals.last().map_or(self.base, |(last, _)| *last);
        // What is too much for one message is cut off by whoever writes it; the sender takes it for lost.
        let end = last.0;
        let mut arrivals = self.arrivals.iter().peekable();
        (self.base.0..=end).map(move |number| {
            arrivals
                .next_if(|(seq, _)| seq.0 == number)
                .map(|(_, at)| *at)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const MS: Duration = Duration::from_millis(1);

    fn report(
        feedback: &mut Feedback,
        start: Instant,
        now: Instant,
    ) -> Option<(u8, u64, Vec<Option<u128>>)> {
        let report = feedback.report(now)?;
        let statuses = report
            .statuses()
            .map(|at| at.map(|at| (at - start).as_millis()))
            .collect();
        let of = (report.count, report.base.0 & 0xffff, statuses);
        feedback.clear();
        Some(of)
    }

    #[test]
    fn says_when_each_packet_came_and_which_did_not() {
        let start = Instant::now();
        let mut feedback = Feedback::new();
        for (ms, seq) in [(0, 65534), (1, 65535), (2, 1), (3, 0), (3, 0), (5, 3)] {
            assert_eq!(
                feedback.record(Seq(seq), 7, start + ms * MS),
                start + 75 * MS
            );
        }
        assert_eq!(report(&mut feedback, start, start + 74 * MS), None);
        let statuses = vec![Some(0), Some(1), Some(3), Some(2), None, Some(5)];
        assert_eq!(
            report(&mut feedback, start, start + 75 * MS),
            Some((0, 65534, statuses))
        );
        assert_eq!(feedback.poll_timeout(), None);
        // 4 and 5 are lost between the two reports; 2 comes late and is told after all.
        feedback.record(Seq(6), 7, start + 150 * MS);
        assert_eq!(
            report(&mut feedback, start, start + 250 * MS),
            Some((1, 4, vec![None, None, Some(150)]))
        );
        feedback.record(Seq(2), 7, start + 251 * MS);
        feedback.record(Seq(7), 7, start + 252 * MS);
        let statuses = vec![Some(251), None, None, None, None, Some(252)];
        assert_eq!(
            report(&mut feedback, start, start + 351 * MS),
            Some((2, 2, statuses))
        );
    }

    #[test]
    fn is_bounded_and_due_at_once_when_full() {
        let start = Instant::now();
        let mut feedback = Feedback::new();
        for seq in 0..1000 {
            feedback.record(Seq(seq), 7, start);
        }
        assert_eq!(feedback.poll_timeout(), Some(start));
        assert_eq!(report(&mut feedback, start, start).unwrap().2.len(), 400);
        feedback.record(Seq(30_000), 7, start);
        assert_eq!(
            report(&mut feedback, start, start + 100 * MS),
            Some((1, 30_000, vec![Some(0)]))
        );
    }
}
