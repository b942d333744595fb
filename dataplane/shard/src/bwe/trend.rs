//! Whether the queue on the way grows: the slope of the delay over the last groups, against a threshold that follows how
//! unsteady the network is (Carlucci et al., "Analysis and Design of the Google Congestion Control", 2016, §4).

use super::groups::Group;

/// Groups that the slope is fitted through. More hold off noise, and notice congestion later.
const WINDOW: usize = 20;

/// How much of the smoothed delay is kept at each group.
const SMOOTHING: f64 = 0.9;

/// Slopes are small numbers; this and the number of groups bring them to the scale of the threshold, milliseconds.
const GAIN: f64 = 4.0;
const GROUPS_COUNTED_MAX: u64 = 60;

/// The threshold at first, and its bounds.
const THRESHOLD_MS: f64 = 12.5;
const THRESHOLD_MIN_MS: f64 = 6.0;
const THRESHOLD_MAX_MS: f64 = 600.0;

/// How fast the threshold follows the slope, up and down, each millisecond. Faster up than down would let flows that fill
/// queues starve this one.
const FOLLOW_UP: f64 = 0.0087;
const FOLLOW_DOWN: f64 = 0.039;

/// Slopes that far above the threshold are events, not unsteadiness.
const OUTLIER_MS: f64 = 15.0;

/// A slope must stay above the threshold for this long.
const OVER_FOR_MS: f64 = 10.0;

/// Longer than this between two groups counts as this.
const STEP_MAX_MS: f64 = 100.0;

/// What the queue does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Usage {
    #[default]
    Normal,
    /// It grows: more is sent than gets through.
    Over,
    /// It empties.
    Under,
}

/// The delay's trend.
#[derive(Debug)]
pub(crate) struct Trend {
    last: Option<Group>,
    /// Arrival and smoothed delay of the last groups, in milliseconds since the first.
    window: [(f64, f64); WINDOW],
    groups: u64,
    first_arrival_us: u64,
    delay_ms: f64,
    smoothed_ms: f64,
    slope: f64,
    threshold_ms: f64,
    over_ms: f64,
    over_count: u32,
    usage: Usage,
}

impl Trend {
    pub(crate) fn new() -> Self {
        Self {
            last: None,
            window: [(0.0, 0.0); WINDOW],
            groups: 0,
            first_arrival_us: 0,
            delay_ms: 0.0,
            smoothed_ms: 0.0,
            slope: 0.0,
            threshold_ms: THRESHOLD_MS,
            over_ms: 0.0,
            over_count: 0,
            usage: Usage::Normal,
        }
    }

    /// Takes the next complete group.
    pub(crate) fn add(&mut self, group: Group) -> Usage {
        let Some(last) = self.last.replace(group) else {
            self.first_arrival_us = group.arrival_us;
            return self.usage;
        };
        let sent_ms = apart_ms(last.sent_us, group.sent_us);
        let arrived_ms = apart_ms(last.arrival_us, group.arrival_us);
        self.delay_ms += arrived_ms - sent_ms;
        self.smoothed_ms = SMOOTHING * self.smoothed_ms + (1.0 - SMOOTHING) * self.delay_ms;
        let at = apart_ms(self.first_arrival_us, group.arrival_us);
        self.window[self.groups as usize % WINDOW] = (at, self.smoothed_ms);
        self.groups += 1;
        let slope = match self.groups as usize {
            count if count >= WINDOW => slope(&self.window).unwrap_or(self.slope),
            _ => self.slope,
        };
        self.detect(slope, sent_ms, arrived_ms);
        self.usage
    }

    fn detect(&mut self, slope: f64, sent_ms: f64, arrived_ms: f64) {
        let scaled = self.groups.min(GROUPS_COUNTED_MAX) as f64 * slope * GAIN;
        if scaled > self.threshold_ms {
            // Half of the time before the first sign is taken to be over, too.
            self.over_ms += if self.over_count == 0 {
                sent_ms / 2.0
            } else {
                sent_ms
            };
            self.over_count += 1;
            if self.over_ms > OVER_FOR_MS && self.over_count > 1 && slope >= self.slope {
                (self.over_ms, self.over_count) = (0.0, 0);
                self.usage = Usage::Over;
            }
        } else {
            (self.over_ms, self.over_count) = (0.0, 0);
            self.usage = match scaled < -self.threshold_ms {
                true => Usage::Under,
                false => Usage::Normal,
            };
        }
        self.slope = slope;
        self.follow(scaled.abs(), arrived_ms);
    }

    fn follow(&mut self, scaled: f64, arrived_ms: f64) {
        if scaled > self.threshold_ms + OUTLIER_MS {
            return;
        }
        let rate = match scaled < self.threshold_ms {
            true => FOLLOW_DOWN,
            false => FOLLOW_UP,
        };
        let step = arrived_ms.clamp(0.0, STEP_MAX_MS);
        let threshold = self.threshold_ms + rate * (scaled - self.threshold_ms) * step;
        self.threshold_ms = threshold.clamp(THRESHOLD_MIN_MS, THRESHOLD_MAX_MS);
    }
}

/// Milliseconds from `from_us` to `to_us`.
fn apart_ms(from_us: u64, to_us: u64) -> f64 {
    to_us.wrapping_sub(from_us) as i64 as f64 / 1000.0
}

/// The slope of the line with the least squares; `None` when all points have one time.
fn slope(points: &[(f64, f64)]) -> Option<f64> {
    let count = points.len() as f64;
    let (x, y) = points
        .iter()
        .fold((0.0, 0.0), |(x, y), point| (x + point.0, y + point.1));
    let (x, y) = (x / count, y / count);
    let (up, across) = points.iter().fold((0.0, 0.0), |(up, across), point| {
        let off = point.0 - x;
        (up + off * (point.1 - y), across + off * off)
    });
    (across > 0.0).then(|| up / across)
}

#[cfg(test)]
mod tests {
    use super::super::groups::Groups;
    use super::*;

    /// What a queue does to packets sent every 10 ms, whose delays are given in microseconds; the usage at each group.
    fn usages(delays_us: impl Iterator<Item = u64>) -> Vec<Usage> {
        let (mut groups, mut trend) = (Groups::default(), Trend::new());
        let packets = delays_us.enumerate();
        packets
            .filter_map(|(at, delay)| {
                let sent_us = at as u64 * 10_000;
                groups.add(sent_us, sent_us + 25_000 + delay, 1000)
            })
            .map(|group| trend.add(group))
            .collect()
    }

    #[test]
    fn a_steady_way_is_normal_whatever_its_noise() {
        let noise = (0..2000u64).map(|at| at * 7919 % 5000);
        assert!(usages(noise).iter().all(|usage| *usage == Usage::Normal));
    }

    #[test]
    fn a_growing_queue_is_noticed_within_200_ms_and_an_emptying_one_as_well() {
        // 100 groups of nothing, then 2 ms more each 10 ms, then 2 ms less.
        let delay = (0..200u64).map(|at| match at {
            0..100 => 0,
            100..150 => (at - 100) * 2000,
            _ => (200 - at) * 2000,
        });
        let usages = usages(delay);
        let over = usages.iter().position(|of| *of == Usage::Over).unwrap();
        assert!((100..120).contains(&over), "{over}");
        let under = usages.iter().position(|of| *of == Usage::Under).unwrap();
        assert!((150..190).contains(&under), "{under}");
    }

    #[test]
    fn absurd_times_are_harmless() {
        let (mut groups, mut trend) = (Groups::default(), Trend::new());
        for at in 0..500u64 {
            let arrival = at.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            if let Some(group) = groups.add(at * 6000, arrival, u64::from(u16::MAX)) {
                trend.add(group);
            }
        }
        assert!(trend.threshold_ms.is_finite() && trend.smoothed_ms.is_finite());
    }
}
