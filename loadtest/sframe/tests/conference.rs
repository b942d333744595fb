//! A conference whose people come and go, in virtual time: who is entitled to a frame can decrypt it, and nobody else can.
//!
//! Four people send fifty frames a second each. Every five seconds the one who has been there longest leaves and a new one
//! joins. 2 % of the frames are lost, the others come in any order; membership, keys and confirmations take their time. Whoever
//! has left goes on listening to everything, and newcomers are also given recordings of what was sent before they came. What
//! somebody sent just before it left comes after the news that it has.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::ops::Range;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use weir_sframe::{
    Clear, Conference, ParticipantId, Receiver, ReceiverCounters, Refused, RoomKey,
    RoomKeyReceived, SWITCH_WITHIN, Sender, SenderCounters, Suite,
};

/// All times are milliseconds since the beginning.
type Ms = u64;

const END: Ms = 120_000;
const PEOPLE: usize = 4;
const CHANGE_EVERY: Ms = 5_000;
const FRAME_EVERY: Ms = 20;
const LOSS: f64 = 0.02;
/// Until somebody hears of a join or leave.
const MEMBERSHIP: Range<Ms> = 20..300;
/// Of a message to a device.
const TO_DEVICE: Range<Ms> = 30..400;
/// Of a frame: so that many overtake each other.
const FRAME: Range<Ms> = 10..250;
/// After a change everybody has heard of it, and has sent, received and confirmed keys.
const SETTLED: Ms = MEMBERSHIP.end + 2 * TO_DEVICE.end;
/// Newcomers get the frames of so much time before they came.
const RECORDED: Ms = 2_000;

/// Who somebody is, by the order of joining.
type Number = usize;

#[derive(Clone)]
enum Event {
    /// Somebody joins, and whoever has been there longest leaves.
    Change,
    /// `to` hears who is there.
    Members(Number, Rc<BTreeSet<Number>>),
    /// Time passes at a sender.
    Timeout(Number),
    Key(Number, Number, Rc<RoomKey>),
    Received(Number, Number, RoomKeyReceived),
    /// A sender's next frame.
    Send(Number),
    Frame(Number, Rc<Frame>),
}

struct Frame {
    from: Number,
    sent_at: Ms,
    key_id: u64,
    sealed: Vec<u8>,
    text: String,
}

struct Person {
    sender: Sender,
    receiver: Receiver,
    joined_at: Ms,
    left_at: Option<Ms>,
    hears_of: BTreeSet<Number>,
    /// When each session was first used, by KID.
    sessions: BTreeMap<u64, Ms>,
    recording: Vec<Rc<Frame>>,
}

/// What became of frames that arrived.
#[derive(Debug, Default)]
struct Outcome {
    /// Of and at people who have both been there long enough.
    entitled: u64,
    /// Among them those that came after it was heard that their sender had left.
    farewell: u64,
    /// Of or at somebody who had just come.
    arriving: u64,
    /// At somebody who had left, from before and from after the change of session.
    gone_before: u64,
    gone_after: u64,
    recorded: u64,
}

struct World {
    rng: StdRng,
    start: Instant,
    now: Ms,
    queue: BinaryHeap<Reverse<(Ms, u64)>>,
    events: BTreeMap<u64, Event>,
    scheduled: u64,
    people: Vec<Person>,
    outcome: Outcome,
    /// Devices whose messages do not arrive: they confirm nothing.
    deaf: BTreeSet<Number>,
}

fn id(number: Number) -> ParticipantId {
    ParticipantId::new(&format!("@user{number}:x"), &format!("D{number}"))
}

impl World {
    fn new(seed: u64) -> World {
        let mut world = World {
            rng: StdRng::seed_from_u64(seed),
            start: Instant::now(),
            now: 0,
            queue: BinaryHeap::new(),
            events: BTreeMap::new(),
            scheduled: 0,
            people: Vec::new(),
            outcome: Outcome::default(),
            deaf: BTreeSet::new(),
        };
        for _ in 0..PEOPLE {
            world.join();
        }
        world.announce();
        world.at(CHANGE_EVERY, Event::Change);
        world
    }

    fn at(&mut self, time: Ms, event: Event) {
        self.scheduled += 1;
        self.queue.push(Reverse((time, self.scheduled)));
        self.events.insert(self.scheduled, event);
    }

    fn after(&mut self, delay: Range<Ms>, event: Event) {
        let delay = self.rng.random_range(delay);
        self.at(self.now + delay, event);
    }

    fn instant(&self) -> Instant {
        self.start + Duration::from_millis(self.now)
    }

    fn present(&self) -> BTreeSet<Number> {
        let present = |number: &Number| self.people[*number].left_at.is_none();
        (0..self.people.len()).filter(present).collect()
    }

    fn join(&mut self) {
        let conference = Conference {
            room_id: "!room:x".into(),
            call_id: "call".into(),
        };
        let rng = StdRng::seed_from_u64(self.rng.random());
        let person = Person {
            sender: Sender::new(conference.clone(), Suite::Aes128Gcm, rng),
            receiver: Receiver::new(conference),
            joined_at: self.now,
            left_at: None,
            hears_of: BTreeSet::new(),
            sessions: BTreeMap::new(),
            recording: Vec::new(),
        };
        self.people.push(person);
        let number = self.people.len() - 1;
        self.at(self.now + 1, Event::Send(number));
    }

    /// Everybody who is there hears who is there, sooner or later.
    fn announce(&mut self) {
        let present = Rc::new(self.present());
        for number in present.iter() {
            self.after(MEMBERSHIP, Event::Members(*number, Rc::clone(&present)));
        }
    }

    fn run(&mut self) {
        while let Some(Reverse((time, number))) = self.queue.pop() {
            if time > END {
                break;
            }
            self.now = time;
            let event = self.events.remove(&number).expect("scheduled once");
            self.handle(event);
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Change => self.change(),
            Event::Members(to, members) => self.hear_of(to, &members),
            Event::Timeout(of) => self.poll(of),
            Event::Key(to, from, key) => self.take_key(to, from, &key),
            Event::Received(to, from, received) => {
                let now = self.instant();
                let sender = &mut self.people[to].sender;
                sender.handle_received(&id(from), &received, now);
            }
            Event::Send(from) => self.send(from),
            Event::Frame(to, frame) => self.hear(to, &frame),
        }
    }

    fn change(&mut self) {
        let longest = *self.present().first().expect("somebody is there");
        self.people[longest].left_at = Some(self.now);
        self.join();
        self.announce();
        self.at(self.now + CHANGE_EVERY, Event::Change);
    }

    fn hear_of(&mut self, to: Number, members: &BTreeSet<Number>) {
        let now = self.instant();
        let person = &mut self.people[to];
        // News that overtakes older news is newer: numbers only grow.
        if person.left_at.is_some() || members.last() < person.hears_of.last() {
            return;
        }
        person.hears_of = members.clone();
        let others = members.iter().filter(|other| **other != to);
        let others = others.map(|other| id(*other)).collect();
        person.receiver.set_members(&others, now);
        person.sender.set_members(others, now);
        self.poll(to);
    }

    /// Sends what a sender has to say, and comes back when it has more.
    fn poll(&mut self, of: Number) {
        let now = self.instant();
        self.people[of].sender.handle_timeout(now);
        self.people[of].receiver.handle_timeout(now);
        if self.people[of].left_at.is_some() {
            return;
        }
        while let Some(share) = self.people[of].sender.poll_share(now) {
            let to = (0..self.people.len()).find(|number| id(*number) == share.to);
            let to = to.expect("one of the people");
            if !self.deaf.contains(&to) {
                self.after(TO_DEVICE, Event::Key(to, of, Rc::new(share.key)));
            }
        }
        let person = &self.people[of];
        let due = [person.sender.poll_timeout(), person.receiver.poll_timeout()];
        if let Some(at) = due.into_iter().flatten().min() {
            let ms = at.duration_since(self.start).as_millis() as Ms;
            self.at(ms.max(self.now + 1), Event::Timeout(of));
        }
    }

    fn take_key(&mut self, to: Number, from: Number, key: &RoomKey) {
        let person = &mut self.people[to];
        let received = person
            .receiver
            .handle_key(&id(from), key)
            .expect("a valid key");
        self.after(TO_DEVICE, Event::Received(from, to, received));
        // What was recorded before the key came must not open now either.
        let now = self.instant();
        let person = &mut self.people[to];
        for frame in person.recording.iter().filter(|frame| frame.from == from) {
            let heard = person
                .receiver
                .decrypt(&id(from), Clear::FirstByte, &frame.sealed, now);
            assert!(
                matches!(heard, Err(Refused::BeforeKey | Refused::UnknownSession)),
                "{to} opens a frame of {from} from {} ms before its own arrival",
                person.joined_at - frame.sent_at
            );
            self.outcome.recorded += 1;
        }
    }

    fn send(&mut self, from: Number) {
        if self.people[from].left_at.is_some() {
            return;
        }
        let text = format!("frame of {from} at {}", self.now);
        let person = &mut self.people[from];
        let sealed = person.sender.encrypt(Clear::FirstByte, text.as_bytes());
        let key_id = person.sender.key_id();
        person.sessions.entry(key_id).or_insert(self.now);
        let frame = Rc::new(Frame {
            from,
            sent_at: self.now,
            key_id,
            sealed: sealed.expect("not exhausted"),
            text,
        });
        let next_change = self.now.next_multiple_of(CHANGE_EVERY);
        for to in (0..self.people.len()).filter(|to| *to != from) {
            if !self.rng.random_bool(LOSS) {
                self.after(FRAME, Event::Frame(to, Rc::clone(&frame)));
            }
        }
        if next_change - self.now < RECORDED {
            // Whoever will join at the next change has it recorded.
            self.at(next_change + 1, Event::Frame(self.people.len(), frame));
        }
        self.at(self.now + FRAME_EVERY, Event::Send(from));
    }

    fn hear(&mut self, to: Number, frame: &Rc<Frame>) {
        let now = self.instant();
        let both_since = self.people[to]
            .joined_at
            .max(self.people[frame.from].joined_at);
        let person = &mut self.people[to];
        let from = &id(frame.from);
        let heard = person
            .receiver
            .decrypt(from, Clear::FirstByte, &frame.sealed, now);
        if let Ok(heard) = &heard {
            assert_eq!(*heard, frame.text.as_bytes());
        }
        if frame.sent_at < person.joined_at {
            assert!(heard.is_err(), "{to} hears what was sent before it came");
            person.recording.push(Rc::clone(frame));
            return;
        }
        match person.left_at {
            Some(left_at) => self.hear_gone(to, frame, left_at, heard.is_ok()),
            None if frame.sent_at < both_since + SETTLED || self.deaf.contains(&to) => {
                self.outcome.arriving += 1;
            }
            None => {
                let (at, after) = (frame.sent_at, frame.sent_at - both_since);
                assert!(
                    heard.is_ok(),
                    "{to} cannot hear {} at {at}, when both have been there for {after} ms: {heard:?}",
                    frame.from
                );
                self.outcome.entitled += 1;
                let gone = !person.hears_of.contains(&frame.from);
                self.outcome.farewell += u64::from(gone);
            }
        }
    }

    /// A frame at somebody who has left.
    fn hear_gone(&mut self, to: Number, frame: &Frame, left_at: Ms, heard: bool) {
        // The first session that was used for the first time after the departure was heard of.
        let sessions = &self.people[frame.from].sessions;
        let used_since = sessions[&frame.key_id];
        if heard {
            let since = frame.sent_at.saturating_sub(left_at);
            let limit = match self.deaf.is_empty() {
                true => SETTLED,
                false => MEMBERSHIP.end + SWITCH_WITHIN.as_millis() as Ms + 1,
            };
            assert!(
                since <= limit && used_since <= left_at + MEMBERSHIP.end,
                "{to} hears {} still {since} ms after leaving, in session {}",
                frame.from,
                frame.key_id
            );
            self.outcome.gone_before += 1;
        } else if frame.sent_at > left_at {
            self.outcome.gone_after += 1;
        }
    }

    fn sent(&self) -> Vec<SenderCounters> {
        let people = self.people.iter();
        people.map(|person| person.sender.counters()).collect()
    }

    fn received(&self) -> Vec<ReceiverCounters> {
        let people = self.people.iter();
        people.map(|person| person.receiver.counters()).collect()
    }
}

#[test]
fn who_is_entitled_to_a_frame_decrypts_it_and_nobody_else() {
    for seed in 0..4 {
        let mut world = World::new(seed);
        world.run();
        let outcome = &world.outcome;
        assert_eq!(world.people.len(), PEOPLE + 24);
        // 200 frames a second to three others for two minutes, less what was lost and what newcomers missed.
        assert!(outcome.entitled > 50_000, "{outcome:?}");
        assert!(outcome.farewell > 50, "{outcome:?}");
        assert!(outcome.gone_before > 1_000, "{outcome:?}");
        assert!(outcome.gone_after > 100_000, "{outcome:?}");
        assert!(outcome.recorded > 5_000, "{outcome:?}");
        for sent in world.sent() {
            assert_eq!(sent.switches_unconfirmed, 0, "{sent:?}");
            assert!(sent.departures <= sent.switches + 1, "{sent:?}");
        }
        for received in world.received() {
            assert_eq!(
                (received.wrong_key, received.replayed),
                (0, 0),
                "{received:?}"
            );
            assert_eq!(
                (received.too_late, received.malformed),
                (0, 0),
                "{received:?}"
            );
            assert_eq!(received.keys_refused, 0, "{received:?}");
        }
        let late = world
            .received()
            .iter()
            .map(|received| received.late)
            .sum::<u64>();
        assert!(late > 10_000, "the network reorders: {late}");
    }
}

#[test]
fn a_device_that_confirms_nothing_keeps_who_left_listening_for_the_limit_and_no_longer() {
    let mut world = World::new(100);
    // One of the first four, who stays until the fourth change.
    world.deaf.insert(3);
    world.run();
    let sent = world.sent();
    let unconfirmed: u64 = sent.iter().map(|sent| sent.switches_unconfirmed).sum();
    assert!(unconfirmed > 0, "{sent:?}");
    assert!(world.outcome.entitled > 40_000, "{:?}", world.outcome);
    assert!(world.outcome.gone_after > 100_000, "{:?}", world.outcome);
}
