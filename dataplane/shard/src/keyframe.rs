//! When to ask a publisher's layer for a keyframe: at once, but never twice within the interval, and again until it comes.

use std::time::{Duration, Instant};

use crate::limits::{KEYFRAME_WISH_INTERVAL, KEYFRAME_WISHES_MAX};

/// The requests to one source.
#[derive(Debug)]
pub(crate) struct KeyframeRequests {
    interval: Duration,
    wanted: bool,
    sent_at: Option<Instant>,
}

impl KeyframeRequests {
    pub(crate) fn new(interval: Duration) -> Self {
        Self {
            interval,
            wanted: false,
            sent_at: None,
        }
    }

    /// Somebody needs a keyframe. Whether this joins a request that is already under way.
    pub(crate) fn want(&mut self) -> bool {
        std::mem::replace(&mut self.wanted, true)
    }

    /// Whether somebody waits.
    pub(crate) fn is_wanted(&self) -> bool {
        self.wanted
    }

    /// A keyframe began: whoever asked will get it.
    pub(crate) fn satisfied(&mut self) {
        self.wanted = false;
    }

    /// When the next request is due, if one is wanted: `None` besides that means at once.
    pub(crate) fn poll_timeout(&self) -> Option<Option<Instant>> {
        self.wanted
            .then(|| self.sent_at.map(|at| at + self.interval))
    }

    /// Whether to send a request now; if so, it counts as sent.
    pub(crate) fn take_due(&mut self, now: Instant) -> bool {
        let due = self
            .poll_timeout()
            .is_some_and(|at| at.is_none_or(|at| at <= now));
        if due {
            self.sent_at = Some(now);
        }
        due
    }
}

/// How many keyframes one subscription may cause: every one costs all who watch the same layer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wishes {
    left: u32,
    since: Instant,
}

impl Wishes {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            left: KEYFRAME_WISHES_MAX,
            since: now,
        }
    }

    /// Takes one, if there is one left.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        let intervals = now.saturating_duration_since(self.since).as_micros()
            / KEYFRAME_WISH_INTERVAL.as_micros();
        let more = u32::try_from(intervals).unwrap_or(u32::MAX);
        if more > 0 {
            self.left = self.left.saturating_add(more).min(KEYFRAME_WISHES_MAX);
            self.since = now;
        }
        let any = self.left > 0;
        self.left = self.left.saturating_sub(1);
        any
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subscription_may_cause_a_few_keyframes_at_once_and_then_one_every_two_seconds() {
        let start = Instant::now();
        let mut wishes = Wishes::new(start);
        let taken: Vec<u32> = (0..10_000)
            .step_by(100)
            .filter(|ms| wishes.take(start + *ms * MS))
            .collect();
        assert_eq!(taken, [0, 100, 200, 300, 400, 500, 2000, 4000, 6000, 8000]);
        assert!(wishes.take(start + 3_600_000 * MS));
    }

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn asks_at_once_and_again_every_interval_until_the_keyframe_comes() {
        let start = Instant::now();
        let mut requests = KeyframeRequests::new(500 * MS);
        assert!(!requests.take_due(start));
        assert!(!requests.want());
        let sent: Vec<u32> = (0..2000)
            .step_by(10)
            .filter(|ms| requests.take_due(start + *ms * MS))
            .collect();
        assert_eq!(sent, [0, 500, 1000, 1500]);
        requests.satisfied();
        assert_eq!(requests.poll_timeout(), None);
        assert!(!requests.take_due(start + 9000 * MS));
    }

    #[test]
    fn a_storm_of_wishes_is_one_request_an_interval() {
        let start = Instant::now();
        let mut requests = KeyframeRequests::new(500 * MS);
        let mut sent = Vec::new();
        for ms in 0..2000 {
            requests.want();
            if requests.take_due(start + ms * MS) {
                sent.push(ms);
                requests.satisfied();
            }
        }
        assert_eq!(sent, [0, 500, 1000, 1500]);
    }

    #[test]
    fn a_keyframe_on_its_way_cancels_the_deferred_request() {
        let start = Instant::now();
        let mut requests = KeyframeRequests::new(500 * MS);
        requests.want();
        assert!(requests.take_due(start));
        requests.satisfied();
        assert!(!requests.want(), "a new need after the keyframe");
        assert!(!requests.take_due(start + 499 * MS));
        requests.satisfied();
        assert!(!requests.take_due(start + 600 * MS));
    }
}
