//! What media encryption costs a participant, for each frame: `cargo run --release -p weir-sframe --example cost`.

use std::collections::BTreeSet;
use std::hint::black_box;
use std::time::{Duration, Instant};

use rand::SeedableRng as _;
use rand::rngs::StdRng;
use weir_sframe::{Clear, Conference, ParticipantId, Receiver, Sender, Suite};

/// Bytes of a frame: 20 ms of Opus, a picture of each layer at its usual rate, a keyframe of the largest.
const FRAMES: [(&str, usize); 5] = [
    ("sound, 80 bytes", 80),
    ("320×180, 500 bytes", 500),
    ("640×360, 1250 bytes", 1250),
    ("1280×720, 7 KB", 7_000),
    ("keyframe, 60 KB", 60_000),
];
const COUNT: usize = 20_000;
/// Of 140 frames that a sender counts in a second (a microphone, three layers), a viewer gets 80: about one in so many.
const VIEWED_ONE_IN: usize = 2;

fn main() {
    for suite in [Suite::Aes128Gcm, Suite::Aes256Gcm] {
        println!("{suite:?}                encrypt    decrypt    decrypt, others skipped");
        for (name, bytes) in FRAMES {
            let frame = vec![0x11; bytes];
            let (sealing, sealed) = timed(|sender| encrypt(sender, &frame), suite);
            let opening = open_all(suite, &sealed, 1);
            let skipping = open_all(suite, &sealed, VIEWED_ONE_IN);
            let us = |time: Duration| time.as_secs_f64() * 1e6;
            println!(
                "{name:22} {:8.2} µs {:8.2} µs {:8.2} µs",
                us(sealing),
                us(opening),
                us(skipping)
            );
        }
    }
    let (step, _) = timed(|sender| encrypt(sender, b"x"), Suite::Aes128Gcm);
    let us = step.as_secs_f64() * 1e6;
    println!("a step of the ratchet and its key, however small the frame: {us:.2} µs");
}

fn conference() -> Conference {
    Conference {
        room_id: "!room:x".into(),
        call_id: "call".into(),
    }
}

fn sender(suite: Suite) -> Sender {
    Sender::new(conference(), suite, StdRng::seed_from_u64(1))
}

fn encrypt(sender: &mut Sender, frame: &[u8]) -> Vec<u8> {
    let sealed = sender.encrypt(Clear::FirstByte, frame);
    sealed.expect("far from the session's end")
}

/// The mean time of an action, and what it gave.
fn timed<T>(mut act: impl FnMut(&mut Sender) -> T, suite: Suite) -> (Duration, Vec<T>) {
    let mut sender = sender(suite);
    let began = Instant::now();
    let all = (0..COUNT).map(|_| black_box(act(&mut sender))).collect();
    (began.elapsed() / COUNT as u32, all)
}

/// The mean time of decrypting every `one_in`th frame.
fn open_all(suite: Suite, sealed: &[Vec<u8>], one_in: usize) -> Duration {
    let (own, viewer) = (
        ParticipantId::new("@a:x", "A"),
        ParticipantId::new("@b:x", "B"),
    );
    let now = Instant::now();
    // The same seed: the same session as the one that sealed.
    let mut sender = sender(suite);
    sender.set_members(BTreeSet::from([viewer]), now);
    let share = sender.poll_share(now).expect("the viewer is owed the key");
    let mut receiver = Receiver::new(conference());
    let taken = receiver.handle_key(&own, &share.key);
    taken.expect("a key of our own");
    let began = Instant::now();
    for sealed in sealed.iter().step_by(one_in) {
        let opened = receiver.decrypt(&own, Clear::FirstByte, sealed, now);
        black_box(opened.expect("the right key"));
    }
    began.elapsed() / (sealed.len() / one_in) as u32
}
