//! One-way delays: from when a frame was due at its publisher to when it was here.
//!
//! The publishers of this process announce their schedules, and their clips are recognised by their bytes: nothing needs decoding and
//! no clock but one is involved. For everybody else sender reports say when a frame was made, by a clock that must be the own one, and
//! without the way to the focus if the focus reports by its own clock.

use std::time::{Duration, Instant};

use crate::clock;
use crate::histogram::Histogram;
use crate::report::DelayBy;
use crate::schedule;

/// The delays of one stream.
#[derive(Debug, Default)]
pub(super) struct Delay {
    histogram: Histogram,
    by: Option<DelayBy>,
    start: Option<Instant>,
    /// NTP time in microseconds since 1970, and the RTP time that belongs to it.
    reported: Option<(i64, u32)>,
}

/// Seconds from 1900 to 1970 (RFC 868).
const NTP_TO_UNIX: u64 = 2_208_988_800;
/// What is longer or shorter by the sender reports comes from another clock.
const PLAUSIBLE: std::ops::Range<i64> = -100_000..60_000_000;

impl Delay {
    /// Takes the two clocks of a sender report.
    pub(super) fn handle_sender_report(&mut self, ntp_time: u64, rtp_time: u32) {
        let seconds = (ntp_time >> 32).saturating_sub(NTP_TO_UNIX);
        let us = ((ntp_time & 0xffff_ffff) * 1_000_000) >> 32;
        self.reported = Some(((seconds * 1_000_000 + us) as i64, rtp_time));
    }

    /// A frame of a clip arrived. False if its publisher's schedule is not known.
    pub(super) fn scheduled(
        &mut self,
        owner: (&str, &str),
        number: u16,
        per_second: u32,
        now: Instant,
    ) -> bool {
        // Who calls again starts again: asked each time, it is one look into a map.
        self.start = schedule::start_of(owner.0, owner.1).or(self.start);
        let age = self
            .start
            .and_then(|start| schedule::age(start, number, per_second, now));
        if let Some(age) = age {
            self.record(age, DelayBy::Schedule);
        }
        age.is_some()
    }

    /// Anything arrived that was made at this RTP time.
    pub(super) fn reported(&mut self, timestamp: u32, clock_rate: u32, now: Instant) {
        let Some((ntp_us, rtp_time)) = self.reported else {
            return;
        };
        let ticks = i64::from(timestamp.wrapping_sub(rtp_time) as i32);
        let made_us = ntp_us + ticks * 1_000_000 / i64::from(clock_rate);
        let delay_us = clock::unix_us_of(now) as i64 - made_us;
        if PLAUSIBLE.contains(&delay_us) && self.by != Some(DelayBy::Schedule) {
            let delay = Duration::from_micros(delay_us.max(0) as u64);
            self.record(delay, DelayBy::SenderReports);
        }
    }

    fn record(&mut self, delay: Duration, by: DelayBy) {
        if self.by.is_some_and(|before| before != by) {
            // Two measures do not mix.
            self.histogram = Histogram::default();
        }
        self.by = Some(by);
        self.histogram.record(delay);
    }

    pub(super) fn report(&self) -> (Histogram, Option<DelayBy>) {
        (self.histogram.clone(), self.by)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::Announced;

    #[test]
    fn the_schedule_is_preferred_to_sender_reports() {
        let (mut delay, start) = (Delay::default(), Instant::now());
        let now = start + Duration::from_millis(1_050);
        let ntp = (clock::unix_us_of(start) / 1_000_000 + NTP_TO_UNIX) << 32;
        let fraction = clock::unix_us_of(start) % 1_000_000;
        delay.handle_sender_report(ntp + ((fraction << 32) / 1_000_000), 90_000);
        delay.reported(180_000, 90_000, now);
        let (histogram, by) = delay.report();
        assert_eq!(by, Some(DelayBy::SenderReports));
        assert!((49.0..=51.0).contains(&histogram.max_ms().unwrap()));
        let owner = ("@delay:x", "D");
        assert!(!delay.scheduled(owner, 30, 30, now));
        let _announced = Announced::new(owner.0, owner.1, start);
        assert!(delay.scheduled(owner, 30, 30, now));
        delay.reported(180_000, 90_000, now);
        let (histogram, by) = delay.report();
        assert_eq!(
            (by, histogram.count(), histogram.max_ms()),
            (Some(DelayBy::Schedule), 1, Some(50.0))
        );
    }

    #[test]
    fn another_clock_is_no_delay() {
        let mut delay = Delay::default();
        delay.handle_sender_report(NTP_TO_UNIX << 32, 0);
        delay.reported(0, 48_000, Instant::now());
        assert_eq!(delay.report(), (Histogram::default(), None));
    }
}
