use serde_json::json;

use super::*;

const ROOM: &str = "!room:example.org";
const FOCUS: &str = "@focus:example.org";
const ALICE: &str = "@alice:example.org";
const BOB: &str = "@bob:example.org";
const FAR: &str = "@far:other.example";

fn member(user_id: &str, joined: bool) -> Incoming {
    Incoming::Membership {
        room_id: ROOM.into(),
        user_id: user_id.into(),
        joined,
    }
}

fn call_with(sender: &str, content: Value) -> Incoming {
    Incoming::CallState {
        room_id: ROOM.into(),
        event_type: "m.call".into(),
        state_key: "conf".into(),
        sender: sender.into(),
        content,
    }
}

fn call(sender: &str) -> Incoming {
    call_with(sender, json!({ "m.intent": "m.room" }))
}

fn outputs(rooms: &mut Rooms) -> Vec<Output> {
    std::iter::from_fn(|| rooms.poll_output()).collect()
}

fn read(reader: &str) -> Output {
    Output::Read {
        room_id: ROOM.into(),
        reader: reader.into(),
    }
}

fn told(events: impl IntoIterator<Item = Incoming>) -> Vec<Output> {
    events.into_iter().map(Output::Tell).collect()
}

/// A room that alice's call made known, with alice and bob in it.
fn known() -> Rooms {
    let mut rooms = Rooms::new(FOCUS);
    rooms.handle_event(call(ALICE));
    let state = vec![member(ALICE, true), member(BOB, true), call(ALICE)];
    rooms.handle_read(ROOM, Some(state));
    outputs(&mut rooms);
    assert_eq!(rooms.count(), (1, 0));
    rooms
}

#[test]
fn a_call_makes_its_room_known_by_its_sender_and_members_alone_do_not() {
    let mut rooms = Rooms::new(FOCUS);
    rooms.handle_event(member(ALICE, true));
    rooms.handle_event(call(FAR));
    rooms.handle_event(call_with(ALICE, json!({})));
    rooms.handle_event(call_with(ALICE, json!({ "m.terminated": "call_ended" })));
    rooms.handle_event(call_with(ALICE, json!({ "m.calls": [] })));
    assert_eq!(outputs(&mut rooms), []);
    assert_eq!(rooms.count(), (0, 0));
    rooms.handle_event(call(ALICE));
    assert_eq!(outputs(&mut rooms), [read(ALICE)]);
    assert_eq!(rooms.count(), (0, 1));
}

#[test]
fn what_is_pushed_while_the_state_is_read_is_told_after_it() {
    let mut rooms = Rooms::new(FOCUS);
    rooms.handle_event(call(ALICE));
    assert_eq!(outputs(&mut rooms), [read(ALICE)]);
    // Bob is kicked before or after the state was read: who knows. In the state he is still there.
    rooms.handle_event(member(BOB, false));
    assert_eq!(outputs(&mut rooms), []);
    let state = [member(ALICE, true), member(BOB, true)];
    rooms.handle_read(ROOM, Some(state.to_vec()));
    let expected = state.into_iter().chain([call(ALICE), member(BOB, false)]);
    assert_eq!(outputs(&mut rooms), told(expected));
    rooms.handle_event(member(FAR, true));
    assert_eq!(outputs(&mut rooms), told([member(FAR, true)]));
}

#[test]
fn a_reader_who_has_left_gives_way_to_another() {
    let mut rooms = Rooms::new(FOCUS);
    rooms.restore(ROOM, ALICE);
    assert_eq!(outputs(&mut rooms), [read(ALICE)]);
    rooms.handle_event(member(FAR, false));
    // The state as it was when alice left.
    let old = vec![member(ALICE, false), member(BOB, true), member(FAR, true)];
    rooms.handle_read(ROOM, Some(old));
    assert_eq!(outputs(&mut rooms), [read(BOB)]);
    let now = [member(ALICE, false), member(BOB, true)];
    rooms.handle_read(ROOM, Some(now.to_vec()));
    assert_eq!(
        outputs(&mut rooms),
        told(now.into_iter().chain([member(FAR, false)]))
    );
}

#[test]
fn a_room_that_nobody_can_read_is_not_known_until_its_next_call() {
    let mut rooms = Rooms::new(FOCUS);
    rooms.handle_event(call(ALICE));
    rooms.handle_event(call(BOB));
    assert_eq!(outputs(&mut rooms), [read(ALICE)]);
    rooms.handle_read(ROOM, None);
    assert_eq!(outputs(&mut rooms), [read(BOB)], "bob has called, too");
    rooms.handle_read(ROOM, None);
    assert_eq!(outputs(&mut rooms), [read(ALICE)]);
    rooms.handle_read(ROOM, None);
    assert_eq!(outputs(&mut rooms), [], "three attempts are enough");
    assert_eq!(rooms.count(), (0, 0));
    rooms.handle_event(call(ALICE));
    assert_eq!(outputs(&mut rooms), [read(ALICE)]);
}

#[test]
fn an_answer_that_nobody_waits_for_changes_nothing() {
    let mut rooms = known();
    rooms.handle_read(ROOM, Some(vec![member(FAR, true)]));
    rooms.handle_read("!other:example.org", Some(vec![member(FAR, true)]));
    assert_eq!(outputs(&mut rooms), []);
    assert_eq!(rooms.count(), (1, 0));
}

#[test]
fn a_room_without_own_users_is_forgotten_because_nothing_more_is_pushed() {
    let mut rooms = known();
    rooms.handle_event(member(ALICE, false));
    assert_eq!(outputs(&mut rooms), told([member(ALICE, false)]));
    rooms.handle_event(member(BOB, false));
    assert_eq!(outputs(&mut rooms), told([member(FOCUS, false)]));
    assert_eq!(rooms.count(), (0, 0));
}

#[test]
fn a_focus_that_is_sent_away_forgets_the_room_and_one_that_is_invited_does_not() {
    let mut rooms = known();
    rooms.handle_event(member(FOCUS, false));
    assert_eq!(outputs(&mut rooms), [], "an invitation is no departure");
    rooms.handle_event(member(FOCUS, true));
    assert_eq!(rooms.readers()[ROOM], FOCUS);
    rooms.handle_event(member(FOCUS, false));
    assert_eq!(
        outputs(&mut rooms),
        told([member(FOCUS, true), member(FOCUS, false)])
    );
    assert_eq!(rooms.count(), (0, 0));
}

#[test]
fn a_room_that_the_focus_joins_is_read_by_itself() {
    let mut rooms = Rooms::new(FOCUS);
    rooms.handle_event(member(FOCUS, false));
    assert_eq!(outputs(&mut rooms), []);
    rooms.handle_event(member(FOCUS, true));
    assert_eq!(outputs(&mut rooms), [read(FOCUS)]);
}

#[test]
fn more_than_can_wait_makes_the_reading_begin_again() {
    let mut rooms = Rooms::new(FOCUS);
    rooms.handle_event(call(ALICE));
    for _ in 0..WAITING_MAX + 5 {
        rooms.handle_event(member(FAR, true));
    }
    rooms.handle_event(member(FAR, false));
    outputs(&mut rooms);
    rooms.handle_read(ROOM, Some(vec![member(ALICE, true), member(FAR, true)]));
    assert_eq!(outputs(&mut rooms), [read(ALICE)]);
    rooms.handle_read(ROOM, Some(vec![member(ALICE, true)]));
    assert_eq!(outputs(&mut rooms), told([member(ALICE, true)]));
}

#[test]
fn rooms_are_kept_with_who_can_read_them() {
    let mut rooms = known();
    let kept = rooms.readers();
    assert_eq!(kept, BTreeMap::from([(ROOM.to_owned(), ALICE.to_owned())]));
    rooms.handle_kept();
    rooms.handle_event(member(FAR, true));
    rooms.handle_event(member(ALICE, true));
    assert!(
        !rooms.is_changed(),
        "alice was there, and others are no readers"
    );
    rooms.handle_event(member(ALICE, false));
    assert!(rooms.is_changed());
    assert_eq!(rooms.readers()[ROOM], BOB);
}
