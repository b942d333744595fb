//! The VP8 decoder (`oximedia-codec`, RFC 6386 in Rust alone), behind the one call that is needed here.
//!
//! It is a real decoder: the tests hold every picture of the committed clips against checksums made with ffmpeg.

use oximedia_codec::traits::{DecoderConfig, VideoDecoder};
use oximedia_codec::vp8::Vp8Decoder;

/// A decoded picture, I420.
#[derive(Debug)]
pub struct Picture {
    /// Pixels.
    pub width: u16,
    /// Pixels.
    pub height: u16,
    /// Luma, then the two chroma planes at half the size (rounded up), without padding.
    pub planes: [Vec<u8>; 3],
}

/// The decoder refused a frame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct DecodeError(String);

/// The state of one stream.
#[derive(Debug)]
pub struct Decoder(Vp8Decoder);

impl Decoder {
    /// Waits for a keyframe.
    pub fn new() -> Decoder {
        Decoder(
            Vp8Decoder::new(DecoderConfig::default()).expect("the default configuration is valid"),
        )
    }

    /// Decodes one frame; `None` if it is not to be shown.
    pub fn decode(&mut self, frame: &[u8]) -> Result<Option<Picture>, DecodeError> {
        let refuse = |error: oximedia_codec::error::CodecError| DecodeError(error.to_string());
        self.0.send_packet(frame, 0).map_err(refuse)?;
        let Some(picture) = self.0.receive_frame().map_err(refuse)? else {
            return Ok(None);
        };
        let mut planes = picture.planes.into_iter().map(|plane| plane.data);
        let mut plane = || planes.next().unwrap_or_default();
        Ok(Some(Picture {
            width: picture.width as u16,
            height: picture.height as u16,
            planes: [plane(), plane(), plane()],
        }))
    }
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use md5::{Digest, Md5};

    use super::*;
    use crate::clips::Clips;
    use crate::pattern::{self, Code};

    /// Decodes a clip; gives the MD5 of its pictures and their frame numbers.
    fn decoded(frames: &[bytes::Bytes]) -> (String, Vec<Code>) {
        let (mut decoder, mut sum, mut codes) = (Decoder::new(), Md5::new(), Vec::new());
        for frame in frames {
            let picture = decoder
                .decode(frame)
                .unwrap()
                .expect("every frame of the clips is shown");
            picture.planes.iter().for_each(|plane| sum.update(plane));
            let (width, height) = (picture.width.into(), picture.height.into());
            codes.push(pattern::read(&picture.planes[0], width, width, height).unwrap());
        }
        let hex = sum
            .finalize()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        (hex, codes)
    }

    #[test]
    fn every_clip_decodes_to_the_bits_that_ffmpeg_decodes_and_carries_its_numbers() {
        let sums = include_str!("../clips/decoded.md5");
        let clips = Clips::committed();
        let expected: Vec<_> = (0..150).map(|number| Code { number, source: 0 }).collect();
        for layer in clips.layers.iter() {
            for (chain, frames) in [("rare", &layer.rare), ("often", &layer.often)] {
                let name = format!("video-{}-{chain}.ivf", layer.rid);
                let line = sums
                    .lines()
                    .find(|line| line.ends_with(&name))
                    .expect("a checksum for every clip");
                let (sum, codes) = decoded(frames);
                assert_eq!(line.split_whitespace().next(), Some(sum.as_str()), "{name}");
                assert_eq!(codes, expected, "{name}");
            }
        }
    }

    #[test]
    fn a_change_of_layer_at_a_keyframe_goes_on_decoding() {
        let clips = Clips::committed();
        let mut decoder = Decoder::new();
        let small = clips.layers[2].rare.iter().take(10);
        for (number, frame) in small
            .chain(clips.layers[0].often.iter().skip(10).take(5))
            .enumerate()
        {
            let picture = decoder.decode(frame).unwrap().unwrap();
            let (width, height) = (picture.width.into(), picture.height.into());
            let code = pattern::read(&picture.planes[0], width, width, height).unwrap();
            assert_eq!(usize::from(code.number), number);
            assert_eq!(picture.width, if number < 10 { 320 } else { 1280 });
        }
    }

    #[test]
    fn refuses_an_inter_frame_without_a_keyframe_and_noise() {
        let clips = Clips::committed();
        assert!(Decoder::new().decode(&clips.layers[2].rare[1]).is_err());
        assert!(Decoder::new().decode(&[]).is_err());
        assert!(Decoder::new().decode(&[0xff; 40]).is_err());
    }
}
