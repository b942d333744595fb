use serde_json::json;

use super::*;

const ROOM: &str = "!room:example.org";
const CONF: &str = "1700000000000abc";
const NOON: Duration = Duration::from_secs(1_700_000_000);

fn at(seconds: u64) -> Duration {
    NOON + Duration::from_secs(seconds)
}

fn membership() -> Authoriser {
    let mut authoriser = Authoriser::new(Policy::Membership, "@focus:example.org");
    authoriser.handle_joined(ROOM, "@focus:example.org");
    authoriser.handle_joined(ROOM, "@alice:example.org");
    call(
        &mut authoriser,
        ROOM,
        &json!({"m.intent": "m.prompt", "m.type": "m.video"}),
    );
    authoriser
}

fn call(authoriser: &mut Authoriser, room: &str, content: &Value) {
    authoriser.handle_call_state(
        room,
        "org.matrix.msc3401.call",
        CONF,
        "@alice:example.org",
        content,
        NOON,
    );
}

fn list(authoriser: &mut Authoriser, devices: &Value, now: Duration) {
    let content = json!({"m.calls": [{"m.call_id": CONF, "m.devices": devices}]});
    let alice = "@alice:example.org";
    authoriser.handle_call_state(
        ROOM,
        "org.matrix.msc3401.call.member",
        alice,
        alice,
        &content,
        now,
    );
}

fn gone(device_id: Option<&str>) -> Gone {
    Gone {
        conf_id: CONF.to_owned(),
        user_id: "@alice:example.org".to_owned(),
        device_id: device_id.map(str::to_owned),
    }
}

#[test]
fn membership_needs_the_room_of_the_call() {
    let authoriser = membership();
    assert!(authoriser.may("@alice:example.org", CONF));
    assert!(!authoriser.may("@bob:example.org", CONF));
    assert!(!authoriser.may("@alice:example.org", "another call"));
}

#[test]
fn membership_is_known_in_whatever_order_the_room_is_told() {
    let mut authoriser = Authoriser::new(Policy::Membership, "@focus:example.org");
    authoriser.handle_call_state(
        ROOM,
        "m.call",
        CONF,
        "@alice:example.org",
        &json!({"m.intent": "m.ring"}),
        NOON,
    );
    assert!(!authoriser.may("@alice:example.org", CONF));
    authoriser.handle_joined(ROOM, "@alice:example.org");
    assert!(authoriser.may("@alice:example.org", CONF));
}

#[test]
fn announcing_a_conference_in_another_room_opens_nothing() {
    let mut authoriser = membership();
    authoriser.handle_joined("!mallory:example.org", "@mallory:example.org");
    call(
        &mut authoriser,
        "!mallory:example.org",
        &json!({"m.intent": "m.prompt"}),
    );
    assert!(!authoriser.may("@mallory:example.org", CONF));
    call(
        &mut authoriser,
        "!mallory:example.org",
        &json!({"m.terminated": "call_ended"}),
    );
    assert!(
        authoriser.may("@alice:example.org", CONF),
        "nor can it be ended from there"
    );
}

#[test]
fn terminated_call_takes_nobody_in() {
    let mut authoriser = membership();
    call(
        &mut authoriser,
        ROOM,
        &json!({"m.intent": "m.prompt", "m.terminated": "call_ended"}),
    );
    assert!(!authoriser.may("@alice:example.org", CONF));
    assert_eq!(authoriser.poll_gone(), None);
}

#[test]
fn call_stays_its_rooms_over_a_restart_whichever_is_told_first() {
    let calls = membership().calls().clone();
    let mut authoriser = Authoriser::new(Policy::Membership, "@focus:example.org");
    authoriser.restore_calls(calls);
    assert!(
        !authoriser.may("@alice:example.org", CONF),
        "nobody is known"
    );
    let mallorys = "!a-room-that-sorts-first:example.org";
    authoriser.handle_joined(mallorys, "@mallory:example.org");
    call(&mut authoriser, mallorys, &json!({"m.intent": "m.room"}));
    assert!(!authoriser.may("@mallory:example.org", CONF));
    authoriser.handle_joined(ROOM, "@alice:example.org");
    call(&mut authoriser, ROOM, &json!({"m.intent": "m.room"}));
    assert!(authoriser.may("@alice:example.org", CONF));
    assert!(!authoriser.may("@mallory:example.org", CONF));
}

#[test]
fn room_that_the_focus_left_while_it_was_down_keeps_no_call() {
    let calls = membership().calls().clone();
    let mut authoriser = Authoriser::new(Policy::Membership, "@focus:example.org");
    authoriser.restore_calls(calls);
    authoriser.handle_left(ROOM, "@focus:example.org");
    assert!(authoriser.calls().is_empty());
}

#[test]
fn member_who_is_kicked_after_the_call_was_terminated_is_gone_at_once() {
    let mut authoriser = membership();
    call(
        &mut authoriser,
        ROOM,
        &json!({"m.intent": "m.prompt", "m.terminated": "call_ended"}),
    );
    authoriser.handle_left(ROOM, "@alice:example.org");
    assert_eq!(authoriser.poll_gone(), Some(gone(None)));
}

#[test]
fn call_that_was_terminated_somewhere_else_is_none_of_a_room() {
    let mut authoriser = membership();
    let elsewhere = "!elsewhere:example.org";
    authoriser.handle_joined(elsewhere, "@mallory:example.org");
    call(&mut authoriser, elsewhere, &json!({"m.terminated": "x"}));
    authoriser.handle_left(elsewhere, "@mallory:example.org");
    assert_eq!(authoriser.poll_gone(), None);
    assert!(authoriser.may("@alice:example.org", CONF));
}

#[test]
fn banned_member_is_gone_though_its_device_is_listed_for_an_hour() {
    let mut authoriser = membership();
    let in_an_hour = at(3600).as_millis() as u64;
    list(
        &mut authoriser,
        &json!([{"device_id": "PHONE", "expires_ts": in_an_hour}]),
        at(0),
    );
    authoriser.handle_left(ROOM, "@alice:example.org");
    assert_eq!(authoriser.poll_gone(), Some(gone(None)));
}

#[test]
fn homeservers_are_compared_whole() {
    let authoriser = Authoriser::new(
        Policy::Homeservers(vec!["example.org".to_owned()]),
        "@focus:example.org",
    );
    assert!(authoriser.may("@alice:example.org", CONF));
    assert!(!authoriser.may("@alice:evil.example.org", CONF));
    assert!(!authoriser.may("@alice:example.org.evil", CONF));
    assert!(!authoriser.may("alice", CONF));
    assert!(Authoriser::new(Policy::Open, "@focus:example.org").may("anyone", CONF));
}

#[test]
fn checklist_36_kicked_member_is_gone_at_once() {
    let mut authoriser = membership();
    authoriser.handle_left(ROOM, "@alice:example.org");
    assert_eq!(authoriser.poll_gone(), Some(gone(None)));
    assert_eq!(authoriser.poll_gone(), None);
    assert!(!authoriser.may("@alice:example.org", CONF));
    authoriser.handle_left(ROOM, "@alice:example.org");
    assert_eq!(authoriser.poll_gone(), None, "said once");
}

#[test]
fn leaving_a_room_ends_nothing_where_the_room_gave_no_right() {
    let mut authoriser = Authoriser::new(Policy::Open, "@focus:example.org");
    authoriser.handle_joined(ROOM, "@alice:example.org");
    call(&mut authoriser, ROOM, &json!({"m.intent": "m.prompt"}));
    authoriser.handle_left(ROOM, "@alice:example.org");
    assert_eq!(authoriser.poll_gone(), None);
}

#[test]
fn checklist_36_device_taken_out_of_the_room_state_is_gone_after_a_grace() {
    let mut authoriser = membership();
    list(
        &mut authoriser,
        &json!([{"device_id": "PHONE"}, {"device_id": "LAPTOP"}]),
        at(0),
    );
    list(&mut authoriser, &json!([{"device_id": "LAPTOP"}]), at(10));
    assert_eq!(authoriser.poll_timeout(), Some(at(12)));
    authoriser.handle_timeout(at(11));
    assert_eq!(authoriser.poll_gone(), None);
    authoriser.handle_timeout(at(12));
    assert_eq!(authoriser.poll_gone(), Some(gone(Some("PHONE"))));
    assert_eq!(authoriser.poll_gone(), None);
    assert_eq!(authoriser.poll_timeout(), None);
}

#[test]
fn device_that_comes_back_at_once_is_not_gone() {
    let mut authoriser = membership();
    list(&mut authoriser, &json!([{"device_id": "PHONE"}]), at(0));
    list(&mut authoriser, &json!([]), at(10));
    list(&mut authoriser, &json!([{"device_id": "PHONE"}]), at(11));
    authoriser.handle_timeout(at(20));
    assert_eq!(authoriser.poll_gone(), None);
}

#[test]
fn checklist_36_expired_listing_is_gone() {
    let mut authoriser = membership();
    let listing = |expires: Duration| json!([{"device_id": "PHONE", "expires_ts": expires.as_millis() as u64}]);
    list(&mut authoriser, &listing(at(3600)), at(0));
    list(&mut authoriser, &listing(at(6300)), at(2700));
    authoriser.handle_timeout(at(3600));
    assert_eq!(authoriser.poll_gone(), None, "it was renewed");
    assert_eq!(authoriser.poll_timeout(), Some(at(6300)));
    authoriser.handle_timeout(at(6300));
    assert_eq!(authoriser.poll_gone(), Some(gone(Some("PHONE"))));
}

#[test]
fn listing_that_is_over_when_it_arrives_ends_nothing() {
    let mut authoriser = membership();
    list(
        &mut authoriser,
        &json!([{"device_id": "PHONE", "expires_ts": 1000}]),
        at(0),
    );
    assert_eq!(authoriser.poll_timeout(), None);
    list(
        &mut authoriser,
        &json!([{"device_id": "PHONE", "expires_ts": u64::MAX}]),
        at(0),
    );
    assert_eq!(
        authoriser.poll_timeout(),
        None,
        "nor does one that lasts for ever"
    );
}

#[test]
fn everything_of_a_room_goes_when_the_focus_leaves_it() {
    let mut authoriser = membership();
    list(&mut authoriser, &json!([{"device_id": "PHONE"}]), at(0));
    authoriser.handle_left(ROOM, "@focus:example.org");
    let all: Vec<Gone> = std::iter::from_fn(|| authoriser.poll_gone()).collect();
    assert!(all.contains(&gone(None)));
    assert!(authoriser.rooms.is_empty() && authoriser.calls.is_empty());
    assert!(!authoriser.may("@alice:example.org", CONF));
}

#[test]
fn nobody_lists_another_users_devices() {
    let mut authoriser = membership();
    list(&mut authoriser, &json!([{"device_id": "PHONE"}]), at(0));
    let content = json!({"m.calls": []});
    let (alice, mallory) = ("@alice:example.org", "@mallory:example.org");
    authoriser.handle_call_state(ROOM, "m.call.member", alice, mallory, &content, at(1));
    assert_eq!(authoriser.poll_timeout(), None);
}

#[test]
fn hostile_contents_are_bounded() {
    let mut authoriser = membership();
    for content in [
        json!(null),
        json!([]),
        json!({"m.calls": 1}),
        json!({"m.calls": [1, {"m.call_id": 1}]}),
    ] {
        let alice = "@alice:example.org";
        authoriser.handle_call_state(ROOM, "m.call.member", alice, alice, &content, NOON);
    }
    let many: Vec<Value> = (0..1000)
        .map(|n| json!({"device_id": n.to_string(), "expires_ts": 1_700_000_100_000u64}))
        .collect();
    list(&mut authoriser, &json!(many), at(0));
    assert_eq!(authoriser.due.len(), 32);
    for call in 0..1000 {
        let conf_id = call.to_string();
        authoriser.handle_call_state(
            ROOM,
            "m.call",
            &conf_id,
            "@alice:example.org",
            &json!({"m.intent": "m.ring"}),
            NOON,
        );
    }
    assert_eq!(authoriser.calls.len(), 256);
    assert!(authoriser.may("@alice:example.org", "999"));
}

fn focus(name: &str) -> ParticipantId {
    ParticipantId::new(format!("@{name}:example.net"), "FOCUS")
}

#[test]
fn the_roster_names_devices_and_foci_that_are_not_over() {
    let mut authoriser = membership();
    let active = |name: &str| json!([{"user_id": focus(name).user_id, "device_id": "FOCUS"}]);
    let phone = json!({"device_id": "PHONE", "m.foci.active": active("near"),
                       "expires_ts": at(60).as_millis() as u64});
    let laptop = json!({"device_id": "LAPTOP", "org.matrix.msc3898.foci.active": active("far")});
    list(
        &mut authoriser,
        &json!([phone, laptop, {"device_id": "TABLET"}]),
        NOON,
    );
    assert_eq!(authoriser.poll_changed().as_deref(), Some(CONF));
    let alice = |device: &str| ParticipantId::new("@alice:example.org", device);
    let roster = authoriser.roster(CONF, at(1));
    assert_eq!(roster.foci, [focus("far"), focus("near")].into());
    let members = roster.members.expect("the rooms say who is there");
    assert_eq!(members[&alice("PHONE")], [focus("near")]);
    assert_eq!(members[&alice("TABLET")], []);
    assert!(authoriser.may_trunk(&focus("near"), CONF, at(1)));
    assert!(
        !authoriser.may_trunk(&focus("near"), CONF, at(61)),
        "its time is over"
    );
    assert!(!authoriser.may_trunk(&focus("third"), CONF, at(1)));
    assert!(!authoriser.may_trunk(&focus("near"), "another call", at(1)));

    // A device that takes itself out may be about to come back.
    list(&mut authoriser, &json!([]), at(2));
    assert_eq!(authoriser.roster(CONF, at(3)).foci.len(), 2);
    authoriser.handle_timeout(at(2) + GRACE);
    assert_eq!(authoriser.roster(CONF, at(5)).foci.len(), 0);
    assert_eq!(authoriser.poll_changed().as_deref(), Some(CONF));

    // What somebody says who is not in the room counts for nothing.
    list(&mut authoriser, &json!([laptop]), at(6));
    authoriser.handle_left(ROOM, "@alice:example.org");
    assert_eq!(authoriser.roster(CONF, at(7)).foci.len(), 0);
}

#[test]
fn where_rooms_are_not_known_other_foci_are_believed_and_allowed_like_users() {
    let authoriser = Authoriser::new(
        Policy::Homeservers(vec!["example.net".to_owned()]),
        "@focus:example.org",
    );
    assert_eq!(authoriser.roster(CONF, NOON).members, None);
    assert!(authoriser.may_trunk(&focus("near"), CONF, NOON));
    let stranger = ParticipantId::new("@focus:example.com", "FOCUS");
    assert!(!authoriser.may_trunk(&stranger, CONF, NOON));
}
