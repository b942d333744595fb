//! Recognises the frames of the known clips by their bytes, so that frame numbers and layers are known without decoding.

use std::collections::HashMap;

use bytes::Bytes;

use crate::clips::{AudioPacket, Layer};

/// A frame of a video clip.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// Index of the layer in [`Clips::layers`](crate::Clips::layers).
    pub layer: u8,
    /// Frame number, below [`CLIP_FRAMES`](crate::clips::CLIP_FRAMES).
    pub number: u16,
    /// It is in the chain with rare keyframes.
    pub rare: bool,
    /// It is in the chain with many keyframes.
    pub often: bool,
}

impl Known {
    /// Whether the frame may follow that one without being a keyframe.
    pub fn continues(&self, before: &Known) -> bool {
        self.layer == before.layer && (self.rare && before.rare || self.often && before.often)
    }
}

/// The first bytes of a frame tell it from all others; no frame of the clips is shorter.
pub const PREFIX_BYTES: usize = 32;

/// What the clips consist of.
#[derive(Debug, Default)]
pub struct Catalogue {
    video: HashMap<[u8; PREFIX_BYTES], (Known, [Bytes; 2])>,
    audio: HashMap<Bytes, Vec<u16>>,
}

impl Catalogue {
    pub(crate) fn new(layers: &[Layer], audio: &[AudioPacket]) -> Catalogue {
        let mut catalogue = Catalogue::default();
        for (index, layer) in layers.iter().enumerate() {
            for (number, frame) in layer.rare.iter().enumerate() {
                catalogue.add(index, number, frame, true);
            }
            for (number, frame) in layer.often.iter().enumerate() {
                catalogue.add(index, number, frame, false);
            }
        }
        for (number, packet) in audio.iter().enumerate() {
            let numbers = catalogue.audio.entry(packet.payload.clone()).or_default();
            numbers.push(number as u16);
        }
        catalogue
    }

    fn add(&mut self, layer: usize, number: usize, frame: &Bytes, rare: bool) {
        let Some(prefix) = frame.first_chunk::<PREFIX_BYTES>() else {
            return;
        };
        let known = Known {
            layer: layer as u8,
            number: number as u16,
            rare,
            often: !rare,
        };
        let entry = self.video.entry(*prefix);
        let entry = entry.or_insert_with(|| (known, [frame.clone(), frame.clone()]));
        entry.0.rare |= rare;
        entry.0.often |= !rare;
        entry.1[usize::from(!rare)] = frame.clone();
    }

    /// The frame that begins with these bytes.
    pub fn frame(&self, start: &[u8]) -> Option<Known> {
        self.entry(start).map(|(known, _)| *known)
    }

    /// Whether a frame that begins like a known one is that one to its end. What it was filled up with does not count.
    pub fn is_whole(&self, frame: &[u8]) -> bool {
        self.entry(frame)
            .is_some_and(|(_, chains)| chains.iter().any(|chain| frame.starts_with(chain)))
    }

    fn entry(&self, start: &[u8]) -> Option<&(Known, [Bytes; 2])> {
        self.video.get(start.first_chunk::<PREFIX_BYTES>()?)
    }

    /// The numbers of the audio packets that have this payload.
    pub fn audio(&self, payload: &[u8]) -> &[u16] {
        self.audio.get(payload).map_or(&[], Vec::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use crate::clips::Clips;

    #[test]
    fn every_frame_is_recognised_as_itself() {
        let clips = Clips::committed();
        let catalogue = clips.catalogue();
        for (index, layer) in clips.layers.iter().enumerate() {
            for (number, (rare, often)) in layer.rare.iter().zip(&layer.often).enumerate() {
                for (frame, is_rare) in [(rare, true), (often, false)] {
                    let known = catalogue.frame(frame).unwrap();
                    assert_eq!(
                        (usize::from(known.layer), usize::from(known.number)),
                        (index, number)
                    );
                    assert!(if is_rare { known.rare } else { known.often });
                    let filled = [&frame[..], &[0; 100]].concat();
                    assert!(catalogue.is_whole(frame) && catalogue.is_whole(&filled));
                    assert!(!catalogue.is_whole(&frame[..frame.len() - 1]));
                }
            }
        }
        assert_eq!(catalogue.frame(&[0x11; 40]), None);
    }

    #[test]
    fn a_change_of_layer_or_of_chain_does_not_continue() {
        let clips = Clips::committed();
        let known = |frame: &[u8]| clips.catalogue().frame(frame).unwrap();
        let (h, q) = (&clips.layers[1], &clips.layers[2]);
        assert!(known(&q.rare[51]).continues(&known(&q.rare[50])));
        assert!(!known(&q.rare[51]).continues(&known(&q.often[50])));
        assert!(!known(&h.rare[51]).continues(&known(&q.rare[50])));
    }

    #[test]
    fn every_audio_packet_is_recognised() {
        let clips = Clips::committed();
        for (number, packet) in clips.audio.iter().enumerate() {
            assert!(
                clips
                    .catalogue()
                    .audio(&packet.payload)
                    .contains(&(number as u16))
            );
        }
        assert_eq!(clips.catalogue().audio(b"?"), [0u16; 0]);
    }
}
