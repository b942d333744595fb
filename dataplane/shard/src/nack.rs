//! Missing numbers of a publisher's source: when to report them, how often, until when.
//!
//! How long to wait for an answer is learned from the answers: the time from the first report of a hole to the packet that
//! fills it holds all that there is, the network, the publisher's pacer and its own patience.

use std::time::{Duration, Instant};

use weir_wire::ExtSeq;

use crate::limits::{
    NACK_AGE_MAX, NACK_LIST_MAX, NACK_REORDER_MAX, NACK_REORDER_MIN, NACK_REPEAT, NACK_RETRY_SLACK,
    NACK_TRIES_MAX, NACK_UNANSWERED, ROUND_TRIP_DEFAULT,
};

#[derive(Clone, Copy, Debug)]
struct Hole {
    seq: ExtSeq,
    since: Instant,
    due: Instant,
    reported: Option<Instant>,
    tries: u8,
    /// What is due before is the same report once more.
    next_try: Option<Instant>,
}

impl Hole {
    /// Counts a report and says when the next is due: the same once more after `repeat`, another one after `retry`.
    fn note_report(&mut self, repeat: Option<Duration>, retry: Duration, now: Instant) {
        if let Some(next) = self.next_try.take() {
            self.due = next;
            return;
        }
        self.tries += 1;
        self.reported = Some(now);
        self.due = now + repeat.unwrap_or(retry);
        self.next_try = repeat.map(|_| now + retry);
    }
}

/// The holes in one source's numbers.
#[derive(Debug)]
pub(crate) struct Missing {
    holes: Vec<Hole>,
    /// How long a publisher takes to answer, smoothed.
    answer: Option<Duration>,
    /// How many of the last reports were not answered, smoothed.
    unanswered: f32,
}

/// The weight of one report in `unanswered`.
const REPORT_WEIGHT: f32 = 1.0 / 32.0;

/// There are so many holes that a keyframe costs less.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooMany;

impl Missing {
    pub(crate) fn new() -> Self {
        Self {
            holes: Vec::with_capacity(NACK_LIST_MAX),
            answer: None,
            unanswered: 0.0,
        }
    }

    /// Notes the numbers after `newest` and before `seq`; `rtt` is the publisher's round trip, where known.
    pub(crate) fn note(
        &mut self,
        newest: ExtSeq,
        seq: ExtSeq,
        rtt: Option<Duration>,
        now: Instant,
    ) -> Result<(), TooMany> {
        let holes = seq.0.saturating_sub(newest.0 + 1);
        if holes as usize > NACK_LIST_MAX - self.holes.len().min(NACK_LIST_MAX) {
            self.holes.clear();
            return Err(TooMany);
        }
        let reorder = rtt.map_or(NACK_REORDER_MIN, |rtt| rtt / 4);
        for number in newest.0 + 1..seq.0 {
            self.holes.push(Hole {
                seq: ExtSeq(number),
                since: now,
                due: now + reorder.clamp(NACK_REORDER_MIN, NACK_REORDER_MAX),
                reported: None,
                tries: 0,
                next_try: None,
            });
        }
        Ok(())
    }

    /// A late packet fills its hole.
    pub(crate) fn fill(&mut self, seq: ExtSeq, now: Instant) {
        let Some(at) = self.holes.iter().position(|hole| hole.seq == seq) else {
            return;
        };
        let hole = self.holes.remove(at);
        // Of two reports it is not known which one was answered (Karn).
        if let (Some(reported), 1) = (hole.reported, hole.tries) {
            self.unanswered -= self.unanswered * REPORT_WEIGHT;
            let took = now.saturating_duration_since(reported);
            self.answer = Some(self.answer.map_or(took, |of| (of * 7 + took) / 8));
        }
    }

    /// Forgets everything, e.g. because nobody is subscribed any more.
    pub(crate) fn clear(&mut self) {
        self.holes.clear();
    }

    /// Forgets what is before a keyframe: whoever lacks it goes on from there.
    pub(crate) fn clear_before(&mut self, keyframe: ExtSeq) {
        self.holes.retain(|hole| hole.seq >= keyframe);
    }

    /// How long after a report the same hole is reported again.
    fn retry(&self, rtt: Option<Duration>) -> Duration {
        let answer = self.answer.or(rtt).unwrap_or(ROUND_TRIP_DEFAULT);
        answer * 11 / 10 + NACK_RETRY_SLACK
    }

    /// Calls `report` with each number that is due, in order, and gives up on those that are too old: the newest of them.
    pub(crate) fn take_due(
        &mut self,
        rtt: Option<Duration>,
        now: Instant,
        mut report: impl FnMut(ExtSeq),
    ) -> Option<ExtSeq> {
        let retry = self.retry(rtt);
        // On a way that loses, a report is lost like anything else; it is small, and publishers answer it once.
        let repeat = (self.unanswered >= NACK_UNANSWERED).then_some(NACK_REPEAT);
        let unanswered = &mut self.unanswered;
        let mut given_up = None;
        self.holes.retain_mut(|hole| {
            let is_due = hole.due <= now;
            if now.saturating_duration_since(hole.since) >= NACK_AGE_MAX
                || (is_due && hole.tries >= NACK_TRIES_MAX && hole.next_try.is_none())
            {
                given_up = given_up.max(Some(hole.seq));
                return false;
            }
            if is_due {
                let tries = hole.tries;
                hole.note_report(repeat, retry, now);
                if (tries, hole.tries) == (1, 2) {
                    *unanswered += (1.0 - *unanswered) * REPORT_WEIGHT;
                }
                report(hole.seq);
            }
            true
        });
        given_up
    }

    /// When the next number is due.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.holes.iter().map(|hole| hole.due).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn due(missing: &mut Missing, rtt: Option<Duration>, now: Instant) -> Vec<u64> {
        let mut seqs = Vec::new();
        missing.take_due(rtt, now, |seq| seqs.push(seq.0));
        seqs
    }

    fn note(missing: &mut Missing, newest: u64, seq: u64, rtt: Option<Duration>, at: Instant) {
        let noted = missing.note(ExtSeq(newest), ExtSeq(seq), rtt, at);
        assert_eq!(noted, Ok(()));
    }

    #[test]
    fn reports_after_the_reorder_allowance_and_again_until_filled() {
        let start = Instant::now();
        let mut missing = Missing::new();
        note(&mut missing, 10, 14, None, start);
        assert_eq!(due(&mut missing, None, start + 9 * MS), []);
        missing.fill(ExtSeq(12), start + 9 * MS);
        assert_eq!(due(&mut missing, None, start + 10 * MS), [11, 13]);
        assert_eq!(due(&mut missing, None, start + 129 * MS), []);
        assert_eq!(due(&mut missing, None, start + 130 * MS), [11, 13]);
        missing.fill(ExtSeq(11), start + 150 * MS);
        missing.fill(ExtSeq(13), start + 150 * MS);
        assert_eq!(missing.poll_timeout(), None);
    }

    #[test]
    fn a_longer_way_reorders_more_and_answers_later() {
        let start = Instant::now();
        let mut missing = Missing::new();
        let rtt = Some(60 * MS);
        note(&mut missing, 10, 12, rtt, start);
        assert_eq!(due(&mut missing, rtt, start + 14 * MS), []);
        assert_eq!(due(&mut missing, rtt, start + 15 * MS), [11]);
        assert_eq!(due(&mut missing, rtt, start + 90 * MS), []);
        assert_eq!(due(&mut missing, rtt, start + 91 * MS), [11]);
    }

    #[test]
    fn learns_how_long_an_answer_takes() {
        let start = Instant::now();
        let mut missing = Missing::new();
        note(&mut missing, 10, 13, None, start);
        assert_eq!(due(&mut missing, None, start + 10 * MS), [11, 12]);
        missing.fill(ExtSeq(11), start + 50 * MS);
        // 40 ms, a tenth more, and 10 ms for what a publisher's clock may be off. The other one was asked for before that
        // was known.
        assert_eq!(due(&mut missing, None, start + 130 * MS), [12]);
        assert_eq!(due(&mut missing, None, start + 183 * MS), []);
        assert_eq!(due(&mut missing, None, start + 184 * MS), [12]);
    }

    #[test]
    fn where_reports_go_unanswered_each_is_sent_twice() {
        let start = Instant::now();
        let mut missing = Missing::new();
        let rtt = Some(40 * MS);
        let mut reports = |from: u64, filled_at: Option<u32>| {
            let start = start + from as u32 * 1000 * MS;
            note(&mut missing, 2 * from, 2 * from + 2, rtt, start);
            let mut reports = Vec::new();
            for ms in 0..120 {
                if filled_at == Some(ms) {
                    missing.fill(ExtSeq(2 * from + 1), start + ms * MS);
                }
                missing.take_due(rtt, start + ms * MS, |_| reports.push(ms));
            }
            missing.clear();
            reports
        };
        assert_eq!(reports(0, Some(50)), [10]);
        assert_eq!(reports(1, None), [10, 64, 118], "not answered");
        assert_eq!(reports(2, Some(50)), [10], "once is nothing");
        assert_eq!(reports(3, None), [10, 64, 118]);
        for of in 4..16 {
            assert_eq!(reports(of, Some(50)), [10, 20]);
        }
        assert_eq!(
            reports(16, Some(50)),
            [10],
            "and after a while nothing again"
        );
    }

    #[test]
    fn gives_up_after_a_second_and_says_so() {
        let start = Instant::now();
        let mut missing = Missing::new();
        note(&mut missing, 10, 12, None, start);
        let mut reports = 0;
        let mut given_up = None;
        for ms in (0..5000).step_by(5) {
            let gone = missing.take_due(None, start + ms * MS, |_| reports += 1);
            given_up = given_up.or(gone.map(|seq| (seq.0, ms)));
        }
        assert_eq!((reports, given_up), (9, Some((11, 1000))));
        assert_eq!(missing.poll_timeout(), None);
    }

    #[test]
    fn gives_up_after_ten_reports() {
        let start = Instant::now();
        let mut missing = Missing::new();
        let rtt = Some(20 * MS);
        note(&mut missing, 10, 12, rtt, start);
        let mut reports = Vec::new();
        for ms in 0..1000 {
            missing.take_due(rtt, start + ms * MS, |_| reports.push(ms));
        }
        assert_eq!(reports, [10, 42, 74, 106, 138, 170, 202, 234, 266, 298]);
    }

    #[test]
    fn a_keyframe_fills_what_is_before_it() {
        let start = Instant::now();
        let mut missing = Missing::new();
        note(&mut missing, 10, 14, None, start);
        missing.clear_before(ExtSeq(13));
        assert_eq!(due(&mut missing, None, start + 10 * MS), [13]);
    }

    #[test]
    fn too_many_holes_are_none() {
        let start = Instant::now();
        let mut missing = Missing::new();
        note(&mut missing, 0, 251, None, start);
        let more = missing.note(ExtSeq(251), ExtSeq(253), None, start);
        assert_eq!(more, Err(TooMany));
        assert_eq!(missing.poll_timeout(), None);
        assert_eq!(
            missing.note(ExtSeq(0), ExtSeq(1 << 40), None, start),
            Err(TooMany)
        );
    }
}
