//! Bits a second over a sliding window, in a fixed number of slots of time.

/// Slots of the window. More follow time more finely and cost 8 bytes each.
const SLOTS: usize = 20;

/// Bytes counted by when they came, in microseconds of any clock. Time that goes back counts as the newest there is.
#[derive(Clone, Debug)]
pub(crate) struct Meter {
    slot_us: u64,
    slots: [u64; SLOTS],
    /// The number of the newest slot, counted from time zero.
    newest: u64,
    first_us: Option<u64>,
}

impl Meter {
    /// A meter whose window is `window_us` long.
    pub(crate) fn new(window_us: u64) -> Self {
        Self {
            slot_us: window_us / SLOTS as u64,
            slots: [0; SLOTS],
            newest: 0,
            first_us: None,
        }
    }

    /// Counts `bytes` at `at_us`.
    pub(crate) fn add(&mut self, bytes: u64, at_us: u64) {
        self.first_us.get_or_insert(at_us);
        self.advance(at_us);
        self.slots[self.newest as usize % SLOTS] += bytes;
    }

    fn advance(&mut self, at_us: u64) {
        let slot = at_us / self.slot_us;
        let steps = slot.saturating_sub(self.newest).min(SLOTS as u64);
        for step in 0..steps {
            self.slots[(slot - step) as usize % SLOTS] = 0;
        }
        self.newest = self.newest.max(slot);
    }

    /// Bits a second over the window that ends at `at_us`; while less than a window has been seen, over what has. `None`
    /// before a quarter of a window.
    pub(crate) fn bps(&mut self, at_us: u64) -> Option<f64> {
        let first = self.first_us?;
        self.advance(at_us);
        let window_us = self.slot_us * SLOTS as u64;
        // The newest slot has only begun.
        let begun = at_us
            .saturating_sub(self.newest * self.slot_us)
            .min(self.slot_us);
        let covered = window_us - self.slot_us + begun;
        let seen = covered.min(at_us.saturating_sub(first));
        if seen < window_us / 4 {
            return None;
        }
        let bytes: u64 = self.slots.iter().sum();
        Some(bytes as f64 * 8e6 / seen as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_stream_has_its_rate_and_an_ended_one_fades() {
        let mut meter = Meter::new(500_000);
        for ms in 0..2000 {
            meter.add(125, ms * 1000);
        }
        let bps = meter.bps(1_999_999).unwrap();
        assert!((980_000.0..1_020_000.0).contains(&bps), "{bps}");
        let bps = meter.bps(2_250_000).unwrap();
        assert!((450_000.0..550_000.0).contains(&bps), "{bps}");
        assert_eq!(meter.bps(3_000_000), Some(0.0));
    }

    #[test]
    fn says_nothing_before_a_quarter_of_the_window() {
        let mut meter = Meter::new(500_000);
        assert_eq!(meter.bps(9_000_000), None);
        meter.add(1000, 7_000_000);
        assert_eq!(meter.bps(7_124_999), None);
        assert_eq!(meter.bps(7_160_000), Some(50_000.0));
    }

    #[test]
    fn time_that_goes_back_or_jumps_is_harmless() {
        let mut meter = Meter::new(500_000);
        meter.add(1000, 1 << 60);
        meter.add(1000, 5);
        assert!(meter.bps(5).is_none());
        meter.add(1000, u64::MAX);
        assert!(meter.bps(u64::MAX).is_some());
    }
}
