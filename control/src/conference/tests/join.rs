//! From the invite to the open channel.

use std::time::Duration;

use serde_json::json;
use weir_signal::sdp::Description;

use super::{client::Client, world::World};
use crate::conference::{CallEnd, Happened, InviteResult, Limits, Protection, Refusal};

#[test]
fn checklist_01_plain_invite_is_answered_and_other_sessions_are_ignored() {
    let mut world = World::new();
    let mut alice = Client::new("alice", "conf");
    let mut content = alice.invite();
    content["dest_session_id"] = json!("another");
    world.clients.push(alice);
    world.call_event(0, "m.call.invite", &content);
    assert_eq!(world.refused, [Refusal::NotForFocus]);
    assert!(world.clients[0].to_device.is_empty());

    content["dest_session_id"] = json!("sfu");
    world.call_event(0, "m.call.invite", &content);
    assert_eq!(world.clients[0].to_device[0].0, "m.call.answer");
}

#[test]
fn checklist_01_new_invite_replaces_the_older_leg() {
    let mut world = World::call(&["alice", "bob"]);
    let old = world.clients[0].transport.expect("a transport");
    world.invite_again(0, "alice-call-2");
    let new = world.clients[0].transport.expect("a transport");
    assert_ne!(old, new);
    assert!(!world.opened.contains(&old));
    world.open(0);
    world.pass(Duration::from_secs(1));
    assert_eq!(world.focus.participant_count(), 2);
    assert_eq!(world.clients[1].stream_ids(), ["alice-stream"]);
    assert_eq!(
        world.clients[1]
            .receives()
            .into_values()
            .collect::<Vec<_>>(),
        ["alice-mic", "alice-cam"]
    );
    assert!(
        world.clients[0]
            .to_device
            .iter()
            .all(|(kind, _)| *kind == "m.call.answer"),
        "no hangup for its own doing"
    );
    world.hang_up(0);
    world.hang_up(1);
    world.assert_empty();
}

#[test]
fn checklist_02_answer_has_what_the_client_listens_to() {
    let world = World::call(&["alice", "bob"]);
    let (kind, content) = &world.clients[1].to_device[0];
    assert_eq!(*kind, "m.call.answer");
    assert_eq!(content["call_id"], "bob-call-1");
    assert_eq!(content["conf_id"], "conf");
    assert_eq!(content["party_id"], "sfu-FOCUS");
    assert_eq!(content["device_id"], "FOCUS");
    assert_eq!(content["sender_session_id"], "sfu");
    assert_eq!(content["dest_session_id"], "bob-session");
    assert_eq!(content["version"], "1");
    assert_eq!(content["answer"]["type"], "answer");
    let streams = content["org.matrix.msc3077.sdp_stream_metadata"]
        .as_object()
        .expect("a snapshot");
    assert_eq!(streams.keys().collect::<Vec<_>>(), ["alice-stream"]);
    let (_, first) = &world.clients[0].to_device[0];
    assert_eq!(first["org.matrix.msc3077.sdp_stream_metadata"], json!({}));
}

#[test]
fn checklist_03_no_seq() {
    let mut world = World::call(&["alice"]);
    world.hang_up_all();
    assert_eq!(world.clients[0].to_device.len(), 2);
    assert!(
        world.clients[0]
            .to_device
            .iter()
            .all(|(_, content)| content.get("seq").is_none())
    );
}

#[test]
fn checklist_04_answer_comes_at_once() {
    let mut world = World::new();
    let alice = world.invite(Client::new("alice", "conf"));
    assert_eq!(world.clients[alice].to_device[0].0, "m.call.answer");
}

#[test]
fn checklist_05_candidates_are_in_the_answer_and_the_clients_are_not_needed() {
    let mut world = World::new();
    let alice = world.invite(Client::new("alice", "conf"));
    let answer = Description::parse(&world.clients[alice].last_sdp).expect("SDP");
    let addresses: Vec<String> = answer.sections[0]
        .candidates
        .iter()
        .map(|c| c.address.to_string())
        .collect();
    assert_eq!(addresses, ["192.0.2.1:7882"]);

    for candidates in [
        json!([{"candidate": "candidate:1 1 udp 1 abc.local 9 typ host", "usernameFragment": "x", "sdpMid": "0"}]),
        json!([{"candidate": ""}]),
        json!([]),
    ] {
        let content = world.clients[alice].content(json!({"candidates": candidates}));
        world.call_event(alice, "m.call.candidates", &content);
    }
    assert_eq!(world.refused, []);
    world.open(alice);
    assert_eq!(world.clients[alice].snapshots, 1);
}

#[test]
fn checklist_06_select_answer_is_taken_and_not_needed() {
    let mut world = World::call(&["alice", "bob"]);
    let content = world.clients[0].content(json!({"selected_party_id": "sfu-FOCUS"}));
    world.call_event(0, "m.call.select_answer", &content);
    assert_eq!(
        (world.focus.participant_count(), world.refused.len()),
        (2, 0)
    );

    let content = world.clients[1].content(json!({"selected_party_id": "somebody else"}));
    world.call_event(1, "m.call.select_answer", &content);
    assert_eq!(
        world.focus.participant_count(),
        1,
        "it has chosen another party"
    );
}

#[test]
fn checklist_07_replayed_invite_makes_no_second_participant() {
    let mut world = World::call(&["alice"]);
    let first = world.clients[0].invite();
    world.call_event(0, "m.call.invite", &first);
    assert_eq!(world.focus.participant_count(), 1);
    world.invite_again(0, "alice-call-2");
    let live = world.clients[0].transport;
    world.call_event(0, "m.call.invite", &first);
    assert_eq!(
        world.clients[0].transport, live,
        "nor does it replace a newer one"
    );
    assert_eq!(world.refused, [Refusal::Duplicate, Refusal::Duplicate]);
    for (happened, times) in [
        (Happened::Invite(InviteResult::Accepted), 2),
        (Happened::Invite(InviteResult::Ignored), 2),
        (Happened::CallEnded(CallEnd::Replaced), 1),
    ] {
        assert_eq!(world.count(happened), times, "{happened:?}");
    }
}

#[test]
fn checklist_07_expired_invite_is_ignored() {
    let mut world = World::new();
    let mut alice = Client::new("alice", "conf");
    let content = alice.invite();
    world.clients.push(alice);
    world.call_event_aged(0, "m.call.invite", &content, Duration::from_secs(60));
    assert_eq!(world.refused, [Refusal::Expired]);
    assert!(world.clients[0].to_device.is_empty());
    world.assert_empty();
}

#[test]
fn checklist_10_sizes_come_from_metadata_where_it_has_them() {
    let mut world = World::new();
    let mut alice = Client::new("alice", "conf");
    alice.metadata.streams.values_mut().for_each(|stream| {
        stream
            .tracks
            .values_mut()
            .for_each(|track| (track.width, track.height) = (None, None));
    });
    world.join(alice);
    world.join(Client::new("bob", "conf"));
    assert_eq!(
        world.clients[1]
            .feed("alice-stream")
            .expect("a feed")
            .tracks["alice-cam"]
            .width,
        None
    );
    assert_eq!(
        world.clients[0].feed("bob-stream").expect("a feed").tracks["bob-cam"].width,
        Some(1280)
    );
}

#[test]
fn encrypted_invite_is_answered_encrypted_and_only_for_its_own_device() {
    let mut world = World::new();
    let mut alice = Client::new("alice", "conf");
    alice.protection = Protection::Olm;
    let mut content = alice.invite();
    world.join(alice);
    assert_eq!(world.focus.participant_count(), 1);

    content["device_id"] = json!("ANOTHER");
    content["call_id"] = json!("another");
    world.call_event(0, "m.call.invite", &content);
    assert_eq!(world.refused, [Refusal::WrongDevice]);
}

#[test]
fn conferences_go_to_the_shard_with_the_fewest_participants() {
    let mut world = World::new();
    for (name, conf) in [
        ("a", "one"),
        ("b", "one"),
        ("c", "two"),
        ("d", "three"),
        ("e", "three"),
        ("f", "four"),
    ] {
        world.join(Client::new(name, conf));
    }
    let transports: Vec<usize> = world
        .shards
        .iter()
        .map(|shard| shard.transports.len())
        .collect();
    assert_eq!(transports, [3, 3], "one: 0, two: 1, three: 1, four: 0");
}

#[test]
fn full_focus_refuses_by_name() {
    let limits = Limits {
        conferences_max: 1,
        participants_per_conference_max: 3,
        participants_per_user_max: 2,
        invites_per_user_per_second: 100.0,
        ..Limits::default()
    };
    let mut world = World::with(limits);
    world.join(Client::new("alice", "conf"));
    world.invite(Client::new("bob", "another"));
    let mut device = |device: &str| {
        let mut alice = Client::new("alice", "conf");
        alice.id.device_id = device.to_owned();
        alice.call_id = device.to_owned();
        world.invite(alice);
    };
    device("SECOND");
    device("THIRD");
    world.invite(Client::new("carol", "conf"));
    world.invite(Client::new("dave", "conf"));
    use Refusal::{TooManyConferences, TooManyDevicesOfUser, TooManyParticipants};
    assert_eq!(
        world.refused,
        [
            TooManyConferences,
            TooManyDevicesOfUser,
            TooManyParticipants
        ]
    );
    let refused = Happened::Invite(InviteResult::Refused);
    assert_eq!(world.count(refused), 3);
    let (kind, content) = &world.clients[1].to_device[0];
    assert_eq!(
        (*kind, content["reason"].as_str()),
        ("m.call.reject", Some("too_many_conferences"))
    );
    assert_eq!(content["dest_session_id"], "bob-session");
}

#[test]
fn invites_are_limited_for_each_user_and_homeserver() {
    let mut world = World::with(Limits {
        invites_per_homeserver_per_second: 1.5,
        ..Limits::default()
    });
    let mut alice = Client::new("alice", "conf");
    let content = alice.invite();
    world.clients.push(alice);
    for _ in 0..11 {
        world.call_event(0, "m.call.invite", &content);
    }
    use Refusal::{Duplicate, TooManyInvitesOfHomeserver, TooManyInvitesOfUser};
    assert_eq!(world.refused[..9], [Duplicate; 9]);
    assert_eq!(world.refused[9..], [TooManyInvitesOfUser]);
    for name in ["b", "c", "d", "e", "f", "g"] {
        world.invite(Client::new(name, "conf"));
    }
    assert_eq!(world.refused.last(), Some(&TooManyInvitesOfHomeserver));
    assert_eq!(world.focus.participant_count(), 6);
}
