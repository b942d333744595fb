//! Medians, percentiles and how far samples spread.

/// The middle one, or the mean of the two in the middle; 0 without samples.
pub fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => 0.0,
        count if count % 2 == 1 => sorted[count / 2],
        count => (sorted[count / 2 - 1] + sorted[count / 2]) / 2.0,
    }
}

/// Half the distance between the first and the third quartile, as a part of the median: how much a sample may be off.
pub fn spread(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = median(samples);
    if sorted.len() < 2 || middle == 0.0 {
        return 0.0;
    }
    let at = |part: f64| sorted[((sorted.len() - 1) as f64 * part).round() as usize];
    (at(0.75) - at(0.25)) / 2.0 / middle
}

/// Sorts, and gives the smallest sample that `part` of all (0 to 1) do not exceed; 0 without samples.
pub fn percentile(samples: &mut [u64], part: f64) -> u64 {
    samples.sort_unstable();
    let at = (samples.len() as f64 * part).ceil() as usize;
    samples.get(at.saturating_sub(1)).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(&[]), 0.0);
        assert_eq!(median(&[3.0, 1.0, 100.0]), 3.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 100.0]), 3.0);
    }

    #[test]
    fn the_spread_leaves_out_what_is_far_off() {
        assert_eq!(spread(&[7.0]), 0.0);
        assert_eq!(spread(&[100.0, 90.0, 110.0, 100.0, 9000.0]), 0.05);
    }

    #[test]
    fn a_percentile_is_a_sample() {
        let mut samples: Vec<u64> = (1..=100).rev().collect();
        assert_eq!(percentile(&mut samples, 0.5), 50);
        assert_eq!(percentile(&mut samples, 0.99), 99);
        assert_eq!(percentile(&mut samples, 1.0), 100);
        assert_eq!(percentile(&mut [], 0.5), 0);
    }
}
