//! The committed clips, in memory: three simulcast layers in two chains each, and a sound.

use std::sync::{Arc, LazyLock};

use bytes::Bytes;

use crate::catalogue::Catalogue;
use crate::participant::Camera;

/// Frames of one loop of the video clips.
pub const CLIP_FRAMES: u16 = 150;

/// All that one publisher needs.
#[derive(Debug, Clone)]
pub struct Clips {
    /// Highest quality first: `f`, `h`, `q`.
    pub layers: Arc<[Layer]>,
    /// 20 ms each.
    pub audio: Arc<[AudioPacket]>,
    catalogue: Arc<Catalogue>,
}

/// One simulcast layer.
#[derive(Debug, Clone)]
pub struct Layer {
    /// The rid it is sent with.
    pub rid: &'static str,
    /// Pixels.
    pub width: u16,
    /// Pixels.
    pub height: u16,
    /// One keyframe a loop, at frame 0: what is sent in peace.
    pub rare: Vec<Bytes>,
    /// The same pictures with a keyframe at every tenth: what is sent after a keyframe request.
    pub often: Vec<Bytes>,
}

/// 20 ms of Opus.
#[derive(Debug, Clone)]
pub struct AudioPacket {
    /// -dBov, 0 to 127 (RFC 6464).
    pub level: u8,
    /// The Opus packet.
    pub payload: Bytes,
}

macro_rules! committed {
    ($name:literal) => {
        include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/clips/", $name)).as_slice()
    };
}

impl Clips {
    /// The clips of this repository, parsed once.
    pub fn committed() -> Clips {
        static CLIPS: LazyLock<Clips> = LazyLock::new(|| {
            let layers = [
                layer(
                    "f",
                    committed!("video-f-rare.ivf"),
                    committed!("video-f-often.ivf"),
                ),
                layer(
                    "h",
                    committed!("video-h-rare.ivf"),
                    committed!("video-h-often.ivf"),
                ),
                layer(
                    "q",
                    committed!("video-q-rare.ivf"),
                    committed!("video-q-often.ivf"),
                ),
            ];
            let audio = audio(committed!("audio.opus20"));
            Clips {
                catalogue: Arc::new(Catalogue::new(&layers, &audio)),
                layers: Arc::new(layers),
                audio: audio.into(),
            }
        });
        CLIPS.clone()
    }

    /// What the frames and packets are recognised by.
    pub fn catalogue(&self) -> &Catalogue {
        &self.catalogue
    }

    /// The largest layer that is sent.
    pub(crate) fn largest(&self, camera: &Camera) -> Option<&Layer> {
        let sent = self.layers.iter().zip(camera.layers);
        sent.into_iter()
            .find_map(|(layer, rate)| rate.map(|_| layer))
    }
}

/// Whether a VP8 frame is a keyframe (RFC 6386 §9.1: the lowest bit of its first byte is 0).
pub fn is_keyframe(frame: &[u8]) -> bool {
    frame.first().is_some_and(|byte| byte & 1 == 0)
}

fn layer(rid: &'static str, rare: &'static [u8], often: &'static [u8]) -> Layer {
    let size = |at: usize| u16::from_le_bytes([rare[at], rare[at + 1]]);
    Layer {
        rid,
        width: size(12),
        height: size(14),
        rare: ivf(rare),
        often: ivf(often),
    }
}

/// The frames of an IVF file: 32 bytes of file header, then 12 bytes of header (length first) for each.
fn ivf(file: &'static [u8]) -> Vec<Bytes> {
    let mut rest = &file[32..];
    let mut frames = Vec::new();
    while let Some((header, after)) = rest.split_at_checked(12) {
        let bytes = u32::from_le_bytes([header[0], header[1], header[2], header[3]]) as usize;
        frames.push(Bytes::from_static(&after[..bytes]));
        rest = &after[bytes..];
    }
    frames
}

/// `clips/README.md`: level, length, Opus packet.
fn audio(file: &'static [u8]) -> Vec<AudioPacket> {
    let mut rest = file;
    let mut packets = Vec::new();
    while let Some((header, after)) = rest.split_at_checked(3) {
        let bytes = usize::from(u16::from_be_bytes([header[1], header[2]]));
        packets.push(AudioPacket {
            level: header[0],
            payload: Bytes::from_static(&after[..bytes]),
        });
        rest = &after[bytes..];
    }
    packets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_clips_are_one_loop_in_three_sizes() {
        let clips = Clips::committed();
        let sizes: Vec<_> = clips
            .layers
            .iter()
            .map(|layer| (layer.rid, layer.width, layer.height))
            .collect();
        assert_eq!(sizes, [("f", 1280, 720), ("h", 640, 360), ("q", 320, 180)]);
        for layer in clips.layers.iter() {
            assert_eq!((layer.rare.len(), layer.often.len()), (150, 150));
            let keyframes = |chain: &[Bytes]| {
                let is_key = |number: &usize| is_keyframe(&chain[*number]);
                (0..chain.len()).filter(is_key).collect::<Vec<_>>()
            };
            assert_eq!(keyframes(&layer.rare), [0]);
            assert_eq!(
                keyframes(&layer.often),
                [
                    0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 110, 120, 130, 140
                ]
            );
        }
        assert_eq!(clips.audio.len(), 250);
        assert!(
            clips.audio[0].level < clips.audio[40].level,
            "the beep is louder than the hum"
        );
    }
}
