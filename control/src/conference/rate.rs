//! Token buckets: how often somebody may do something.

use std::{collections::BTreeMap, time::Instant};

use super::limits;

/// Fills at a rate up to a burst; each act takes one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bucket {
    tokens: f64,
    filled: Instant,
}

impl Bucket {
    /// A full one.
    pub(crate) fn new(burst: f64, now: Instant) -> Self {
        Self {
            tokens: burst,
            filled: now,
        }
    }

    /// Takes a token, if there is one.
    pub(crate) fn take(&mut self, per_second: f64, burst: f64, now: Instant) -> bool {
        let elapsed = now.saturating_duration_since(self.filled).as_secs_f64();
        self.tokens = (self.tokens + elapsed * per_second).min(burst);
        self.filled = now;
        let taken = self.tokens >= 1.0;
        if taken {
            self.tokens -= 1.0;
        }
        taken
    }

    /// Puts a token back: the act turned out to be none of those that are counted.
    fn give(&mut self, burst: f64) {
        self.tokens = (self.tokens + 1.0).min(burst);
    }
}

/// One bucket for each name; bounded.
#[derive(Debug, Default)]
pub(super) struct Rates {
    buckets: BTreeMap<String, Bucket>,
}

impl Rates {
    /// Takes a token of `name`.
    pub(super) fn take(&mut self, name: &str, per_second: f64, now: Instant) -> bool {
        // A rate below one a burst's length would otherwise never let anything through.
        let burst = (per_second * limits::INVITE_BURST_SECONDS).max(1.0);
        self.take_of(name, per_second, burst, now)
    }

    /// The same with a burst of its own.
    pub(super) fn take_of(
        &mut self,
        name: &str,
        per_second: f64,
        burst: f64,
        now: Instant,
    ) -> bool {
        if let Some(bucket) = self.buckets.get_mut(name) {
            return bucket.take(per_second, burst, now);
        }
        if self.buckets.len() >= limits::RATES_MAX {
            self.forget_quietest();
        }
        let mut bucket = Bucket::new(burst, now);
        let taken = bucket.take(per_second, burst, now);
        self.buckets.insert(name.to_owned(), bucket);
        taken
    }

    /// Puts a token of `name` back.
    pub(super) fn give_of(&mut self, name: &str, burst: f64) {
        if let Some(bucket) = self.buckets.get_mut(name) {
            bucket.give(burst);
        }
    }

    fn forget_quietest(&mut self) {
        let quietest = self
            .buckets
            .iter()
            .min_by_key(|(_, bucket)| bucket.filled)
            .map(|(name, _)| name.clone());
        if let Some(name) = quietest {
            self.buckets.remove(&name);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_is_put_back_can_be_taken_again_and_never_more_than_a_burst() {
        let start = Instant::now();
        let mut rates = Rates::default();
        rates.give_of("a", 2.0);
        let take = |rates: &mut Rates| rates.take_of("a", 0.1, 2.0, start);
        assert_eq!([(); 3].map(|()| take(&mut rates)), [true, true, false]);
        rates.give_of("a", 2.0);
        assert_eq!([(); 2].map(|()| take(&mut rates)), [true, false]);
        (0..5).for_each(|_| rates.give_of("a", 2.0));
        assert_eq!([(); 3].map(|()| take(&mut rates)), [true, true, false]);
    }

    #[test]
    fn a_burst_then_the_rate() {
        let start = Instant::now();
        let mut rates = Rates::default();
        let taken = (0..20).filter(|_| rates.take("@a:x", 1.0, start)).count();
        assert_eq!(taken, 10);
        assert!(!rates.take("@a:x", 1.0, start + Duration::from_millis(900)));
        assert!(rates.take("@a:x", 1.0, start + Duration::from_millis(1900)));
        assert!(rates.take("@b:x", 1.0, start), "others are not affected");
    }

    #[test]
    fn a_full_table_forgets_the_quietest() {
        let start = Instant::now();
        let mut rates = Rates::default();
        for user in 0..5000u64 {
            assert!(rates.take(&user.to_string(), 1.0, start + Duration::from_millis(user)));
        }
        assert_eq!(rates.buckets.len(), 4096);
        assert!(!rates.buckets.contains_key("0"));
        assert!(rates.buckets.contains_key("4999"));
    }
}
