//! Where a batch's time goes.
//!
//! Reading the clock costs more than most packets' share of a step, so that only some batches are measured step by step. How
//! long a whole batch took is known of each: the runtime reads the clock at both ends anyway.

use std::time::{Duration, Instant};

use crate::counters::{RingCounters, Step};

/// Every so many batches. More often costs (two readings a datagram in a batch that is measured), more
/// seldom says less in a minute. A prime, so that it does not keep step with anything that happens in every second batch.
const MEASURED_EVERY: u32 = 17;

/// The stopwatch of a shard's thread.
pub(crate) struct Laps {
    until_measured: u32,
    /// When the last step ended, in a batch that is measured.
    last: Option<Instant>,
    spent: [Duration; Step::ALL.len()],
}

impl Laps {
    pub(crate) fn new() -> Laps {
        Laps {
            until_measured: MEASURED_EVERY,
            last: None,
            spent: [Duration::ZERO; Step::ALL.len()],
        }
    }

    /// A batch begins.
    pub(crate) fn begin(&mut self, now: Instant) {
        self.until_measured -= 1;
        if self.until_measured == 0 {
            self.until_measured = MEASURED_EVERY;
            self.last = Some(now);
            self.spent = [Duration::ZERO; Step::ALL.len()];
        }
    }

    /// Whether this batch is measured.
    #[cfg(test)]
    pub(crate) fn measures(&self) -> bool {
        self.last.is_some()
    }

    /// All since the end of the step before belongs to this one, which may have several parts.
    pub(crate) fn end_of(&mut self, step: Step) {
        if let Some(last) = &mut self.last {
            let now = Instant::now();
            self.spent[step as usize] += now - *last;
            *last = now;
        }
    }

    /// The batch has ended. A step that had nothing to do is not counted.
    pub(crate) fn end(&mut self, counters: &RingCounters) {
        if self.last.take().is_some() {
            for (histogram, spent) in counters.step_time.iter().zip(self.spent) {
                if !spent.is_zero() {
                    histogram.record(spent.as_nanos() as u64);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measures_every_so_many_batches_and_only_steps_that_took_place() {
        let (mut laps, counters) = (Laps::new(), RingCounters::default());
        let mut measured = 0;
        for _ in 0..3 * MEASURED_EVERY {
            laps.begin(Instant::now() - Duration::from_millis(1));
            measured += u32::from(laps.measures());
            laps.end_of(Step::Commands);
            laps.end(&counters);
            assert!(!laps.measures());
        }
        assert_eq!(measured, 3);
        let view = counters.step_time[Step::Commands as usize].view();
        assert_eq!(view.count(), 3);
        assert!(view.sum() >= 3_000_000, "nanoseconds");
        assert_eq!(counters.step_time[Step::Route as usize].view().count(), 0);
    }
}
