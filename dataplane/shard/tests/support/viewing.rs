//! What must hold for those who watch: judged from what browsers saw and heard, and from what left the shard.

use std::time::{Duration, Instant};

use super::conference::Conference;
use super::oracle::{check_audio, check_video, check_world};
use super::tap::What;
use super::{MS, SECOND, Subscribed, Watched, World};

impl Conference {
    /// Everything that must hold in any conference, whatever the network did.
    pub fn check(&self) {
        check_world(&self.world);
        for of in &self.video {
            check_video(&self.world, *of);
            let broken = &self.world.pictures(*of).broken;
            assert!(
                broken.is_empty(),
                "{of:?} decoded without what it is made from: {broken:?}"
            );
        }
        for of in &self.audio {
            check_audio(&self.world, *of);
        }
    }

    /// Pictures and voices flow, at the end.
    pub fn check_flows(&self) {
        let (from, to) = (self.world.now - SECOND, self.world.now);
        for of in &self.video {
            let watched = self.world.pictures(*of).watched(from, to);
            assert!(
                watched.shown >= 10,
                "a picture flows in the end: {watched:?} {of:?}"
            );
        }
        for of in &self.audio {
            let came = self
                .world
                .sound(*of)
                .came
                .iter()
                .filter(|(at, _)| *at >= from);
            assert!(came.count() >= 45, "a voice flows in the end: {of:?}");
        }
    }

    /// What all video subscriptions saw, added up; the longest of all.
    pub fn watched(&self, from: Instant, to: Instant) -> Watched {
        let of = self
            .video
            .iter()
            .map(|of| self.world.pictures(*of).watched(from, to));
        of.fold(Watched::default(), |sum, one| Watched {
            shown: sum.shown + one.shown,
            captured: sum.captured + one.captured,
            longest: sum.longest.max(one.longest),
            freezes: sum.freezes + one.freezes,
        })
    }
}

/// How voices fared between two instants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard {
    pub expected: u64,
    pub came: u64,
    /// Between two packets that came.
    pub longest_gap: Duration,
}

pub fn heard(world: &World, of: Subscribed, from: Instant, to: Instant) -> Heard {
    let came = world
        .sound(of)
        .came
        .iter()
        .filter(|(at, _)| *at >= from && *at < to);
    let came: Vec<&(Instant, u32)> = came.collect();
    let gaps = came
        .windows(2)
        .map(|pair| pair[1].0.saturating_duration_since(pair[0].0));
    Heard {
        expected: ((to - from).as_millis() / 20) as u64,
        came: came.len() as u64,
        longest_gap: gaps.max().unwrap_or(to - from),
    }
}

/// Packets that a browser asked for again and that the history should have had, and those of them that it did not get in
/// time. For participants whose way to the focus loses nothing and takes `delay`, as the way back does.
pub fn check_history(world: &World, of: Subscribed, delay: Duration) -> (usize, usize) {
    let (mut due, mut unanswered) = (0, 0);
    let peer = &world.peers[of.peer];
    let tap = peer.tap.as_ref().expect("it browses");
    let plis = &world.pictures(of).plis;
    let mut keyframes: Vec<(Instant, u16)> = tap
        .left
        .iter()
        .filter(|((ssrc, _), left)| {
            *ssrc == of.ssrc && left.identity.is_some_and(|of| of.keyframe && of.index == 0)
        })
        .map(|((_, seq), left)| (left.at, *seq))
        .collect();
    keyframes.sort_unstable();
    for (asked, ssrc, missing) in peer.asked.iter().filter(|(_, ssrc, _)| *ssrc == of.ssrc) {
        let at = *asked + delay;
        // Until it was measured, the round trip may be taken for longer.
        let measured = at - world.start > 4 * SECOND;
        let interval = if measured {
            2 * delay + 5 * MS
        } else {
            100 * MS
        };
        let keyframe = keyframes.iter().rev().find(|(left, _)| *left <= at);
        let plied = plis.iter().any(|pli| {
            *pli <= *asked && !keyframes.iter().any(|(left, _)| left > pli && *left <= at)
        });
        for seq in missing {
            let Some(left) = tap.left.get(&(*ssrc, *seq)) else {
                continue;
            };
            let useless = keyframe.is_some_and(|(_, first)| (seq.wrapping_sub(*first) as i16) < 0);
            let before = left.again.iter().filter(|again| **again < at).count();
            let last = left
                .again
                .iter()
                .filter(|again| **again < at)
                .max()
                .unwrap_or(&left.at);
            if left.at > at
                || at - left.at > SECOND
                || at - *last < interval
                || before >= 3
                || useless
                || plied
            {
                continue;
            }
            due += 1;
            let answered = left
                .again
                .iter()
                .any(|again| *again >= at && *again - at <= 40 * MS);
            unanswered += usize::from(!answered);
        }
    }
    (due, unanswered)
}

/// What was sent again from `from` on may be 15 % of what the participant can be sent, in any `window`.
pub fn check_resent(world: &World, peer: usize, from: Instant, window: Duration, target_bps: u64) {
    let tap = world.peers[peer].tap.as_ref().expect("it browses");
    let most = tap.burst(&[What::Again], from, window) as u64 * 8;
    let share = target_bps * window.as_millis() as u64 / 1000 * 15 / 100;
    assert!(
        most <= share + 2 * 1200 * 8,
        "{most} bits again in {window:?}, {share} would be right"
    );
}
