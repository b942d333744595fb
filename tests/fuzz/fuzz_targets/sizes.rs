//! The sizes of keyframes in H.264 parameter sets and AV1 sequence headers.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weir_wire::{av1, h264};

fuzz_target!(|bytes: &[u8]| {
    if let Some((width, height)) = h264::keyframe_size(bytes) {
        assert!(width > 0 && height > 0 && h264::starts_keyframe(bytes));
    }
    if let Some((width, height)) = av1::keyframe_size(bytes) {
        assert!(width > 0 && height > 0);
    }
    let _ = av1::starts_keyframe(bytes);
});
