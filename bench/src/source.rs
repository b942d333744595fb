//! What the publisher sends: packets as a browser makes them, with a note at the end of each payload that says which one it is.

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use weir_shard::{Codec, CodecMapping, MediaKind};
use weir_wire::vp8::{Descriptor, PictureId, Temporal};
use weir_wire::{ExtSeq, Seq, vp8};

/// Which medium is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Medium {
    /// VP8, 720p at 30 frames a second and 1.7 Mb/s: bursts of several packets.
    Camera,
    /// Opus, 50 packets of about 100 bytes a second.
    Microphone,
}

/// The mean of all frames: 1.7 Mb/s at 30 frames a second.
const FRAME_BYTES: u64 = 1_700_000 / 8 / 30;
/// Frames from one keyframe to the next. Browsers send them when asked; people who join ask.
const KEYFRAME_EVERY: u64 = 300;
/// A keyframe has so many times the bytes of another frame.
const KEYFRAME_TIMES: u64 = 5;
/// libwebrtc cuts a frame into packets of about the same size, none with more payload than this.
const PAYLOAD_BYTES_MAX: usize = 1150;
const VOICE_BYTES: usize = 80;

/// Frames of the start, at a camera's own pace: small ones, as an encoder begins that does not know yet what fits. Without them the
/// shard would hold back the picture from subscribers of whose bandwidth nothing is known for a second. Afterwards those that send no
/// feedback are not limited.
pub(crate) const SETTLING_FRAMES: u64 = 45;
const SETTLING_PART: u64 = 4;

/// The first number of the published stream.
const FIRST: ExtSeq = ExtSeq::new(0, Seq(60_000));

impl Medium {
    pub(crate) const SSRC: u32 = 0x5151_5151;

    /// Time from one frame to the next.
    pub(crate) fn interval(self) -> Duration {
        match self {
            Self::Camera => Duration::from_nanos(33_333_333),
            Self::Microphone => Duration::from_millis(20),
        }
    }

    pub(crate) fn kind(self) -> MediaKind {
        match self {
            Self::Camera => MediaKind::Video,
            Self::Microphone => MediaKind::Audio,
        }
    }

    /// The codec, under the same payload type at both ends.
    pub(crate) fn codec(self) -> CodecMapping {
        let (payload_type, codec, clock_rate) = match self {
            Self::Camera => (96, Codec::Vp8, 90_000),
            Self::Microphone => (111, Codec::Opus, 48_000),
        };
        CodecMapping {
            payload_type,
            codec,
            clock_rate,
            rtx_payload_type: None,
        }
    }

    /// How long the start lasts.
    pub(crate) fn settling(self) -> Duration {
        self.interval() * SETTLING_FRAMES as u32
    }

    /// When a frame is due, since the first one, at so many times the medium's pace.
    pub(crate) fn due(self, frame: u64, times: f64) -> Duration {
        let behind = frame.saturating_sub(SETTLING_FRAMES) as f64;
        self.interval()
            .mul_f64(frame.min(SETTLING_FRAMES) as f64 + behind / times)
    }

    fn ticks_per_frame(self) -> u32 {
        match self {
            Self::Camera => 3000,
            Self::Microphone => 960,
        }
    }
}

/// A stream of frames, the same in every run.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    medium: Medium,
    next_seq: ExtSeq,
    frames: u64,
    keyframes: u64,
    random: u64,
}

/// One frame, not yet written.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub(crate) number: u64,
    first_seq: ExtSeq,
    keyframe: bool,
    key_index: u64,
    /// Payload bytes of each packet.
    pub(crate) payload_lens: Vec<usize>,
}

impl Source {
    pub(crate) fn new(medium: Medium) -> Self {
        Self {
            medium,
            next_seq: FIRST,
            frames: 0,
            keyframes: 0,
            random: 0x2545_f491_4f6c_dd1d,
        }
    }

    /// The same stream behind its start.
    pub(crate) fn settled(medium: Medium) -> Self {
        let mut source = Self::new(medium);
        for _ in 0..SETTLING_FRAMES {
            source.next_frame();
        }
        source
    }

    /// The next frame's shape.
    pub(crate) fn next_frame(&mut self) -> Frame {
        let number = self.frames;
        let keyframe = number.is_multiple_of(KEYFRAME_EVERY);
        self.frames += 1;
        self.keyframes += u64::from(keyframe);
        let payload_lens = match self.medium {
            Medium::Microphone => vec![VOICE_BYTES + (self.random() % 16) as usize],
            Medium::Camera => {
                // Between 0.6 and 1.4 of the mean, which keyframes are a small part of.
                let mean = FRAME_BYTES * KEYFRAME_EVERY / (KEYFRAME_EVERY + KEYFRAME_TIMES - 1);
                let times = if keyframe { KEYFRAME_TIMES } else { 1 };
                let part = if number < SETTLING_FRAMES {
                    SETTLING_PART
                } else {
                    1
                };
                cut((mean * times / part * (60 + self.random() % 81) / 100) as usize)
            }
        };
        let first_seq = self.next_seq;
        self.next_seq = first_seq.add(payload_lens.len() as u64);
        Frame {
            number,
            first_seq,
            keyframe,
            key_index: self.keyframes,
            payload_lens,
        }
    }

    /// xorshift64: repeatable, and nothing depends on it being random.
    fn random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random >> 11
    }
}

/// Cuts a frame into packets of about the same size.
fn cut(bytes: usize) -> Vec<usize> {
    let count = bytes.div_ceil(PAYLOAD_BYTES_MAX).max(1);
    (0..count)
        .map(|at| bytes / count + usize::from(at < bytes % count))
        .collect()
}

impl Frame {
    pub(crate) fn seq(&self, packet: usize) -> ExtSeq {
        self.first_seq.add(packet as u64)
    }

    pub(crate) fn timestamp(&self, medium: Medium) -> u32 {
        (self.number as u32).wrapping_mul(medium.ticks_per_frame())
    }

    pub(crate) fn is_last(&self, packet: usize) -> bool {
        packet + 1 == self.payload_lens.len()
    }

    /// Writes a packet's payload to the front of `out` and says how long it is.
    pub(crate) fn emit(
        &self,
        medium: Medium,
        packet: usize,
        sent_ns: u64,
        out: &mut [u8],
    ) -> Result<usize> {
        let len = self.payload_lens[packet];
        let payload = out.get_mut(..len).context("a payload fits its buffer")?;
        payload.fill(self.number as u8);
        if medium == Medium::Camera {
            let head = self.descriptor(packet).emit(payload)?;
            if packet == 0 {
                // RFC 7741 §4.3: a frame tag, and of a keyframe the start code and 1280 × 720.
                let tag = [u8::from(!self.keyframe), 0, 0];
                payload[head..head + 3].copy_from_slice(&tag);
                if self.keyframe {
                    payload[head + 3..head + 10]
                        .copy_from_slice(&[0x9d, 0x01, 0x2a, 0x00, 0x05, 0xd0, 0x02]);
                }
            }
        }
        let note = Note {
            frame: self.number,
            packet: packet as u16,
            packets: self.payload_lens.len() as u16,
            sent_ns,
        };
        payload[len - Note::BYTES..].copy_from_slice(&note.to_bytes());
        Ok(len)
    }

    fn descriptor(&self, packet: usize) -> Descriptor {
        Descriptor {
            start_of_partition: packet == 0,
            picture_id: Some(PictureId::Fifteen((self.number & 0x7fff) as u16)),
            tl0_picture_index: Some(self.number as u8),
            temporal: Some(Temporal {
                id: 0,
                layer_sync: false,
            }),
            key_index: Some((self.key_index & 31) as u8),
            ..Descriptor::default()
        }
    }
}

/// What a packet says about itself, behind everything that a focus may touch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Note {
    pub(crate) frame: u64,
    pub(crate) packet: u16,
    pub(crate) packets: u16,
    /// Nanoseconds since the run began.
    pub(crate) sent_ns: u64,
}

impl Note {
    const BYTES: usize = 24;
    const MAGIC: [u8; 4] = *b"note";

    fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..4].copy_from_slice(&Self::MAGIC);
        bytes[4..6].copy_from_slice(&self.packet.to_be_bytes());
        bytes[6..8].copy_from_slice(&self.packets.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.frame.to_be_bytes());
        bytes[16..].copy_from_slice(&self.sent_ns.to_be_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8; Self::BYTES]) -> Option<Self> {
        let (magic, rest) = bytes.split_first_chunk::<4>()?;
        let (packet, rest) = rest.split_first_chunk()?;
        let (packets, rest) = rest.split_first_chunk()?;
        let (frame, rest) = rest.split_first_chunk()?;
        (*magic == Self::MAGIC).then_some(Self {
            frame: u64::from_be_bytes(*frame),
            packet: u16::from_be_bytes(*packet),
            packets: u16::from_be_bytes(*packets),
            sent_ns: u64::from_be_bytes(*rest.first_chunk()?),
        })
    }

    /// Reads a payload as it arrived, and checks that every byte of it is what was sent.
    pub(crate) fn read(medium: Medium, payload: &[u8]) -> Result<Self> {
        let (body, note) = payload
            .split_last_chunk()
            .context("the payload is too short for its note")?;
        let note = Self::from_bytes(note).context("the payload does not end with its note")?;
        let head = match medium {
            Medium::Microphone => 0,
            Medium::Camera => vp8::Descriptor::parse(body)?.1,
        };
        let frame_head = match (medium, note.packet) {
            (Medium::Camera, 0) if note.frame.is_multiple_of(KEYFRAME_EVERY) => 10,
            (Medium::Camera, 0) => 3,
            _ => 0,
        };
        let fill = body.get(head + frame_head..).unwrap_or(&[]);
        ensure!(
            fill.iter().all(|byte| *byte == note.frame as u8),
            "the payload is not what was sent"
        );
        Ok(note)
    }

    /// Whether this packet is the one behind `before`.
    pub(crate) fn follows(&self, before: &Note) -> bool {
        if before.packet + 1 < before.packets {
            self.frame == before.frame && self.packet == before.packet + 1
        } else {
            self.frame == before.frame + 1 && self.packet == 0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_cut_into_equal_packets() {
        assert_eq!(cut(1150), [1150]);
        assert_eq!(cut(1151), [576, 575]);
        assert_eq!(cut(7000), [1000; 7]);
    }

    #[test]
    fn the_camera_has_its_bitrate() {
        let mut source = Source::settled(Medium::Camera);
        let frames: Vec<Frame> = (0..3000).map(|_| source.next_frame()).collect();
        let bytes: usize = frames.iter().flat_map(|of| &of.payload_lens).sum();
        let bps = bytes as f64 * 8.0 / 100.0;
        assert!((1.6e6..1.8e6).contains(&bps), "{bps}");
        let numbers = frames.windows(2).all(|pair| {
            pair[1].first_seq == pair[0].first_seq.add(pair[0].payload_lens.len() as u64)
        });
        assert!(numbers, "numbers go on");
    }

    #[test]
    fn what_was_written_reads_back_and_what_was_changed_does_not() {
        for medium in [Medium::Camera, Medium::Microphone] {
            let mut source = Source::new(medium);
            for _ in 0..3 {
                let frame = source.next_frame();
                let mut payload = [0; 1500];
                let len = frame.emit(medium, 0, 77, &mut payload).unwrap();
                let note = Note::read(medium, &payload[..len]).unwrap();
                assert_eq!((note.frame, note.packet), (frame.number, 0));
                assert_eq!(note.sent_ns, 77);
                payload[len - 30] ^= 1;
                assert!(Note::read(medium, &payload[..len]).is_err());
                assert!(Note::read(medium, &payload[..len - 1]).is_err());
            }
        }
    }

    #[test]
    fn packets_follow_each_other() {
        let note = |frame, packet| Note {
            frame,
            packet,
            packets: 2,
            sent_ns: 0,
        };
        assert!(note(7, 1).follows(&note(7, 0)));
        assert!(note(8, 0).follows(&note(7, 1)));
        assert!(!note(8, 0).follows(&note(7, 0)));
        assert!(!note(9, 0).follows(&note(7, 1)));
        assert!(!note(7, 1).follows(&note(7, 1)));
    }
}
