//! The data channel's messages in both dialects, from either side: what can be read means the same when it is said again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weir_signal::channel::{Dialect, Frame, FromClient, ToClient};

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(frame) = Frame::open(text) else { return };
    let _ = (frame.name(), frame.is_error());
    match FromClient::read(&frame) {
        // The early dialect has one word for ping and pong; what is unknown has no meaning to be kept.
        Err(_) | Ok(FromClient::Ping | FromClient::Unknown { .. }) => {}
        Ok(message) => Dialect::ALL.into_iter().for_each(|dialect| {
            let texts = message.to_texts(dialect);
            for text in &texts {
                let again = FromClient::parse(text).expect("what is written can be read");
                assert!(texts.len() > 1 || again == message, "{again:?}");
            }
        }),
    }
    match ToClient::read(&frame) {
        Err(_) | Ok(ToClient::Pong | ToClient::Unknown { .. }) => {}
        Ok(message) => Dialect::ALL.into_iter().for_each(|dialect| {
            let again = ToClient::parse(&message.to_text(dialect));
            assert_eq!(again.expect("what is written can be read"), message);
        }),
    }
});
