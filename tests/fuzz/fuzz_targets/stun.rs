//! STUN messages: structure, attributes, integrity and fingerprint.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weir_wire::stun::{Key, MESSAGE_BYTES_MAX, Message, emit_success};

fuzz_target!(|bytes: &[u8]| {
    let Ok(message) = Message::parse(bytes) else { return };
    let values: usize = message.attributes().map(|(_, value)| value.len() + 4).sum();
    assert!(values <= bytes.len());
    let _ = (message.class(), message.is_binding(), message.priority(), message.use_candidate(), message.role());
    let _ = (message.ufrags(), message.error_code(), message.unknown_required());
    // The password is not in the input: nothing that is found here can pass.
    let key = Key::new("0123456789abcdef01234567");
    assert!(message.check_integrity(&key).is_err());
    let _ = message.check_fingerprint();
    if let Some(address) = message.xor_mapped_address() {
        let mut out = [0; MESSAGE_BYTES_MAX];
        let len = emit_success(message.transaction_id(), address, &key, &mut out).expect("there is room");
        let again = Message::parse(&out[..len]).expect("what is written can be read");
        assert_eq!(again.xor_mapped_address().map(|a| (a.ip(), a.port())), Some((address.ip().to_canonical(), address.port())));
        assert!(again.check_integrity(&key).is_ok());
    }
});
