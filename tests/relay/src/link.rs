//! One direction of a bad network, pure: `handle` takes a datagram, `poll` gives those that arrive, `poll_timeout` says when
//! the next one does.
//!
//! ```text
//!   handle ─► lost? ─► queue, bounded ─► at the rate ─► twice? ─► delay, jitter, held back? ─► poll
//! ```
//!
//! What happens between two calls is computed for the moment at which it would have happened, so a late caller changes
//! arrivals only by its own lateness.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde::Serialize;

use crate::profile::{Profile, Schedule};

/// What a datagram carries on the wire besides its payload: IPv4 and UDP headers. They count at the rate limit.
pub const HEADER_BYTES: usize = 28;

/// Datagrams on their way at a time, waiting or flying. More is a longer delay at a higher rate than anybody has; less would
/// lose datagrams of a fast stream over a slow network (20 Mb/s for 2 s is 4000).
const DATAGRAMS_MAX: usize = 16_384;

/// What happened to the datagrams of one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// Datagrams that came in.
    pub received: u64,
    /// Their payload bytes.
    pub received_bytes: u64,
    /// Datagrams that went out, second copies included.
    pub delivered: u64,
    /// Their payload bytes.
    pub delivered_bytes: u64,
    /// Lost by themselves.
    pub lost: u64,
    /// Lost in a burst.
    pub lost_in_burst: u64,
    /// Dropped because the queue before the rate limit was full.
    pub queue_full: u64,
    /// Held back so that others overtook them.
    pub reordered: u64,
    /// Sent twice.
    pub duplicated: u64,
    /// The longest wait before the rate limit so far, in microseconds.
    pub queue_us_max: u64,
}

/// One direction of a bad network, for datagrams of some type `D`.
pub struct Link<D> {
    schedule: Schedule,
    started: Instant,
    /// The next stage that has not begun.
    next_stage: usize,
    profile: Profile,
    random: StdRng,
    in_burst: bool,
    waiting: VecDeque<Waiting<D>>,
    waiting_bytes: usize,
    /// When the datagram at the head of the queue has passed the rate limit.
    head_passes: Option<Instant>,
    flying: BinaryHeap<Reverse<Flying<D>>>,
    /// Counts what took off, so that datagrams of one moment keep their order.
    taken_off: u64,
    last_arrival: Instant,
    counters: Counters,
}

struct Waiting<D> {
    datagram: D,
    bytes: usize,
    since: Instant,
}

struct Flying<D> {
    arrives: Instant,
    order: u64,
    bytes: usize,
    datagram: D,
}

impl<D> PartialEq for Flying<D> {
    fn eq(&self, other: &Self) -> bool {
        self.order == other.order
    }
}

impl<D> Eq for Flying<D> {}

impl<D> PartialOrd for Flying<D> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<D> Ord for Flying<D> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.arrives, self.order).cmp(&(other.arrives, other.order))
    }
}

impl<D: Clone> Link<D> {
    /// A direction whose schedule begins now.
    #[must_use]
    pub fn new(schedule: Schedule, seed: u64, now: Instant) -> Self {
        let profile = schedule.stages()[0].1.clone();
        Self {
            schedule,
            started: now,
            next_stage: 1,
            profile,
            random: StdRng::seed_from_u64(seed),
            in_burst: false,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            head_passes: None,
            flying: BinaryHeap::new(),
            taken_off: 0,
            last_arrival: now,
            counters: Counters::default(),
        }
    }

    /// Begins another schedule; what is on its way stays on its way.
    pub fn set_schedule(&mut self, schedule: Schedule, now: Instant) {
        self.advance(now);
        self.profile = schedule.stages()[0].1.clone();
        self.schedule = schedule;
        self.started = now;
        self.next_stage = 1;
        self.drain_if_unlimited(now);
    }

    /// What happened so far.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Takes a datagram with `bytes` of payload.
    pub fn handle(&mut self, datagram: D, bytes: usize, now: Instant) {
        self.advance(now);
        self.counters.received += 1;
        self.counters.received_bytes += bytes as u64;
        if self.is_lost() {
            return;
        }
        let Some(rate) = self.profile.rate_bps else {
            self.take_off(datagram, bytes, now);
            return;
        };
        let most = self.profile.queue.as_secs_f64() * rate as f64 / 8.0;
        // What is being sent does not wait any more.
        let ahead = self
            .waiting_bytes
            .saturating_sub(self.waiting.front().map_or(0, |head| head.bytes));
        if (ahead > 0 && (ahead + bytes + HEADER_BYTES) as f64 > most)
            || self.on_their_way() >= DATAGRAMS_MAX
        {
            self.counters.queue_full += 1;
            return;
        }
        self.waiting_bytes += bytes + HEADER_BYTES;
        self.waiting.push_back(Waiting {
            datagram,
            bytes: bytes + HEADER_BYTES,
            since: now,
        });
        if self.head_passes.is_none() {
            self.send_head(now);
        }
    }

    /// A datagram that has arrived by now, in the order of arrival.
    pub fn poll(&mut self, now: Instant) -> Option<D> {
        self.advance(now);
        if self.flying.peek()?.0.arrives > now {
            return None;
        }
        let Reverse(arrived) = self.flying.pop()?;
        self.counters.delivered += 1;
        self.counters.delivered_bytes += arrived.bytes as u64;
        Some(arrived.datagram)
    }

    /// When to ask again; `None` while nothing is on its way.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let arrives = self.flying.peek().map(|Reverse(next)| next.arrives);
        match (arrives, self.head_passes) {
            (Some(arrives), Some(passes)) => Some(arrives.min(passes)),
            (arrives, passes) => arrives.or(passes),
        }
    }

    fn on_their_way(&self) -> usize {
        self.waiting.len() + self.flying.len()
    }

    /// Lets everything happen that happens up to now, in its order.
    fn advance(&mut self, now: Instant) {
        loop {
            let stage = self
                .schedule
                .stages()
                .get(self.next_stage)
                .map(|(at, _)| self.started + *at);
            let stage = stage.filter(|at| *at <= now);
            let passes = self.head_passes.filter(|at| *at <= now);
            match (stage, passes) {
                (None, None) => return,
                (Some(at), passes) if passes.is_none_or(|passes| at <= passes) => {
                    self.profile = self.schedule.stages()[self.next_stage].1.clone();
                    self.next_stage += 1;
                    self.drain_if_unlimited(at);
                }
                (_, Some(at)) => self.pass_head(at),
                (Some(_), None) => unreachable!("a stage alone is always first"),
            }
        }
    }

    /// Begins to send the head of the queue.
    fn send_head(&mut self, now: Instant) {
        self.head_passes = None;
        let Some(head) = self.waiting.front() else {
            return;
        };
        let waited = now.saturating_duration_since(head.since);
        self.counters.queue_us_max = self.counters.queue_us_max.max(waited.as_micros() as u64);
        let takes = match self.profile.rate_bps {
            Some(rate) => Duration::from_secs_f64(8.0 * head.bytes as f64 / rate as f64),
            None => Duration::ZERO,
        };
        self.head_passes = Some(now + takes);
    }

    fn pass_head(&mut self, at: Instant) {
        let Some(head) = self.waiting.pop_front() else {
            return;
        };
        self.waiting_bytes -= head.bytes;
        self.take_off(head.datagram, head.bytes - HEADER_BYTES, at);
        self.send_head(at);
    }

    fn drain_if_unlimited(&mut self, now: Instant) {
        if self.profile.rate_bps.is_none() {
            while !self.waiting.is_empty() {
                self.pass_head(now);
            }
        }
    }

    /// Loss by itself and in bursts. Both are drawn for every datagram, so that one does not change the other's pattern.
    fn is_lost(&mut self) -> bool {
        let profile = &self.profile;
        let alone = self.random.random_bool(profile.loss);
        let turns = if self.in_burst {
            1.0 / profile.burst_packets
        } else {
            profile.burst
        };
        // A burst begins at this datagram, and it ends before this one.
        self.in_burst ^= self.random.random_bool(turns);
        let in_burst = self.random.random_bool(profile.burst_loss) && self.in_burst;
        if in_burst {
            self.counters.lost_in_burst += 1;
        } else if alone {
            self.counters.lost += 1;
        }
        in_burst || alone
    }

    fn take_off(&mut self, datagram: D, bytes: usize, now: Instant) {
        let twice =
            self.random.random_bool(self.profile.duplicate) && self.on_their_way() < DATAGRAMS_MAX;
        if twice {
            self.counters.duplicated += 1;
            self.fly(datagram.clone(), bytes, now);
        }
        if self.flying.len() >= DATAGRAMS_MAX {
            self.counters.queue_full += 1;
            return;
        }
        self.fly(datagram, bytes, now);
    }

    fn fly(&mut self, datagram: D, bytes: usize, now: Instant) {
        let jitter = self.profile.jitter.mul_f64(self.random.random::<f64>());
        let mut arrives = (now + self.profile.delay + jitter).max(self.last_arrival);
        if self.random.random_bool(self.profile.reorder) {
            // Without a new `last_arrival`: those behind it overtake.
            self.counters.reordered += 1;
            arrives += self.profile.reorder_by;
        } else {
            self.last_arrival = arrives;
        }
        let order = self.taken_off;
        self.taken_off += 1;
        self.flying.push(Reverse(Flying {
            arrives,
            order,
            bytes,
            datagram,
        }));
    }
}

#[cfg(test)]
#[path = "link_tests.rs"]
mod tests;
