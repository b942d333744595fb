//! Layers within one encoding (AV1 by the dependency descriptor, VP9 by its own), and frames that are encrypted end to end.

mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use support::oracle::{check_video, check_world};
use support::{MS, Received, Rng, SECOND, Subscribed, VideoSource, World};
use weir_shard::{
    AddTrack, Codec, CodecMapping, Command, ConferenceId, ExtensionIds, MediaKind, Purpose, Size,
    Subscribe, SubscriptionId, TrackId,
};
use weir_wire::extension::Element;
use weir_wire::{ExtSeq, RtpTime, rtp};

const FULL: Option<Size> = Some(Size::new(640, 360));
const HALF: Option<Size> = Some(Size::new(320, 180));
const FRAME: Duration = Duration::from_micros(33_333);
const SSRC: u32 = 0x0abc_0001;
/// Ids of the dependency descriptor at the publisher and at the subscriber.
const IDS: (u8, u8) = (13, 8);

/// Behind the frame number: a structure of two spatial layers (320×180 and 640×360) with two temporal layers each. Templates from
/// 62 on: S0T0 key, S0T0, S0T1, S1T0 key, S1T0, S1T1.
const STRUCTURE: &str = "87c3187aaaf130a0f014d14138230460022446688ab013f00b3027f01670";

/// A camera with spatial and temporal layers in one stream, two packets a frame.
struct Camera {
    codec: Codec,
    ssrc: u32,
    seq: u64,
    picture: u16,
    frame: u16,
    tl0: u8,
    since_keyframe: u16,
    plis_answered: usize,
}

/// What a payload says at its end, where nobody but the test looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mark {
    picture: u16,
    frame: u16,
    spatial: u8,
    temporal: u8,
    keyframe: bool,
    last: bool,
}

impl Mark {
    fn bytes(self) -> [u8; 8] {
        let ([a, b], [c, d]) = (self.picture.to_be_bytes(), self.frame.to_be_bytes());
        let flags = [u8::from(self.keyframe), u8::from(self.last)];
        [a, b, c, d, self.spatial, self.temporal, flags[0], flags[1]]
    }

    fn of(packet: &Received) -> Self {
        let at = packet.payload.len() - 8;
        let [a, b, c, d, spatial, temporal, keyframe, last] =
            packet.payload[at..].try_into().unwrap();
        Self {
            picture: u16::from_be_bytes([a, b]),
            frame: u16::from_be_bytes([c, d]),
            spatial,
            temporal,
            keyframe: keyframe == 1,
            last: last == 1,
        }
    }
}

impl Camera {
    fn new(codec: Codec) -> Self {
        Self {
            codec,
            ssrc: SSRC,
            seq: 900,
            picture: 32_760,
            frame: 65_530,
            tl0: 250,
            since_keyframe: u16::MAX,
            plis_answered: 0,
        }
    }

    /// Films for a while; after the first, keyframes come only when they are asked for.
    fn film(&mut self, world: &mut World, pictures: usize) {
        for _ in 0..pictures {
            let asked = world.peers[0].told.plis.len();
            self.since_keyframe = self.since_keyframe.wrapping_add(1);
            if asked > self.plis_answered {
                (self.plis_answered, self.since_keyframe) = (asked, 0);
            }
            self.send_picture(world);
            world.run(FRAME);
        }
    }

    fn send_picture(&mut self, world: &mut World) {
        let keyframe = self.since_keyframe == 0;
        let temporal = (self.since_keyframe % 2) as u8;
        self.picture = self.picture.wrapping_add(1) & 0x7fff;
        self.tl0 = self.tl0.wrapping_add(u8::from(temporal == 0));
        for spatial in [0, 1] {
            self.frame = self.frame.wrapping_add(1);
            for last in [false, true] {
                self.seq += 1;
                let mark = Mark {
                    picture: self.picture,
                    frame: self.frame,
                    spatial,
                    temporal,
                    keyframe,
                    last,
                };
                self.send(world, mark);
            }
        }
    }

    fn send(&self, world: &mut World, mark: Mark) {
        let descriptor = self.dependency(mark);
        let mut payload = match self.codec {
            Codec::Vp9 => self.vp9(mark),
            // Encrypted from the first byte on.
            _ => vec![mark.frame as u8 ^ 0x5a; 3],
        };
        payload.resize(400, 0xc5);
        payload.extend(mark.bytes());
        let mut elements = vec![Element { id: 4, data: b"v" }];
        if self.codec == Codec::Av1 {
            elements.push(Element {
                id: IDS.0,
                data: &descriptor,
            });
        }
        let since = (world.now - world.start).as_micros() as u64;
        let header = rtp::Outgoing {
            marker: mark.last && mark.spatial == 1,
            payload_type: 45,
            sequence_number: ExtSeq(self.seq).seq(),
            timestamp: RtpTime((since * 9 / 100) as u32),
            ssrc: self.ssrc,
            has_padding: false,
        };
        let (mut head, mut out) = ([0; 300], vec![0; 1600]);
        let len = header.emit(&elements, &mut head).unwrap();
        let sender = &mut world.peers[0].sender;
        let len = sender
            .protect_rtp(&head[..len], &payload, ExtSeq(self.seq), &mut out)
            .unwrap();
        out.truncate(len);
        world.send_sealed(0, out);
    }

    fn dependency(&self, mark: Mark) -> Vec<u8> {
        let template = match (mark.spatial, mark.temporal, mark.keyframe) {
            (0, _, true) => 62,
            (0, 0, _) => 63,
            (0, ..) => 0,
            (_, _, true) => 1,
            (_, 0, _) => 2,
            _ => 3,
        };
        let flags = if mark.last { 0x40 } else { 0x80 };
        let mut bytes = vec![flags | template];
        bytes.extend(mark.frame.to_be_bytes());
        if mark.keyframe && mark.spatial == 0 && !mark.last {
            let byte = |at: usize| u8::from_str_radix(&STRUCTURE[at..at + 2], 16).unwrap();
            bytes.extend((0..STRUCTURE.len()).step_by(2).map(byte));
        }
        bytes
    }

    fn vp9(&self, mark: Mark) -> Vec<u8> {
        let structure = mark.keyframe && mark.spatial == 0 && !mark.last;
        let first = 0xa0
            | u8::from(!mark.keyframe) << 6
            | u8::from(!mark.last) << 3
            | u8::from(mark.last) << 2
            | u8::from(structure) << 1;
        let mut payload = vec![first];
        payload.extend((mark.picture | 0x8000).to_be_bytes());
        // Every base layer picture is a switching point.
        let up = u8::from(mark.temporal == 0);
        payload.push(mark.temporal << 5 | up << 4 | mark.spatial << 1 | u8::from(mark.spatial > 0));
        payload.push(self.tl0);
        if structure {
            payload.push(0x30);
            for side in [320u16, 180, 640, 360] {
                payload.extend(side.to_be_bytes());
            }
        }
        payload
    }
}

/// Somebody who publishes with layers, and somebody who watches at `wanted`.
fn call(codec: Codec, wanted: Option<Size>) -> (World, Camera, Subscribed) {
    let mut world = World::new(5);
    let (publisher, subscriber) = (world.join(), world.join());
    let mapping = |payload_type| CodecMapping {
        payload_type,
        codec,
        clock_rate: 90_000,
        rtx_payload_type: None,
    };
    let extensions = |ids: ExtensionIds, id| ExtensionIds {
        dependency_descriptor: Some(id),
        ..ids
    };
    world.command(Command::AddTrack(AddTrack {
        track: TrackId(7),
        transport: world.peers[publisher].id,
        conference: ConferenceId(1),
        purpose: Purpose::UserMedia,
        mid: "v".into(),
        kind: MediaKind::Video,
        codecs: vec![mapping(45)],
        extensions: extensions(World::publisher_extensions(), IDS.0),
        rids: Vec::new(),
        ssrcs: Vec::new(),
        size: FULL,
    }));
    let mut camera = Camera::new(codec);
    camera.film(&mut world, 10);
    let video = Subscribed {
        id: SubscriptionId(70),
        peer: subscriber,
        track: 7,
        ssrc: 0xf000_0070,
        mid: "s7",
    };
    world.command(Command::Subscribe(Subscribe {
        id: video.id,
        transport: world.peers[subscriber].id,
        track: TrackId(7),
        mid: video.mid.into(),
        ssrc: video.ssrc,
        rtx_ssrc: None,
        cname: "c".into(),
        codecs: vec![mapping(101)],
        extensions: extensions(World::subscriber_extensions(), IDS.1),
        wanted,
    }));
    (world, camera, video)
}

/// The pictures that arrived in order, as (picture, spatial layers); holds what must hold for each.
fn pictures(world: &World, of: Subscribed) -> Vec<(u16, u8)> {
    let packets = world.received(of);
    let mut pictures: Vec<(u16, u8)> = Vec::new();
    for pair in packets.windows(2) {
        assert_eq!(pair[0].0 + 1, pair[1].0, "numbers close up");
    }
    for (at, (_, packet)) in packets.iter().enumerate() {
        let mark = Mark::of(packet);
        let next = packets.get(at + 1).map(|(_, packet)| Mark::of(packet));
        if let Some(next) = next {
            let ends = next.picture != mark.picture;
            assert_eq!(
                packet.marker, ends,
                "the marker is where the picture ends: {mark:?}"
            );
        }
        match pictures.last_mut() {
            Some((picture, spatial)) if *picture == mark.picture => *spatial = mark.spatial + 1,
            _ => pictures.push((mark.picture, mark.spatial + 1)),
        }
    }
    let first = Mark::of(packets[0].1);
    assert!(first.keyframe && first.spatial == 0 && !first.last);
    pictures
}

/// Runs of pictures with the same number of spatial layers.
fn runs(pictures: &[(u16, u8)]) -> Vec<(u8, usize)> {
    let mut runs: Vec<(u8, usize)> = Vec::new();
    for (_, spatial) in pictures {
        match runs.last_mut() {
            Some((of, count)) if of == spatial => *count += 1,
            _ => runs.push((*spatial, 1)),
        }
    }
    runs
}

fn spatial_layers_follow_the_tile(codec: Codec) -> (World, Subscribed) {
    let (mut world, mut camera, video) = call(codec, FULL);
    camera.film(&mut world, 40);
    world.want(video, HALF);
    camera.film(&mut world, 30);
    let asked = world.peers[0].told.plis.len();
    world.want(video, FULL);
    camera.film(&mut world, 30);
    assert_eq!(
        world.peers[0].told.plis.len(),
        asked + 1,
        "nothing but a keyframe opens the layer again"
    );
    let pictures = pictures(&world, video);
    let runs = runs(&pictures);
    assert_eq!(
        runs.iter().map(|(of, _)| *of).collect::<Vec<_>>(),
        [2, 1, 2],
        "{runs:?}"
    );
    assert!(
        runs[0].1 >= 36 && (30..=32).contains(&runs[1].1),
        "{runs:?}"
    );
    for pair in pictures.windows(2) {
        assert_eq!(
            pair[1].0,
            (pair[0].0 + 1) & 0x7fff,
            "no picture is left out"
        );
    }
    check_world(&world);
    (world, video)
}

#[test]
fn av1_layers_are_left_out_by_the_dependency_descriptor_alone() {
    let (world, video) = spatial_layers_follow_the_tile(Codec::Av1);
    for (_, packet) in world.received(video) {
        let mark = Mark::of(packet);
        let (_, descriptor) = packet
            .extensions
            .iter()
            .find(|(id, _)| *id == IDS.1)
            .expect("the descriptor goes out under the subscriber's id");
        assert_eq!(descriptor[1..3], mark.frame.to_be_bytes());
        let structure = mark.keyframe && mark.spatial == 0 && !mark.last;
        assert_eq!(descriptor.len(), if structure { 33 } else { 3 });
    }
}

#[test]
fn vp9_layers_are_left_out_by_the_payload_descriptor() {
    let (world, video) = spatial_layers_follow_the_tile(Codec::Vp9);
    let mut tl0 = BTreeMap::new();
    for (_, packet) in world.received(video) {
        let mark = Mark::of(packet);
        let id = u16::from_be_bytes([packet.payload[1] & 0x7f, packet.payload[2]]);
        assert_eq!(id, mark.picture);
        let before = tl0.insert(id, packet.payload[4]);
        assert!(before.is_none_or(|before| before == packet.payload[4]));
    }
}

#[test]
fn a_new_source_continues_frame_numbers_and_picture_ids() {
    for codec in [Codec::Av1, Codec::Vp9] {
        let (mut world, mut camera, video) = call(codec, FULL);
        camera.film(&mut world, 20);
        (camera.ssrc, camera.seq) = (SSRC + 1, 40_000);
        (camera.frame, camera.picture, camera.tl0) = (100, 77, 3);
        camera.film(&mut world, 50);
        let packets = world.received(video);
        let numbers = |packet: &Received| match codec {
            Codec::Av1 => {
                let mut found = packet.extensions.iter().filter(|(id, _)| *id == IDS.1);
                let data = &found.next().unwrap().1;
                u16::from_be_bytes([data[1], data[2]])
            }
            _ => u16::from_be_bytes([packet.payload[1], packet.payload[2]]),
        };
        let at = packets
            .iter()
            .position(|(_, packet)| (78..1000).contains(&Mark::of(packet).picture));
        let at = at.expect("the new source is forwarded");
        assert!(Mark::of(packets[at].1).keyframe);
        for pair in packets.windows(2) {
            assert_eq!(
                pair[0].0 + 1,
                pair[1].0,
                "{codec:?}: numbers are continuous"
            );
            let step = numbers(pair[1].1).wrapping_sub(numbers(pair[0].1)) & 0x7fff;
            assert!(step <= 1, "{codec:?}: a step of {step}");
        }
        assert_eq!(
            numbers(packets[at].1).wrapping_sub(numbers(packets[at - 1].1)) & 0x7fff,
            1
        );
        assert!(packets.len() - at > 100);
    }
}

#[test]
fn encrypted_frames_start_and_switch_as_clear_ones_do() {
    for temporal in [1, 3] {
        let mut rng = Rng::new(11);
        let mut world = World::new(11);
        let (publisher, subscriber) = (world.join(), world.join());
        let mut camera = VideoSource::simulcast(1, "1", &mut rng);
        for layer in &mut camera.layers {
            (layer.encrypted, layer.temporal) = (true, temporal);
        }
        world.publish_video(publisher, camera);
        world.run(SECOND);
        let sizes = [(1280, 720), (640, 360), (320, 180), (1280, 720)];
        let sizes = sizes.map(|(width, height)| Some(Size::new(width, height)));
        let video = world.subscribe(subscriber, 1, sizes[0]);
        for wanted in sizes {
            world.want(video, wanted);
            world.run(SECOND);
        }
        let seen = check_video(&world, video);
        let layers: Vec<u8> = seen.layers.iter().map(|(layer, _)| *layer).collect();
        assert_eq!(layers, [0, 1, 2, 0], "sizes come from signalling");
        assert!(seen.longest_gap < 100 * MS, "{seen:?}");
        assert_eq!(
            world.counters.starts.get() + world.counters.switches.get(),
            4
        );
        check_world(&world);
    }
}
