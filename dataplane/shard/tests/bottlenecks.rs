//! A viewer behind a slow way: what the focus thinks that it carries, and what becomes of pictures and voices.

mod support;

use std::time::{Duration, Instant};

use support::conference::{camera_of, microphone_of};
use support::link::Link;
use support::tap::What;
use support::viewing::{Heard, check_resent, heard};
use support::{AudioSource, MS, Rng, SECOND, Subscribed, VideoSource, World};
use weir_shard::Size;

/// How long a picture may stand when its way becomes six times narrower, with two pictures of a megabit each.
const STILL_MAX: Duration = Duration::from_millis(1000);

const FULL: Option<Size> = Some(Size::new(1280, 720));

/// One that watches, and what is thought of its way.
struct Viewer {
    world: World,
    peer: usize,
    video: Vec<Subscribed>,
    audio: Vec<Subscribed>,
    /// Every 100 ms, in bits a second.
    estimates: Vec<(Instant, u64)>,
}

impl Viewer {
    /// Watches this many publishers in full size, which takes 1.1 Mb/s of each.
    fn of(publishers: usize, seed: u64, link: Link) -> Self {
        let mut world = World::with(seed, |config| config.history_packets_max = 4096);
        (world.up, world.down) = (Link::FAR, Link::FAR);
        let mut rng = Rng::new(seed ^ 0xabcd);
        for _ in 0..publishers {
            let peer = world.join();
            let mut camera = VideoSource::simulcast(camera_of(peer), "1", &mut rng);
            camera.rtx = true;
            world.publish_video(peer, camera);
            world.publish_audio(peer, AudioSource::new(microphone_of(peer), "0", &mut rng));
        }
        let peer = world.join();
        world.browse(peer);
        world.ways[peer].down_link = Some(link);
        let video = (0..publishers)
            .map(|of| world.subscribe(peer, camera_of(of), FULL))
            .collect();
        let audio = (0..publishers)
            .map(|of| world.subscribe(peer, microphone_of(of), None))
            .collect();
        Self {
            world,
            peer,
            video,
            audio,
            estimates: Vec::new(),
        }
    }

    fn run(&mut self, duration: Duration) {
        let end = self.world.now + duration;
        while self.world.now < end {
            self.world.run(100 * MS);
            let estimate = self.world.counters.estimate_bps_max.get();
            self.estimates.push((self.world.now, estimate));
        }
    }

    fn through(&mut self, link: Link) {
        self.world.ways[self.peer].down_link = Some(link);
    }

    /// Least, mean and most of the estimate.
    fn estimate(&self, from: Instant, to: Instant) -> [u64; 3] {
        let of = self
            .estimates
            .iter()
            .filter(|(at, _)| *at > from && *at <= to)
            .map(|(_, bps)| *bps);
        let of: Vec<u64> = of.collect();
        let mean = of.iter().sum::<u64>() / of.len() as u64;
        [*of.iter().min().unwrap(), mean, *of.iter().max().unwrap()]
    }

    /// Every picture is there after `within`, and stands still for no longer than `longest` from then on.
    fn check_pictures(&self, from: Instant, within: Duration, longest: Duration, told: &str) {
        for of in &self.video {
            let pictures = self.world.pictures(*of);
            assert!(pictures.broken.is_empty(), "{told}: {:?}", pictures.broken);
            let watched = pictures.watched(from + within, self.world.now);
            assert!(watched.longest <= longest, "{told}, {of:?}: {watched:?}");
        }
    }

    /// What is sent again or for nothing comes in small bursts, and what is sent again is a small part.
    fn check_paced(&self, from: Instant, target_bps: u64) {
        let tap = self.world.peers[self.peer].tap.as_ref().unwrap();
        let burst = tap.burst(&[What::Again, What::Probe], from, 5 * MS) as u64;
        // A probe is twice the target; two packets more for the granularity of packets and ticks.
        let most = 2 * 2 * target_bps * 5 / 8000 + 2 * 1300;
        assert!(burst <= most, "{burst} bytes in 5 ms of {target_bps} b/s");
        check_resent(&self.world, self.peer, from, 2 * SECOND, target_bps);
    }

    fn heard(&self, from: Instant, to: Instant) -> Heard {
        let of = self
            .audio
            .iter()
            .map(|of| heard(&self.world, *of, from, to));
        of.reduce(|sum, one| Heard {
            expected: sum.expected + one.expected,
            came: sum.came + one.came,
            longest_gap: sum.longest_gap.max(one.longest_gap),
        })
        .unwrap()
    }
}

#[test]
fn the_estimate_finds_a_bottleneck_within_ten_seconds() {
    for (kilobits, publishers) in [(500, 2), (1000, 3), (2000, 4), (3000, 5)] {
        for seed in 0..3 {
            let mut viewer = Viewer::of(publishers, seed, Link::FAR.through(kilobits));
            let start = viewer.world.now;
            viewer.run(30 * SECOND);
            let settled = viewer.estimate(start + 10 * SECOND, start + 30 * SECOND);
            let [least, _, most] = settled.map(|bps| bps / (kilobits * 10));
            let told = format!("{kilobits} kb/s, seed {seed}: {least} to {most} %");
            assert!(least >= 70 && most <= 105, "{told}");
            let heard = viewer.heard(start + 3 * SECOND, start + 30 * SECOND);
            assert!(
                heard.came * 1000 >= heard.expected * 995,
                "{told}, {heard:?}"
            );
            assert!(heard.longest_gap <= 150 * MS, "{told}, {heard:?}");
            viewer.check_pictures(start, 6 * SECOND, 500 * MS, &told);
            viewer.check_paced(start + 5 * SECOND, kilobits * 1000);
        }
    }
}

#[test]
fn a_way_that_narrows_and_widens_interrupts_no_voice() {
    for seed in 0..6 {
        let mut viewer = Viewer::of(2, seed, Link::FAR.through(3000));
        viewer.run(20 * SECOND);
        let narrow = viewer.world.now;
        viewer.through(Link::FAR.through(500));
        viewer.run(20 * SECOND);
        let wide = viewer.world.now;
        viewer.through(Link::FAR.through(3000));
        viewer.run(20 * SECOND);

        let told = format!("seed {seed}");
        let [_, _, most] = viewer.estimate(narrow + 2 * SECOND, wide);
        assert!(
            most <= 525_000,
            "{told}: {most} b/s two seconds after the fall"
        );
        let [least, _, _] = viewer.estimate(wide + 8 * SECOND, viewer.world.now);
        assert!(
            least >= 2_100_000,
            "{told}: {least} b/s eight seconds after the rise"
        );
        let heard = viewer.heard(narrow, viewer.world.now);
        assert!(heard.came * 100 >= heard.expected * 98, "{told}, {heard:?}");
        assert!(heard.longest_gap <= 350 * MS, "{told}, {heard:?}");
        viewer.check_pictures(narrow - 10 * SECOND, Duration::ZERO, STILL_MAX, &told);
        for of in &viewer.video {
            let pictures = viewer.world.pictures(*of);
            assert_eq!(pictures.shown.last().unwrap().identity.layer, 0, "{told}");
        }
    }
}
