//! How long to wait before the next attempt. Pure: the caller brings the chance.

use std::time::Duration;

/// Exponential back-off with jitter: the n-th wait is between half and all of `first · 2ⁿ`, at most `max`.
///
/// The jitter keeps the devices of one homeserver from returning to it all at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backoff {
    first: Duration,
    max: Duration,
    failures: u32,
}

impl Backoff {
    pub(crate) fn new(first: Duration, max: Duration) -> Self {
        Self {
            first,
            max,
            failures: 0,
        }
    }

    /// The next wait. `chance` is uniform in 0 to 1.
    pub(crate) fn next(&mut self, chance: f64) -> Duration {
        let factor = 1_u32.checked_shl(self.failures).unwrap_or(u32::MAX);
        self.failures = self.failures.saturating_add(1);
        let wait = self.first.saturating_mul(factor).min(self.max);
        wait.mul_f64(0.5 + 0.5 * chance.clamp(0.0, 1.0))
    }

    /// Begins again with the shortest wait.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn waits_double_up_to_the_maximum() {
        let mut backoff = Backoff::new(ms(100), ms(1_000));
        let waits: Vec<Duration> = (0..6).map(|_| backoff.next(1.0)).collect();
        assert_eq!(
            waits,
            [ms(100), ms(200), ms(400), ms(800), ms(1_000), ms(1_000)]
        );
        backoff.reset();
        assert_eq!(backoff.next(1.0), ms(100));
    }

    #[test]
    fn jitter_takes_away_at_most_half() {
        let mut backoff = Backoff::new(ms(100), ms(1_000));
        assert_eq!(backoff.next(0.0), ms(50));
        assert_eq!(backoff.next(0.5), ms(150));
    }

    #[test]
    fn thousands_of_failures_do_not_overflow() {
        let mut backoff = Backoff::new(ms(100), ms(1_000));
        for _ in 0..5_000 {
            assert!(backoff.next(1.0) <= ms(1_000));
        }
    }
}
