//! Protected packets from someone without the key: every one is refused, and leaves no state. And whatever is protected, the SIMD
//! kernels and the library protect to the same bytes, and open again.
#![no_main]

use std::cell::RefCell;

use libfuzzer_sys::fuzz_target;
use weir_srtp::{MasterKey, Profile, Receiver, Sender};
use weir_wire::{ExtSeq, Seq};

thread_local! {
    static RECEIVERS: RefCell<Vec<Receiver>> = RefCell::new(Profile::ALL.into_iter().map(receiver).collect());
}

fn master(profile: Profile) -> MasterKey {
    let master = MasterKey::new(profile, &[0x5a; 32][..profile.key_len()], &[0xa5; 14][..profile.salt_len()]);
    master.expect("the lengths are the profile's")
}

fn receiver(profile: Profile) -> Receiver {
    Receiver::new(&master(profile), 4)
}

/// Takes the bytes for extensions and payload of a packet: the first says how many are which.
fn protect_with_both(bytes: &[u8]) {
    let (Some((&first, rest)), [high, low, ..]) = (bytes.split_first(), bytes) else {
        return;
    };
    let index = ExtSeq::new(u32::from(first), Seq(u16::from_be_bytes([*high, *low])));
    let mut header = vec![0x80, 96, *high, *low, 0, 0, 0, 0, 1, 2, 3, 4];
    let words = (usize::from(first) % 75).min(rest.len() / 4);
    let (extension, payload) = rest.split_at(4 * words);
    header[0] |= 0x10;
    header.extend([0xbe, 0xde, 0, words as u8]);
    header.extend(extension);
    for profile in Profile::ALL {
        let key = master(profile);
        let mut sealed = [vec![0; bytes.len() + 64], vec![0; bytes.len() + 64]];
        let senders = [Sender::new(&key), Sender::portable(&key)];
        for (mut sender, sealed) in senders.into_iter().zip(&mut sealed) {
            let len = sender.protect_rtp(&header, payload, index, sealed).expect("there is room");
            sealed.truncate(len);
        }
        assert_eq!(sealed[0], sealed[1]);
        // A receiver guesses the roll-over counter of a first packet to be 0.
        if index.roll_over() == 0 {
            for mut receiver in [Receiver::new(&key, 1), Receiver::portable(&key, 1)] {
                let mut packet = sealed[0].clone();
                let opened = receiver.unprotect_rtp(&mut packet).expect("it is authentic");
                assert_eq!(packet[..header.len()], header[..]);
                assert_eq!(packet[header.len()..opened.len], *payload);
            }
        }
    }
}

fuzz_target!(|bytes: &[u8]| {
    protect_with_both(bytes);
    RECEIVERS.with_borrow_mut(|receivers| {
        for receiver in receivers {
            assert!(receiver.unprotect_rtp(&mut bytes.to_vec()).is_err());
            assert!(receiver.unprotect_rtcp(&mut bytes.to_vec()).is_err());
            assert_eq!(receiver.sources(), (0, 0));
        }
    });
});
