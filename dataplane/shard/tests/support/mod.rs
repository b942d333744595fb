//! A small world around one shard: participants that publish and subscribe, a network with delay, loss, reordering and
//! duplication, and virtual time. Nothing here sleeps; the same seed gives the same run.
#![allow(
    dead_code,
    unused_imports,
    unreachable_pub,
    missing_docs,
    reason = "each test uses a part of it"
)]

pub mod browser;
pub mod conference;
mod life;
pub mod link;
pub mod media;
pub mod nack;
pub mod oracle;
pub mod peer;
pub mod tap;
pub mod trunk;
pub mod viewing;
mod vp8_order;
mod wide;
pub mod world;

use std::time::Duration;

pub use browser::{Browser, Watched};
pub use conference::{Conference, Scene};
pub use link::{Bottleneck, Bursts, Link};
pub use media::{AudioSource, VideoLayer, VideoSource};
pub use peer::{Peer, Received};
pub use world::{Subscribed, World};

pub const MS: Duration = Duration::from_millis(1);
pub const SECOND: Duration = Duration::from_secs(1);

/// Repeatable numbers (xorshift64*), not the shard's own generator.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x2545_f491_4f6c_dd1d) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// From 0 to `end` - 1.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    /// True `per_mille` times in a thousand.
    pub fn chance(&mut self, per_mille: u64) -> bool {
        self.below(1000) < per_mille
    }
}
