//! SFrame from someone without the key: a header that is read is written to the same bytes, every frame is refused, and uses up no
//! key. And whatever is encrypted decrypts to itself, once.
#![no_main]

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::time::Instant;

use libfuzzer_sys::fuzz_target;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use weir_sframe::{Clear, Conference, Header, ParticipantId, Receiver, Refused, Sender, Suite};

struct Pair {
    sender: Sender,
    receiver: Receiver,
    from: ParticipantId,
    now: Instant,
}

thread_local! {
    static PAIR: RefCell<Pair> = RefCell::new(pair());
}

fn pair() -> Pair {
    let conference = Conference { room_id: "!r:x".into(), call_id: "c".into() };
    let (from, to) = (ParticipantId::new("@a:x", "A"), ParticipantId::new("@b:x", "B"));
    let mut sender = Sender::new(conference.clone(), Suite::Aes128Gcm, StdRng::seed_from_u64(1));
    let mut receiver = Receiver::new(conference);
    let now = Instant::now();
    sender.set_members(BTreeSet::from([to]), now);
    let share = sender.poll_share(now).expect("the member is owed the key");
    receiver.handle_key(&from, &share.key).expect("a valid key");
    Pair { sender, receiver, from, now }
}

fuzz_target!(|bytes: &[u8]| {
    if let Ok((header, own, rest)) = Header::parse(bytes) {
        let mut again = Vec::new();
        header.emit(&mut again);
        assert_eq!((again.as_slice(), own.len() + rest.len()), (own, bytes.len()));
    }
    PAIR.with_borrow_mut(|Pair { sender, receiver, from, now }| {
        for clear in [Clear::Nothing, Clear::FirstByte] {
            assert!(receiver.decrypt(from, clear, bytes, *now).is_err());
            let Ok(sealed) = sender.encrypt(clear, bytes) else {
                assert!(bytes.is_empty());
                continue;
            };
            let opened = receiver.decrypt(from, clear, &sealed, *now);
            assert_eq!(opened.as_deref(), Ok(bytes));
            assert_eq!(receiver.decrypt(from, clear, &sealed, *now), Err(Refused::Replayed));
        }
    });
});
