//! One sender and those who listen: what decrypts, what is refused, and when a new session is used.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use rand::SeedableRng as _;
use rand::rngs::StdRng;
use weir_sframe::{
    Clear, Conference, EncryptError, Header, HeaderError, KeyRefused, LATE_MAX, ParticipantId,
    REPEAT_AFTER, Receiver, Refused, RoomKey, SESSIONS_MAX, SWITCH_WITHIN, Sender, Suite,
};

fn conference() -> Conference {
    Conference {
        room_id: "!room:x".into(),
        call_id: "call".into(),
    }
}

fn id(name: &str) -> ParticipantId {
    ParticipantId::new(&format!("@{name}:x"), name)
}

fn sender(seed: u64) -> Sender {
    Sender::new(conference(), Suite::Aes128Gcm, StdRng::seed_from_u64(seed))
}

/// Ann, who sends, and whom she knows.
struct Ann {
    sender: Sender,
    members: BTreeSet<ParticipantId>,
    now: Instant,
}

impl Ann {
    fn new() -> Ann {
        Ann {
            sender: sender(1),
            members: BTreeSet::new(),
            now: Instant::now(),
        }
    }

    fn joins(&mut self, name: &str) {
        self.members.insert(id(name));
        self.sender.set_members(self.members.clone(), self.now);
    }

    fn leaves(&mut self, name: &str) {
        self.members.remove(&id(name));
        self.sender.set_members(self.members.clone(), self.now);
    }

    fn after(&mut self, time: Duration) {
        self.now += time;
        self.sender.handle_timeout(self.now);
    }

    /// All keys that she sends now.
    fn keys(&mut self) -> Vec<(ParticipantId, RoomKey)> {
        let share = |_| self.sender.poll_share(self.now);
        (0..)
            .map_while(share)
            .map(|share| (share.to, share.key))
            .collect()
    }

    fn frame(&mut self, text: &str) -> Vec<u8> {
        self.sender
            .encrypt(Clear::FirstByte, text.as_bytes())
            .unwrap()
    }

    fn frames(&mut self, count: usize) -> Vec<Vec<u8>> {
        (0..count).map(|_| self.frame("a frame")).collect()
    }
}

/// Somebody who listens to Ann.
struct Listener {
    name: &'static str,
    receiver: Receiver,
}

impl Listener {
    fn new(name: &'static str) -> Listener {
        Listener {
            name,
            receiver: Receiver::new(conference()),
        }
    }

    /// Takes those of the keys that are for this listener, and confirms them.
    fn takes(&mut self, keys: &[(ParticipantId, RoomKey)], ann: &mut Ann) {
        for (_, key) in keys.iter().filter(|(to, _)| *to == id(self.name)) {
            let received = self.receiver.handle_key(&id("ann"), key).unwrap();
            ann.sender
                .handle_received(&id(self.name), &received, ann.now);
        }
    }

    fn hears(&mut self, frame: &[u8], now: Instant) -> Result<String, Refused> {
        let decrypted = self
            .receiver
            .decrypt(&id("ann"), Clear::FirstByte, frame, now)?;
        Ok(String::from_utf8(decrypted).unwrap())
    }

    /// How many of the frames decrypt.
    fn hears_of(&mut self, frames: &[Vec<u8>], now: Instant) -> usize {
        frames
            .iter()
            .filter(|frame| self.hears(frame, now).is_ok())
            .count()
    }
}

/// Ann and Bob, who has her key.
fn ann_and_bob() -> (Ann, Listener) {
    let (mut ann, mut bob) = (Ann::new(), Listener::new("bob"));
    ann.joins("bob");
    let keys = ann.keys();
    bob.takes(&keys, &mut ann);
    (ann, bob)
}

/// Ann sends; everybody else has her key.
fn all_four() -> (Ann, Listener, Listener, Listener) {
    let (mut ann, bob) = ann_and_bob();
    let (mut cem, mut dee) = (Listener::new("cem"), Listener::new("dee"));
    ann.joins("cem");
    ann.joins("dee");
    let keys = ann.keys();
    cem.takes(&keys, &mut ann);
    dee.takes(&keys, &mut ann);
    (ann, bob, cem, dee)
}

#[test]
fn a_frame_decrypts_to_itself_and_its_first_byte_stays_readable() {
    let (mut ann, mut bob) = ann_and_bob();
    for text in ["a frame", "another one", "x"] {
        let sealed = ann.frame(text);
        assert_eq!(sealed.first(), text.as_bytes().first());
        if text.len() > 1 {
            let rest = &text.as_bytes()[1..];
            assert!(!sealed.windows(rest.len()).any(|part| part == rest));
        }
        assert_eq!(bob.hears(&sealed, ann.now).as_deref(), Ok(text));
    }
    for sound in [b"sound".as_slice(), b""] {
        let sealed = ann.sender.encrypt(Clear::Nothing, sound).unwrap();
        let heard = bob
            .receiver
            .decrypt(&id("ann"), Clear::Nothing, &sealed, ann.now);
        assert_eq!(heard.as_deref(), Ok(sound));
    }
    assert_eq!(
        ann.sender.encrypt(Clear::FirstByte, b""),
        Err(EncryptError::Empty)
    );
}

#[test]
fn every_frame_has_the_next_counter_whatever_its_stream() {
    let mut ann = Ann::new();
    let counters = (0..300).map(|n| {
        let clear = [Clear::Nothing, Clear::FirstByte][n % 2];
        let sealed = ann.sender.encrypt(clear, b"a frame").unwrap();
        let (header, _, _) = Header::parse(&sealed[n % 2..]).unwrap();
        (header.key_id, header.counter)
    });
    let expected: Vec<_> = (0..300).map(|counter| (0, counter)).collect();
    assert_eq!(counters.collect::<Vec<_>>(), expected);
}

#[test]
fn a_newcomer_cannot_decrypt_what_was_sent_before() {
    let (mut ann, mut bob) = ann_and_bob();
    let before = ann.frames(1000);
    ann.joins("cem");
    let keys = ann.keys();
    assert_eq!(keys.len(), 1, "Bob has it");
    let mut cem = Listener::new("cem");
    cem.takes(&keys, &mut ann);
    let after = ann.frames(1000);
    for frame in &before {
        assert_eq!(cem.hears(frame, ann.now), Err(Refused::BeforeKey));
    }
    assert_eq!(cem.hears_of(&after, ann.now), 1000);
    assert_eq!(bob.hears_of(&before, ann.now), 1000);
    assert_eq!(bob.hears_of(&after, ann.now), 1000);
    let counters = cem.receiver.counters();
    assert_eq!((counters.before_key, counters.decrypted), (1000, 1000));
}

#[test]
fn nobody_hears_anything_without_a_key() {
    let (mut ann, _) = ann_and_bob();
    let frame = ann.frame("a frame");
    let mut eve = Listener::new("eve");
    assert_eq!(eve.hears(&frame, ann.now), Err(Refused::UnknownSession));
    assert_eq!(eve.receiver.counters().unknown_session, 1);
}

#[test]
fn late_frames_decrypt_in_any_order_within_the_window() {
    let (mut ann, mut bob) = ann_and_bob();
    let mut frames = ann.frames(LATE_MAX as usize + 1);
    frames.reverse();
    assert_eq!(bob.hears_of(&frames, ann.now), LATE_MAX as usize + 1);
    assert_eq!(bob.receiver.counters().late, u64::from(LATE_MAX));
    let mut frames = ann.frames(200);
    frames.sort_by_key(|frame| frame[frame.len() - 1]);
    assert_eq!(bob.hears_of(&frames, ann.now), 200);
}

#[test]
fn a_frame_from_before_the_window_is_too_late() {
    let (mut ann, mut bob) = ann_and_bob();
    let frames = ann.frames(LATE_MAX as usize + 2);
    assert!(bob.hears(&frames[LATE_MAX as usize + 1], ann.now).is_ok());
    assert_eq!(bob.hears(&frames[0], ann.now), Err(Refused::TooLate));
    assert!(bob.hears(&frames[1], ann.now).is_ok());
    assert_eq!(bob.receiver.counters().too_late, 1);
}

#[test]
fn who_hears_nothing_for_long_goes_on_where_the_others_are() {
    let (mut ann, mut bob) = ann_and_bob();
    let frames = ann.frames(70_000);
    assert!(bob.hears(&frames[3], ann.now).is_ok());
    assert!(bob.hears(&frames[69_000], ann.now).is_ok());
    assert!(bob.hears(&frames[68_999], ann.now).is_ok());
    assert_eq!(bob.hears_of(&frames[69_001..], ann.now), 999);
}

#[test]
fn a_replay_is_refused_wherever_the_frame_stands() {
    let (mut ann, mut bob) = ann_and_bob();
    let frames = ann.frames(100);
    assert!(bob.hears(&frames[50], ann.now).is_ok());
    assert_eq!(bob.hears(&frames[50], ann.now), Err(Refused::Replayed));
    assert!(bob.hears(&frames[20], ann.now).is_ok(), "late");
    assert_eq!(bob.hears(&frames[20], ann.now), Err(Refused::Replayed));
    assert_eq!(bob.hears_of(&frames, ann.now), 98, "all but these two");
    assert_eq!(bob.receiver.counters().replayed, 4);
}

#[test]
fn a_frame_with_the_wrong_key_is_refused_and_uses_up_none() {
    let (mut ann, mut bob) = ann_and_bob();
    let mut mallory = sender(2);
    let forged: Vec<_> = (0..600)
        .map(|_| mallory.encrypt(Clear::FirstByte, b"a frame").unwrap())
        .collect();
    for frame in &forged {
        assert_eq!(bob.hears(frame, ann.now), Err(Refused::WrongKey));
    }
    let frames = ann.frames(600);
    assert_eq!(bob.hears_of(&frames, ann.now), 600);
    let counters = bob.receiver.counters();
    assert_eq!((counters.wrong_key, counters.decrypted), (600, 600));
}

#[test]
fn a_changed_frame_is_refused_and_the_true_one_still_decrypts() {
    let (mut ann, mut bob) = ann_and_bob();
    let frame = ann.frame("a frame");
    for at in [0, frame.len() / 2, frame.len() - 1] {
        let mut changed = frame.clone();
        changed[at] ^= 1;
        assert_eq!(bob.hears(&changed, ann.now), Err(Refused::WrongKey), "{at}");
    }
    assert_eq!(bob.hears(&frame, ann.now).as_deref(), Ok("a frame"));
}

#[test]
fn what_is_no_frame_is_refused() {
    let (ann, mut bob) = ann_and_bob();
    let truncated = Err(Refused::Header(HeaderError::Truncated));
    assert_eq!(bob.hears(&[], ann.now), truncated);
    assert_eq!(bob.hears(&[0x10], ann.now), truncated);
    assert_eq!(bob.hears(&[0x10, 0x0b, 1], ann.now), truncated);
    assert_eq!(bob.hears(&[0x10, 0x00], ann.now), Err(Refused::WrongKey));
    let last = [0x10, 0x0b, 0xff, 0xff, 0xff, 0xff];
    assert_eq!(bob.hears(&last, ann.now), Err(Refused::CounterTooLarge));
    let beyond = [0x10, 0x0c, 1, 0, 0, 0, 0];
    assert_eq!(bob.hears(&beyond, ann.now), Err(Refused::CounterTooLarge));
    assert_eq!(bob.receiver.counters().malformed, 5);
}

#[test]
fn after_a_departure_the_new_session_is_used_when_all_have_it() {
    let (mut ann, mut bob, mut cem, mut dee) = all_four();
    ann.leaves("dee");
    let keys = ann.keys();
    assert_eq!(keys.len(), 2);
    bob.takes(&keys, &mut ann);
    let between = ann.frame("not yet");
    assert_eq!(ann.sender.key_id(), 0);
    assert_eq!(dee.hears(&between, ann.now).as_deref(), Ok("not yet"));
    ann.after(Duration::from_millis(70));
    cem.takes(&keys, &mut ann);
    assert_eq!(ann.sender.key_id(), 1);
    let after = ann.frame("now");
    assert_eq!(dee.hears(&after, ann.now), Err(Refused::UnknownSession));
    assert_eq!(bob.hears(&after, ann.now).as_deref(), Ok("now"));
    assert_eq!(cem.hears(&after, ann.now).as_deref(), Ok("now"));
    assert_eq!(
        cem.hears(&between, ann.now).as_deref(),
        Ok("not yet"),
        "late"
    );
    let counters = ann.sender.counters();
    assert_eq!(
        (
            counters.departures,
            counters.switches,
            counters.switches_unconfirmed
        ),
        (1, 1, 0)
    );
    assert_eq!(
        (counters.switch_us, counters.switch_longest_us),
        (70_000, 70_000)
    );
}

#[test]
fn a_new_session_that_somebody_does_not_confirm_is_used_when_its_time_is_over() {
    let (mut ann, mut bob, mut cem, mut dee) = all_four();
    ann.leaves("dee");
    let keys = ann.keys();
    bob.takes(&keys, &mut ann);
    ann.after(SWITCH_WITHIN - Duration::from_millis(1));
    assert_eq!((ann.sender.key_id(), ann.sender.is_switching()), (0, true));
    ann.after(Duration::from_millis(1));
    assert_eq!((ann.sender.key_id(), ann.sender.is_switching()), (1, false));
    let frame = ann.frame("now");
    assert_eq!(bob.hears(&frame, ann.now).as_deref(), Ok("now"));
    assert_eq!(dee.hears(&frame, ann.now), Err(Refused::UnknownSession));
    assert_eq!(cem.hears(&frame, ann.now), Err(Refused::UnknownSession));
    // Cem is told again until he confirms, and hears from there on.
    let keys = ann.keys();
    assert_eq!(
        keys.iter().map(|(to, _)| to).collect::<Vec<_>>(),
        [&id("cem")]
    );
    cem.takes(&keys, &mut ann);
    assert_eq!(cem.hears(&frame, ann.now), Err(Refused::BeforeKey));
    let frame = ann.frame("again");
    assert_eq!(cem.hears(&frame, ann.now).as_deref(), Ok("again"));
    ann.after(REPEAT_AFTER * 2);
    assert_eq!(ann.keys().len(), 0, "everybody has confirmed");
    assert_eq!(ann.sender.poll_timeout(), None);
    assert_eq!(ann.sender.counters().switches_unconfirmed, 1);
}

#[test]
fn departures_in_a_row_do_not_put_off_the_first_one() {
    let mut ann = Ann::new();
    let mut bob = Listener::new("bob");
    for name in ["bob", "cem", "dee", "eva"] {
        ann.joins(name);
    }
    let keys = ann.keys();
    bob.takes(&keys, &mut ann);
    ann.leaves("cem");
    let second = SWITCH_WITHIN - Duration::from_secs(1);
    ann.after(second);
    let replaced = ann.keys();
    assert!(
        replaced
            .iter()
            .any(|(to, key)| *to == id("dee") && key.key_id == 1)
    );
    ann.leaves("dee");
    let keys = ann.keys();
    bob.takes(&keys, &mut ann);
    assert_eq!(ann.sender.key_id(), 0, "Eva has not confirmed");
    ann.after(Duration::from_secs(1));
    assert_eq!(ann.sender.key_id(), 2, "Dee may have the key of session 1");
    let frame = ann.frame("now");
    assert_eq!(bob.hears(&frame, ann.now).as_deref(), Ok("now"));
}

#[test]
fn who_joins_while_a_new_session_waits_gets_both() {
    let (mut ann, mut bob) = ann_and_bob();
    ann.joins("cem");
    ann.keys();
    ann.leaves("cem");
    ann.joins("dee");
    let mut dee = Listener::new("dee");
    let keys = ann.keys();
    let of_dee = keys.iter().filter(|(to, _)| *to == id("dee"));
    assert_eq!(
        of_dee.map(|(_, key)| key.key_id).collect::<Vec<_>>(),
        [1, 0]
    );
    dee.takes(&keys, &mut ann);
    let before = ann.frame("old session");
    bob.takes(&keys, &mut ann);
    let after = ann.frame("new session");
    assert_eq!(dee.hears(&before, ann.now).as_deref(), Ok("old session"));
    assert_eq!(dee.hears(&after, ann.now).as_deref(), Ok("new session"));
}

#[test]
fn who_stays_alone_changes_the_session_at_once() {
    let (mut ann, mut bob) = ann_and_bob();
    ann.leaves("bob");
    let frame = ann.frame("alone");
    assert_eq!(ann.sender.key_id(), 1);
    assert_eq!(bob.hears(&frame, ann.now), Err(Refused::UnknownSession));
}

#[test]
fn what_was_on_its_way_when_its_sender_left_still_decrypts() {
    let (mut ann, mut bob) = ann_and_bob();
    let nobody = BTreeSet::new();
    let frames = ann.frames(3);
    bob.receiver.set_members(&nobody, ann.now);
    let last = Duration::from_millis(4999);
    assert_eq!(bob.hears_of(&frames[..1], ann.now + last), 1);
    // Heard of again, a departure is no later.
    bob.receiver.set_members(&nobody, ann.now + last);
    let over = ann.now + Duration::from_secs(5);
    assert_eq!(bob.receiver.poll_timeout(), Some(over));
    assert_eq!(bob.hears(&frames[1], over), Err(Refused::UnknownSession));
    // Whoever comes back after that needs to share a key again.
    bob.receiver.set_members(&BTreeSet::from([id("ann")]), over);
    assert_eq!(bob.receiver.poll_timeout(), None);
    assert_eq!(bob.hears(&frames[1], over), Err(Refused::UnknownSession));
}

#[test]
fn whoever_is_back_soon_goes_on_with_the_same_keys() {
    let (mut ann, mut bob) = ann_and_bob();
    bob.receiver.set_members(&BTreeSet::new(), ann.now);
    let soon = ann.now + Duration::from_secs(4);
    bob.receiver.set_members(&BTreeSet::from([id("ann")]), soon);
    assert_eq!(bob.receiver.poll_timeout(), None);
    let later = ann.now + Duration::from_secs(60);
    bob.receiver.handle_timeout(later);
    let frame = ann.frame("still here");
    assert_eq!(bob.hears(&frame, later).as_deref(), Ok("still here"));
}

#[test]
fn the_session_before_is_forgotten_some_time_after_the_new_one_was_used() {
    let (mut ann, mut bob) = ann_and_bob();
    ann.joins("cem");
    ann.keys();
    let old = ann.frames(2);
    ann.leaves("cem");
    let keys = ann.keys();
    bob.takes(&keys, &mut ann);
    let new = ann.frames(1);
    assert!(bob.hears(&new[0], ann.now).is_ok());
    assert!(bob.hears(&old[0], ann.now).is_ok());
    ann.after(Duration::from_secs(5));
    assert_eq!(bob.hears(&old[1], ann.now), Err(Refused::UnknownSession));
}

#[test]
fn a_key_that_comes_again_does_not_turn_the_ratchet_back() {
    let (mut ann, _) = ann_and_bob();
    let mut cem = Listener::new("cem");
    ann.joins("cem");
    let first = ann.keys();
    let frames = ann.frames(10);
    cem.takes(&first, &mut ann);
    assert!(cem.hears(&frames[5], ann.now).is_ok());
    cem.takes(&first, &mut ann);
    assert_eq!(cem.hears(&frames[5], ann.now), Err(Refused::Replayed));
    assert_eq!(cem.hears_of(&frames, ann.now), 9);
    assert_eq!(cem.receiver.counters().keys, 1);
}

#[test]
fn keys_that_are_not_for_here_are_refused_and_counted() {
    let mut ann = Ann::new();
    ann.joins("bob");
    let key = ann.keys().remove(0).1;
    let mut bob = Receiver::new(conference());
    let mut refused = |change: fn(&mut RoomKey)| {
        let mut changed = key.clone();
        change(&mut changed);
        bob.handle_key(&id("ann"), &changed).unwrap_err()
    };
    let other = refused(|key| key.conference.call_id.push('2'));
    assert_eq!(other, KeyRefused::OtherConference);
    let algorithm = refused(|key| key.algorithm = "m.megolm.v2".into());
    assert_eq!(algorithm, KeyRefused::Unsupported);
    assert_eq!(refused(|key| key.cipher_suite = 1), KeyRefused::Unsupported);
    assert_eq!(refused(|key| key.session_id.push('A')), KeyRefused::Invalid);
    assert_eq!(refused(|key| key.session_key.clear()), KeyRefused::Invalid);
    assert_eq!((bob.counters().keys, bob.counters().keys_refused), (0, 5));
    assert!(bob.handle_key(&id("ann"), &key).is_ok());
}

#[test]
fn a_sender_that_prepares_many_sessions_loses_none_that_it_uses() {
    let (mut ann, mut bob) = ann_and_bob();
    let frame = ann.frame("first");
    assert!(bob.hears(&frame, ann.now).is_ok());
    let mut silent = SESSIONS_MAX * 2;
    ann.joins("silent");
    ann.joins("goes");
    while silent > 0 {
        ann.leaves("goes");
        ann.joins("goes");
        let keys = ann.keys();
        for (_, key) in keys.iter().filter(|(to, _)| *to == id("bob")) {
            bob.receiver.handle_key(&id("ann"), key).unwrap();
        }
        silent -= 1;
    }
    let frame = ann.frame("still");
    assert_eq!(bob.hears(&frame, ann.now).as_deref(), Ok("still"));
    ann.after(SWITCH_WITHIN);
    let frame = ann.frame("newest");
    assert_eq!(bob.hears(&frame, ann.now).as_deref(), Ok("newest"));
}

#[test]
fn a_strangers_confirmation_counts_for_nothing() {
    let (mut ann, _) = ann_and_bob();
    ann.joins("cem");
    ann.keys();
    ann.leaves("cem");
    let keys = ann.keys();
    let mut bob = Listener::new("bob");
    let received = bob.receiver.handle_key(&id("ann"), &keys[0].1).unwrap();
    ann.sender.handle_received(&id("cem"), &received, ann.now);
    ann.sender.handle_received(&id("eve"), &received, ann.now);
    assert_eq!(ann.sender.key_id(), 0);
    ann.sender.handle_received(&id("bob"), &received, ann.now);
    assert_eq!(ann.sender.key_id(), 1);
}
