//! The rate that the way carries, by what gets lost on it.
//!
//! Most losses say nothing about the rate: a radio loses at any. So nothing happens below a high share, and each step down is an
//! experiment: if as much is lost at the lower rate, the losses belong to the way, and the step is taken back. What is left are
//! ways without a queue to speak of, a policer or a tiny buffer, whose fullness the delay does not show.

use crate::limits::ESTIMATE_MIN_BPS;

/// A share is taken over at least this time and this many packets; and over no more than that time.
const WINDOW_US: u64 = 1_000_000;
const PACKETS_MIN: u32 = 30;
const WINDOW_MAX_US: u64 = 4_000_000;

/// A share this high is looked at after a short time already.
const STORM: f64 = 0.4;
const STORM_WINDOW_US: u64 = 250_000;

/// More than this share lost beyond the way's own, twice in a row, is too much. Lower reacts to radios, higher lets policers
/// take a part of every frame.
const TOO_MUCH: f64 = 0.15;

/// So much is too much the first time.
const FAR_TOO_MUCH: f64 = 0.3;

/// If this part of the share is still lost at the lower rate, the rate was not the cause.
const SAME: f64 = 0.7;

/// What is sent after a step down, of what came through.
const BACK_OFF: f64 = 0.95;

/// Growth a second while little is lost.
const GROWTH: f64 = 1.25;
const LITTLE: f64 = 0.05;

/// How fast the way's own share is learnt, each window.
const LEARNING: f64 = 0.15;

/// A step down, to be looked at after the next window.
#[derive(Clone, Copy, Debug)]
struct Experiment {
    /// The bound before it.
    before: Option<f64>,
    share: f64,
    sent_bps: f64,
}

/// The bound by losses.
#[derive(Debug)]
pub(crate) struct LossBased {
    bound: Option<f64>,
    /// The share that is lost at any rate.
    own: f64,
    arrived: u32,
    arrived_bytes: u64,
    lost: u32,
    window_began_us: Option<u64>,
    too_much_before: bool,
    experiment: Option<Experiment>,
}

impl LossBased {
    pub(crate) fn new() -> Self {
        Self {
            bound: None,
            own: 0.0,
            arrived: 0,
            arrived_bytes: 0,
            lost: 0,
            window_began_us: None,
            too_much_before: false,
            experiment: None,
        }
    }

    /// No more than this; `None` while losses set no bound.
    pub(crate) fn bound(&self) -> Option<f64> {
        self.bound
    }

    /// Counts packets whose fate became known, and the bytes of those that arrived.
    pub(crate) fn count(&mut self, arrived: u32, lost: u32, bytes: u64) {
        self.arrived_bytes = self.arrived_bytes.saturating_add(bytes);
        self.arrived = self.arrived.saturating_add(arrived);
        self.lost = self.lost.saturating_add(lost);
    }

    /// A packet that was counted as lost arrived after all.
    pub(crate) fn correct(&mut self) {
        self.lost = self.lost.saturating_sub(1);
        self.arrived = self.arrived.saturating_add(1);
    }

    /// What was lost lately has another reason: the queue was full, and the delay tells of that.
    pub(crate) fn forgive(&mut self, now_us: u64) {
        self.restart(now_us);
        self.experiment = None;
        self.too_much_before = false;
    }

    fn restart(&mut self, at_us: u64) {
        (self.arrived, self.lost, self.arrived_bytes) = (0, 0, 0);
        self.window_began_us = Some(at_us);
    }

    /// Decides after each report. Whether the bound went down.
    pub(crate) fn update(&mut self, sent_bps: f64, rtt_us: u64, now_us: u64) -> bool {
        let began_us = *self.window_began_us.get_or_insert(now_us);
        // After a step down the window begins a round trip later: what was under way was sent at the old rate.
        let Some(took_us) = now_us.checked_sub(began_us) else {
            (self.arrived, self.lost, self.arrived_bytes) = (0, 0, 0);
            return false;
        };
        let packets = self.arrived.saturating_add(self.lost);
        let share = f64::from(self.lost) / f64::from(packets.max(1));
        let storm = share >= STORM && took_us >= STORM_WINDOW_US && self.experiment.is_none();
        let enough = packets >= PACKETS_MIN && (took_us >= WINDOW_US || storm);
        if !enough && took_us < WINDOW_MAX_US {
            return false;
        }
        let arrived_bps = self.arrived_bytes as f64 * 8e6 / took_us.max(1) as f64;
        self.restart(now_us);
        if !enough && packets > 0 && share < LITTLE {
            // So little is sent that no window is ever full, and what is sent arrives.
            self.grow(took_us);
        }
        let down = enough && self.window(share, sent_bps, arrived_bps, took_us);
        if down {
            self.restart(now_us.saturating_add(rtt_us));
        }
        down
    }

    fn window(&mut self, share: f64, sent_bps: f64, arrived_bps: f64, took_us: u64) -> bool {
        if let Some(experiment) = self.experiment.take() {
            let lower = sent_bps < 0.95 * experiment.sent_bps;
            if lower && share > SAME * experiment.share {
                self.own = share.min(experiment.share);
                self.bound = experiment.before;
                self.too_much_before = false;
                return false;
            }
        }
        let excess = ((share - self.own) / (1.0 - self.own)).max(0.0);
        let too_much = excess > TOO_MUCH;
        let act = excess > FAR_TOO_MUCH || (too_much && self.too_much_before);
        self.too_much_before = too_much;
        if act {
            self.experiment = Some(Experiment {
                before: self.bound,
                share,
                sent_bps,
            });
            let through = BACK_OFF * arrived_bps / (1.0 - self.own);
            let bound = self.bound.map_or(through, |bound| bound.min(through));
            self.bound = Some(bound.max(ESTIMATE_MIN_BPS as f64));
            return true;
        }
        if !too_much {
            // What is learnt in passing is bounded; more than that takes an experiment.
            let learnt = self.own + LEARNING * (share - self.own);
            self.own = learnt.min(self.own.max(TOO_MUCH));
        }
        if excess < LITTLE {
            self.grow(took_us);
        }
        false
    }

    fn grow(&mut self, took_us: u64) {
        let growth = GROWTH.powf(took_us as f64 / 1e6);
        self.bound = self.bound.map(|bound| bound * growth);
    }

    /// Forgets the bound when it is none: another one is lower by far.
    pub(crate) fn release_above(&mut self, bps: f64) {
        if self.bound.is_some_and(|bound| bound > bps) && self.experiment.is_none() {
            self.bound = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends for `seconds` at the bound, or at 1 Mb/s, through a way that loses `share_at(rate)`; the bounds each second.
    fn bounds(seconds: u64, share_at: impl Fn(f64) -> f64) -> Vec<Option<u32>> {
        let mut loss = LossBased::new();
        let mut bounds = Vec::new();
        let mut owed = 0.0;
        for step in 0..seconds * 10 {
            let sent = loss.bound().unwrap_or(1e6).min(1e6);
            let packets = (sent / 80_000.0).max(4.0) as u32;
            owed += f64::from(packets) * share_at(sent);
            let lost = owed as u32;
            owed -= f64::from(lost);
            let bytes = u64::from(packets - lost) * 1000;
            loss.count(packets - lost, lost, bytes);
            loss.update(sent, 50_000, step * 100_000);
            if step % 10 == 9 {
                bounds.push(loss.bound().map(|bps| bps as u32 / 1000));
            }
        }
        bounds
    }

    #[test]
    fn ten_percent_at_any_rate_set_no_bound() {
        assert!(bounds(60, |_| 0.1).iter().all(Option::is_none));
    }

    #[test]
    fn heavy_losses_at_any_rate_are_the_ways_own() {
        let bounds = bounds(30, |_| 0.35);
        assert!(bounds[..4].iter().any(Option::is_some));
        assert!(bounds[5..].iter().all(Option::is_none), "{bounds:?}");
    }

    #[test]
    fn a_policer_is_found_and_not_left_for_long() {
        let bounds = bounds(60, |sent| ((sent - 4e5) / sent).max(0.0));
        let kbps = bounds[3..].iter().map(|bound| bound.unwrap());
        assert!(
            kbps.clone().all(|kbps| (300..700).contains(&kbps)),
            "{bounds:?}"
        );
    }

    #[test]
    fn absurd_counts_are_harmless() {
        let mut loss = LossBased::new();
        for step in 0..100u64 {
            loss.count(0, u32::MAX, u64::MAX);
            loss.correct();
            loss.update(f64::MAX, u64::MAX / 4, step * (u64::MAX / 200));
        }
        assert!(loss.bound().is_none_or(|bound| !bound.is_nan()));
    }
}
