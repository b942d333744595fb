//! What a subscriber gets on a slow way: pictures as large as fit, sound always.

mod support;

use std::time::{Duration, Instant};

use support::oracle::check_world;
use support::{AudioSource, Link, MS, Rng, SECOND, Subscribed, VideoSource, World};
use weir_shard::Size;

const FULL: Option<Size> = Some(Size::new(1280, 720));

/// One who publishes on a good way, and one who watches; round trips of 50 ms.
struct Call {
    world: World,
    viewer: usize,
    cameras: Vec<Subscribed>,
    sound: Subscribed,
}

/// One who publishes, with a microphone already, and one who will watch.
fn meet(world: &mut World, rng: &mut Rng) -> (usize, usize) {
    (world.up, world.down) = (Link::FAR, Link::FAR);
    let (publisher, viewer) = (world.join(), world.join());
    world.browse(publisher);
    world.browse(viewer);
    world.publish_audio(publisher, AudioSource::new(100, "0", rng));
    (publisher, viewer)
}

/// The mid of a camera; the microphone has 0.
fn mid(camera: u8) -> &'static str {
    ["1", "2", "3", "4", "5", "6", "7", "8", "9"][usize::from(camera) - 1]
}

impl Call {
    fn new(seed: u64, cameras: u8, wanted: Option<Size>) -> Self {
        let mut world = World::with(seed, |config| config.history_packets_max = 8192);
        let mut rng = Rng::new(seed);
        let (publisher, viewer) = meet(&mut world, &mut rng);
        for camera in 1..=cameras {
            let mut source = VideoSource::simulcast(camera, mid(camera), &mut rng);
            source.rtx = true;
            world.publish_video(publisher, source);
        }
        world.run(SECOND);
        let sound = world.subscribe(viewer, 100, None);
        let cameras = (1..=cameras).map(|track| world.subscribe(viewer, track, wanted));
        let cameras = cameras.collect();
        Self {
            world,
            viewer,
            cameras,
            sound,
        }
    }

    fn through(&mut self, kilobits: Option<u64>) {
        let link = kilobits.map(|kilobits| Link::FAR.through(kilobits));
        self.world.ways[self.viewer].down_link = link;
    }

    /// Lets time pass; the estimate in kb/s each 500 ms.
    fn run(&mut self, duration: Duration) -> Vec<u64> {
        let end = self.world.now + duration;
        let mut estimates = Vec::new();
        while self.world.now < end {
            self.world.run(500 * MS);
            estimates.push(self.world.counters.estimate_bps_min.get() / 1000);
        }
        estimates
    }

    /// The width of the picture that was shown last before `at`.
    fn width(&self, camera: usize, at: Instant) -> Option<u16> {
        let pictures = self.world.pictures(self.cameras[camera]);
        let shown = pictures.shown.iter().rev().find(|shown| shown.at <= at)?;
        let widths = [1280, 640, 320];
        Some(widths[usize::from(shown.identity.layer)])
    }
}

#[test]
fn a_fast_way_carries_the_largest_picture_within_two_seconds() {
    let mut call = Call::new(1, 1, FULL);
    let start = call.world.now;
    let estimates = call.run(10 * SECOND);
    assert_eq!(call.width(0, start + 500 * MS), Some(1280), "{estimates:?}");
    let mut call = Call::new(1, 9, FULL);
    let start = call.world.now;
    let estimates = call.run(10 * SECOND);
    for camera in 0..9 {
        assert_eq!(
            call.width(camera, start + 2 * SECOND),
            Some(1280),
            "{camera} {estimates:?}"
        );
    }
    check_world(&call.world);
}

#[test]
fn a_known_bottleneck_is_found_within_ten_seconds_and_kept() {
    for kbps in [500, 1000, 2000, 3000, 5000, 10_000] {
        let mut call = Call::new(kbps, 9, FULL);
        call.through(Some(kbps));
        let estimates = call.run(40 * SECOND);
        let range = kbps * 70 / 100..=kbps * 105 / 100;
        let outside = estimates[20..].iter().filter(|of| !range.contains(of));
        assert_eq!(outside.count(), 0, "{kbps}: {estimates:?}");
        let gap = call.world.sound(call.sound).longest_gap;
        assert!(gap <= 350 * MS, "sound waits in the queue at most: {gap:?}");
        check_world(&call.world);
    }
}

#[test]
fn a_way_that_narrows_and_widens_is_followed_and_sound_never_stops() {
    for seed in 0..8 {
        let mut call = Call::new(seed, 1 + (seed % 2) as u8, FULL);
        call.through(Some(3000));
        call.run(20 * SECOND);
        let narrow = call.world.now;
        call.through(Some(500));
        let estimates = call.run(20 * SECOND);
        assert!(
            estimates[3..].iter().all(|kbps| *kbps <= 525),
            "{seed}: {estimates:?}"
        );
        let wide = call.world.now;
        call.through(Some(3000));
        let estimates = call.run(20 * SECOND);
        let gap = call.world.sound(call.sound).longest_gap;
        assert!(gap <= 200 * MS, "{seed}: {gap:?} without sound");
        for camera in 0..call.cameras.len() {
            let end = call.world.now;
            let pictures = call.world.pictures(call.cameras[camera]);
            let watched = pictures.watched(narrow - SECOND, end);
            assert!(watched.longest <= SECOND, "{seed} {camera}: {watched:?}");
            assert!(pictures.broken.is_empty() && pictures.plis.is_empty());
            for after in [8, 12, 16, 20] {
                let width = call.width(camera, wide + after * SECOND);
                assert_eq!(width, Some(1280), "{seed} {camera}: {estimates:?}");
            }
        }
        check_world(&call.world);
    }
}

#[test]
fn pictures_do_not_go_up_and_down_on_a_steady_way() {
    for (seed, kbps) in [
        (1, 500),
        (2, 700),
        (3, 1000),
        (4, 1500),
        (5, 2500),
        (6, 3000),
    ] {
        let mut call = Call::new(seed, 3, FULL);
        call.through(Some(kbps));
        call.run(20 * SECOND);
        let before = call.world.counters.switches.get();
        call.run(60 * SECOND);
        let switches = call.world.counters.switches.get() - before;
        assert!(switches <= 6, "{kbps}: {switches} in a minute");
    }
}

#[test]
fn random_losses_do_not_make_pictures_smaller() {
    for loss_per_mille in [20, 50, 100] {
        let mut call = Call::new(loss_per_mille, 1, FULL);
        call.world.ways[call.viewer].down_link = Some(Link::FAR.losing(loss_per_mille));
        let start = call.world.now;
        call.run(60 * SECOND);
        let pictures = call.world.pictures(call.cameras[0]);
        let later = pictures
            .shown
            .iter()
            .filter(|shown| shown.at > start + 2 * SECOND);
        let smaller = later.filter(|shown| shown.identity.layer > 0).count();
        assert_eq!(smaller, 0, "{loss_per_mille}");
    }
}

/// Cameras of one layer each that have only just begun, as those behind a trunk: nobody knows yet what they take.
fn new_cameras(seed: u64, cameras: u8, link: Link) -> Call {
    let mut world = World::new(seed);
    let mut rng = Rng::new(seed);
    let (publisher, viewer) = meet(&mut world, &mut rng);
    world.ways[viewer].down_link = Some(link);
    world.run(SECOND);
    let sound = world.subscribe(viewer, 100, None);
    for camera in 1..=cameras {
        let mut source = VideoSource::single(camera, mid(camera), &mut rng);
        source.rtx = true;
        let layer = &mut source.layers[0];
        // 530 kb/s, less than the size lets one think.
        (layer.width, layer.height) = (1280, 720);
        (layer.packets, layer.payload_bytes) = (2, 1100);
        world.publish_video(publisher, source);
    }
    let cameras = (1..=cameras).map(|track| world.subscribe(viewer, track, FULL));
    let cameras = cameras.collect();
    Call {
        world,
        viewer,
        cameras,
        sound,
    }
}

#[test]
fn what_flows_is_not_stopped_for_a_guess_at_what_it_takes() {
    for seed in 0..20 {
        let mut call = new_cameras(seed, 2, Link::FAR);
        let start = call.world.now;
        call.run(5 * SECOND);
        for of in &call.cameras {
            let pictures = call.world.pictures(*of);
            let first = pictures.shown.first().expect("a picture").at;
            assert!(first - start <= 400 * MS, "{seed}: {:?}", first - start);
            let watched = pictures.watched(first, call.world.now);
            assert!(watched.longest <= 150 * MS, "{seed}: {watched:?}");
        }
        check_world(&call.world);
    }
}

#[test]
fn what_does_not_fit_is_stopped_all_the_same() {
    for seed in 0..20 {
        let mut call = new_cameras(seed, 4, Link::FAR.through(800));
        call.run(20 * SECOND);
        let (from, to) = (call.world.now - SECOND, call.world.now);
        let flow = |of: &&Subscribed| call.world.pictures(**of).watched(from, to).shown > 0;
        let flowing = call.cameras.iter().filter(flow).count();
        assert_eq!(flowing, 1, "{seed}");
        let gap = call.world.sound(call.sound).longest_gap;
        assert!(
            gap <= 350 * MS,
            "{seed}: sound waits in the queue at most: {gap:?}"
        );
        check_world(&call.world);
    }
}
