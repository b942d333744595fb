//! Keyframes and their sizes in H.264 and AV1 payloads, as ffmpeg's x264, libaom and SVT-AV1 write them.

use weir_wire::{av1, h264};

use crate::hex;

#[test]
fn reads_the_size_of_h264_pictures() {
    // A multiple of 16 and not, baseline and high profile, with the byte that keeps start codes apart.
    for (sps, size) in [
        (
            "6742c016d900a02ff97011000003000100000300020f162e48",
            (640, 360),
        ),
        (
            "6742c01fd9005005bb011000000300100000030020f18324",
            (1280, 720),
        ),
        (
            "6742c00bd901419f9f011000000300100000030020f142a4",
            (320, 180),
        ),
        (
            "67640016acd940a02ff97011000003000100000300020f162d96",
            (640, 360),
        ),
    ] {
        let sps = hex(sps);
        assert!(h264::starts_keyframe(&sps));
        assert_eq!(h264::keyframe_size(&sps), Some(size));
        let aggregate = [&[0x78, 0, sps.len() as u8][..], &sps, &[0, 4, 0x68, 0xcb]].concat();
        assert!(h264::starts_keyframe(&aggregate));
        assert_eq!(h264::keyframe_size(&aggregate), Some(size));
        for len in 1..9 {
            assert!(h264::starts_keyframe(&sps[..len]), "encrypted or cut");
            assert_eq!(h264::keyframe_size(&sps[..len]), None);
        }
    }
}

#[test]
fn other_units_start_no_keyframe() {
    for payload in [
        "",
        "65 88",
        "41 9a",
        "7c 85",
        "78",
        "78 00 03 68 cb 83",
        "78 00 00",
    ] {
        assert!(!h264::starts_keyframe(&hex(payload)), "{payload}");
        assert_eq!(h264::keyframe_size(&hex(payload)), None);
    }
}

#[test]
fn reads_the_size_of_av1_sequences() {
    for header in [
        "0a0d 2000 000c c4ff 6736 be48 0868 01",
        "0a0b 0000 000c c4ff 673e fe40 10",
    ] {
        let unit = hex(header);
        // N, one unit; N, two units of which the first has a length before it; N, any number.
        let alone = [&[0x18][..], &unit].concat();
        let first = [&[0x28, unit.len() as u8][..], &unit, &[0x32, 0, 0]].concat();
        let any = [&[0x08, unit.len() as u8][..], &unit].concat();
        for payload in [alone, first, any] {
            assert!(av1::starts_keyframe(&payload));
            assert_eq!(av1::keyframe_size(&payload), Some((640, 360)));
            assert_eq!(av1::keyframe_size(&payload[..6]), None);
        }
    }
}

#[test]
fn other_av1_packets_start_no_sequence() {
    assert!(!av1::starts_keyframe(&[0x10, 0x32, 0x00]));
    assert!(!av1::starts_keyframe(&[]));
    for payload in [
        "",
        "90 0a 0d 20",
        "18",
        "18 32 00",
        "28 ff ff ff ff ff",
        "28 05 0a",
    ] {
        assert_eq!(av1::keyframe_size(&hex(payload)), None, "{payload}");
    }
}
