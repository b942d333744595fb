//! Starts and switches when packets change places, and what is sent again. Packets are handed to the shard one by one.

mod support;

use support::media::Plain;
use support::oracle::{in_order, read};
use support::{AudioSource, MS, Rng, SECOND, Subscribed, VideoSource, World};
use weir_shard::{Command, DropReason, Size, TrackId};
use weir_wire::Seq;

const FULL: Option<Size> = Some(Size::new(1280, 720));

/// A camera in the test's own hands, and a subscriber.
struct Stage {
    world: World,
    camera: VideoSource,
    video: Subscribed,
}

impl Stage {
    fn new(seed: u64, wanted: Option<Size>) -> Self {
        let mut world = World::new(seed);
        let (publisher, subscriber) = (world.join(), world.join());
        let mut camera = VideoSource::simulcast(1, "1", &mut Rng::new(seed));
        for layer in &mut camera.layers {
            (layer.packets, layer.keyframe_wanted) = (2, false);
        }
        world.command(Command::AddTrack(world.add_video(publisher, &camera)));
        let video = world.subscribe(subscriber, 1, wanted);
        Self {
            world,
            camera,
            video,
        }
    }

    fn frame(&mut self, layer: usize, keyframe: bool) -> Vec<Plain> {
        self.world.run(20 * MS);
        let (start, now) = (self.world.start, self.world.now);
        self.camera.layers[layer].keyframe_wanted = keyframe;
        self.camera.layers[layer].encode(1, layer as u8, start, now)
    }

    fn hand(&mut self, packets: &[Plain]) {
        for plain in packets {
            let now = self.world.now;
            let (address, sealed) = (
                self.world.peers[0].address,
                self.world.peers[0].seal("1", plain, now),
            );
            self.world.datagram(address, &sealed);
        }
        self.world.run(5 * MS);
    }

    /// What arrived, as (layer, frame, index) in order of the numbers.
    fn arrived(&self) -> Vec<(u8, u32, u8)> {
        let packets = self.world.received(self.video);
        packets
            .iter()
            .map(|(_, packet)| read(&packet.payload).1)
            .map(|of| (of.layer, of.frame, of.index))
            .collect()
    }

    fn nack(&mut self, missing: &[u16]) -> usize {
        let resends = self.world.counters.resends.get();
        let missing: Vec<Seq> = missing.iter().map(|seq| Seq(*seq)).collect();
        let peer = &mut self.world.peers[self.video.peer];
        let sealed = peer.seal_rtcp(|writer| writer.nack(1, self.video.ssrc, &missing).unwrap());
        let address = peer.address;
        self.world.datagram(address, &sealed);
        (self.world.counters.resends.get() - resends) as usize
    }
}

#[test]
fn a_keyframe_whose_first_packet_is_three_packets_late_is_taken_and_four_late_is_not() {
    for (late, taken) in [(0, true), (1, true), (3, true), (4, false)] {
        let mut stage = Stage::new(late, None);
        for layer in [2, 1, 0] {
            let keyframe = stage.frame(layer, true);
            stage.hand(&keyframe);
        }
        let before = stage.arrived();
        assert_eq!(
            before,
            [
                (2, 1, 0),
                (2, 1, 1),
                (2, 1, 2),
                (2, 1, 3),
                (2, 1, 4),
                (2, 1, 5)
            ]
        );
        stage.world.want(stage.video, FULL);
        let mut keyframe = stage.frame(0, true);
        let first = keyframe.remove(0);
        keyframe.insert(late as usize, first);
        stage.hand(&keyframe);
        let after: Vec<_> = stage.arrived().split_off(before.len());
        let all: Vec<_> = (0..6).map(|index| (0, 2, index)).collect();
        assert_eq!(
            after,
            if taken { all } else { Vec::new() },
            "{late} packets late"
        );
    }
}

#[test]
fn a_first_start_takes_a_keyframe_however_late_its_first_packet_is() {
    let mut stage = Stage::new(1, None);
    let mut keyframe = stage.frame(2, true);
    keyframe.rotate_left(1);
    stage.hand(&keyframe);
    assert_eq!(
        stage.arrived(),
        (0..6).map(|index| (2, 1, index)).collect::<Vec<_>>()
    );
}

#[test]
fn the_old_layer_flows_until_the_new_keyframe_and_late_packets_find_their_place() {
    let mut stage = Stage::new(2, None);
    for layer in [2, 0] {
        let keyframe = stage.frame(layer, true);
        stage.hand(&keyframe);
    }
    stage.world.want(stage.video, FULL);
    let inter = stage.frame(0, false);
    stage.hand(&inter);
    let old = stage.frame(2, false);
    stage.hand(&old[1..]);
    let keyframe = stage.frame(0, true);
    stage.hand(&keyframe[..1]);
    // Late: the first half of the old layer's last frame still has its number; its next frame has none.
    stage.hand(&old[..1]);
    let over = stage.frame(2, false);
    stage.hand(&over);
    stage.hand(&keyframe[1..]);
    let tail: Vec<_> = stage.arrived().split_off(6);
    let new = (0..6).map(|index| (0, 3, index));
    assert_eq!(
        tail,
        [(2, 2, 0), (2, 2, 1)]
            .into_iter()
            .chain(new)
            .collect::<Vec<_>>()
    );
    let seqs: Vec<u64> = stage
        .world
        .received(stage.video)
        .iter()
        .map(|(seq, _)| *seq)
        .collect();
    assert!(seqs.windows(2).all(|pair| pair[1] == pair[0] + 1));
}

#[test]
fn what_is_reported_missing_is_sent_again_once_and_unchanged() {
    let mut stage = Stage::new(3, None);
    let keyframe = stage.frame(2, true);
    // Duplicated and reordered on the way up: still one packet each on the way down.
    let mixed = [0, 2, 1, 1, 3, 5, 4, 0].map(|at| keyframe[at].clone());
    for plain in mixed {
        let now = stage.world.now;
        let address = stage.world.peers[0].address;
        let sealed = stage.world.peers[0].seal("1", &plain, now);
        stage.world.datagram(address, &sealed);
    }
    stage.world.run(50 * MS);
    assert_eq!(stage.arrived().len(), 6);
    let seqs: Vec<u16> = stage
        .world
        .received(stage.video)
        .iter()
        .map(|(_, packet)| packet.seq)
        .collect();
    // A subscriber that has sent no feedback by now has no limit, so that four leave at once.
    stage.world.run(1200 * MS);
    let transmits = stage.world.transmits.len();
    // The subscriber compares resends with what it has; one that differs in a bit ends the test there.
    assert_eq!(stage.nack(&seqs[1..5]), 4);
    let lens: Vec<usize> = stage.world.transmits[transmits..]
        .iter()
        .flat_map(|(_, _, lens)| lens.clone())
        .collect();
    assert_eq!(lens.len(), 4);
    stage.world.run(5 * MS);
    assert_eq!(stage.nack(&seqs[1..5]), 0, "not again so soon");
    stage.world.run(100 * MS);
    assert_eq!(stage.nack(&seqs[1..5]), 4);
    assert_eq!(
        stage.nack(&[
            seqs[5].wrapping_add(1),
            seqs[0].wrapping_sub(1),
            seqs[0] ^ 0x4000
        ]),
        0,
        "never sent"
    );
}

#[test]
fn what_is_older_than_the_history_or_than_the_last_keyframe_is_not_sent_again() {
    let mut stage = Stage::new(4, None);
    let keyframe = stage.frame(2, true);
    stage.hand(&keyframe);
    let first = stage.world.received(stage.video)[0].1.seq;
    for _ in 0..600 {
        let frame = stage.frame(2, false);
        stage.hand(&frame);
    }
    assert_eq!(
        stage.nack(&[first, first.wrapping_add(5)]),
        0,
        "1200 packets ago"
    );
    assert_eq!(stage.nack(&[first.wrapping_add(1200)]), 1);
    let keyframe = stage.frame(2, true);
    stage.hand(&keyframe);
    stage.world.run(200 * MS);
    assert_eq!(
        stage.nack(&[first.wrapping_add(1201)]),
        0,
        "before the keyframe"
    );
    assert_eq!(
        stage.nack(&[first.wrapping_add(1206)]),
        1,
        "the keyframe itself"
    );
}

#[test]
fn after_a_source_starts_anew_none_of_its_old_packets_are_sent_again() {
    let mut stage = Stage::new(5, None);
    let keyframe = stage.frame(2, true);
    stage.hand(&keyframe);
    let old = stage.world.received(stage.video)[3].1.seq;
    stage.camera.layers[2].ssrc ^= 77;
    let keyframe = stage.frame(2, true);
    stage.hand(&keyframe);
    stage.world.run(200 * MS);
    assert_eq!(stage.nack(&[old]), 0);
    assert_eq!(stage.nack(&[old.wrapping_add(6)]), 1);
}

#[test]
fn names_are_remembered_when_the_track_comes_later_or_comes_back() {
    let mut stage = Stage::new(6, None);
    let keyframe = stage.frame(2, true);
    stage.hand(&keyframe);
    stage
        .world
        .command(Command::RemoveTrack { track: TrackId(1) });
    // From now on the browser says neither mid nor rid.
    stage.world.peers[0].names = false;
    let frame = stage.frame(2, false);
    stage.hand(&frame);
    assert_eq!(stage.world.counters.dropped(DropReason::UnknownSsrc), 2);
    stage
        .world
        .command(Command::AddTrack(stage.world.add_video(0, &stage.camera)));
    let again = stage.world.subscribe(1, 1, None);
    let keyframe = stage.frame(2, true);
    stage.hand(&keyframe);
    assert_eq!(stage.world.received(again).len(), 6);
}

#[test]
fn audio_starts_with_any_packet_and_keeps_its_holes() {
    let mut world = World::new(7);
    let (publisher, subscriber) = (world.join(), world.join());
    world.publish_audio(publisher, AudioSource::new(2, "0", &mut Rng::new(7)));
    world.run(SECOND);
    let audio = world.subscribe(subscriber, 2, None);
    world.run(100 * MS);
    world.up.loss_per_mille = 1000;
    world.run(100 * MS);
    world.up.loss_per_mille = 0;
    world.run(100 * MS);
    assert_eq!(support::oracle::check_audio(&world, audio), (10, 5));
    let received = in_order(world.peers[subscriber].received.iter());
    assert_eq!(received.len(), 10);
}
