//! Subscribers that lie about what arrives: they harm nobody but themselves, and cost no more than honest ones.

mod support;

use std::time::Duration;

use support::oracle::check_world;
use support::{AudioSource, Link, MS, Rng, SECOND, Subscribed, VideoSource, World};
use weir_shard::{DropReason, Size};
use weir_wire::Seq;
use weir_wire::rtcp::{ReportBlock, twcc};

const FULL: Option<Size> = Some(Size::new(1280, 720));

/// A camera and a microphone, somebody honest who watches, and somebody who is not.
struct Call {
    world: World,
    honest: Subscribed,
    hostile: usize,
    watched: Subscribed,
    sound: Subscribed,
}

impl Call {
    fn new(seed: u64) -> Self {
        let mut world = World::new(seed);
        let mut rng = Rng::new(seed);
        (world.up, world.down) = (Link::FAR, Link::FAR);
        let (publisher, viewer, hostile) = (world.join(), world.join(), world.join());
        world.browse(publisher);
        world.browse(viewer);
        world.browse(hostile);
        if let Some(browser) = &mut world.peers[hostile].browser {
            browser.feedback = false;
        }
        let mut camera = VideoSource::simulcast(1, "1", &mut rng);
        camera.rtx = true;
        world.publish_video(publisher, camera);
        world.publish_audio(publisher, AudioSource::new(2, "0", &mut rng));
        world.run(SECOND);
        let honest = world.subscribe(viewer, 1, FULL);
        let watched = world.subscribe(hostile, 1, FULL);
        let sound = world.subscribe(hostile, 2, None);
        world.run(SECOND);
        Self {
            world,
            honest,
            hostile,
            watched,
            sound,
        }
    }

    fn feedback(&mut self, base: u16, count: u8, arrivals: &[Option<u64>]) {
        let feedback = twcc::Feedback {
            sender_ssrc: 1,
            media_ssrc: self.watched.ssrc,
            feedback_count: count,
            base: Seq(base),
        };
        let bytes = self.world.peers[self.hostile].seal_rtcp(|writer| {
            writer.transport_feedback(&feedback, arrivals).unwrap();
        });
        self.world.send_sealed(self.hostile, bytes);
    }

    /// A feedback that no honest writer makes.
    fn raw(
        &mut self,
        base: u16,
        statuses: u16,
        reference_time: u32,
        chunks: &[u16],
        deltas: &[u8],
    ) {
        let mut body = vec![0x8f, 205, 0, 0];
        body.extend(1u32.to_be_bytes());
        body.extend(self.watched.ssrc.to_be_bytes());
        body.extend(base.to_be_bytes());
        body.extend(statuses.to_be_bytes());
        body.extend((reference_time << 8).to_be_bytes());
        chunks
            .iter()
            .for_each(|chunk| body.extend(chunk.to_be_bytes()));
        body.extend(deltas);
        body.resize(body.len().next_multiple_of(4), 0);
        let words = (body.len() / 4 - 1) as u16;
        body[2..4].copy_from_slice(&words.to_be_bytes());
        let mut sealed = vec![0; 1500];
        let peer = &mut self.world.peers[self.hostile];
        let len = peer.sender.protect_rtcp(&body, &mut sealed).unwrap();
        sealed.truncate(len);
        self.world.send_sealed(self.hostile, sealed);
    }

    /// The honest one saw everything, and the other was sent no more than the pictures, the sound and some padding.
    #[track_caller]
    fn ends_well(mut self) {
        let from = self.world.start + 2 * SECOND;
        self.world.run(SECOND);
        let to = self.world.now;
        let watched = self.world.pictures(self.honest).watched(from, to);
        assert!(
            watched.longest < 150 * MS && watched.freezes == 0,
            "{watched:?}"
        );
        let sound = self.world.sound(self.sound).longest_gap;
        assert!(sound < 60 * MS, "{sound:?} without sound");
        let seconds = (to - self.world.start).as_secs();
        let bytes = self.world.ways[self.hostile].down.carried_bytes;
        assert!(bytes < seconds * 400_000, "{bytes} bytes in {seconds} s");
        let estimates = &self.world.counters;
        assert!(estimates.estimate_bps_min.get() >= 50_000);
        assert!(estimates.estimate_bps_max.get() <= 100_000_000);
        check_world(&self.world);
    }
}

#[test]
fn feedback_about_packets_that_were_never_sent_says_nothing() {
    let mut call = Call::new(1);
    let mut rng = Rng::new(1);
    for round in 0..200 {
        let arrivals: Vec<_> = (0..500).map(|_| Some(rng.below(1 << 40))).collect();
        let base = 30_000 + rng.below(20_000) as u16;
        // Arrivals at random are further apart than a delta can say: one status is written at least.
        call.feedback(base, round, &arrivals);
        call.world.run(20 * MS);
    }
    call.ends_well();
}

#[test]
fn everything_lost_lowers_the_pictures_of_nobody_else() {
    let mut call = Call::new(2);
    for round in 0..100u16 {
        call.feedback(round * 20, round as u8, &[None; 400]);
        call.world.run(50 * MS);
    }
    call.ends_well();
}

#[test]
fn everything_at_once_and_for_ever_sooner_draws_no_flood() {
    let mut call = Call::new(3);
    for round in 0..100u16 {
        let arrivals = [Some(1_000_000 - u64::from(round) * 10_000); 1000];
        call.feedback(0, round as u8, &arrivals);
        call.world.run(50 * MS);
    }
    call.ends_well();
}

#[test]
fn clocks_that_jump_and_turn_are_survived() {
    let mut call = Call::new(4);
    let mut rng = Rng::new(4);
    for round in 0..200u16 {
        // Vectors of seven large deltas each, at random.
        let chunks = [0xeaaa; 30];
        let deltas: Vec<u8> = (0..420).map(|_| rng.next() as u8).collect();
        call.raw(round * 5, 210, rng.next() as u32, &chunks, &deltas);
        call.world.run(20 * MS);
    }
    call.ends_well();
}

#[test]
fn a_flood_of_feedback_about_everything_is_bounded_work() {
    let mut call = Call::new(5);
    for _ in 0..2000 {
        // 65 535 statuses in 8 runs of packets that have not arrived.
        call.raw(0, 65_535, 0, &[0x1fff; 9], &[]);
        call.world.run(MS);
    }
    let dropped = call.world.counters.dropped(DropReason::FeedbackRate);
    assert!(dropped > 1900, "{dropped}");
    call.ends_well();
}

#[test]
fn ceilings_of_nothing_and_of_everything_are_bounded() {
    let mut call = Call::new(6);
    for round in 0..100 {
        let bps = if round % 2 == 0 {
            0
        } else {
            u64::from(u32::MAX) << 20
        };
        let bytes = call.world.peers[call.hostile]
            .seal_rtcp(|writer| writer.remb(1, bps, &[call.watched.ssrc]).unwrap());
        call.world.send_sealed(call.hostile, bytes);
        call.world.run(50 * MS);
    }
    call.ends_well();
}

#[test]
fn reports_of_absurd_losses_lower_only_the_reporters_own_pictures() {
    let mut call = Call::new(7);
    let mut rng = Rng::new(7);
    for _ in 0..100 {
        let block = ReportBlock {
            ssrc: call.watched.ssrc,
            fraction_lost: 255,
            cumulative_lost: -0x80_0000,
            highest_sequence: rng.next() as u32,
            jitter: u32::MAX,
            last_sr: rng.next() as u32,
            delay_since_last_sr: rng.next() as u32,
        };
        let bytes = call.world.peers[call.hostile]
            .seal_rtcp(|writer| writer.receiver_report(1, &[block]).unwrap());
        call.world.send_sealed(call.hostile, bytes);
        call.world.run(Duration::from_millis(50));
    }
    call.ends_well();
}
