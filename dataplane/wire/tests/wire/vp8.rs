use weir_wire::NoRoom;
use weir_wire::vp8::{Descriptor, Error, PictureId, Temporal, keyframe_size, starts_keyframe};

use crate::hex;

#[test]
fn reads_the_start_of_a_keyframe() {
    let payload = hex("d0 80 11 00");
    let (descriptor, len) = Descriptor::parse(&payload).unwrap();
    assert_eq!(descriptor.picture_id, Some(PictureId::Seven(17)));
    assert_eq!(len, 3);
    assert!(starts_keyframe(&descriptor, &payload[len..]));
    assert!(
        !starts_keyframe(&descriptor, &[0x01]),
        "an interframe has the P bit"
    );
    assert!(
        !starts_keyframe(&descriptor, &[]),
        "an empty frame says nothing"
    );
}

#[test]
fn reads_temporal_layer_and_key_index() {
    let (descriptor, len) = Descriptor::parse(&hex("88 3e e4 00")).unwrap();
    assert_eq!(
        descriptor.temporal,
        Some(Temporal {
            id: 3,
            layer_sync: true
        })
    );
    assert_eq!(descriptor.key_index, Some(4));
    assert_eq!(
        (descriptor.picture_id, descriptor.tl0_picture_index),
        (None, None)
    );
    assert_eq!(len, 3);
}

#[test]
fn reads_everything_at_once() {
    let (descriptor, len) = Descriptor::parse(&hex("b5 f0 b49d ea 77")).unwrap();
    let expected = Descriptor {
        non_reference: true,
        start_of_partition: true,
        partition_index: 5,
        picture_id: Some(PictureId::Fifteen(13469)),
        tl0_picture_index: Some(234),
        temporal: Some(Temporal {
            id: 1,
            layer_sync: true,
        }),
        key_index: Some(23),
    };
    assert_eq!((descriptor, len), (expected, 6));
}

#[test]
fn without_the_x_bit_there_is_no_id() {
    let (descriptor, len) = Descriptor::parse(&hex("10 80 11 00")).unwrap();
    assert_eq!((descriptor.picture_id, len), (None, 1));
    assert!(descriptor.starts_picture());
}

#[test]
fn a_truncated_descriptor_is_refused() {
    for bytes in [
        "",
        "80",
        "80 80",
        "80 80 80",
        "80 40",
        "80 20",
        "80 10",
        "80 c0 01",
        "80 f0 8001",
        "80 f0 800101",
    ] {
        assert_eq!(
            Descriptor::parse(&hex(bytes)),
            Err(Error::TooShort),
            "{bytes}"
        );
    }
}

#[test]
fn every_shape_comes_back_as_it_was_written() {
    for bits in 0..64_u32 {
        let descriptor = Descriptor {
            non_reference: bits & 1 != 0,
            start_of_partition: bits & 2 != 0,
            partition_index: (bits % 8) as u8,
            picture_id: match bits >> 2 & 3 {
                0 => None,
                1 => Some(PictureId::Seven(127)),
                _ => Some(PictureId::Fifteen(bits as u16)),
            },
            tl0_picture_index: (bits & 4 != 0).then_some(255),
            temporal: (bits & 16 != 0).then_some(Temporal {
                id: 2,
                layer_sync: bits & 1 != 0,
            }),
            key_index: (bits & 32 != 0).then_some(31),
        };
        let mut out = [0; 6];
        let len = descriptor.emit(&mut out).unwrap();
        assert_eq!(len, descriptor.len());
        assert_eq!(Descriptor::parse(&out[..len]), Ok((descriptor, len)));
        assert_eq!(descriptor.emit(&mut out[..len - 1]), Err(NoRoom));
    }
}

#[test]
fn a_picture_id_keeps_its_width() {
    let wide = Descriptor {
        picture_id: Some(PictureId::Fifteen(45)),
        ..Descriptor::default()
    };
    let mut out = [0; 6];
    let len = wide.emit(&mut out).unwrap();
    assert_eq!(out[..len], hex("80 80 802d"));
}

#[test]
fn picture_ids_roll_over_at_their_width() {
    assert_eq!(PictureId::Fifteen(32767).add(1), PictureId::Fifteen(0));
    assert_eq!(PictureId::Seven(127).add(1), PictureId::Seven(0));
    assert_eq!(
        PictureId::Fifteen(1).distance_from(PictureId::Fifteen(32767)),
        2
    );
    assert_eq!(
        PictureId::Fifteen(32767).distance_from(PictureId::Fifteen(1)),
        -2
    );
    assert_eq!(PictureId::Seven(3).distance_from(PictureId::Seven(126)), 5);
    assert_eq!(PictureId::Seven(126).distance_from(PictureId::Seven(3)), -5);
    for start in [0, 1, 127, 128, 255, 32766, 32767] {
        for step in 0..16384 {
            let id = PictureId::Fifteen(start);
            assert_eq!(
                i32::from(id.add(step).distance_from(id)),
                i32::from(step),
                "{start} + {step}"
            );
        }
    }
}

#[test]
fn reads_the_size_of_a_keyframe() {
    assert_eq!(
        keyframe_size(&hex("500200 9d012a 8002 6801")),
        Some((640, 360))
    );
    assert_eq!(
        keyframe_size(&hex("500200 9d012a 80c2 6841")),
        Some((640, 360)),
        "scaling is not size"
    );
    assert_eq!(
        keyframe_size(&hex("510200 9d012a 8002 6801")),
        None,
        "an interframe"
    );
    assert_eq!(
        keyframe_size(&hex("500200 9d012b 8002 6801")),
        None,
        "no start code, so it is encrypted"
    );
    assert_eq!(
        keyframe_size(&hex("500200 9d012a 8002 68")),
        None,
        "too short"
    );
    assert_eq!(
        keyframe_size(&hex("500200 9d012a 0000 6801")),
        None,
        "no width"
    );
}
