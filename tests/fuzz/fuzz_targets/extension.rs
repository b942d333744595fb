//! Header extension blocks in both forms, and the elements that are read here.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weir_wire::extension::{AudioLevel, Elements, absolute_send_time, stream_name, transport_sequence};

fuzz_target!(|bytes: &[u8]| {
    let Some((&[high, low], block)) = bytes.split_first_chunk::<2>() else { return };
    let mut data_len = 0;
    for element in Elements::new(u16::from_be_bytes([high, low]), block) {
        assert_ne!(element.id, 0);
        data_len += 1 + element.data.len();
        if let Some(level) = AudioLevel::parse(element.data) {
            assert_eq!(level.emit()[0], element.data[0]);
        }
        if let Some(name) = stream_name(element.data) {
            assert!(name.bytes().all(|byte| byte.is_ascii_graphic()));
        }
        let _ = (transport_sequence(element.data), absolute_send_time(element.data));
    }
    assert!(data_len <= block.len());
});
