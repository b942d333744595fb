//! What each sublayer of a source takes, measured: the allocation of bandwidth counts with it.

use std::time::Instant;

use crate::bwe::Meter;
use crate::layers::{Rates, Sublayer};
use crate::limits::{RATE_WINDOW, SPATIAL_LAYERS_MAX, TEMPORAL_LAYERS_MAX};

/// The meters of one source.
#[derive(Debug)]
pub(crate) struct RateMeter {
    epoch: Instant,
    meters: [[Option<Meter>; TEMPORAL_LAYERS_MAX]; SPATIAL_LAYERS_MAX],
}

impl RateMeter {
    pub(crate) fn new(epoch: Instant) -> Self {
        Self {
            epoch,
            meters: Default::default(),
        }
    }

    fn us(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.epoch).as_micros() as u64
    }

    /// Counts one packet of a sublayer.
    pub(crate) fn count(&mut self, of: Sublayer, bytes: usize, now: Instant) {
        let now_us = self.us(now);
        let meter = self
            .meters
            .get_mut(usize::from(of.spatial))
            .and_then(|row| row.get_mut(usize::from(of.temporal)));
        if let Some(meter) = meter {
            meter
                .get_or_insert_with(|| Meter::new(RATE_WINDOW.as_micros() as u64))
                .add(bytes as u64, now_us);
        }
    }

    /// The rates over the last window; zero where too little came to tell.
    pub(crate) fn rates(&mut self, now: Instant) -> Rates {
        let now_us = self.us(now);
        let mut rates = Rates::default();
        for (row, meters) in rates.bps.iter_mut().zip(&mut self.meters) {
            for (bps, meter) in row.iter_mut().zip(meters) {
                let measured = meter.as_mut().and_then(|meter| meter.bps(now_us));
                *bps = measured.unwrap_or(0.0) as u64;
            }
        }
        rates
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn each_sublayer_has_its_own_rate() {
        let start = Instant::now();
        let mut meter = RateMeter::new(start);
        let of = |temporal| Sublayer {
            spatial: 0,
            temporal,
        };
        for ms in 0..3000 {
            let now = start + Duration::from_millis(ms);
            meter.count(of(if ms % 4 == 0 { 0 } else { 1 }), 125, now);
        }
        let rates = meter.rates(start + Duration::from_millis(3000));
        let kbps = |temporal: usize| (rates.bps[0][temporal] + 5_000) / 10_000;
        assert_eq!((kbps(0), kbps(1), kbps(2)), (25, 75, 0));
    }

    #[test]
    fn a_new_source_is_unknown_until_enough_has_come() {
        let start = Instant::now();
        let mut meter = RateMeter::new(start);
        meter.count(Sublayer::default(), 20_000, start);
        let early = meter.rates(start + Duration::from_millis(400));
        assert_eq!(early.bps[0][0], 0);
        let later = meter.rates(start + Duration::from_millis(600));
        assert!(later.bps[0][0] > 0);
    }
}
