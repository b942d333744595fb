//! Publishers that do what no encoder does. What they send harms at most those who watch it, costs a bounded amount of work, and
//! the call beside it goes on. (Ten thousand SSRCs, replays and noise are in `hostile.rs`.)

mod support;

use std::time::Duration;

use support::media::Plain;
use support::oracle::{check_video, check_world};
use support::{MS, Rng, SECOND, Subscribed, VideoLayer, VideoSource, World};
use weir_shard::{Command, DropReason, Size};

const FULL: Option<Size> = Some(Size::new(1280, 720));
const FRAME: Duration = Duration::from_micros(33_333);

/// A healthy call (camera 1 of peer 0, watched by peer 1), and a hostile one beside it: camera 50 of peer 2, watched by peer 1, too.
struct Calls {
    world: World,
    healthy: Subscribed,
    watched: Subscribed,
    hostile: usize,
    camera: VideoSource,
}

impl Calls {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let mut world = World::new(seed);
        let (publisher, subscriber) = (world.join(), world.join());
        world.publish_video(publisher, VideoSource::simulcast(1, "1", &mut rng));
        world.run(SECOND);
        let healthy = world.subscribe(subscriber, 1, FULL);
        let hostile = world.join();
        let camera = VideoSource::simulcast(50, "5", &mut rng);
        world.command(Command::AddTrack(world.add_video(hostile, &camera)));
        let watched = world.subscribe(subscriber, 50, FULL);
        world.run(SECOND);
        Self {
            world,
            healthy,
            watched,
            hostile,
            camera,
        }
    }

    /// Sends `frames` frames of one layer, each after `change` has been at it.
    fn film(&mut self, layer: usize, frames: u32, change: impl Fn(u32, &mut VideoLayer)) {
        for frame in 0..frames {
            change(frame, &mut self.camera.layers[layer]);
            let (start, now) = (self.world.start, self.world.now);
            let packets = self.camera.layers[layer].encode(50, layer as u8, start, now);
            packets.iter().for_each(|plain| self.send(plain));
            self.world.run(FRAME);
        }
    }

    fn send(&mut self, plain: &Plain) {
        self.world.send(self.hostile, "5", plain);
    }

    /// Packets of the hostile track that arrived in the last second.
    fn recent(&self) -> usize {
        let packets = self.world.received(self.watched);
        let recent = packets
            .iter()
            .filter(|(_, packet)| packet.at + SECOND > self.world.now);
        recent.count()
    }

    /// How many keyframes it was asked for.
    fn asked(&self) -> usize {
        self.world.peers[self.hostile].told.plis.len()
    }

    /// The healthy call has gone on all the time.
    fn stays_healthy(mut self) {
        self.world.run(SECOND);
        let seen = check_video(&self.world, self.healthy);
        let seconds = (self.world.now - self.world.start).as_secs() as usize;
        assert!(
            seen.complete >= 30 * (seconds - 1) - 15,
            "{seen:?} in {seconds} s"
        );
        assert!(seen.longest_gap < 100 * MS, "{seen:?}");
        check_world(&self.world);
    }
}

/// Nothing special: what the layer does by itself.
fn plainly(_: u32, layer: &mut VideoLayer) {
    layer.keyframe_wanted |= layer.frame == 0;
}

#[test]
fn a_publisher_that_never_sends_a_keyframe_is_asked_twice_a_second_and_shown_to_nobody() {
    let mut calls = Calls::new(1);
    calls.film(0, 300, |_, layer| layer.keyframe_wanted = false);
    assert_eq!(calls.world.received(calls.watched).len(), 0);
    let asked = calls.asked();
    assert!((18..=21).contains(&asked), "{asked} in 10 s");
    calls.stays_healthy();
}

#[test]
fn a_publisher_that_sends_nothing_but_keyframes_is_asked_for_none() {
    let mut calls = Calls::new(2);
    calls.film(0, 150, |_, layer| layer.keyframe_wanted = true);
    assert!(calls.asked() <= 1);
    assert_eq!(check_video(&calls.world, calls.watched).complete, 150);
    calls.stays_healthy();
}

#[test]
fn a_layer_that_stops_in_the_middle_of_a_frame_gives_way_to_another() {
    let mut calls = Calls::new(3);
    for frame in 0..300 {
        let (start, now) = (calls.world.start, calls.world.now);
        for layer in [0, 2] {
            let of = &mut calls.camera.layers[layer];
            of.keyframe_wanted = frame % 30 == 0;
            let mut packets = of.encode(50, layer as u8, start, now);
            match (layer, frame) {
                (0, 45) => packets.truncate(2),
                (0, 46..) => packets.clear(),
                _ => {}
            }
            packets.iter().for_each(|plain| calls.send(plain));
        }
        calls.world.run(FRAME);
    }
    assert_eq!(calls.world.counters.layers_stalled.get(), 1);
    let seen = check_video(&calls.world, calls.watched);
    // It is given up 2 s after frame 45, and then waits for the next keyframe.
    assert_eq!(seen.layers.last(), Some(&(2, 180)));
    calls.stays_healthy();
}

#[test]
fn a_layer_that_flickers_costs_few_keyframes() {
    let mut calls = Calls::new(4);
    for round in 0..60 {
        calls.film(2, 1, plainly);
        // Half a second of the highest layer, half a second of silence.
        let on = round % 2 == 0;
        calls.film(0, if on { 15 } else { 0 }, |frame, layer| {
            layer.keyframe_wanted = frame == 0;
        });
        calls.film(2, 14, |_, layer| layer.keyframe_wanted = false);
    }
    let asked = calls.asked();
    assert!(asked <= 3 * 60, "{asked} in about 50 s");
    check_video(&calls.world, calls.watched);
    calls.stays_healthy();
}

#[test]
fn a_packet_that_comes_again_after_the_shard_let_go_of_it_is_not_sent_again() {
    let mut calls = Calls::new(15);
    calls.camera.rtx = true;
    calls.world.command(Command::RemoveTrack {
        track: weir_shard::TrackId(50),
    });
    let add = calls.world.add_video(calls.hostile, &calls.camera);
    calls.world.command(Command::AddTrack(add));
    calls.watched = calls.world.subscribe(1, 50, FULL);
    calls.film(0, 30, plainly);
    let newest = calls.camera.layers[0].seq as u16;
    // Two other layers that nobody watches push everything out of the shard's bound.
    let pushed = calls.world.history_packets_max as u32;
    for layer in [1, 2] {
        calls.film(layer, pushed, plainly);
    }
    let forwarded = calls.world.received(calls.watched).len();
    for back in 0..60u16 {
        let mut again = calls.camera.layers[0]
            .again(newest.wrapping_sub(back), true)
            .unwrap();
        again.payload.truncate(40);
        calls.send(&again);
    }
    calls.world.run(SECOND);
    assert_eq!(calls.world.counters.dropped(DropReason::Duplicate), 60);
    assert_eq!(calls.world.received(calls.watched).len(), forwarded);
}

#[test]
fn retransmissions_with_numbers_that_came_already_change_nothing() {
    let mut calls = Calls::new(5);
    calls.camera.rtx = true;
    calls.world.command(Command::RemoveTrack {
        track: weir_shard::TrackId(50),
    });
    let add = calls.world.add_video(calls.hostile, &calls.camera);
    calls.world.command(Command::AddTrack(add));
    calls.watched = calls.world.subscribe(1, 50, FULL);
    calls.film(0, 30, plainly);
    let newest = calls.camera.layers[0].seq as u16;
    let forwarded = calls.world.received(calls.watched).len();
    for round in 0..1000u16 {
        let seq = newest.wrapping_sub(round % 60);
        let mut again = calls.camera.layers[0].again(seq, true).unwrap();
        // Other contents under the same number.
        again.payload.truncate(40);
        calls.send(&again);
    }
    calls.world.run(SECOND);
    assert_eq!(calls.world.counters.dropped(DropReason::Duplicate), 1000);
    assert_eq!(calls.world.received(calls.watched).len(), forwarded);
    calls.stays_healthy();
}

#[test]
fn a_clock_that_jumps_is_followed_within_a_layer_and_does_not_stop_a_switch() {
    let mut calls = Calls::new(6);
    calls.film(0, 60, plainly);
    for jump in [0x7000_0000u32, 0x9000_0000, 90_000 * 3600, 1] {
        calls.film(0, 30, |frame, layer| {
            if frame == 0 {
                layer.time_offset = layer.time_offset.wrapping_add(jump);
            }
        });
        assert!(calls.recent() >= 100, "{} after {jump:#x}", calls.recent());
    }
    // Another layer with a clock of its own, and back.
    calls.world.want(calls.watched, None);
    calls.film(2, 90, |frame, layer| layer.keyframe_wanted = frame == 30);
    assert!(calls.recent() >= 29, "{}", calls.recent());
    calls.stays_healthy();
}

#[test]
fn numbers_that_jump_ahead_cost_one_keyframe_request_each() {
    let mut calls = Calls::new(7);
    calls.film(0, 30, plainly);
    let (asked, reported) = (calls.asked(), calls.world.counters.nacks_sent.get());
    for _ in 0..20 {
        calls.film(0, 15, |frame, layer| {
            layer.seq += if frame == 0 { 20_000 } else { 0 };
            layer.keyframe_wanted = frame == 10;
        });
    }
    let asked = calls.asked() - asked;
    assert!(asked <= 21, "{asked} for 20 jumps");
    let reported = calls.world.counters.nacks_sent.get() - reported;
    assert!(reported <= 250 * 20, "{reported} of 400 000 missing");
    assert!(calls.recent() > 40);
    calls.stays_healthy();
}

#[test]
fn an_ssrc_that_changes_with_every_frame_is_one_stream_or_none() {
    let mut calls = Calls::new(8);
    calls.film(0, 40, |frame, layer| {
        layer.ssrc = 0x2000_0000 + frame;
        (layer.seq, layer.keyframe_wanted) = (500 + u64::from(frame), true);
        layer.time_offset = frame.wrapping_mul(0x1357_9bdf);
    });
    let seen = check_video(&calls.world, calls.watched);
    assert_eq!(seen.complete, 40, "{seen:?}");
    calls.stays_healthy();
}

#[test]
fn keyframes_that_lie_about_their_size_make_no_storm() {
    let mut calls = Calls::new(9);
    for round in 0..100u16 {
        for layer in [0, 1, 2] {
            calls.film(layer, 1, |_, of| {
                of.keyframe_wanted = true;
                let side = 1 + (round * 163 + layer as u16 * 5000) % 16_383;
                (of.width, of.height) = (side, 16_384 - side);
            });
        }
    }
    let asked = calls.asked();
    assert!(asked <= 3 * 2 * 11, "{asked} in 10 s");
    check_video(&calls.world, calls.watched);
    calls.stays_healthy();
}

#[test]
fn layers_that_change_with_every_packet_lose_nobody_the_base() {
    let mut calls = Calls::new(10);
    calls.film(0, 10, plainly);
    let mut rng = Rng::new(10);
    for _ in 0..1000 {
        let (start, now) = (calls.world.start, calls.world.now);
        let packets = calls.camera.layers[0].encode(50, 0, start, now);
        for mut plain in packets {
            // Behind the id (one byte or two) and the base layer's index stands the temporal layer with its sync bit.
            let at = if plain.payload[2] & 0x80 == 0 { 4 } else { 5 };
            plain.payload[at] = rng.next() as u8;
            calls.send(&plain);
        }
        if rng.chance(100) {
            let wanted = [None, FULL][rng.below(2) as usize];
            calls.world.want(calls.watched, wanted);
        }
        calls.world.run(MS);
    }
    assert!(calls.world.received(calls.watched).len() > 500);
    calls.stays_healthy();
}
