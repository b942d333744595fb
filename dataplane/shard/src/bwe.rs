//! How much one participant can be sent: its feedback in, a rate and probes out.
//!
//! ```text
//!                       ┌─ groups ─┬─ trend: does the queue grow?   ┐
//! feedback ─ flight ────┤          └─ queue: how fast does it empty? ├─ delay ─┐
//!    (what was sent     ├─ loss ──────────────────────────────────────────────┼─ the lowest is the target
//!     when, and when    └─ probe: did more fit? ────────────────────► delay     │
//!     it arrived)          REMB ────────────────────────────────────────────────┘
//! ```
//! The estimate is about what the way carries, not about what is sent: a subscriber that needs little keeps it, and what is
//! needed but not proven is probed for. A participant that sends neither transport-wide feedback nor REMB, and reports no heavy
//! losses, is not limited.

mod arrival;
mod delay;
mod flight;
mod groups;
mod loss;
mod meter;
mod probe;
mod queue;
mod trend;

#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use weir_wire::{ExtSeq, Seq};

use crate::limits::{
    ESTIMATE_MAX_BPS, ESTIMATE_MIN_BPS, ESTIMATE_START_BPS, FEEDBACK_STATUSES_MAX,
    FEEDBACK_UNHEARD, PROBE_AFTER_BACK_OFF, PROBE_CONCLUSION, PROBE_INTERVAL, REMB_LASTS, TICK,
};

use arrival::ArrivalClock;
use delay::{Circumstances, DelayBased};
use flight::{Flight, News, Packet};
use groups::Groups;
use loss::LossBased;
pub(crate) use meter::Meter;
use probe::{Prober, Shown};

/// The rate at which packets are sent is taken over this time.
const SENT_WINDOW_US: u64 = 500_000;

/// How much of the share of losses is renewed at each feedback.
const LOST_SMOOTHING: f64 = 0.3;

/// A probe that raises the target by less than this has taught nothing.
const PROBE_GAIN: f64 = 1.02;

/// Until feedback says otherwise.
const RTT_US: u64 = 100_000;

/// The estimation of one transport.
#[derive(Debug)]
pub(crate) struct Estimator {
    epoch: Instant,
    flight: Flight,
    clock: ArrivalClock,
    groups: Groups,
    delay: DelayBased,
    loss: LossBased,
    prober: Prober,
    sent: Meter,
    feedback: Feedback,
    /// The highest number that feedback has spoken of.
    reported: Option<ExtSeq>,
    rtt_us: u64,
    rtt_newest_us: u64,
    loss_reported_us: Option<u64>,
    /// The share of packets that got lost, smoothed over a few feedbacks.
    lost_lately: f64,
    /// From REMB, and when.
    ceiling: Option<(f64, u64)>,
    goal: f64,
    /// Whether there is a stream that padding can be sent on.
    padding: bool,
    /// Nothing has shown yet how much the way carries.
    starting: bool,
}

/// Whether the participant answers with transport-wide feedback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Feedback {
    /// No packet with a transport-wide number has been sent.
    NotAsked,
    /// Since this time such packets are sent.
    Awaited(u64),
    Heard,
}

impl Estimator {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            epoch: now,
            flight: Flight::new(),
            clock: ArrivalClock::default(),
            groups: Groups::default(),
            delay: DelayBased::new(ESTIMATE_START_BPS as f64),
            loss: LossBased::new(),
            prober: Prober::new(),
            sent: Meter::new(SENT_WINDOW_US),
            feedback: Feedback::NotAsked,
            reported: None,
            rtt_us: RTT_US,
            rtt_newest_us: RTT_US,
            loss_reported_us: None,
            lost_lately: 0.0,
            ceiling: None,
            goal: 0.0,
            padding: false,
            starting: true,
        }
    }

    fn us(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.epoch).as_micros() as u64
    }

    /// How many bits a second may be sent; `None` is no limit.
    pub(crate) fn target_bps(&self, now: Instant) -> Option<u64> {
        let lowest = self.lowest_bound(self.us(now))?;
        Some((lowest as u64).clamp(ESTIMATE_MIN_BPS, ESTIMATE_MAX_BPS))
    }

    fn lowest_bound(&self, now_us: u64) -> Option<f64> {
        let by_feedback = self.is_guided(now_us).then(|| self.delay.bps());
        let by_ceiling = self
            .ceiling
            .filter(|(_, at)| now_us.saturating_sub(*at) < micros(REMB_LASTS))
            .map(|(bps, _)| bps);
        let bounds = [by_feedback, self.loss.bound(), by_ceiling];
        bounds.into_iter().flatten().reduce(f64::min)
    }

    /// Whether transport-wide feedback comes, or is still hoped for.
    fn is_guided(&self, now_us: u64) -> bool {
        match self.feedback {
            Feedback::NotAsked => self.padding,
            Feedback::Awaited(since) => now_us.saturating_sub(since) < micros(FEEDBACK_UNHEARD),
            Feedback::Heard => true,
        }
    }

    /// Whether the target rests on anything that the participant said.
    pub(crate) fn is_founded(&self) -> bool {
        self.feedback == Feedback::Heard || self.ceiling.is_some() || self.loss.bound().is_some()
    }

    /// Whether more has just been found to fit, and still more is about to be tried: no time to decide on less.
    pub(crate) fn is_rising(&self) -> bool {
        self.prober.is_rising()
    }

    /// Whether nothing is waiting on the way.
    pub(crate) fn is_calm(&self, now: Instant) -> bool {
        self.delay.is_calm(self.us(now))
    }

    /// Whether a picture that was paused may come back: nothing waits, or waiting has lasted so long that it belongs to the way.
    pub(crate) fn may_resume(&self, now: Instant) -> bool {
        self.delay.may_probe(self.us(now))
    }

    /// How long a packet waits on the way, beyond the way's own delay.
    pub(crate) fn wait(&self) -> Duration {
        Duration::from_micros((self.delay.newest_wait_ms() * 1000.0) as u64)
    }

    /// From a packet to the feedback on it, smoothed.
    #[cfg(test)]
    pub(crate) fn rtt(&self) -> Duration {
        Duration::from_micros(self.rtt_us)
    }

    /// Bits a second that were sent lately.
    pub(crate) fn sent_bps(&mut self, now: Instant) -> u64 {
        let now_us = self.us(now);
        self.sent.bps(now_us).unwrap_or(0.0) as u64
    }

    /// Says what everything that is wanted would take, and whether padding can be sent: what the estimate lacks to it is
    /// probed for.
    pub(crate) fn set_goal(&mut self, bps: u64, padding: bool) {
        self.goal = bps.min(ESTIMATE_MAX_BPS) as f64;
        self.padding = padding;
    }

    /// Notes a packet that left.
    pub(crate) fn note_sent(&mut self, number: Option<Seq>, bytes: usize, now: Instant) {
        let now_us = self.us(now);
        self.sent.add(bytes as u64, now_us);
        let Some(number) = number else { return };
        if self.feedback == Feedback::NotAsked {
            self.feedback = Feedback::Awaited(now_us);
        }
        let number = self.flight.sent(number, bytes, now_us);
        self.prober.sent(number, bytes, now_us);
    }

    /// Takes one transport-wide feedback: numbers, and when they arrived in microseconds of the participant's clock.
    pub(crate) fn handle_feedback(
        &mut self,
        statuses: impl Iterator<Item = (Seq, Option<i64>)>,
        now: Instant,
    ) {
        let now_us = self.us(now);
        let (mut news, mut lost) = (0, 0);
        for (number, arrival_us) in statuses.take(FEEDBACK_STATUSES_MAX) {
            let told = self.told(number, arrival_us, now_us).is_some();
            news += u32::from(told);
            lost += u32::from(told && arrival_us.is_none());
        }
        if news == 0 {
            return;
        }
        let share = f64::from(lost) / f64::from(news);
        self.lost_lately += LOST_SMOOTHING * (share - self.lost_lately);
        self.feedback = Feedback::Heard;
        let sent_bps = self.sent.bps(now_us).unwrap_or(0.0);
        self.conclude_probe(now_us);
        let by_probe = self.prober.is_concluding(now_us, micros(PROBE_CONCLUSION))
            && (self.starting || !self.delay.is_swelling());
        if !by_probe {
            self.update_delay(sent_bps, now_us);
        }
        if self.delay.is_calm(now_us) {
            self.loss.update(sent_bps, self.rtt_us, now_us);
        } else {
            self.loss.forgive(now_us);
        }
        self.loss.release_above(self.delay.bps());
    }

    fn told(&mut self, number: Seq, arrival_us: Option<i64>, now_us: u64) -> Option<()> {
        let news = self.flight.told(number, arrival_us.is_some())?;
        let (packet, arrived) = match news {
            News::Lost(packet) => {
                self.loss.count(0, 1, 0);
                (packet, None)
            }
            News::Arrived(packet) => {
                self.loss.count(1, 0, packet.bytes.into());
                (packet, arrival_us)
            }
            News::ArrivedAfterAll(packet) => {
                self.loss.correct();
                (packet, arrival_us)
            }
        };
        // A feedback that was lost is no hole in what arrived: its packets count with the next one.
        let expected = self.reported.map_or(packet.number, |last| last.add(1));
        let skipped = self.flight.untold_bytes(expected..packet.number);
        let newest = packet.number >= expected;
        self.reported = self.reported.max(Some(packet.number));
        match arrived {
            Some(at) => self.arrived(&packet, at, skipped, newest, now_us),
            None => self.prober.told(&packet, None),
        }
        Some(())
    }

    fn arrived(&mut self, packet: &Packet, at: i64, skipped: u64, newest: bool, now_us: u64) {
        let Some(arrival_us) = self.clock.unwrap(at) else {
            self.groups.reset();
            return self.delay.reset_clock();
        };
        if newest {
            let rtt_us = now_us.saturating_sub(packet.sent_us);
            self.rtt_us = (7 * self.rtt_us + rtt_us) / 8;
            self.rtt_newest_us = rtt_us;
        }
        self.prober.told(packet, Some(arrival_us));
        let bytes = u64::from(packet.bytes) + skipped;
        if let Some(group) = self.groups.add(packet.sent_us, arrival_us, bytes) {
            self.delay.add(group);
        }
    }

    fn conclude_probe(&mut self, now_us: u64) {
        let Some(reported) = self.reported else {
            return;
        };
        let Some(Shown { bps, full }) = self.prober.conclude(reported, now_us) else {
            return;
        };
        let before = self.lowest_bound(now_us);
        let less = full && (self.starting || self.delay.is_over());
        if bps > self.delay.bps() || less {
            self.delay.set(bps, full, now_us);
        }
        let after = self.lowest_bound(now_us);
        if before
            .zip(after)
            .is_some_and(|(before, after)| after <= PROBE_GAIN * before)
        {
            // It fits, and teaches nothing: the way is full, or something else is the bound.
            self.prober.not_before(now_us + micros(PROBE_INTERVAL));
        }
        self.starting &= !full;
    }

    fn update_delay(&mut self, sent_bps: f64, now_us: u64) {
        let by = Circumstances {
            sent_bps,
            rtt_us: self.rtt_us.max(self.rtt_newest_us),
            can_probe: self.padding,
            lost: self.lost_lately,
        };
        if self.delay.update(by, now_us) {
            self.starting = false;
            self.prober.abandon(now_us + micros(PROBE_AFTER_BACK_OFF));
        }
    }

    /// Takes a ceiling (REMB).
    pub(crate) fn handle_remb(&mut self, bps: u64, now: Instant) {
        self.ceiling = Some((bps.min(ESTIMATE_MAX_BPS) as f64, self.us(now)));
    }

    /// Takes the losses of a receiver report, where there is nothing better.
    pub(crate) fn handle_loss_report(&mut self, arrived: u32, lost: u32, now: Instant) {
        if self.feedback == Feedback::Heard {
            return;
        }
        let now_us = self.us(now);
        let sent_bps = self.sent.bps(now_us).unwrap_or(0.0);
        let share = f64::from(arrived) / f64::from((arrived + lost).max(1));
        let since = now_us.saturating_sub(self.loss_reported_us.replace(now_us).unwrap_or(now_us));
        let bytes = sent_bps * share * since.min(SENT_WINDOW_US * 10) as f64 / 8e6;
        self.loss.count(arrived, lost, bytes as u64);
        self.loss.update(sent_bps, self.rtt_us, now_us);
        self.loss.release_above(2.0 * sent_bps);
    }

    /// Begins and ends probes. What [`Estimator::probe_bytes`] then says is to be sent.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        let now_us = self.us(now);
        self.prober.end_when_done(now_us);
        if !self.can_probe(now_us) {
            return self.prober.abandon(now_us);
        }
        if !self.delay.may_probe(now_us) {
            self.prober.not_before(now_us + micros(TICK));
        }
        let estimate = self.target_bps(now).unwrap_or(ESTIMATE_MAX_BPS);
        let lost = self.lost_lately;
        self.prober.start(estimate as f64, self.goal, lost, now_us);
    }

    fn can_probe(&self, now_us: u64) -> bool {
        self.padding && self.is_guided(now_us)
    }

    /// When [`Estimator::handle_timeout`] wants to be called.
    pub(crate) fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        let now_us = self.us(now);
        let below = self
            .target_bps(now)
            .is_some_and(|bps| (bps as f64) < self.goal);
        let wants = below && self.can_probe(now_us);
        if !self.prober.is_active() && !wants {
            return None;
        }
        let at_us = self.prober.poll_timeout().unwrap_or(0).max(now_us);
        Some(self.epoch + Duration::from_micros(at_us))
    }

    /// How many bytes of padding to send now.
    pub(crate) fn probe_bytes(&self, now: Instant) -> u64 {
        self.prober.due_bytes(micros(TICK), self.us(now))
    }
}

fn micros(duration: Duration) -> u64 {
    duration.as_micros() as u64
}
