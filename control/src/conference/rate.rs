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
    fn a_burst_then_the_rate() {
        let start = Instant::now();
        let mut rates = Rates::default();
        let taken = (0..10).filter(|_| rates.take("@a:x", 1.0, start)).count();
        assert_eq!(taken, 5);
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
