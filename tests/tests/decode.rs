//! A thousand layer changes over a network that loses and reorders, with real VP8 pictures, and a real decoder behind them.
//!
//! What a subscriber received must be pictures of the clips, whole and in an order that a decoder can follow: no gap in the
//! picture ids, after each picture the next of the same chain or a keyframe, and no complaint of libvpx.
//!
//! Needs `ffmpeg` with libvpx; the world around the shard is that of the shard's own tests.

#[path = "../../dataplane/shard/tests/support/mod.rs"]
mod support;

use std::collections::{BTreeMap, HashMap};
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use support::media::Plain;
use support::{Link, MS, Received, Rng, SECOND, VideoLayer, VideoSource, World};
use weir_shard::Size;
use weir_wire::RtpTime;
use weir_wire::rtcp::SenderInfo;

const SWITCHES: u64 = 1000;
/// Frames of one loop of a clip; keyframes of the chain that answers requests are this far apart.
const LOOP: usize = 150;
const KEYFRAME_EVERY: usize = 10;
const PAYLOAD_BYTES: usize = 1100;
const SIZES: [Size; 3] = [
    Size::new(1280, 720),
    Size::new(640, 360),
    Size::new(320, 180),
];

/// The two chains of one layer (see `loadtest/client/clips/README.md`).
struct Clip {
    rare: Vec<Vec<u8>>,
    often: Vec<Vec<u8>>,
}

fn clips() -> [Clip; 3] {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../loadtest/client/clips");
    let read = |name: String| {
        let file = std::fs::read(folder.join(&name)).unwrap_or_else(|_| panic!("{name} is there"));
        let mut rest = &file[32..];
        let mut frames = Vec::new();
        while let Some((header, after)) = rest.split_at_checked(12) {
            let len = u32::from_le_bytes(header[..4].try_into().unwrap()) as usize;
            frames.push(after[..len].to_vec());
            rest = &after[len..];
        }
        assert_eq!(frames.len(), LOOP);
        frames
    };
    ["f", "h", "q"].map(|layer| Clip {
        rare: read(format!("video-{layer}-rare.ivf")),
        often: read(format!("video-{layer}-often.ivf")),
    })
}

/// A camera that films the clips.
struct Camera {
    clips: [Clip; 3],
    layers: Vec<Encoder>,
    nacks_answered: usize,
    plis_answered: usize,
}

struct Encoder {
    of: VideoLayer,
    number: usize,
    keyframe_wanted: bool,
    /// In the chain with many keyframes, up to the end of the loop.
    often: bool,
    sent: BTreeMap<u16, Plain>,
}

impl Camera {
    fn new(source: &VideoSource) -> Self {
        let encoder = |of: &VideoLayer| Encoder {
            of: of.clone(),
            number: 0,
            keyframe_wanted: false,
            often: false,
            sent: BTreeMap::new(),
        };
        Self {
            clips: clips(),
            layers: source.layers.iter().map(encoder).collect(),
            nacks_answered: 0,
            plis_answered: 0,
        }
    }

    /// Sends the next frame of every layer, and what is asked for again.
    fn film(&mut self, world: &mut World, peer: usize) {
        self.take_requests(world, peer);
        let timestamp = (world.now - world.start).as_micros() as u64 * 9 / 100;
        for (encoder, clip) in self.layers.iter_mut().zip(&self.clips) {
            for plain in encoder.encode(clip, timestamp as u32) {
                world.send(peer, "1", &plain);
            }
        }
    }

    fn take_requests(&mut self, world: &mut World, peer: usize) {
        let told = &world.peers[peer].told;
        for (_, ssrc) in &told.plis[self.plis_answered..] {
            let asked = self.layers.iter_mut().find(|of| of.of.ssrc == *ssrc);
            asked.expect("a layer of ours").keyframe_wanted = true;
        }
        let mut again = Vec::new();
        for (_, ssrc, seqs) in &told.nacks[self.nacks_answered..] {
            let asked = self.layers.iter().find(|of| of.of.ssrc == *ssrc);
            let sent = &asked.expect("a layer of ours").sent;
            again.extend(seqs.iter().filter_map(|seq| sent.get(seq).cloned()));
        }
        (self.plis_answered, self.nacks_answered) = (told.plis.len(), told.nacks.len());
        for plain in again {
            world.send(peer, "1", &plain);
        }
    }

    /// One sender report for each layer.
    fn report(&self, world: &mut World, peer: usize) {
        let since = world.now - world.start;
        for encoder in &self.layers {
            let info = SenderInfo {
                ntp: (since.as_micros() << 32).div_euclid(1_000_000) as u64,
                rtp_time: RtpTime(
                    encoder
                        .of
                        .time_offset
                        .wrapping_add((since.as_micros() as u64 * 9 / 100) as u32),
                ),
                packet_count: 1,
                octet_count: 1,
            };
            let bytes = world.peers[peer].seal_rtcp(|writer| {
                writer.sender_report(encoder.of.ssrc, &info, &[]).unwrap();
            });
            world.send_sealed(peer, bytes);
        }
    }
}

impl Encoder {
    /// The packets of the next frame.
    fn encode(&mut self, clip: &Clip, timestamp: u32) -> Vec<Plain> {
        self.often &= self.number != 0;
        if self.keyframe_wanted && self.number.is_multiple_of(KEYFRAME_EVERY) {
            (self.often, self.keyframe_wanted) = (self.number != 0, false);
        }
        let chain = if self.often { &clip.often } else { &clip.rare };
        let frame = &chain[self.number];
        self.number = (self.number + 1) % LOOP;
        let of = &mut self.of;
        of.picture_id = of.picture_id.wrapping_add(1) & 0x7fff;
        of.tl0 = of.tl0.wrapping_add(1);
        if frame[0] & 1 == 0 {
            of.key = of.key.wrapping_add(1) & 31;
        }
        let count = frame.len().div_ceil(PAYLOAD_BYTES);
        let mut packets = Vec::new();
        for (index, part) in frame.chunks(PAYLOAD_BYTES).enumerate() {
            of.seq += 1;
            let mut payload = vec![if index == 0 { 0x90 } else { 0x80 }, 0xf0];
            if of.seven_bits {
                payload.push(of.picture_id as u8 & 0x7f);
            } else {
                payload.extend((of.picture_id | 0x8000).to_be_bytes());
            }
            payload.extend([of.tl0, 0x20 | of.key]);
            payload.extend(part);
            packets.push(Plain {
                ssrc: of.ssrc,
                payload_type: 96,
                marker: index + 1 == count,
                seq: of.seq,
                timestamp: of.time_offset.wrapping_add(timestamp),
                payload,
                rid: of.rid,
                repaired_rid: None,
                audio_level: None,
                padding: 0,
            });
        }
        let sent = packets
            .iter()
            .map(|plain| (plain.seq as u16, plain.clone()));
        self.sent.extend(sent);
        packets
    }
}

/// One frame as the subscriber put it together.
struct Frame {
    picture_id: u16,
    bytes: Vec<u8>,
    /// Whether all its packets came.
    whole: bool,
    /// Whether numbers are missing before it.
    after_hole: bool,
}

/// Puts frames together by hand, from packets in the order of their numbers.
fn frames(packets: &[(u64, &Received)]) -> Vec<Frame> {
    let mut frames: Vec<Frame> = Vec::new();
    let (mut last, mut hole, mut open) = (None, false, false);
    for (seq, packet) in packets {
        hole |= last.replace(*seq).is_some_and(|last| last + 1 != *seq);
        if packet.payload.is_empty() {
            continue;
        }
        let payload = &packet.payload;
        assert_eq!(payload[0] & 0x8f, 0x80, "X, partition 0");
        assert_eq!((payload[1], payload[2] & 0x80), (0xf0, 0x80), "15 bits");
        let picture_id = u16::from_be_bytes([payload[2] & 0x7f, payload[3]]);
        let starts = payload[0] & 0x10 != 0;
        assert!(
            !open || !starts || hole,
            "a frame that was cut off leaves a hole"
        );
        if starts || hole {
            open = starts;
            let same = frames.last().is_some_and(|of| of.picture_id == picture_id);
            if !same {
                frames.push(Frame {
                    picture_id,
                    bytes: Vec::new(),
                    whole: false,
                    after_hole: hole,
                });
            }
        }
        hole = false;
        let frame = frames.last_mut().expect("begins at the start of a frame");
        assert_eq!(frame.picture_id, picture_id, "one frame has one picture id");
        frame.bytes.extend(&payload[6..]);
        frame.whole = open && packet.marker;
        open &= !packet.marker;
    }
    frames
}

/// Where a frame comes from: layer, chain, number.
type Origin = (usize, bool, usize);

/// What a decoder is given, and what it cannot be given.
struct Shown {
    frames: Vec<Vec<u8>>,
    /// Frames that did not come whole.
    torn: usize,
    /// Whole frames behind those, up to the next keyframe.
    useless: usize,
}

/// Holds the frames against the clips and the rules.
fn follow(frames: Vec<Frame>, clips: &[Clip; 3]) -> Shown {
    let mut origins: HashMap<&[u8], Vec<Origin>> = HashMap::new();
    for (layer, clip) in clips.iter().enumerate() {
        for (often, chain) in [(false, &clip.rare), (true, &clip.often)] {
            for (number, frame) in chain.iter().enumerate() {
                let of = origins.entry(frame).or_default();
                of.push((layer, often, number));
            }
        }
    }
    let mut shown = Shown {
        frames: Vec::new(),
        torn: 0,
        useless: 0,
    };
    let mut before: Option<Vec<Origin>> = None;
    let mut last_id = None;
    for (at, frame) in frames.into_iter().enumerate() {
        if let Some(last) = last_id.replace(frame.picture_id) {
            let next = (last + 1) & 0x7fff;
            let ids = frame.picture_id.wrapping_sub(next) & 0x7fff;
            assert!(
                ids == 0 || frame.after_hole,
                "frame {at}: a gap in picture ids"
            );
            assert!(ids < 0x4000, "frame {at}: picture ids go forward");
            if ids > 0 {
                before = None;
            }
        }
        if !frame.whole {
            shown.torn += 1;
            before = None;
            continue;
        }
        let of = origins
            .get(&frame.bytes[..])
            .unwrap_or_else(|| panic!("frame {at} is none of the clips'"));
        let keyframe = frame.bytes[0] & 1 == 0;
        let Some(last) = before.as_ref().filter(|_| !keyframe) else {
            if keyframe {
                before = Some(of.clone());
                shown.frames.push(frame.bytes);
            } else {
                shown.useless += 1;
            }
            continue;
        };
        let follows = last
            .iter()
            .any(|(layer, often, number)| of.contains(&(*layer, *often, (number + 1) % LOOP)));
        assert!(follows, "frame {at}: {of:?} after {last:?}");
        before = Some(of.clone());
        shown.frames.push(frame.bytes);
    }
    shown
}

/// Decodes with libvpx; how many pictures came out, and what it complained of.
fn decode(frames: &[Vec<u8>]) -> (usize, String) {
    let mut file = b"DKIF\0\0\x20\0VP80".to_vec();
    file.extend(1280u16.to_le_bytes());
    file.extend(720u16.to_le_bytes());
    file.extend(30u32.to_le_bytes());
    file.extend(1u32.to_le_bytes());
    file.extend((frames.len() as u64).to_le_bytes());
    for (number, frame) in frames.iter().enumerate() {
        file.extend((frame.len() as u32).to_le_bytes());
        file.extend((number as u64).to_le_bytes());
        file.extend(frame);
    }
    let arguments = "-hide_banner -v warning -xerror -err_detect explode -c:v libvpx -f ivf -i - \
                     -autoscale 0 -fps_mode passthrough -f framecrc -";
    let mut ffmpeg = Command::new("ffmpeg")
        .args(arguments.split_whitespace())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("ffmpeg is installed");
    let mut input = ffmpeg.stdin.take().expect("it is piped");
    let writer = std::thread::spawn(move || input.write_all(&file));
    let output = ffmpeg.wait_with_output().expect("ffmpeg ends");
    let written = writer.join().expect("the writer ends");
    let complaints = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && written.is_ok(), "{complaints}");
    let pictures = String::from_utf8_lossy(&output.stdout);
    let pictures = pictures.lines().filter(|line| !line.starts_with('#'));
    (pictures.count(), complaints)
}

/// Switches a thousand times over these ways; what the subscriber can show, of how many frames.
fn switch(seed: u64, up: Link, down: Link) -> (Shown, u64) {
    let mut rng = Rng::new(seed);
    let mut world = World::new(seed);
    let (publisher, subscriber) = (world.join(), world.join());
    let source = VideoSource::simulcast(1, "1", &mut rng);
    world.command(weir_shard::Command::AddTrack(
        world.add_video(publisher, &source),
    ));
    let mut camera = Camera::new(&source);
    let video = world.subscribe(subscriber, 1, Some(SIZES[1]));
    (world.up, world.down, world.nacks) = (up, down, true);
    let (mut frame, mut wanted) = (0u64, 1);
    while world.counters.switches.get() < SWITCHES {
        camera.film(&mut world, publisher);
        if frame.is_multiple_of(30) {
            camera.report(&mut world, publisher);
        }
        // The small pictures more often than the large ones: they cost the decoder less.
        if frame.is_multiple_of(12) {
            let others = [[1, 2, 2], [0, 2, 2], [0, 1, 1]][wanted];
            wanted = others[rng.below(3) as usize];
            world.want(video, Some(SIZES[wanted]));
        }
        world.run(Duration::from_micros(33_333));
        frame += 1;
        assert!(frame < 60 * SWITCHES, "switches take place");
    }
    (world.up, world.down) = (Link::PERFECT, Link::PERFECT);
    world.run(SECOND);
    let packets = world.received(video);
    let shown = follow(frames(&packets), &camera.clips);
    let (pictures, complaints) = decode(&shown.frames);
    assert_eq!(complaints, "");
    assert_eq!(pictures, shown.frames.len());
    println!(
        "{} switches in {frame} frames: {pictures} decoded, {} torn, {} useless; {} packets, {} resent, {} keyframes asked for",
        world.counters.switches.get(),
        shown.torn,
        shown.useless,
        packets.len(),
        world.counters.resends.get(),
        world.counters.keyframe_requests_sent.get()
    );
    (shown, frame)
}

fn bad(loss_per_mille: u64, jitter: Duration) -> Link {
    Link {
        jitter,
        loss_per_mille,
        duplicate_per_mille: 5,
        ..Link::PERFECT
    }
}

#[test]
fn a_decoder_follows_a_thousand_switches_when_the_way_up_loses_and_reorders() {
    let (shown, frames) = switch(1, bad(20, 10 * MS), Link::PERFECT);
    // Lost twice, and a keyframe came before the third try.
    assert!(shown.useless < 50, "{}", shown.useless);
    assert!(shown.frames.len() as u64 > frames * 97 / 100);
}

#[test]
fn a_decoder_follows_a_thousand_switches_when_both_ways_lose_and_reorder() {
    let (shown, frames) = switch(2, bad(20, 10 * MS), bad(20, 15 * MS));
    assert!(shown.useless < 100, "{}", shown.useless);
    assert!(shown.frames.len() as u64 > frames * 95 / 100);
}
