//! The estimator against a way with a known bottleneck, in virtual time.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use weir_wire::Seq;

use super::Estimator;

const MS: Duration = Duration::from_millis(1);

/// A way with a rate, a bounded queue, a delay each way, and random losses.
#[derive(Clone, Copy)]
struct Way {
    bps: u64,
    queue_bytes: u64,
    one_way_ms: u64,
    loss_per_mille: u64,
    jitter_us: u64,
    /// The receiver takes nothing for so long, out of each such time: it is busy.
    stalls_ms: (u64, u64),
}

impl Way {
    fn new(bps: u64) -> Self {
        Self {
            bps,
            queue_bytes: (bps / 8 / 5).max(30_000),
            one_way_ms: 25,
            loss_per_mille: 0,
            jitter_us: 0,
            stalls_ms: (0, 1),
        }
    }
}

/// What is sent: rates that video may have, least first, of which the largest that fits is taken; and what is aimed for.
struct Demand {
    rungs: Vec<u64>,
    goal: u64,
}

type Statuses = Vec<(Seq, Option<i64>)>;

struct Run {
    now: Instant,
    start: Instant,
    estimator: Estimator,
    rng: u64,
    number: u16,
    /// When the way is free again, in microseconds.
    free_us: u64,
    /// Number and arrival, in order of arrival.
    arriving: VecDeque<(u16, u64)>,
    arrived: Vec<(u16, u64)>,
    reported: u16,
    feedback: VecDeque<(u64, Statuses)>,
    video_owed: f64,
    rung: u64,
    /// Every 100 ms: estimate and video rate, in kb/s, and the longest wait of an audio packet since.
    told: Vec<(u64, u64, u64)>,
    audio_lost: Vec<u64>,
    worst_wait_us: u64,
}

impl Run {
    fn new() -> Self {
        let now = Instant::now();
        let mut estimator = Estimator::new(now);
        estimator.set_goal(0, true);
        Self {
            now,
            start: now,
            estimator,
            rng: 7,
            number: 0,
            free_us: 0,
            arriving: VecDeque::new(),
            arrived: Vec::new(),
            reported: 0,
            feedback: VecDeque::new(),
            video_owed: 0.0,
            rung: 0,
            told: Vec::new(),
            audio_lost: Vec::new(),
            worst_wait_us: 0,
        }
    }

    fn below(&mut self, below: u64) -> u64 {
        self.rng = self
            .rng
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (self.rng >> 33) % below.max(1)
    }

    fn us(&self) -> u64 {
        (self.now - self.start).as_micros() as u64
    }

    /// Whether the packet gets through.
    fn send(&mut self, way: Way, bytes: usize) -> bool {
        let number = self.number;
        self.number = self.number.wrapping_add(1);
        self.estimator.note_sent(Some(Seq(number)), bytes, self.now);
        let now_us = self.us();
        let wait_us = self.free_us.saturating_sub(now_us);
        let full = wait_us * way.bps / 8_000_000 + bytes as u64 > way.queue_bytes;
        if full || self.below(1000) < way.loss_per_mille {
            return false;
        }
        self.worst_wait_us = self.worst_wait_us.max(wait_us);
        self.free_us = self.free_us.max(now_us) + bytes as u64 * 8_000_000 / way.bps;
        let jitter = self.below(way.jitter_us + 1);
        let at = self.free_us + way.one_way_ms * 1000 + jitter;
        let place = self.arriving.partition_point(|(_, before)| *before <= at);
        self.arriving.insert(place, (number, at));
        true
    }

    fn run(&mut self, seconds: u64, way: Way, demand: &Demand) {
        self.estimator.set_goal(demand.goal, true);
        for _ in 0..seconds * 1000 {
            self.now += MS;
            self.step(way, demand);
        }
    }

    fn step(&mut self, way: Way, demand: &Demand) {
        let ms = self.us() / 1000;
        if ms.is_multiple_of(20) && !self.send(way, 100) {
            self.audio_lost.push(ms);
        }
        if ms.is_multiple_of(33) {
            self.video(way, demand);
        }
        if ms.is_multiple_of(5) {
            self.estimator.handle_timeout(self.now);
            let due = self.estimator.probe_bytes(self.now);
            for _ in 0..due.div_ceil(290) {
                self.send(way, 290);
            }
        }
        self.receive(way, ms);
        if ms.is_multiple_of(100) {
            let estimate = self.estimator.target_bps(self.now).unwrap_or(0);
            let wait_ms = std::mem::take(&mut self.worst_wait_us) / 1000;
            self.told.push((estimate / 1000, self.rung / 1000, wait_ms));
        }
    }

    fn video(&mut self, way: Way, demand: &Demand) {
        let target = self.estimator.target_bps(self.now).unwrap_or(u64::MAX);
        let budget = target.saturating_sub(50_000);
        let fits = |rung: &&u64| **rung <= budget;
        self.rung = demand.rungs.iter().rev().find(fits).copied().unwrap_or(0);
        self.video_owed += self.rung as f64 * 0.033 / 8.0;
        // Frames differ in size.
        let mut frame = self.video_owed * (0.7 + 0.6 * self.below(100) as f64 / 100.0);
        while frame >= 100.0 {
            let bytes = frame.min(1200.0);
            self.send(way, bytes as usize);
            frame -= bytes;
            self.video_owed -= bytes;
        }
    }

    /// When the receiver takes what arrives at `at_us`.
    fn taken_us(&self, way: Way, at_us: u64) -> u64 {
        let (stall, each) = (way.stalls_ms.0 * 1000, way.stalls_ms.1 * 1000);
        let (turn, since) = (at_us / each, at_us % each);
        // Some are short and some are long.
        let stall = stall * (turn * 7919 % 5) / 4;
        if since < stall {
            turn * each + stall
        } else {
            at_us
        }
    }

    fn receive(&mut self, way: Way, ms: u64) {
        let now_us = self.us();
        while self
            .arriving
            .front()
            .is_some_and(|(_, at)| self.taken_us(way, *at) <= now_us)
        {
            let taken = self.arriving.pop_front();
            // It is noted when it is taken, not when it came.
            self.arrived
                .extend(taken.map(|(number, at)| (number, self.taken_us(way, at))));
        }
        if ms.is_multiple_of(100) && !self.arrived.is_empty() {
            let highest = self
                .arrived
                .iter()
                .fold(self.reported, |highest, (number, _)| {
                    if Seq(*number).is_after(Seq(highest)) {
                        *number
                    } else {
                        highest
                    }
                });
            let count = highest.wrapping_sub(self.reported);
            let status = |step| {
                let number = self.reported.wrapping_add(step);
                let at = self.arrived.iter().find(|(arrived, _)| *arrived == number);
                (Seq(number), at.map(|(_, at)| (*at / 250 * 250) as i64))
            };
            let statuses = (0..=count).map(status).collect();
            let lost = self.below(1000) < way.loss_per_mille;
            if !lost {
                self.feedback
                    .push_back((now_us + way.one_way_ms * 1000, statuses));
            }
            self.reported = highest.wrapping_add(1);
            self.arrived.clear();
        }
        while self.feedback.front().is_some_and(|(at, _)| *at <= now_us) {
            let (_, statuses) = self.feedback.pop_front().unwrap();
            self.estimator
                .handle_feedback(statuses.into_iter(), self.now);
        }
    }

    /// The estimates from second `from` on, every 100 ms.
    fn estimates(&self, from: u64) -> &[(u64, u64, u64)] {
        &self.told[(from * 10) as usize..]
    }
}

/// Whatever fits, in steps as fine as frames.
fn elastic(most: u64) -> Demand {
    Demand {
        rungs: (1..=100).map(|step| most * step / 100).collect(),
        goal: most * 3 / 2,
    }
}

/// A camera in three layers.
fn camera() -> Demand {
    Demand {
        rungs: vec![150_000, 500_000, 1_700_000],
        goal: 2_600_000,
    }
}

#[track_caller]
fn assert_within(run: &Run, from: u64, kbps: u64, what: &str) {
    let (low, high) = (kbps * 70 / 100, kbps * 105 / 100);
    let all: Vec<u64> = run.told.iter().map(|(estimate, ..)| *estimate).collect();
    let outside = run
        .estimates(from)
        .iter()
        .filter(|(estimate, ..)| !(low..=high).contains(estimate));
    let outside: Vec<_> = outside.collect();
    assert!(outside.is_empty(), "{what} {kbps}: {outside:?}\n{all:?}");
}

#[test]
fn a_known_bottleneck_is_found_within_ten_seconds_and_kept() {
    for kbps in [500, 800, 1300, 2000, 3000, 5000, 7000, 10_000] {
        for demand in [
            elastic(12_000_000),
            Demand {
                goal: 12_000_000,
                ..camera()
            },
        ] {
            let mut run = Run::new();
            run.run(60, Way::new(kbps * 1000), &demand);
            assert_within(&run, 10, kbps, "found");
        }
    }
}

#[test]
fn a_fast_way_is_known_within_two_seconds() {
    let mut run = Run::new();
    run.run(
        5,
        Way::new(50_000_000),
        &Demand {
            goal: 9_000_000,
            ..camera()
        },
    );
    assert!(run.told[20].0 >= 9_000, "{:?}", run.told);
    let mut run = Run::new();
    run.run(3, Way::new(50_000_000), &camera());
    assert_eq!(run.told[2].1, 1_700, "{:?}", run.told);
}

#[test]
fn a_way_that_narrows_and_widens_is_followed() {
    let mut run = Run::new();
    let demand = camera();
    let narrow = Way {
        queue_bytes: 75_000,
        ..Way::new(500_000)
    };
    run.run(20, Way::new(3_000_000), &demand);
    run.run(20, narrow, &demand);
    run.run(20, Way::new(3_000_000), &demand);
    let told = &run.told;
    let down = (200..400).find(|at| told[*at].0 <= 525).unwrap() - 200;
    assert!(down <= 10, "after {down}00 ms\n{told:?}");
    let up = (400..600).find(|at| told[*at].1 == 1_700).unwrap() - 400;
    assert!(up <= 60, "after {up}00 ms\n{told:?}");
    assert!(
        told[up + 400..].iter().all(|(_, rung, _)| *rung == 1_700),
        "{told:?}"
    );
    assert!(
        told[220..400]
            .iter()
            .all(|(estimate, ..)| (350..=525).contains(estimate)),
        "{told:?}"
    );
}

#[test]
fn random_losses_do_not_lower_the_rate() {
    for loss_per_mille in [20, 50, 100] {
        let mut run = Run::new();
        let way = Way {
            loss_per_mille,
            ..Way::new(20_000_000)
        };
        run.run(60, way, &camera());
        let low = run
            .estimates(3)
            .iter()
            .filter(|(_, rung, _)| *rung < 1_700)
            .count();
        assert_eq!(low, 0, "{loss_per_mille}: {:?}", run.told);
    }
}

#[test]
fn jitter_does_not_lower_the_rate() {
    let mut run = Run::new();
    let way = Way {
        jitter_us: 20_000,
        ..Way::new(20_000_000)
    };
    run.run(60, way, &camera());
    let low = run
        .estimates(3)
        .iter()
        .filter(|(_, rung, _)| *rung < 1_700)
        .count();
    assert!(low <= 6, "{:?}", run.told);
}

#[test]
fn a_busy_receiver_is_no_narrow_way() {
    for stalls_ms in [(60, 150), (150, 500), (300, 1000)] {
        for kbps in [500, 3000] {
            let mut run = Run::new();
            let way = Way {
                stalls_ms,
                ..Way::new(kbps * 1000)
            };
            run.run(60, way, &camera());
            let least = run.estimates(5).iter().map(|of| of.0).min().unwrap();
            let goal = kbps.min(2600);
            let mean = run.estimates(5).iter().map(|of| of.0).sum::<u64>() / 550;
            let told: Vec<u64> = run.told.iter().map(|of| of.0).collect();
            assert!(
                least * 100 >= goal * 45,
                "{stalls_ms:?} {kbps}: {least} {told:?}"
            );
            assert!(
                mean * 100 >= goal * 70,
                "{stalls_ms:?} {kbps}: {mean} {told:?}"
            );
        }
    }
}

#[test]
fn a_participant_that_needs_little_keeps_its_estimate() {
    let mut run = Run::new();
    run.run(10, Way::new(5_000_000), &camera());
    let quiet = Demand {
        rungs: vec![30_000],
        goal: 0,
    };
    let before = run.told[99].0;
    run.run(60, Way::new(5_000_000), &quiet);
    assert!(run.told.last().unwrap().0 >= before, "{:?}", run.told);
}

#[test]
fn who_sends_no_feedback_is_not_limited() {
    let now = Instant::now();
    let mut estimator = Estimator::new(now);
    assert_eq!(estimator.target_bps(now), None);
    estimator.set_goal(9_000_000, true);
    assert_eq!(estimator.target_bps(now), Some(2_000_000));
    for ms in 0..2000 {
        estimator.note_sent(Some(Seq(ms)), 1000, now + u32::from(ms) * MS);
    }
    assert_eq!(estimator.target_bps(now + 999 * MS), Some(2_000_000));
    assert_eq!(estimator.target_bps(now + 1001 * MS), None);
    estimator.handle_remb(700_000, now + 2000 * MS);
    assert_eq!(estimator.target_bps(now + 2001 * MS), Some(700_000));
    assert_eq!(estimator.target_bps(now + 13_000 * MS), None);
}

#[test]
fn absurd_feedback_is_harmless() {
    let now = Instant::now();
    let mut estimator = Estimator::new(now);
    estimator.set_goal(u64::MAX, true);
    let mut mix = 1u64;
    for round in 0..2000u64 {
        let at = now + Duration::from_millis(round * 7);
        estimator.note_sent(Some(Seq((round * 3) as u16)), 1200, at);
        estimator.handle_timeout(at);
        mix = mix.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(17);
        let base = Seq(mix as u16);
        let statuses = (0..3000).map(|step| {
            let arrival = (mix.rotate_left(step) as i64).wrapping_mul(step.into());
            (base.add(step as u16), (step % 3 > 0).then_some(arrival))
        });
        estimator.handle_feedback(statuses, at);
        estimator.handle_remb(mix, at);
        let target = estimator.target_bps(at).unwrap();
        assert!((50_000..=100_000_000).contains(&target), "{target}");
        assert!(estimator.probe_bytes(at) < 10_000_000);
    }
    assert!(estimator.rtt() < Duration::from_secs(60));
    assert!(estimator.wait() < Duration::MAX);
}
