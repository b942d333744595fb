//! How the network treats datagrams: one direction of one participant's way, in virtual time.
//!
//! ```text
//! sender ─ duplicate ─ lose (alone or in bursts) ─ queue of a bottleneck ─ delay + jitter ─ receiver
//! ```

use std::time::{Duration, Instant};

use super::{MS, Rng};

/// What a way does to datagrams.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Link {
    pub delay: Duration,
    /// Added at random: reorders.
    pub jitter: Duration,
    pub loss_per_mille: u64,
    pub duplicate_per_mille: u64,
    pub bursts: Option<Bursts>,
    pub bottleneck: Option<Bottleneck>,
}

/// Loss with a memory (Gilbert and Elliott): per datagram the chance that a burst begins, that it ends, and of loss in it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bursts {
    pub begin_per_mille: u64,
    pub end_per_mille: u64,
    pub loss_per_mille: u64,
}

/// A slow hop with a queue in front. What would wait longer than the queue is lost.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bottleneck {
    /// Of UDP payload.
    pub bits_per_second: u64,
    pub queue: Duration,
}

impl Link {
    pub const PERFECT: Self = Self {
        delay: MS,
        jitter: Duration::ZERO,
        loss_per_mille: 0,
        duplicate_per_mille: 0,
        bursts: None,
        bottleneck: None,
    };

    /// Half of a round trip of 50 ms, and nothing else.
    pub const FAR: Self = Self {
        delay: Duration::from_millis(25),
        ..Self::PERFECT
    };

    pub const fn losing(self, per_mille: u64) -> Self {
        Self {
            loss_per_mille: per_mille,
            ..self
        }
    }

    /// Through `kilobits` a second, with 300 ms of queue.
    pub const fn through(self, kilobits: u64) -> Self {
        Self {
            bottleneck: Some(Bottleneck {
                bits_per_second: kilobits * 1000,
                queue: Duration::from_millis(300),
            }),
            ..self
        }
    }

    /// Whether everything that is sent arrives.
    pub fn is_lossless(&self) -> bool {
        self.loss_per_mille == 0 && self.bursts.is_none() && self.bottleneck.is_none()
    }

    /// How much later a datagram may come than another that was sent at the same time over any other way.
    pub fn spread(&self) -> Duration {
        let queue = self.bottleneck.map_or(Duration::ZERO, |of| of.queue);
        self.jitter + queue + self.delay.saturating_sub(Self::PERFECT.delay)
    }
}

/// The state of a way: its burst and its queue, and what became of what it was given.
#[derive(Clone, Debug, Default)]
pub struct Way {
    bursting: bool,
    free_at: Option<Instant>,
    pub carried: u64,
    pub carried_bytes: u64,
    pub lost: u64,
    /// Lost because the queue was full.
    pub overflowed: u64,
}

impl Way {
    /// When each copy of a datagram arrives.
    pub fn carry(
        &mut self,
        link: &Link,
        bytes: usize,
        rng: &mut Rng,
        now: Instant,
    ) -> Vec<Duration> {
        let copies = if rng.chance(link.duplicate_per_mille) {
            2
        } else {
            1
        };
        let mut arrivals = Vec::with_capacity(copies);
        for _ in 0..copies {
            if self.loses(link, rng) {
                self.lost += 1;
                continue;
            }
            let Some(waits) = self.queue(link, bytes, now) else {
                self.overflowed += 1;
                continue;
            };
            let jitter = Duration::from_micros(rng.below(link.jitter.as_micros() as u64 + 1));
            self.carried += 1;
            self.carried_bytes += bytes as u64;
            arrivals.push(link.delay + jitter + waits);
        }
        arrivals
    }

    fn loses(&mut self, link: &Link, rng: &mut Rng) -> bool {
        let alone = rng.chance(link.loss_per_mille);
        let Some(bursts) = link.bursts else {
            return alone;
        };
        let turns = if self.bursting {
            bursts.end_per_mille
        } else {
            bursts.begin_per_mille
        };
        self.bursting ^= rng.chance(turns);
        alone || (self.bursting && rng.chance(bursts.loss_per_mille))
    }

    /// How long a datagram is under way through the bottleneck; `None` when its queue is full.
    fn queue(&mut self, link: &Link, bytes: usize, now: Instant) -> Option<Duration> {
        let Some(of) = link.bottleneck else {
            self.free_at = None;
            return Some(Duration::ZERO);
        };
        let begins = self.free_at.map_or(now, |at| at.max(now));
        if begins - now > of.queue {
            return None;
        }
        let takes = Duration::from_nanos(bytes as u64 * 8_000_000_000 / of.bits_per_second);
        self.free_at = Some(begins + takes);
        Some(begins + takes - now)
    }
}
