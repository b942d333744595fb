//! The receiver's clock: it wraps every twelve days, may start anew, and is as far from ours as it likes.

/// 24 bits of 64 ms.
const WRAP_US: i64 = (1 << 24) * 64_000;

/// A step larger than this is no time that passed but another clock.
const STEP_MAX_US: i64 = 60_000_000;

/// Turns arrival times of feedback into times that do not wrap.
#[derive(Debug, Default)]
pub(crate) struct ArrivalClock {
    /// The last time as reported, and unwrapped.
    last: Option<(i64, u64)>,
}

/// Where unwrapped times begin, so that steps back do not reach below zero.
const START_US: u64 = 1 << 40;

impl ArrivalClock {
    /// The unwrapped time of an arrival; `None` when the clock has jumped, and counts anew from here.
    pub(crate) fn unwrap(&mut self, reported_us: i64) -> Option<u64> {
        let Some((last_reported, last)) = self.last else {
            self.last = Some((reported_us, START_US));
            return Some(START_US);
        };
        let since = reported_us.wrapping_sub(last_reported);
        let step = since.wrapping_add(WRAP_US / 2).rem_euclid(WRAP_US) - WRAP_US / 2;
        let unwrapped = last.checked_add_signed(step);
        let Some(unwrapped) = unwrapped.filter(|_| step.abs() <= STEP_MAX_US) else {
            self.last = Some((reported_us, START_US));
            return None;
        };
        self.last = Some((reported_us, unwrapped));
        Some(unwrapped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_on_over_the_wrap() {
        let mut clock = ArrivalClock::default();
        let half = WRAP_US / 2;
        let times: Vec<u64> = [half - 64_000, half - 250, -half, -half + 1000, half - 500]
            .into_iter()
            .map(|at| clock.unwrap(at).unwrap() - START_US)
            .collect();
        assert_eq!(times, [0, 63_750, 64_000, 65_000, 63_500]);
    }

    #[test]
    fn another_clock_starts_anew() {
        let mut clock = ArrivalClock::default();
        assert_eq!(clock.unwrap(0), Some(START_US));
        assert_eq!(clock.unwrap(3_600_000_000), None);
        assert_eq!(clock.unwrap(3_600_001_000), Some(START_US + 1000));
        assert_eq!(clock.unwrap(-5_000_000_000), None);
        assert!(clock.unwrap(i64::MIN).is_none_or(|at| at > 0));
        assert!(clock.unwrap(i64::MAX).is_none_or(|at| at > 0));
    }
}
