//! What one transport knows about its bandwidth, and what has been given out of it: the estimation, the meters of what goes
//! before pictures, and when to decide anew.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use weir_wire::Seq;

use crate::allocate::{Hysteresis, Outcome, Rise, Terms};
use crate::bwe::{Estimator, Meter};
use crate::ids::SubscriptionId;
use crate::limits::{
    ALLOCATION_CHANGE, ALLOCATION_INTERVAL, CUT_AT, CUT_SHARE, CUT_WAIT, FEEDBACK_STATUSES_MAX,
    FEEDBACK_STATUSES_PER_SECOND, GOAL_HEADROOM, RATE_WINDOW, RESEND_SHARE, RESEND_UNLIMITED_BPS,
    RESENDS_WAITING_MAX, RISING_MAX,
};
use crate::pacer::{Pacer, Verdict};
use crate::transport::{Departure, DepartureKind};

/// The bandwidth of one transport.
#[derive(Debug)]
pub(crate) struct Bandwidth {
    epoch: Instant,
    /// Made with the first subscription: who only publishes is not sent anything.
    estimator: Option<Box<Estimator>>,
    audio: Meter,
    resends: Meter,
    pacer: Pacer,
    resends_waiting: VecDeque<WaitingResend>,
    hysteresis: Hysteresis,
    decided: Decided,
    /// When to decide anew.
    due: Option<Instant>,
    /// Statuses of feedback that were looked at since then.
    statuses: (Instant, u32),
    /// Since when more is being found to fit, so that rises wait.
    rising_since: Option<Instant>,
}

/// A resend that has to wait for its turn.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WaitingResend {
    /// Table index, and who must be there.
    pub(crate) subscription: u32,
    pub(crate) id: SubscriptionId,
    pub(crate) seq: Seq,
}

/// The last decision.
#[derive(Clone, Copy, Debug, Default)]
struct Decided {
    at: Option<Instant>,
    target_bps: Option<u64>,
    outcome: Outcome,
}

impl Bandwidth {
    pub(crate) fn new(epoch: Instant) -> Self {
        let meter = Meter::new(RATE_WINDOW.as_micros() as u64);
        Self {
            epoch,
            estimator: None,
            audio: meter.clone(),
            resends: meter,
            pacer: Pacer::new(),
            resends_waiting: VecDeque::new(),
            hysteresis: Hysteresis::default(),
            decided: Decided::default(),
            due: None,
            statuses: (epoch, 0),
            rising_since: None,
        }
    }

    /// The transport has something to send from now on.
    pub(crate) fn begin(&mut self, now: Instant) {
        self.resends_waiting.reserve(RESENDS_WAITING_MAX);
        self.estimator
            .get_or_insert_with(|| Box::new(Estimator::new(now)));
    }

    pub(crate) fn estimator(&mut self) -> Option<&mut Estimator> {
        self.estimator.as_deref_mut()
    }

    fn us(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.epoch).as_micros() as u64
    }

    /// How many bits a second may be sent; `None` is no limit.
    pub(crate) fn target_bps(&self, now: Instant) -> Option<u64> {
        self.estimator.as_ref()?.target_bps(now)
    }

    /// Whether a feedback with `count` statuses may be looked at.
    pub(crate) fn take_statuses(&mut self, count: u16, now: Instant) -> bool {
        let (since, taken) = &mut self.statuses;
        if now.saturating_duration_since(*since).as_secs() >= 1 {
            (*since, *taken) = (now, 0);
        }
        *taken = taken.saturating_add(u32::from(count).min(FEEDBACK_STATUSES_MAX as u32).max(1));
        *taken <= FEEDBACK_STATUSES_PER_SECOND
    }

    /// Notes a packet that left.
    pub(crate) fn note_sent(&mut self, departure: Departure, now: Instant) {
        let (now_us, bytes) = (self.us(now), departure.bytes as u64);
        match departure.kind {
            DepartureKind::Audio => self.audio.add(bytes, now_us),
            DepartureKind::Resend => self.resends.add(bytes, now_us),
            DepartureKind::Video | DepartureKind::Probe => {}
        }
        if let Some(estimator) = &mut self.estimator {
            estimator.note_sent(departure.number, departure.bytes, now);
        }
    }

    /// Whether a resend of `bytes` may leave now; if so, it counts as sent.
    pub(crate) fn take_resend(&mut self, bytes: usize, now: Instant) -> Verdict {
        let bps = self.target_bps(now).unwrap_or(RESEND_UNLIMITED_BPS);
        let verdict = self.pacer.judge(bps, now);
        if verdict == Verdict::Now {
            self.pacer.note_resend(bytes);
        }
        verdict
    }

    /// Lets a resend wait; `false` when there is no room.
    pub(crate) fn wait(&mut self, resend: WaitingResend) -> bool {
        let has_room = self.resends_waiting.len() < RESENDS_WAITING_MAX;
        if has_room {
            self.resends_waiting.push_back(resend);
        }
        has_room
    }

    /// The next resend that waited.
    pub(crate) fn next_waiting(&mut self) -> Option<WaitingResend> {
        self.resends_waiting.pop_front()
    }

    /// How many resends wait.
    pub(crate) fn resends_waiting(&self) -> usize {
        self.resends_waiting.len()
    }

    /// Asks for a decision, soon but not too often.
    pub(crate) fn decide_soon(&mut self, now: Instant) -> Instant {
        let at = self
            .decided
            .at
            .map_or(now, |at| at + ALLOCATION_INTERVAL)
            .max(now);
        self.decide_at(at)
    }

    /// Asks for a decision at the next tick after `at`.
    pub(crate) fn decide_at(&mut self, at: Instant) -> Instant {
        let at = self.due.map_or(at, |due| due.min(at));
        self.due = Some(at);
        at
    }

    /// When the next decision is due, if one is.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Whether the target is another one than the last decision was made with. A little less is left to the next decision.
    pub(crate) fn has_changed(&self, now: Instant) -> bool {
        match (self.decided.target_bps, self.target_bps(now)) {
            (None, None) => false,
            (Some(before), Some(target)) => {
                before.abs_diff(target) as f64 > ALLOCATION_CHANGE * before as f64
            }
            _ => true,
        }
    }

    /// What pictures can be given now.
    pub(crate) fn terms(&mut self, now: Instant) -> Terms {
        let now_us = self.us(now);
        let target = self.target_bps(now);
        let audio = self.audio.bps(now_us).unwrap_or(0.0);
        let resends = self.resends.bps(now_us).unwrap_or(0.0);
        // With a queue to empty; but only when the target has just been found to be less.
        let cut = self.has_changed(now) && self.must_cut(now);
        let budget = target.map(|bps| {
            let share = if cut { CUT_SHARE } else { 1.0 };
            let resends = resends.min(RESEND_SHARE * bps as f64);
            (share * bps as f64 - audio - resends).max(0.0) as u64
        });
        let may = |rise: Rise| target.is_none_or(|bps| self.hysteresis.may(rise, bps, now));
        let (up, resume) = (may(Rise::Up), may(Rise::Resume));
        // Not into a queue that is there already.
        let calm = self.estimator.as_ref().is_none_or(|of| of.is_calm(now));
        let patient = self.estimator.as_ref().is_none_or(|of| of.may_resume(now));
        let estimator = self.estimator.as_ref();
        let is_open = estimator.is_none_or(|of| !of.is_founded() || of.is_rising());
        let waits = self.waits_for_probes(now);
        Terms {
            budget_bps: budget,
            may_rise: up && calm && !waits,
            may_resume: resume && patient,
            is_calm: calm,
            is_open,
        }
    }

    /// While more and more is being found to fit, one rise at the end is better than several; but it does not take for ever.
    fn waits_for_probes(&mut self, now: Instant) -> bool {
        let rising = self.estimator.as_ref().is_some_and(|of| of.is_rising());
        self.rising_since = rising.then(|| self.rising_since.unwrap_or(now));
        self.rising_since
            .is_some_and(|since| now.saturating_duration_since(since) < RISING_MAX)
    }

    /// Notes what came of a decision. `silent_bps` is what would be wanted besides, if it were sent; `padding` tells whether
    /// there is a stream to probe on.
    pub(crate) fn decided(
        &mut self,
        outcome: Outcome,
        silent_bps: u64,
        padding: bool,
        now: Instant,
    ) {
        let now_us = self.us(now);
        let target_bps = self.target_bps(now);
        // What is decided before anything is known was no failure.
        let founded = self.estimator.as_ref().is_some_and(|of| of.is_founded());
        if let Some(bps) = target_bps.filter(|_| founded) {
            self.hysteresis.note(&outcome, bps, now);
        }
        let waits = self.rising_since.is_some();
        self.due = waits.then(|| now + ALLOCATION_INTERVAL);
        self.decided = Decided {
            at: Some(now),
            target_bps,
            outcome,
        };
        let pictures = outcome.wanted_bps + silent_bps;
        let audio = self.audio.bps(now_us).unwrap_or(0.0);
        if let Some(estimator) = &mut self.estimator {
            let goal = match pictures {
                0 => 0.0,
                _ => GOAL_HEADROOM * (pictures as f64 + audio),
            };
            estimator.set_goal(goal as u64, padding);
        }
    }

    /// Whether what flows is so much too much that it must stop before its successor is there: it fills the queue, and sound
    /// is stuck in there with it.
    pub(crate) fn must_cut(&mut self, now: Instant) -> bool {
        let Some(target) = self.target_bps(now) else {
            return false;
        };
        let Some(estimator) = &mut self.estimator else {
            return false;
        };
        estimator.wait() >= CUT_WAIT && estimator.sent_bps(now) as f64 > CUT_AT * target as f64
    }

    /// What the pictures get, and what they would like to.
    #[allow(dead_code, reason = "read by the status that is told")]
    pub(crate) fn outcome(&self) -> Outcome {
        self.decided.outcome
    }

    /// When something is due by time: decisions, probes, resends that wait.
    pub(crate) fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        let resend = (!self.resends_waiting.is_empty()).then_some(now);
        let probe = self.estimator.as_ref().and_then(|of| of.poll_timeout(now));
        [self.due, probe, resend].into_iter().flatten().min()
    }

    /// Nothing is decided on a transport that has nothing to send.
    pub(crate) fn has_begun(&self) -> bool {
        self.estimator.is_some()
    }
}

const _: () = assert!(
    ALLOCATION_INTERVAL.as_millis() <= Duration::from_millis(200).as_millis(),
    "a slow link must be noticed in pictures within two seconds"
);
