//! What participants publish: VP8 frames and Opus packets whose payloads say which frame and packet they are.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::Rng;

/// One plain packet before the header is written.
#[derive(Clone, Debug)]
pub struct Plain {
    pub ssrc: u32,
    pub payload_type: u8,
    pub marker: bool,
    /// Extended; the low 16 bits are sent.
    pub seq: u64,
    pub timestamp: u32,
    pub payload: Vec<u8>,
    pub rid: Option<&'static str>,
    pub repaired_rid: Option<&'static str>,
    pub audio_level: Option<u8>,
    pub padding: u8,
}

/// What a video payload says about itself, behind the VP8 descriptor and frame header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    pub track: u8,
    pub layer: u8,
    /// The publisher's SSRC: a layer may start anew with another.
    pub source: u32,
    pub frame: u32,
    pub index: u8,
    pub count: u8,
    pub keyframe: bool,
    /// Milliseconds since the world began at which the frame was captured.
    pub captured_ms: u32,
    /// The temporal layer.
    pub tid: u8,
    /// How many frames back those lie that the frame is made from; 0 is none.
    pub references: [u8; 2],
}

impl Identity {
    pub const BYTES: usize = 20;

    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[0] = self.track;
        bytes[1] = self.layer;
        bytes[2..6].copy_from_slice(&self.frame.to_be_bytes());
        bytes[6] = self.index;
        bytes[7] = self.count;
        bytes[8] = u8::from(self.keyframe);
        bytes[13..17].copy_from_slice(&self.source.to_be_bytes());
        bytes[9..13].copy_from_slice(&self.captured_ms.to_be_bytes());
        bytes[17] = self.tid;
        bytes[18..20].copy_from_slice(&self.references);
        bytes
    }

    pub fn from_bytes(bytes: &[u8]) -> Self {
        let word = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
        Self {
            track: bytes[0],
            layer: bytes[1],
            source: word(13),
            frame: word(2),
            index: bytes[6],
            count: bytes[7],
            keyframe: bytes[8] == 1,
            captured_ms: word(9),
            tid: bytes[17],
            references: [bytes[18], bytes[19]],
        }
    }
}

/// Where a frame stands among the temporal layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    tid: u8,
    /// Made from nothing but base layer frames.
    sync: bool,
    references: [u8; 2],
}

/// The patterns that browsers use, with a chance to step up every second time round.
const fn place(temporal: u8, since_keyframe: u32) -> Place {
    let (tid, sync, references) = match (temporal, since_keyframe % 8) {
        (_, 0) if since_keyframe == 0 => (0, true, [0, 0]),
        (2, 1 | 5) => (1, true, [1, 0]),
        (2, 3 | 7) => (1, false, [1, 2]),
        (2, _) => (0, false, [2, 0]),
        (3, 1) => (2, true, [1, 0]),
        (3, 2) => (1, true, [2, 0]),
        (3, 3 | 7) => (2, false, [1, 3]),
        (3, 5) => (2, false, [1, 3]),
        (3, 6) => (1, false, [2, 4]),
        (3, _) => (0, false, [4, 0]),
        _ => (0, true, [1, 0]),
    };
    Place {
        tid,
        sync,
        references,
    }
}

/// One simulcast layer of a camera.
#[derive(Clone, Debug)]
pub struct VideoLayer {
    pub rid: Option<&'static str>,
    pub ssrc: u32,
    pub rtx_ssrc: u32,
    pub width: u16,
    pub height: u16,
    pub fps: u32,
    /// Packets of an ordinary frame; keyframes have three times as many.
    pub packets: u8,
    pub payload_bytes: usize,
    pub on: bool,
    pub keyframe_wanted: bool,
    /// How many temporal layers.
    pub temporal: u8,
    /// Whether everything behind the first byte of a frame is encrypted.
    pub encrypted: bool,
    pub seq: u64,
    pub time_offset: u32,
    pub picture_id: u16,
    pub seven_bits: bool,
    pub tl0: u8,
    pub key: u8,
    pub frame: u32,
    since_keyframe: u32,
    rtx_seq: u64,
    /// What can be sent again.
    sent: BTreeMap<u16, Plain>,
}

/// A camera: layers, highest quality first.
#[derive(Clone, Debug)]
pub struct VideoSource {
    pub track: u8,
    pub mid: &'static str,
    pub layers: Vec<VideoLayer>,
    pub rtx: bool,
}

impl VideoSource {
    /// 1280×720, 640×360 and 320×180 with random starts of all numbers.
    pub fn simulcast(track: u8, mid: &'static str, rng: &mut Rng) -> Self {
        let sizes = [
            ("f", 1280, 720, 30, 4, 1100),
            ("h", 640, 360, 20, 2, 900),
            ("q", 320, 180, 15, 1, 700),
        ];
        let layers = sizes.map(|(rid, width, height, fps, packets, bytes)| {
            VideoLayer::new(Some(rid), (width, height), fps, packets, bytes, rng)
        });
        Self {
            track,
            mid,
            layers: layers.into(),
            rtx: false,
        }
    }

    /// One layer without a rid.
    pub fn single(track: u8, mid: &'static str, rng: &mut Rng) -> Self {
        Self {
            track,
            mid,
            layers: vec![VideoLayer::new(None, (640, 480), 30, 3, 1000, rng)],
            rtx: false,
        }
    }
}

impl VideoLayer {
    fn new(
        rid: Option<&'static str>,
        size: (u16, u16),
        fps: u32,
        packets: u8,
        bytes: usize,
        rng: &mut Rng,
    ) -> Self {
        const STARTS: [u64; 9] = [0, 1, 127, 128, 255, 32_700, 32_768, 65_500, 65_535];
        let start = |rng: &mut Rng| STARTS[rng.below(9) as usize];
        Self {
            rid,
            ssrc: rng.next() as u32,
            rtx_ssrc: rng.next() as u32,
            width: size.0,
            height: size.1,
            fps,
            packets,
            payload_bytes: bytes,
            on: true,
            keyframe_wanted: true,
            temporal: 1,
            encrypted: false,
            seq: start(rng) & 0x7fff,
            time_offset: (rng.next() as u32) | if rng.chance(300) { 0xfff0_0000 } else { 0 },
            picture_id: (start(rng) & 0x7fff) as u16,
            seven_bits: rng.chance(300),
            tl0: start(rng) as u8,
            key: (start(rng) & 31) as u8,
            frame: 0,
            since_keyframe: 0,
            rtx_seq: 5,
            sent: BTreeMap::new(),
        }
    }

    /// The layer's RTP time at `since_start`.
    pub fn rtp_time(&self, since_start: Duration) -> u32 {
        self.time_offset
            .wrapping_add((since_start.as_micros() * 9 / 100) as u32)
    }

    pub fn interval(&self) -> Duration {
        Duration::from_micros(1_000_000 / u64::from(self.fps))
    }

    /// The packets of the next frame.
    pub fn encode(&mut self, track: u8, layer: u8, start: Instant, now: Instant) -> Vec<Plain> {
        let keyframe = std::mem::take(&mut self.keyframe_wanted);
        self.since_keyframe = if keyframe { 0 } else { self.since_keyframe + 1 };
        let place = place(self.temporal, self.since_keyframe);
        self.frame += 1;
        self.picture_id = self.picture_id.wrapping_add(1) & 0x7fff;
        if place.tid == 0 {
            self.tl0 = self.tl0.wrapping_add(1);
        }
        if keyframe {
            self.key = self.key.wrapping_add(1) & 31;
        }
        let count = if keyframe {
            self.packets * 3
        } else {
            self.packets
        };
        let timestamp = self.rtp_time(now - start);
        let captured_ms = (now - start).as_millis() as u32;
        let packets: Vec<Plain> = (0..count)
            .map(|index| {
                let identity = Identity {
                    track,
                    layer,
                    source: self.ssrc,
                    frame: self.frame,
                    index,
                    count,
                    keyframe,
                    captured_ms,
                    tid: place.tid,
                    references: place.references,
                };
                let payload = self.payload(identity, place.sync);
                self.plain(payload, index + 1 == count, timestamp)
            })
            .collect();
        for packet in &packets {
            self.sent.insert(packet.seq as u16, packet.clone());
        }
        while self.sent.len() > 1000 {
            self.sent.pop_first();
        }
        packets
    }

    fn plain(&mut self, payload: Vec<u8>, marker: bool, timestamp: u32) -> Plain {
        self.seq += 1;
        Plain {
            ssrc: self.ssrc,
            payload_type: 96,
            marker,
            seq: self.seq,
            timestamp,
            payload,
            rid: self.rid,
            repaired_rid: None,
            audio_level: None,
            padding: 0,
        }
    }

    /// A packet of nothing but padding, as browsers send it to probe.
    pub fn padding(&mut self, start: Instant, now: Instant) -> Plain {
        let timestamp = self.rtp_time(now - start);
        let mut plain = self.plain(Vec::new(), false, timestamp);
        plain.padding = 200;
        plain
    }

    fn payload(&self, of: Identity, sync: bool) -> Vec<u8> {
        let first = of.index == 0;
        let mut payload = vec![if first { 0x90 } else { 0x80 }, 0xf0];
        if self.seven_bits {
            payload.push(self.picture_id as u8 & 0x7f);
        } else {
            payload.extend((self.picture_id | 0x8000).to_be_bytes());
        }
        payload.extend([self.tl0, of.tid << 6 | u8::from(sync) << 5 | self.key]);
        match (first, of.keyframe) {
            (true, true) if self.encrypted => {
                payload.extend([0x10, 0x5c, 0x5c, 0x5c, 0x5c, 0x5c, 0x5c, 0x5c, 0x5c, 0x5c]);
            }
            (true, true) => {
                payload.extend([0x10, 0x02, 0x00, 0x9d, 0x01, 0x2a]);
                payload.extend(self.width.to_le_bytes());
                payload.extend(self.height.to_le_bytes());
            }
            (true, false) => payload.extend([0x11, 0x00, 0x00]),
            (false, _) => {}
        }
        payload.extend(of.to_bytes());
        // Sizes that differ by a byte or two, as encoders cut frames.
        payload.resize(self.payload_bytes - usize::from(of.index % 3), 0xaa);
        payload
    }

    /// The answer to a NACK: the same packet again, or wrapped in RTX.
    pub fn again(&mut self, seq: u16, rtx: bool) -> Option<Plain> {
        let mut plain = self.sent.get(&seq)?.clone();
        if rtx {
            self.rtx_seq += 1;
            plain.payload = [&seq.to_be_bytes()[..], &plain.payload].concat();
            (plain.ssrc, plain.payload_type, plain.seq) = (self.rtx_ssrc, 97, self.rtx_seq);
            (plain.repaired_rid, plain.rid) = (plain.rid, None);
        }
        Some(plain)
    }
}

/// A microphone: 20 ms Opus packets.
#[derive(Clone, Debug)]
pub struct AudioSource {
    pub track: u8,
    pub mid: &'static str,
    pub ssrc: u32,
    pub seq: u64,
    pub time_offset: u32,
    pub number: u32,
    pub on: bool,
    /// In -dBov.
    pub level: u8,
}

impl AudioSource {
    pub fn new(track: u8, mid: &'static str, rng: &mut Rng) -> Self {
        let (ssrc, time_offset) = (rng.next() as u32, rng.next() as u32);
        Self {
            track,
            mid,
            ssrc,
            seq: rng.below(32_768),
            time_offset,
            number: 0,
            on: true,
            level: 30,
        }
    }

    pub fn rtp_time(&self, since_start: Duration) -> u32 {
        self.time_offset
            .wrapping_add((since_start.as_micros() * 48 / 1000) as u32)
    }

    pub fn encode(&mut self, start: Instant, now: Instant) -> Plain {
        self.seq += 1;
        self.number += 1;
        let mut payload = vec![0xfc, self.track];
        payload.extend(self.number.to_be_bytes());
        payload.push(self.level);
        payload.resize(80, 0x55);
        Plain {
            ssrc: self.ssrc,
            payload_type: 111,
            marker: false,
            seq: self.seq,
            timestamp: self.rtp_time(now - start),
            payload,
            rid: None,
            repaired_rid: None,
            audio_level: Some(0x80 | self.level),
            padding: 0,
        }
    }
}
