//! VP8 payload descriptors and keyframe headers.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weir_wire::vp8::{DESCRIPTOR_BYTES_MAX, Descriptor, keyframe_size, starts_keyframe};

fuzz_target!(|bytes: &[u8]| {
    let Ok((descriptor, len)) = Descriptor::parse(bytes) else { return };
    let frame = &bytes[len..];
    if let Some((width, height)) = keyframe_size(frame) {
        assert!((1..0x4000).contains(&width) && (1..0x4000).contains(&height));
        assert_eq!(starts_keyframe(&descriptor, frame), descriptor.starts_picture());
    }
    let mut out = [0; DESCRIPTOR_BYTES_MAX];
    let written = descriptor.emit(&mut out).expect("there is room");
    assert!(written <= len, "reserved bits and empty fields may go, nothing may come");
    assert_eq!(Descriptor::parse(&out[..written]), Ok((descriptor, written)));
});
