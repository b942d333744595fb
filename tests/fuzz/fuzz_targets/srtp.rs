//! Protected packets from someone without the key: every one is refused, and leaves no state.
#![no_main]

use std::cell::RefCell;

use libfuzzer_sys::fuzz_target;
use weir_srtp::{MasterKey, Profile, Receiver};

thread_local! {
    static RECEIVERS: RefCell<Vec<Receiver>> = RefCell::new(Profile::ALL.into_iter().map(receiver).collect());
}

fn receiver(profile: Profile) -> Receiver {
    let master = MasterKey::new(profile, &[0x5a; 32][..profile.key_len()], &[0xa5; 14][..profile.salt_len()]);
    Receiver::new(&master.expect("the lengths are the profile's"), 4)
}

fuzz_target!(|bytes: &[u8]| {
    RECEIVERS.with_borrow_mut(|receivers| {
        for receiver in receivers {
            assert!(receiver.unprotect_rtp(&mut bytes.to_vec()).is_err());
            assert!(receiver.unprotect_rtcp(&mut bytes.to_vec()).is_err());
            assert_eq!(receiver.sources(), (0, 0));
        }
    });
});
