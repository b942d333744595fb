//! Media over a trunk: a publisher at one focus, subscribers at another. Each hop mends its own losses, and the trunk carries each
//! track once.

mod support;

use std::time::Duration;

use support::oracle::{check_audio, check_video, check_world};
use support::trunk::{Foci, TRUNK, turns};
use support::viewing::heard;
use support::{AudioSource, Link, MS, Rng, SECOND, Subscribed, VideoSource, World};
use weir_shard::{Command, Counters, Direction, DropReason, Event, Flow, MediaKind, Size, Traffic};
use weir_wire::{Kind, rtp};

const FULL: Option<Size> = Some(Size::new(1280, 720));
const HALF: Option<Size> = Some(Size::new(640, 360));

const CAMERA: u8 = 1;
const MICROPHONE: u8 = 2;

/// A publisher here, viewers there, and a trunk that carries its camera and its microphone.
struct Relayed {
    foci: Foci,
    publisher: usize,
    video: Vec<Subscribed>,
    audio: Vec<Subscribed>,
    video_ssrc: u32,
}

/// What the encoder of the publisher is like.
#[derive(Clone, Copy)]
enum Payload {
    Plain,
    Encrypted,
}

fn relayed(seed: u64, trunk: Link, viewers: usize, payload: Payload) -> Relayed {
    let mut foci = Foci::connected(seed, trunk);
    foci.run(3 * SECOND);
    assert_eq!(turns(&foci.near).len(), 1, "seed {seed}: connected");
    let mut rng = Rng::new(seed);
    let publisher = foci.near.join();
    let mut camera = VideoSource::simulcast(CAMERA, "1", &mut rng);
    camera.rtx = true;
    for layer in &mut camera.layers {
        layer.encrypted = matches!(payload, Payload::Encrypted);
        layer.temporal = 2;
    }
    foci.near.publish_video(publisher, camera);
    let microphone = AudioSource::new(MICROPHONE, "0", &mut rng);
    foci.near.publish_audio(publisher, microphone);
    let video_ssrc = foci.carry_over(CAMERA, MediaKind::Video, HALF);
    foci.carry_over(MICROPHONE, MediaKind::Audio, None);
    let (mut video, mut audio) = (Vec::new(), Vec::new());
    for _ in 0..viewers {
        let viewer = foci.far.join();
        foci.far.browse(viewer);
        video.push(foci.far.subscribe(viewer, CAMERA, FULL));
        let of = foci.far.subscribe(viewer, MICROPHONE, None);
        hear(&mut foci.far, of);
        audio.push(of);
    }
    foci.far.worst_jitter = trunk.spread() + 100 * MS;
    Relayed {
        foci,
        publisher,
        video,
        audio,
        video_ssrc,
    }
}

/// The far world has no microphone of its own that it could tell the track by.
fn hear(world: &mut World, of: Subscribed) {
    let browser = world.peers[of.peer].browser.as_mut().expect("it browses");
    browser.pictures.remove(&of.ssrc);
    browser.sounds.insert(of.ssrc, Default::default());
}

impl Relayed {
    /// Media packets on the trunk under this SSRC.
    fn carried(&self, ssrc: u32, from: Duration) -> Vec<u16> {
        let sent = self.foci.sent.iter();
        let packets = sent.filter(|(at, _, bytes)| *at >= from && Kind::of(bytes) == Kind::Rtp);
        let headers = packets.filter_map(|(_, _, bytes)| rtp::Header::parse(bytes).ok());
        headers
            .filter(|header| header.ssrc == ssrc)
            .map(|header| header.sequence_number.0)
            .collect()
    }

    fn check(&self) {
        check_world(&self.foci.near);
        check_world(&self.foci.far);
        for of in &self.video {
            check_video(&self.foci.far, *of);
            let broken = &self.foci.far.pictures(*of).broken;
            assert!(
                broken.is_empty(),
                "decoded without its references: {broken:?}"
            );
        }
        for of in &self.audio {
            check_audio(&self.foci.far, *of);
        }
    }
}

#[test]
fn a_picture_and_a_voice_arrive_over_a_trunk_that_carries_them_once() {
    for seed in 0..5 {
        let payload = [Payload::Plain, Payload::Encrypted][seed as usize % 2];
        let mut of = relayed(seed, Link::FAR, 4, payload);
        of.foci.run(15 * SECOND);
        of.check();
        let far = &of.foci.far;
        let (from, to) = (far.now - 10 * SECOND, far.now);
        for (video, audio) in of.video.iter().zip(&of.audio) {
            let watched = far.pictures(*video).watched(from, to);
            assert!(watched.shown >= 195, "20 a second: {watched:?}");
            assert_eq!(watched.shown, watched.captured, "none is left out");
            assert_eq!(watched.freezes, 0);
            let heard = heard(far, *audio, from, to);
            assert!(heard.came + 2 >= heard.expected, "{heard:?}");
        }
        let mut carried = of.carried(of.video_ssrc, Duration::ZERO);
        let packets = carried.len();
        carried.sort_unstable();
        carried.dedup();
        assert_eq!(carried.len(), packets, "no number twice");
        // 20 frames of 2 packets a second.
        assert!((550..750).contains(&packets), "seed {seed}: {packets}");
        let speaks = |event: &Event| matches!(event, Event::Speakers { speakers, .. } if speakers.iter().any(|of| of.track.0 == u32::from(MICROPHONE)));
        assert!(
            far.events.iter().any(speaks),
            "who speaks is known there, too"
        );
        let asked = of.foci.near.peers[of.publisher].told.plis.len();
        assert!(asked <= 3, "{asked} keyframes for four viewers");
    }
}

/// How many of these datagrams are no connectivity checks, and their bytes.
fn counted<'a>(datagrams: impl Iterator<Item = &'a Vec<u8>>) -> (u64, u64) {
    datagrams
        .filter(|bytes| Kind::of(bytes) != Kind::Stun)
        .fold((0, 0), |(count, sum), bytes| {
            (count + 1, sum + bytes.len() as u64)
        })
}

#[test]
fn what_a_trunk_carries_is_counted_at_both_ends_and_nothing_else() {
    let mut of = relayed(6, Link::FAR, 2, Payload::Plain);
    of.foci.run(5 * SECOND);
    let (near, far) = (&of.foci.near.counters, &of.foci.far.counters);
    let sent = |counters: &Counters| {
        (
            counters.trunk_datagrams_sent.get(),
            counters.trunk_bytes_sent.get(),
        )
    };
    let there = of.foci.sent.iter().map(|(_, _, bytes)| bytes);
    assert_eq!(sent(near), counted(there));
    let back = of.foci.returned.iter().map(|(_, bytes)| bytes);
    assert_eq!(sent(far), counted(back));
    // A few are on their way.
    for (sent, received) in [
        (
            near.trunk_datagrams_sent.get(),
            far.trunk_datagrams_received.get(),
        ),
        (
            far.trunk_datagrams_sent.get(),
            near.trunk_datagrams_received.get(),
        ),
    ] {
        assert!(
            (sent - 20..=sent).contains(&received),
            "{received} of {sent}"
        );
    }
    assert!(far.trunk_bytes_received.get() <= near.trunk_bytes_sent.get());
    assert!(
        far.bytes_sent.get() > 2 * far.trunk_bytes_sent.get(),
        "two viewers get more than goes back"
    );
}

#[test]
fn losses_on_the_trunk_are_mended_by_its_two_ends_alone() {
    for seed in 10..20 {
        let mut of = relayed(seed, Link::FAR.losing(50), 2, Payload::Plain);
        of.foci.run(20 * SECOND);
        of.check();
        let far = &of.foci.far;
        let (from, to) = (far.now - 15 * SECOND, far.now);
        for video in &of.video {
            let watched = far.pictures(*video).watched(from, to);
            assert!(
                watched.shown * 100 >= watched.captured * 98,
                "seed {seed}: {watched:?}"
            );
            assert!(watched.freezes <= 2, "seed {seed}: {watched:?}");
        }
        assert!(
            far.counters.nacks_sent.get() > 10,
            "asked for by the far end"
        );
        assert!(
            far.counters.rtx_unwrapped.get() > 10,
            "on a stream of their own"
        );
        assert!(of.foci.near.counters.resends.get() > 10);
        let told = &of.foci.near.peers[of.publisher].told;
        assert!(told.nacks.is_empty(), "the publisher hears of none of it");
    }
}

#[test]
fn the_far_end_says_what_arrives_and_the_near_end_learns_what_fits() {
    let mut of = relayed(30, Link::FAR.through(5000), 1, Payload::Plain);
    of.foci.run(20 * SECOND);
    let mut latest = of.foci.near.events.iter().rev();
    let last = latest.find_map(|event| match event {
        Event::TransportStatus { id: TRUNK, status } => status.estimate_bps,
        _ => None,
    });
    let last = last.expect("feedback comes");
    assert!((700_000..6_000_000).contains(&last), "{last}");
}

/// What a shard says has gone over the trunk.
fn measure(world: &mut World) -> Traffic {
    world.command(Command::MeasureTransport { id: TRUNK });
    let mut latest = world.events.iter().rev();
    let measured = latest.find_map(|event| match event {
        Event::TransportMeasured { id: TRUNK, traffic } => Some(*traffic),
        _ => None,
    });
    measured.expect("an answer")
}

#[test]
fn both_ends_know_what_has_gone_over_the_trunk() {
    let mut of = relayed(32, Link::FAR, 2, Payload::Plain);
    let before = measure(&mut of.foci.near);
    assert_eq!(before.sent, Flow::default());
    of.foci.run(10 * SECOND);
    let (near, far) = (measure(&mut of.foci.near), measure(&mut of.foci.far));
    assert_eq!(near.at - before.at, 10 * SECOND);
    // 20 frames of 2 packets and 50 packets of sound a second; what is on its way has been sent and has not arrived.
    assert!((800..1100).contains(&near.sent.packets), "{near:?}");
    assert!(near.sent.bytes > 100 * near.sent.packets, "{near:?}");
    let on_the_way = near.sent.packets - far.received.packets;
    assert!(on_the_way < 20, "{on_the_way}");
    assert_eq!((near.sent.lost, far.received.lost), (Some(0), Some(0)));
    assert_eq!((near.received.packets, far.sent.packets), (0, 0));
    assert_eq!((near.received.lost, far.sent.lost), (None, None));
    let round_trip = near.round_trip.expect("the far end reports");
    assert!((50 * MS..80 * MS).contains(&round_trip), "{round_trip:?}");
}

#[test]
fn losses_on_a_trunk_are_known_at_both_ends() {
    let mut of = relayed(33, Link::FAR.losing(100), 2, Payload::Plain);
    let (mut near, mut far) = (0, 0);
    for _ in 0..10 {
        of.foci.run(2 * SECOND);
        near = near.max(measure(&mut of.foci.near).sent.lost.unwrap_or(0));
        far = far.max(measure(&mut of.foci.far).received.lost.unwrap_or(0));
    }
    // In 256ths, of the worst stream in some second.
    assert!(
        (10..200).contains(&near) && (10..200).contains(&far),
        "{near}, {far}"
    );
}

#[test]
fn a_keyframe_request_travels_hop_by_hop_and_a_late_viewer_starts_soon() {
    let mut of = relayed(40, Link::FAR, 1, Payload::Plain);
    of.foci.run(5 * SECOND);
    let before = of.foci.near.peers[of.publisher].told.plis.len();
    let late = of.foci.far.join();
    of.foci.far.browse(late);
    let joined = of.foci.far.now;
    let video = of.foci.far.subscribe(late, CAMERA, FULL);
    of.foci.run(2 * SECOND);
    let shown = &of.foci.far.pictures(video).shown;
    let first = shown.first().expect("a picture");
    assert!(first.identity.keyframe);
    assert!(first.at - joined < 400 * MS, "{:?}", first.at - joined);
    let asked = of.foci.near.peers[of.publisher].told.plis.len() - before;
    assert_eq!(asked, 1);
    of.check();
}

/// A camera of so little that many of them fit through any way.
fn small_camera(track: u8, mid: &'static str, rng: &mut Rng) -> VideoSource {
    let mut camera = VideoSource::single(track, mid, rng);
    for layer in &mut camera.layers {
        (layer.packets, layer.payload_bytes, layer.fps) = (1, 200, 15);
    }
    camera
}

#[test]
fn a_trunk_carries_more_streams_than_a_participant_may_send() {
    const MIDS: [&str; 12] = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "a", "b"];
    let mut foci = Foci::connected(50, Link::FAR.losing(30));
    foci.run(3 * SECOND);
    let mut rng = Rng::new(50);
    let mut tracks = Vec::new();
    for publisher in 0..4_u8 {
        let peer = foci.near.join();
        for (number, mid) in MIDS.into_iter().enumerate() {
            let track = publisher * 12 + number as u8 + 1;
            foci.near
                .publish_video(peer, small_camera(track, mid, &mut rng));
            foci.carry_over(track, MediaKind::Video, HALF);
            tracks.push(track);
        }
    }
    let viewer = foci.far.join();
    foci.far.browse(viewer);
    let viewed: Vec<_> = tracks
        .iter()
        .map(|track| foci.far.subscribe(viewer, *track, HALF))
        .collect();
    foci.run(20 * SECOND);
    let counters = &foci.far.counters;
    assert_eq!(counters.dropped(DropReason::TooManySsrcs), 0);
    let far = &foci.far;
    for of in &viewed {
        let watched = far.pictures(*of).watched(far.now - 5 * SECOND, far.now);
        assert!(watched.shown >= 70, "15 a second of {of:?}: {watched:?}");
    }
    // All of them are reported on, not only the first 31.
    let blocks = foci.near.counters.loss[Direction::Down as usize]
        .view()
        .count();
    assert!(blocks >= 48 * 15, "{blocks} in 20 s");
}
