//! When a browser asks again for missing packets: libwebrtc's `NackRequester`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// Tries for one packet.
const RETRIES_MAX: u32 = 10;
/// More missing packets than this mean a keyframe request.
const LIST_MAX: usize = 1000;
/// A receiver without a round trip of its own measuring takes this.
pub const ROUND_TRIP: Duration = Duration::from_millis(100);

#[derive(Clone, Copy, Debug)]
struct Hole {
    asked_at: Option<Instant>,
    tries: u32,
}

/// What is missing of one stream.
#[derive(Clone, Debug, Default)]
pub struct Nacks {
    holes: BTreeMap<u64, Hole>,
    keyframes: BTreeSet<u64>,
    recovered: BTreeSet<u64>,
    newest: Option<u64>,
    /// Holes that there ever were.
    pub holes_seen: u64,
}

/// How a packet came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Came {
    Directly,
    /// By RTX.
    Again,
}

/// There is so much missing that only a keyframe helps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyframeNeeded;

impl Nacks {
    /// Notes a packet, and says what to ask for at once.
    pub fn received(
        &mut self,
        seq: u64,
        keyframe: bool,
        came: Came,
        now: Instant,
    ) -> Result<Vec<u64>, KeyframeNeeded> {
        if keyframe {
            self.keyframes.insert(seq);
        }
        let newest = *self.newest.get_or_insert(seq);
        if seq <= newest {
            self.holes.remove(&seq);
            return Ok(Vec::new());
        }
        if came == Came::Again {
            self.recovered.insert(seq);
            return Ok(Vec::new());
        }
        let added = self.add(newest + 1, seq);
        self.newest = Some(seq);
        added?;
        let mut ask = Vec::new();
        for (seq, hole) in self
            .holes
            .iter_mut()
            .filter(|(_, hole)| hole.asked_at.is_none())
        {
            (hole.asked_at, hole.tries) = (Some(now), 1);
            ask.push(*seq);
        }
        Ok(ask)
    }

    fn add(&mut self, from: u64, to: u64) -> Result<(), KeyframeNeeded> {
        self.holes = self.holes.split_off(&to.saturating_sub(10_000));
        self.keyframes = self.keyframes.split_off(&to.saturating_sub(10_000));
        let new = (to - from) as usize;
        while self.holes.len() + new > LIST_MAX {
            let Some(keyframe) = self.keyframes.pop_first() else {
                self.holes.clear();
                return Err(KeyframeNeeded);
            };
            self.holes = self.holes.split_off(&keyframe);
        }
        for seq in from..to {
            if !self.recovered.contains(&seq) {
                self.holes_seen += 1;
                self.holes.insert(
                    seq,
                    Hole {
                        asked_at: None,
                        tries: 0,
                    },
                );
            }
        }
        self.recovered = self.recovered.split_off(&to);
        Ok(())
    }

    /// What to ask for again. To be called every 20 ms.
    pub fn due(&mut self, now: Instant) -> Vec<u64> {
        let mut ask = Vec::new();
        self.holes.retain(|seq, hole| {
            if hole.asked_at.is_none_or(|at| now - at >= ROUND_TRIP) {
                (hole.asked_at, hole.tries) = (Some(now), hole.tries + 1);
                ask.push(*seq);
            }
            hole.tries < RETRIES_MAX
        });
        ask
    }

    /// Everything up to here is decoded or given up.
    pub fn clear_up_to(&mut self, seq: u64) {
        self.holes = self.holes.split_off(&seq);
        self.keyframes = self.keyframes.split_off(&seq);
        self.recovered = self.recovered.split_off(&seq);
    }
}

/// How often a browser looks for what is due.
pub const INTERVAL: Duration = Duration::from_millis(20);
