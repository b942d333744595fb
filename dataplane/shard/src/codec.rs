//! What a payload says about the frame it belongs to: whether a keyframe begins here, and how large its picture is.
//!
//! Only payload descriptors and the first bytes behind them are read, so that frames which are encrypted end to end forward
//! as well. What cannot be read is `false` or `None`.

use weir_wire::vp8;

use crate::ids::{Codec, Size};
use crate::layers::Sublayer;

/// What was read of a payload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Payload {
    /// The first packet of a keyframe: a decoder can start here.
    pub(crate) keyframe_start: bool,
    pub(crate) size: Option<Size>,
    pub(crate) sublayer: Sublayer,
    /// The parsed descriptor and its length.
    pub(crate) vp8: Option<(vp8::Descriptor, usize)>,
}

/// The payload cannot be of its codec.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// Reads a payload that is not empty.
pub(crate) fn read(codec: Codec, payload: &[u8]) -> Result<Payload, Malformed> {
    let keyframe_start = match codec {
        Codec::Vp8 => return read_vp8(payload),
        // Every audio packet is a place to start.
        Codec::Opus | Codec::Red => true,
        Codec::Vp9 => vp9_keyframe_start(payload),
        Codec::H264 => h264_keyframe_start(payload),
        Codec::Av1 => av1_keyframe_start(payload),
    };
    Ok(Payload {
        keyframe_start,
        ..Payload::default()
    })
}

fn read_vp8(payload: &[u8]) -> Result<Payload, Malformed> {
    let (descriptor, len) = vp8::Descriptor::parse(payload).map_err(|_| Malformed)?;
    let frame = payload.get(len..).unwrap_or(&[]);
    let keyframe_start = vp8::starts_keyframe(&descriptor, frame);
    let size = if keyframe_start {
        vp8::keyframe_size(frame)
    } else {
        None
    };
    let size = size.map(|(width, height)| Size::new(width, height));
    let sublayer = Sublayer {
        spatial: 0,
        temporal: descriptor.temporal.map_or(0, |temporal| temporal.id),
    };
    Ok(Payload {
        keyframe_start,
        size,
        sublayer,
        vp8: Some((descriptor, len)),
    })
}

/// RFC 9628 §4.2: not inter-picture predicted (P = 0), start of a frame (B = 1), lowest spatial layer.
fn vp9_keyframe_start(payload: &[u8]) -> bool {
    let Some(&first) = payload.first() else {
        return false;
    };
    let (id, predicted, layers, start) = (
        first & 0x80 != 0,
        first & 0x40 != 0,
        first & 0x20 != 0,
        first & 0x08 != 0,
    );
    if predicted || !start {
        return false;
    }
    if !layers {
        return true;
    }
    let id_len = match (id, payload.get(1)) {
        (false, _) => 0,
        (true, Some(byte)) if byte & 0x80 != 0 => 2,
        (true, _) => 1,
    };
    payload
        .get(1 + id_len)
        .is_some_and(|layer| (layer >> 1) & 0x07 == 0)
}

/// RFC 6184 §5.2: a sequence parameter set, alone or first in an aggregate. Decoders need it before the picture itself.
fn h264_keyframe_start(payload: &[u8]) -> bool {
    const SPS: u8 = 7;
    const STAP_A: u8 = 24;
    match payload.first().map(|byte| byte & 0x1f) {
        Some(SPS) => true,
        Some(STAP_A) => payload.get(3).is_some_and(|byte| byte & 0x1f == SPS),
        _ => false,
    }
}

/// AV1 RTP payload format §4.4: the N bit marks the first packet of a coded video sequence.
fn av1_keyframe_start(payload: &[u8]) -> bool {
    payload.first().is_some_and(|byte| byte & 0x08 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn starts(codec: Codec, payload: &[u8]) -> bool {
        read(codec, payload).unwrap().keyframe_start
    }

    #[test]
    fn vp8_keyframes_and_their_sizes_are_read() {
        // Picture id 17, start of the first partition; a keyframe of 640×360.
        let payload = [
            0x90, 0x80, 0x11, 0x10, 0x02, 0x00, 0x9d, 0x01, 0x2a, 0x80, 0x02, 0x68, 0x01, 0x00,
        ];
        let read = read(Codec::Vp8, &payload).unwrap();
        assert!(read.keyframe_start);
        assert_eq!(read.size, Some(Size::new(640, 360)));
        assert_eq!(read.vp8.unwrap().1, 3);
        assert!(
            !starts(Codec::Vp8, &[0x90, 0x80, 0x11, 0x11, 0x02, 0x00]),
            "an inter frame"
        );
        assert!(
            !starts(Codec::Vp8, &[0x80, 0x80, 0x11, 0x10, 0x02, 0x00]),
            "not the start of a partition"
        );
        assert!(
            !starts(Codec::Vp8, &[0x91, 0x80, 0x11, 0x10, 0x02, 0x00]),
            "the second partition"
        );
        assert_eq!(super::read(Codec::Vp8, &[0x90, 0x80]), Err(Malformed));
    }

    #[test]
    fn a_vp8_keyframe_whose_frame_is_unreadable_behind_its_first_byte_still_starts() {
        let read = read(Codec::Vp8, &[0x10, 0x00]).unwrap();
        assert!(read.keyframe_start);
        assert_eq!(read.size, None);
    }

    #[test]
    fn vp9_starts_at_the_lowest_layer_of_an_unpredicted_picture() {
        assert!(starts(Codec::Vp9, &[0x88, 0x11]));
        assert!(!starts(Codec::Vp9, &[0xc8, 0x11]), "predicted");
        assert!(
            !starts(Codec::Vp9, &[0x80, 0x11]),
            "not the start of a frame"
        );
        assert!(
            starts(Codec::Vp9, &[0xa8, 0x91, 0x23, 0x00]),
            "15-bit id, spatial layer 0"
        );
        assert!(
            !starts(Codec::Vp9, &[0xa8, 0x91, 0x23, 0x02]),
            "15-bit id, spatial layer 1"
        );
        assert!(!starts(Codec::Vp9, &[0xa8]));
    }

    #[test]
    fn h264_starts_at_parameters_and_av1_at_a_new_sequence() {
        assert!(starts(Codec::H264, &[0x67, 0x42]));
        assert!(starts(Codec::H264, &[0x78, 0x00, 0x10, 0x67]));
        assert!(!starts(Codec::H264, &[0x65, 0x88]));
        assert!(!starts(Codec::H264, &[0x7c, 0x85]));
        assert!(starts(Codec::Av1, &[0x18]));
        assert!(!starts(Codec::Av1, &[0x10]));
        assert!(starts(Codec::Opus, &[0xfc]));
    }
}
