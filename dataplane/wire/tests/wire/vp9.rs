use weir_wire::NoRoom;
use weir_wire::vp8::PictureId;
use weir_wire::vp9::{Descriptor, Error, HEAD_BYTES_MAX, Head, Layers};

use crate::{Random, hex};

#[test]
fn reads_the_start_of_a_keyframe_with_its_structure() {
    // I L B V; id 0x1234 in 15 bits; layer S0T0, no U; TL0PICIDX 7; three layers with sizes, a group of one picture with one
    // reference; the frame.
    let payload = hex("aa 9234 00 07  58 0140 00b4 0280 0168 0500 02d0 01 04 01  824983");
    let descriptor = Descriptor::parse(&payload).unwrap();
    assert_eq!(descriptor.head.picture_id, Some(PictureId::Fifteen(0x1234)));
    assert_eq!(descriptor.head.tl0_picture_index, Some(7));
    assert_eq!((descriptor.head_len, descriptor.len), (5, 21));
    assert_eq!(descriptor.spatial_layers, 3);
    assert_eq!(
        descriptor.sizes[..4],
        [Some((320, 180)), Some((640, 360)), Some((1280, 720)), None]
    );
    assert!(descriptor.starts_keyframe());
}

#[test]
fn reads_layers_and_reference_indices() {
    // I P L F E; id 5; S1T2 U D; two reference indices; the frame.
    let descriptor = Descriptor::parse(&hex("f4 05 53 03 04 00")).unwrap();
    let head = descriptor.head;
    assert_eq!(
        head.layers,
        Some(Layers {
            temporal: 2,
            switching_up: true,
            spatial: 1,
            inter_layer: true
        })
    );
    assert_eq!(head.picture_id, Some(PictureId::Seven(5)));
    assert!(head.predicted && head.flexible && head.end_of_frame && !head.start_of_frame);
    assert_eq!(head.tl0_picture_index, None);
    assert_eq!((descriptor.head_len, descriptor.len), (3, 5));
}

#[test]
fn only_the_lowest_layer_of_an_unpredicted_picture_starts_a_keyframe() {
    let starts = |bytes| Descriptor::parse(&hex(bytes)).unwrap().starts_keyframe();
    assert!(starts("88 01 00"));
    assert!(!starts("c8 01 00"), "predicted");
    assert!(!starts("80 01 00"), "not the start of a frame");
    assert!(starts("a8 9123 00 00"), "spatial layer 0");
    assert!(!starts("a8 9123 02 00"), "spatial layer 1");
}

#[test]
fn truncated_and_absurd_descriptors_are_refused() {
    for bytes in [
        "",
        "80",
        "80 80",
        "20",
        "20 00",
        "50",
        "50 01",
        "02",
        "02 10 0000",
        "02 08",
        "02 08 01",
        "02 08 01 04",
    ] {
        assert_eq!(
            Descriptor::parse(&hex(bytes)),
            Err(Error::TooShort),
            "{bytes}"
        );
    }
    assert_eq!(
        Descriptor::parse(&hex("50 01 01 01 00")),
        Err(Error::TooManyReferences)
    );
}

#[test]
fn every_head_comes_back_as_it_was_written() {
    let mut random = Random(9);
    for bits in 0..4096_u32 {
        let flag = |bit: u32| bits >> bit & 1 != 0;
        let layers = flag(6).then_some(Layers {
            temporal: (bits % 8) as u8,
            switching_up: flag(7),
            spatial: (bits / 8 % 8) as u8,
            inter_layer: flag(8),
        });
        let head = Head {
            predicted: flag(0),
            flexible: flag(1),
            start_of_frame: flag(2),
            end_of_frame: flag(3),
            has_structure: false,
            not_a_reference: flag(5),
            picture_id: match bits >> 9 & 3 {
                0 => None,
                1 => Some(PictureId::Seven(random.next() as u8 & 0x7f)),
                _ => Some(PictureId::Fifteen(random.next() as u16 & 0x7fff)),
            },
            layers,
            tl0_picture_index: (layers.is_some() && !flag(1)).then_some(bits as u8),
        };
        let mut out = [0; HEAD_BYTES_MAX + 1];
        let len = head.emit(&mut out).unwrap();
        assert_eq!(len, head.len());
        assert_eq!(head.emit(&mut out[..len - 1]), Err(NoRoom));
        // Behind it stands a zero: the end of the reference indices, if there are any.
        let read = Descriptor::parse(&out[..len + 1]).unwrap();
        assert_eq!((read.head, read.head_len), (head, len));
    }
}
