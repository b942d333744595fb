//! VP9 payload descriptors.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weir_wire::vp9::{Descriptor, HEAD_BYTES_MAX};

fuzz_target!(|bytes: &[u8]| {
    let Ok(descriptor) = Descriptor::parse(bytes) else { return };
    assert!(descriptor.head_len <= descriptor.len && descriptor.len <= bytes.len());
    assert!(descriptor.sizes.iter().flatten().count() <= descriptor.spatial_layers);
    let _ = descriptor.starts_keyframe();
    let mut out = [0; HEAD_BYTES_MAX];
    let written = descriptor.head.emit(&mut out).expect("there is room");
    assert_eq!(out[..written], bytes[..descriptor.head_len], "a head has one form only");
});
