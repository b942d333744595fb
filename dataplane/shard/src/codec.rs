//! What a packet says about the frame it belongs to: whether a keyframe begins here, how large its picture is, and which layers
//! it is of.
//!
//! Only the dependency descriptor, payload descriptors and the first bytes behind them are read, so that frames which are
//! encrypted end to end forward as well. What cannot be read is `false` or `None`.

mod dependency;
mod descriptor;

use weir_wire::{av1, h264, vp8, vp9};

use crate::ids::{Codec, Size};
use crate::layers::{Opens, Sublayer};
use crate::limits::SPATIAL_LAYERS_MAX;
pub(crate) use dependency::Dependencies;
pub(crate) use descriptor::Descriptor;

/// Sizes by spatial layer.
pub(crate) type Sizes = [Option<Size>; SPATIAL_LAYERS_MAX];

/// What was read of a payload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Payload {
    /// The first packet of a keyframe: a decoder can start here.
    pub(crate) keyframe_start: bool,
    /// What a keyframe says about the sizes of its layers.
    pub(crate) sizes: Sizes,
    pub(crate) sublayer: Sublayer,
    pub(crate) opens: Opens,
    /// The last packet of a frame that need not be the last of its picture.
    pub(crate) frame_end: bool,
    /// The part of the descriptor that is rewritten, and its length as it came.
    pub(crate) descriptor: Descriptor,
    pub(crate) descriptor_len: usize,
}

impl Payload {
    /// A keyframe may start here, and this is the size that it says.
    fn start(keyframe_start: bool, size: Option<(u16, u16)>) -> Self {
        let size = size.filter(|_| keyframe_start);
        Self {
            keyframe_start,
            sizes: [size.map(Size::from), None, None, None],
            opens: if keyframe_start {
                Opens::Everything
            } else {
                Opens::Nothing
            },
            ..Self::default()
        }
    }
}

/// The payload cannot be of its codec.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// Reads a payload that is not empty.
pub(crate) fn read(codec: Codec, payload: &[u8]) -> Result<Payload, Malformed> {
    Ok(match codec {
        // Every audio packet is a place to start.
        Codec::Opus | Codec::Red => Payload::start(true, None),
        Codec::Vp8 => return read_vp8(payload),
        Codec::Vp9 => return read_vp9(payload),
        Codec::H264 => {
            let starts = h264::starts_keyframe(payload);
            Payload::start(
                starts,
                starts.then(|| h264::keyframe_size(payload)).flatten(),
            )
        }
        Codec::Av1 => {
            let starts = av1::starts_keyframe(payload);
            Payload::start(
                starts,
                starts.then(|| av1::keyframe_size(payload)).flatten(),
            )
        }
    })
}

fn read_vp8(payload: &[u8]) -> Result<Payload, Malformed> {
    let (descriptor, len) = vp8::Descriptor::parse(payload).map_err(|_| Malformed)?;
    let frame = payload.get(len..).unwrap_or(&[]);
    let starts = vp8::starts_keyframe(&descriptor, frame);
    let start = Payload::start(starts, vp8::keyframe_size(frame));
    let temporal = descriptor.temporal;
    Ok(Payload {
        sublayer: Sublayer::new(0, temporal.map_or(0, |temporal| temporal.id)),
        opens: match temporal {
            Some(temporal) if temporal.layer_sync && !starts => Opens::Own,
            _ => start.opens,
        },
        descriptor: Descriptor::Vp8(descriptor),
        descriptor_len: len,
        ..start
    })
}

fn read_vp9(payload: &[u8]) -> Result<Payload, Malformed> {
    let descriptor = vp9::Descriptor::parse(payload).map_err(|_| Malformed)?;
    let head = descriptor.head;
    let start = Payload::start(descriptor.starts_keyframe(), None);
    let mut sizes = start.sizes;
    for (size, said) in sizes.iter_mut().zip(descriptor.sizes) {
        *size = said.map(Size::from);
    }
    let opens = match head.layers {
        _ if start.keyframe_start => Opens::Everything,
        Some(layers) if layers.switching_up => {
            let mut open = [None; SPATIAL_LAYERS_MAX];
            let own = usize::from(layers.spatial).min(SPATIAL_LAYERS_MAX - 1);
            open[own] = Some(Sublayer::ALL.temporal);
            Opens::UpTo(open)
        }
        // Predicted at most from the layer below in the same picture.
        Some(_) if !head.predicted => Opens::Own,
        _ => Opens::Nothing,
    };
    let (spatial, temporal) = head
        .layers
        .map_or((0, 0), |layers| (layers.spatial, layers.temporal));
    Ok(Payload {
        sizes,
        sublayer: Sublayer::new(spatial, temporal),
        opens,
        frame_end: head.end_of_frame,
        descriptor: Descriptor::Vp9(head),
        descriptor_len: descriptor.head_len,
        ..start
    })
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
        assert_eq!(read.sizes[0], Some(Size::new(640, 360)));
        assert_eq!(read.descriptor_len, 3);
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
        assert_eq!(read.sizes, [None; 4]);
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
            starts(Codec::Vp9, &[0xa8, 0x91, 0x23, 0x00, 0x07]),
            "15-bit id, spatial layer 0"
        );
        assert!(
            !starts(Codec::Vp9, &[0xa8, 0x91, 0x23, 0x02, 0x07]),
            "15-bit id, spatial layer 1"
        );
        assert_eq!(super::read(Codec::Vp9, &[0xa8]), Err(Malformed));
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
