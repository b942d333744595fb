//! A browser's transport-wide feedback: which packets came, and when.

use std::collections::BTreeMap;
use std::time::Duration;

/// Arrivals that are told again when something late comes among them.
const BACK: u64 = 300;

#[derive(Clone, Debug, Default)]
pub struct Wide {
    /// Microseconds of the browser's clock, by extended number.
    arrivals: BTreeMap<u64, u64>,
    highest: Option<u64>,
    next: Option<u64>,
    told_at: Duration,
    pause: Duration,
}

impl Wide {
    pub fn record(&mut self, number: u16, since_start: Duration) {
        let highest = *self.highest.get_or_insert(0x1_0000 + u64::from(number));
        let step = number.wrapping_sub(highest as u16) as i16;
        let number = (highest as i64 + i64::from(step)) as u64;
        self.highest = Some(highest.max(number));
        // A plain resend carries the number that it went out with first.
        self.arrivals
            .entry(number)
            .or_insert(since_start.as_micros() as u64 + 7_000_000);
        self.next = Some(self.next.map_or(number, |next| next.min(number)));
    }

    /// What to report, if it is time: the first number, and the arrivals from there on. `pause` is how long to wait for
    /// the next.
    pub fn due(
        &mut self,
        pause: Duration,
        since_start: Duration,
    ) -> Option<(u16, Vec<Option<u64>>)> {
        if since_start < self.told_at + self.pause {
            return None;
        }
        let (next, highest) = (self.next?, self.highest?);
        if next > highest {
            return None;
        }
        let base = next.max(highest.saturating_sub(400));
        let statuses = (base..=highest)
            .map(|number| self.arrivals.get(&number).copied())
            .collect();
        self.next = Some(highest + 1);
        self.arrivals = self.arrivals.split_off(&highest.saturating_sub(BACK));
        (self.told_at, self.pause) = (since_start, pause);
        Some((base as u16, statuses))
    }
}
