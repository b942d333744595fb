//! The round trip to one participant, by what it reports of our sender reports (RFC 3550 §6.4.1). Any of its streams tells it.

use std::time::{Duration, Instant};

use crate::limits::{ROUND_TRIP_MAX, ROUND_TRIP_WINDOW};

/// How long a packet and the answer to it take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RoundTrip {
    smoothed: Option<Duration>,
    /// The shortest of the window under way and of the one before.
    least: [Option<Duration>; 2],
    window_end: Instant,
}

impl RoundTrip {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            smoothed: None,
            least: [None; 2],
            window_end: now + ROUND_TRIP_WINDOW,
        }
    }

    /// Takes one measurement. What cannot be is left out.
    pub(crate) fn record(&mut self, sample: Duration, now: Instant) {
        if sample > ROUND_TRIP_MAX {
            return;
        }
        if now >= self.window_end {
            self.least = [None, self.least[0]];
            self.window_end = now + ROUND_TRIP_WINDOW;
        }
        self.least[0] = Some(self.least[0].map_or(sample, |least| least.min(sample)));
        self.smoothed = Some(self.smoothed.map_or(sample, |of| (of * 7 + sample) / 8));
    }

    /// A typical one (RFC 6298 §2); `None` before the first report.
    pub(crate) fn smoothed(&self) -> Option<Duration> {
        self.smoothed
    }

    /// The shortest of late: what the way takes without its queues.
    pub(crate) fn least(&self) -> Option<Duration> {
        self.least.into_iter().flatten().min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn is_smoothed_and_knows_the_shortest_of_late() {
        let start = Instant::now();
        let mut trip = RoundTrip::new(start);
        assert_eq!((trip.smoothed(), trip.least()), (None, None));
        trip.record(80 * MS, start);
        trip.record(160 * MS, start);
        assert_eq!(trip.smoothed(), Some(90 * MS));
        assert_eq!(trip.least(), Some(80 * MS));
        trip.record(100 * MS, start + 10_000 * MS);
        assert_eq!(trip.least(), Some(80 * MS));
        trip.record(120 * MS, start + 20_000 * MS);
        assert_eq!(trip.least(), Some(100 * MS));
    }

    #[test]
    fn does_not_believe_a_minute() {
        let start = Instant::now();
        let mut trip = RoundTrip::new(start);
        trip.record(60_000 * MS, start);
        assert_eq!(trip.smoothed(), None);
    }
}
