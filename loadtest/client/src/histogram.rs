//! Distributions in buckets of fixed bounds, so that those of many participants and many seconds add up.

use serde::{Deserialize, Serialize};

/// Durations in logarithmic buckets, eight an octave: a percentile is at most 9 % too high.
///
/// Bucket 0 holds everything up to [`Histogram::FIRST_US`], the last one everything above 2^`OCTAVES` times that. Empty ones at the
/// end are not kept, so an unused histogram costs nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Histogram {
    /// Entries a bucket.
    counts: Vec<u64>,
    /// The largest entry, microseconds.
    max_us: u64,
    /// Of all entries, microseconds.
    sum_us: u64,
}

/// From 64 µs to 67 s.
const OCTAVES: usize = 20;
const PER_OCTAVE: usize = 8;
const BUCKETS: usize = OCTAVES * PER_OCTAVE + 2;

impl Histogram {
    /// Upper bound of the first bucket: what is shorter cannot be told from a wake-up of the machine.
    pub const FIRST_US: u64 = 64;

    /// Adds one duration.
    pub fn record_us(&mut self, us: u64) {
        let bucket = bucket_of(us);
        if self.counts.len() <= bucket {
            self.counts.resize(bucket + 1, 0);
        }
        self.counts[bucket] += 1;
        self.max_us = self.max_us.max(us);
        self.sum_us = self.sum_us.saturating_add(us);
    }

    /// Adds one duration.
    pub fn record(&mut self, duration: std::time::Duration) {
        self.record_us(duration.as_micros().try_into().unwrap_or(u64::MAX));
    }

    /// Adds all of another one's entries.
    pub fn merge(&mut self, other: &Histogram) {
        if self.counts.len() < other.counts.len() {
            self.counts.resize(other.counts.len(), 0);
        }
        for (own, other) in self.counts.iter_mut().zip(&other.counts) {
            *own += other;
        }
        self.max_us = self.max_us.max(other.max_us);
        self.sum_us = self.sum_us.saturating_add(other.sum_us);
    }

    /// What came in since an earlier state of the same histogram; its maximum is that of the highest bucket, since the exact one
    /// is known only over all time.
    pub fn since(&self, earlier: &Histogram) -> Histogram {
        let before = earlier.counts.iter().copied().chain(std::iter::repeat(0));
        let counts: Vec<_> = self
            .counts
            .iter()
            .zip(before)
            .map(|(now, before)| now.saturating_sub(before))
            .collect();
        let highest = counts.iter().rposition(|count| *count > 0);
        Histogram {
            max_us: highest.map_or(0, |bucket| upper_us(bucket).min(self.max_us)),
            sum_us: self.sum_us.saturating_sub(earlier.sum_us),
            counts,
        }
    }

    /// How many entries there are.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Milliseconds that `percent` (0 to 100) of the entries do not exceed: the upper bound of a bucket, never above the maximum.
    /// `None` without entries.
    pub fn percentile_ms(&self, percent: f64) -> Option<f64> {
        let count = self.count();
        let rank = ((percent / 100.0 * count as f64).ceil() as u64).clamp(1, count.max(1));
        let mut seen = 0;
        let bucket = self.counts.iter().position(|of| {
            seen += of;
            seen >= rank
        })?;
        (count > 0).then(|| upper_us(bucket).min(self.max_us) as f64 / 1000.0)
    }

    /// The largest entry in milliseconds; `None` without entries.
    pub fn max_ms(&self) -> Option<f64> {
        (self.count() > 0).then_some(self.max_us as f64 / 1000.0)
    }

    /// In milliseconds; `None` without entries.
    pub fn mean_ms(&self) -> Option<f64> {
        let count = self.count();
        (count > 0).then(|| self.sum_us as f64 / count as f64 / 1000.0)
    }

    /// Entries above this many microseconds, to the resolution of the buckets.
    pub fn above_us(&self, us: u64) -> u64 {
        self.counts.iter().skip(bucket_of(us) + 1).sum()
    }

    /// Upper bound in microseconds and count of every bucket that is not empty, for plots.
    pub fn buckets(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let filled =
            |(bucket, count): (usize, &u64)| (*count > 0).then(|| (upper_us(bucket), *count));
        self.counts.iter().enumerate().filter_map(filled)
    }
}

fn bucket_of(us: u64) -> usize {
    if us <= Histogram::FIRST_US {
        return 0;
    }
    let octaves = (us as f64 / Histogram::FIRST_US as f64).log2();
    // An upper bound belongs to its own bucket in spite of the rounding.
    let bucket = (octaves * PER_OCTAVE as f64 - 1e-9).ceil() as usize;
    bucket.min(BUCKETS - 1)
}

fn upper_us(bucket: usize) -> u64 {
    if bucket == BUCKETS - 1 {
        return u64::MAX;
    }
    let octaves = bucket as f64 / PER_OCTAVE as f64;
    (Histogram::FIRST_US as f64 * octaves.exp2()).floor() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_at_most_a_bucket_too_high() {
        let mut histogram = Histogram::default();
        (1..=1000).for_each(|ms| histogram.record_us(ms * 1000));
        for percent in [1.0, 50.0, 95.0, 99.0, 99.9] {
            let exact = percent * 10.0;
            let found = histogram.percentile_ms(percent).unwrap();
            assert!(
                (exact..exact * 1.0906).contains(&found),
                "{percent} %: {found} ms"
            );
        }
        assert_eq!(histogram.percentile_ms(100.0), Some(1000.0));
        assert_eq!(
            (histogram.max_ms(), histogram.mean_ms()),
            (Some(1000.0), Some(500.5))
        );
    }

    #[test]
    fn the_parts_add_up_to_the_whole_and_come_apart_again() {
        let (mut all, mut early, mut late) = (
            Histogram::default(),
            Histogram::default(),
            Histogram::default(),
        );
        for us in [0, 64, 65, 1_000, 80_000_000] {
            all.record_us(us);
            early.record_us(us);
        }
        let before = all.clone();
        for us in [2_000, 4_000, u64::MAX] {
            all.record_us(us);
            late.record_us(us);
        }
        assert_eq!(
            all.since(&before).buckets().collect::<Vec<_>>(),
            late.buckets().collect::<Vec<_>>()
        );
        early.merge(&late);
        assert_eq!(early, all);
        assert_eq!(all.count(), 8);
        assert_eq!(all.above_us(64), 6);
    }

    #[test]
    fn nothing_was_measured_yet() {
        let empty = Histogram::default();
        assert_eq!(
            (empty.percentile_ms(50.0), empty.max_ms(), empty.mean_ms()),
            (None, None, None)
        );
        assert_eq!(empty.buckets().count(), 0);
    }

    #[test]
    fn every_upper_bound_lies_in_its_own_bucket() {
        for bucket in 0..BUCKETS - 1 {
            assert_eq!(bucket_of(upper_us(bucket)), bucket);
            assert_eq!(bucket_of(upper_us(bucket) + 1), bucket + 1);
        }
    }
}
