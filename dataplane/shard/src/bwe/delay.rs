//! The rate that the way carries, by its delay: down to what comes through as soon as a queue grows, up again slowly while
//! the rate is used. Faster ways up are [probes](super::probe).

use super::groups::Group;
use super::queue::{Passage, Queue};
use super::trend::{Trend, Usage};

/// The part of what came through a full way that is sent from then on; the rest lets the queue empty. Less empties it
/// faster, and leaves more of the way unused afterwards.
const BACK_OFF: f64 = 0.85;

/// Growth a second far from where the way was full the last time.
const GROWTH: f64 = 1.08;

/// Growth near there, in bits a second each second.
const GROWTH_NEAR_BPS: f64 = 40_000.0;

/// Near is this close to where it was full.
const NEAR: f64 = 0.9;

/// The rate does not grow unless at least this part of it is sent: nothing has shown that more would fit.
const USED: f64 = 0.95;

/// And where probes are sent, not beyond this part of what came through the full way: they find out what lies above.
const GROWTH_MAX: f64 = 1.05;

/// Where no probes can be sent there is no other way to learn of more.
const USED_WITHOUT_PROBES: f64 = 0.5;

/// While less than this part of the rate is sent, a sign of congestion is more likely noise.
const IDLE: f64 = 0.5;

/// Then a queue must be this long to count, and the rate is at most halved.
const IDLE_WAIT_MS: f64 = 60.0;
const IDLE_BACK_OFF: f64 = 0.5;

/// A way is full if this much less arrives than was sent. While the queue is shorter than this, a step down is at most this
/// large: a large frame makes a queue as well.
const FULL: f64 = 0.95;
const FULL_WAIT_MS: f64 = 50.0;
const SHORT_BACK_OFF: f64 = 0.9;

/// A queue this long, out of which this part of what was sent arrives, needs no trend to be believed.
const SWELLING_MS: f64 = 80.0;
const SWELLING: f64 = 0.7;

/// A queue this long that has not emptied for this time will not by itself.
const STANDS_US: u64 = 1_000_000;

/// A long queue and so many losses are a queue that overflows.
const OVERFLOW: f64 = 0.1;

/// Only this part of what is sent arrives: then that is what the way carries.
const PROVEN: f64 = 0.85;

/// What the way was known to carry is doubted by this factor, not more often than this, while delays speak against it.
const DOUBT: f64 = 0.95;
const DOUBT_US: u64 = 1_000_000;

/// What is known of the queue is out of date after this time.
const NEWS_US: u64 = 1_000_000;

/// So long after a step down probes are sent even if packets seem to wait.
const PATIENCE_US: u64 = 3_000_000;

/// Between two steps down, besides the round trip: what the first one did must have become visible.
const DOWN_INTERVAL_US: u64 = 100_000;

/// The estimate by delay.
#[derive(Debug)]
pub(crate) struct DelayBased {
    trend: Trend,
    queue: Queue,
    bps: f64,
    /// The queue grew since the last update.
    over: bool,
    usage: Usage,
    /// What came through when the way was full.
    full_bps: Option<f64>,
    down_at_us: Option<u64>,
    /// What the way is known to carry: it came through lately. Nobody backs off from that because of delays alone; but each time
    /// that delays would have it, a little of the certainty is lost.
    carried_bps: f64,
    doubted_us: Option<u64>,
    /// Since when the queue is long.
    waits_since_us: Option<u64>,
    updated_us: Option<u64>,
}

/// What an update may build on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Circumstances {
    pub(crate) sent_bps: f64,
    pub(crate) rtt_us: u64,
    pub(crate) can_probe: bool,
    /// The share of packets that got lost lately.
    pub(crate) lost: f64,
}

impl DelayBased {
    pub(crate) fn new(start_bps: f64) -> Self {
        Self {
            trend: Trend::new(),
            queue: Queue::new(),
            bps: start_bps,
            over: false,
            usage: Usage::Normal,
            full_bps: None,
            down_at_us: None,
            carried_bps: 0.0,
            doubted_us: None,
            waits_since_us: None,
            updated_us: None,
        }
    }

    pub(crate) fn bps(&self) -> f64 {
        self.bps
    }

    /// How long packets wait on the way, smoothed, in milliseconds.
    fn wait_ms(&self) -> f64 {
        self.queue.wait_ms()
    }

    /// How long the last packets waited, in milliseconds.
    pub(crate) fn newest_wait_ms(&self) -> f64 {
        self.queue.newest_wait_ms()
    }

    /// Whether the queue neither grows nor is long; without news of it for a while it has emptied.
    pub(crate) fn is_calm(&self, now_us: u64) -> bool {
        let old = |at: u64| now_us.saturating_sub(at) > NEWS_US;
        self.updated_us.is_none_or(old)
            || self.usage != Usage::Over && self.wait_ms() < FULL_WAIT_MS
    }

    fn swelling(&self) -> Option<Passage> {
        self.queue.swelling(SWELLING_MS, SWELLING)
    }

    /// Whether the queue is growing so fast that no probe can be the cause.
    pub(crate) fn is_swelling(&self) -> bool {
        self.swelling().is_some()
    }

    /// Whether probing may go on: nothing waits, or it is long ago that the rate was lowered, and waiting teaches nothing.
    pub(crate) fn may_probe(&self, now_us: u64) -> bool {
        let long_ago = |at: u64| now_us.saturating_sub(at) > PATIENCE_US;
        self.is_calm(now_us) || self.down_at_us.is_some_and(long_ago)
    }

    /// Takes the next complete group.
    pub(crate) fn add(&mut self, group: Group) {
        self.queue.add(group);
        self.usage = self.trend.add(group);
        self.over |= self.usage == Usage::Over;
    }

    /// The receiver's clock has jumped: what was before it cannot be compared.
    pub(crate) fn reset_clock(&mut self) {
        (self.trend, self.queue) = (Trend::new(), Queue::new());
    }

    /// Whether the queue grew and no update has dealt with it.
    pub(crate) fn is_over(&self) -> bool {
        self.over
    }

    /// A probe has shown that this much fits, and whether that is all.
    pub(crate) fn set(&mut self, bps: f64, full: bool, now_us: u64) {
        if bps < self.bps {
            self.down_at_us = Some(now_us);
        }
        self.over &= !full;
        self.full_bps = full.then_some(bps);
        self.carried_bps = bps;
        self.bps = bps;
    }

    /// Decides after each feedback. Whether the rate went down.
    pub(crate) fn update(&mut self, by: Circumstances, now_us: u64) -> bool {
        let jam = self.jam(by, now_us);
        let over = std::mem::take(&mut self.over) || jam.is_some();
        let since_us = now_us.saturating_sub(self.updated_us.replace(now_us).unwrap_or(now_us));
        if over {
            return self.back_off(by, jam, now_us);
        }
        if self.usage == Usage::Normal && self.is_calm(now_us) {
            self.grow(by, since_us);
        }
        false
    }

    /// What comes out of a queue that is too long by any measure: it swells, it overflows, or it just does not empty.
    fn jam(&mut self, by: Circumstances, now_us: u64) -> Option<Passage> {
        let wait_ms = self.newest_wait_ms();
        if wait_ms <= SWELLING_MS {
            self.waits_since_us = None;
            return None;
        }
        let since_us = *self.waits_since_us.get_or_insert(now_us);
        let stands = now_us.saturating_sub(since_us.max(self.down_at_us.unwrap_or(0))) > STANDS_US;
        let overflows = by.lost > OVERFLOW;
        let standing = || self.queue.passage().filter(|_| stands || overflows);
        self.swelling().or_else(standing)
    }

    fn back_off(&mut self, by: Circumstances, jam: Option<Passage>, now_us: u64) -> bool {
        let wait_us = by.rtt_us + DOWN_INTERVAL_US;
        let too_soon = |at: u64| now_us.saturating_sub(at) < wait_us;
        if self.down_at_us.is_some_and(too_soon) {
            return false;
        }
        let Some(Passage {
            sent_bps,
            arrived_bps,
        }) = jam.or_else(|| self.queue.passage())
        else {
            return false;
        };
        let idle = by.sent_bps < IDLE * self.bps;
        let short = self.wait_ms() <= FULL_WAIT_MS;
        let less = arrived_bps < FULL * sent_bps;
        let (full, least) = match (jam.is_some(), idle, short) {
            (true, ..) => (true, 0.0),
            (false, true, _) => (less && self.wait_ms() > IDLE_WAIT_MS, IDLE_BACK_OFF),
            (false, false, true) => (less, SHORT_BACK_OFF),
            (false, false, false) => (less, 0.0),
        };
        // What arrives says how much the way carries only if clearly more was sent.
        let proven = jam.is_some() && arrived_bps < PROVEN * by.sent_bps.max(sent_bps);
        let floor = match proven {
            true => 0.0,
            false => BACK_OFF * self.carried_bps,
        };
        let lower = (BACK_OFF * arrived_bps).max(least * self.bps).max(floor);
        if full && !proven {
            let since_us = now_us.saturating_sub(self.doubted_us.unwrap_or(0));
            if since_us > DOUBT_US {
                self.carried_bps *= DOUBT;
                self.doubted_us = Some(now_us);
            }
        }
        if !full || lower >= self.bps {
            return false;
        }
        if proven {
            self.carried_bps = arrived_bps;
        }
        self.bps = lower;
        self.full_bps = (!idle).then_some(arrived_bps.max(lower));
        self.down_at_us = Some(now_us);
        true
    }

    fn grow(&mut self, by: Circumstances, since_us: u64) {
        let used = match by.can_probe {
            true => USED,
            false => USED_WITHOUT_PROBES,
        };
        if by.sent_bps < used * self.bps {
            return;
        }
        let seconds = (since_us as f64 / 1e6).min(1.0);
        let near = |full: f64| (NEAR * full..full / NEAR).contains(&self.bps);
        let grown = match self.full_bps.is_some_and(near) {
            true => self.bps + GROWTH_NEAR_BPS * seconds,
            false => self.bps * GROWTH.powf(seconds),
        };
        let full = self.full_bps.filter(|_| by.can_probe);
        let most = full.map_or(f64::INFINITY, |full| GROWTH_MAX * full);
        self.bps = grown.min(most).max(self.bps);
    }
}
