//! Leaving, being dropped, coming back.

use std::time::Duration;

use serde_json::json;
use weir_signal::channel::FromClient;

use super::{client::Client, world::World};
use crate::conference::{
    CallEnd, HangupReason, Happened, LiveCall, ParticipantId, Refusal, TransportInput,
};

fn last_reason(world: &World, index: usize) -> &str {
    let (kind, content) = world.clients[index].to_device.last().expect("a message");
    assert_eq!(*kind, "m.call.hangup");
    content["reason"].as_str().expect("a reason")
}

#[test]
fn checklist_35_pings_come_within_30_s_and_pongs_keep_the_call() {
    let mut world = World::call(&["alice", "bob"]);
    world.say(0, &FromClient::Pong);
    world.pass(Duration::from_secs(600));
    assert_eq!(world.focus.participant_count(), 2);
    assert_eq!((world.clients[0].pings, world.clients[1].pings), (40, 40));
    assert_eq!(world.refused, [], "an unsolicited pong is harmless");
}

#[test]
fn checklist_35_without_a_pong_the_participant_is_dropped() {
    let mut world = World::call(&["alice", "bob"]);
    world.clients[0].lively = false;
    world.pass(Duration::from_secs(29));
    assert_eq!(world.focus.participant_count(), 2);
    world.pass(Duration::from_secs(2));
    assert_eq!(world.focus.participant_count(), 1);
    assert_eq!(last_reason(&world, 0), "keep_alive_timeout");
    assert_eq!(world.clients[1].stream_ids(), Vec::<&str>::new());
}

#[test]
fn checklist_35_participant_whose_channel_never_opens_is_dropped() {
    let mut world = World::new();
    let alice = world.invite(Client::new("alice", "conf"));
    world.pass(Duration::from_secs(29));
    assert_eq!(world.focus.participant_count(), 1);
    world.pass(Duration::from_secs(1));
    assert_eq!(last_reason(&world, alice), "keep_alive_timeout");
    world.assert_empty();
}

#[test]
fn checklist_36_hangup_takes_the_streams_away_at_once() {
    let mut world = World::call(&["alice", "bob"]);
    world.pass(Duration::from_secs(1));
    world.hang_up(0);
    assert_eq!(world.clients[1].stream_ids(), Vec::<&str>::new());
    assert_eq!(world.clients[1].receives().len(), 0);
    world.hang_up(1);
    world.assert_empty();
    assert!(
        world
            .clients
            .iter()
            .all(|client| client.to_device.len() == 1),
        "nobody is told what it knows"
    );
    assert_eq!(world.count(Happened::CallEnded(CallEnd::Left)), 2);
}

#[test]
fn a_transport_closed_in_good_order_is_a_leave_and_the_late_hangup_is_no_fault() {
    let mut world = World::call(&["alice", "bob"]);
    let transport = world.clients[0].transport.expect("a transport");
    world.input(transport, TransportInput::Closed);
    world.settle();
    assert_eq!(world.focus.participant_count(), 1);
    world.pass(Duration::from_millis(100));
    assert_eq!(world.clients[1].receives().len(), 0);
    world.hang_up(0);
    assert_eq!(world.refused, []);
    assert_eq!(world.count(Happened::CallEnded(CallEnd::Left)), 1);
    assert_eq!(
        world.clients[0].to_device.len(),
        1,
        "nobody is told what it knows"
    );
}

#[test]
fn hangup_of_another_call_or_device_ends_nothing() {
    let mut world = World::call(&["alice", "bob"]);
    let mut old = world.clients[0].content(json!({}));
    old["call_id"] = json!("an older call");
    world.call_event(0, "m.call.hangup", &old);
    let mut others = world.clients[0].content(json!({}));
    (others["call_id"], others["device_id"]) = (json!("bob-call-1"), json!("BOB"));
    world.call_event(0, "m.call.hangup", &others);
    assert_eq!(world.refused, [Refusal::UnknownCall, Refusal::UnknownCall]);
    assert_eq!(world.focus.participant_count(), 2);
}

#[test]
fn checklist_36_member_that_is_gone_is_hung_up() {
    let mut world = World::call(&["alice", "bob"]);
    world
        .focus
        .handle_member_gone("conf", "@alice:example.org", Some("ANOTHER"), world.now);
    world
        .focus
        .handle_member_gone("another", "@alice:example.org", None, world.now);
    world.settle();
    assert_eq!(world.focus.participant_count(), 2);
    world
        .focus
        .handle_member_gone("conf", "@alice:example.org", None, world.now);
    world.settle();
    assert_eq!(last_reason(&world, 0), "user_hangup");
    world.pass(Duration::from_millis(100));
    assert_eq!(world.clients[1].stream_ids(), Vec::<&str>::new());
}

#[test]
fn lost_transport_is_hung_up() {
    for input in [
        TransportInput::ConsentLost,
        TransportInput::Failed {
            reason: "DTLS".to_owned(),
        },
    ] {
        let mut world = World::call(&["alice"]);
        let transport = world.clients[0].transport.expect("a transport");
        world.input(transport, input.clone());
        assert_eq!(last_reason(&world, 0), "ice_failed");
        world.assert_empty();
        world.input(transport, input);
    }
}

#[test]
fn checklist_37_after_a_hangup_the_client_comes_back() {
    let mut world = World::call(&["alice", "bob"]);
    let transport = world.clients[0].transport.expect("a transport");
    world.input(transport, TransportInput::ConsentLost);
    let (_, answer) = &world.clients[0].to_device[0];
    let (_, hangup) = &world.clients[0].to_device[1];
    for key in [
        "call_id",
        "conf_id",
        "party_id",
        "dest_session_id",
        "device_id",
    ] {
        assert_eq!(answer[key], hangup[key], "{key}");
    }
    world.pass(Duration::from_secs(3));
    world.invite_again(0, "alice-call-2");
    world.open(0);
    world.pass(Duration::from_millis(100));
    assert_eq!(world.clients[1].stream_ids(), ["alice-stream"]);
    assert_eq!(world.clients[0].receives().len(), 2);
}

#[test]
fn checklist_37_draining_hangs_up_all_and_takes_nobody_in() {
    let mut world = World::call(&["alice", "bob"]);
    world.hang_up_all();
    assert_eq!(
        last_reason(&world, 0),
        "org.matrix.msc3898.focus_restarting"
    );
    assert_eq!(
        last_reason(&world, 1),
        "org.matrix.msc3898.focus_restarting"
    );
    world.assert_empty();
    world.invite_again(0, "alice-call-2");
    assert_eq!(world.refused, [Refusal::Draining]);
    assert_eq!(
        world.clients[0].to_device.last().expect("a message").0,
        "m.call.reject"
    );
}

#[test]
fn checklist_37_calls_of_an_earlier_process_can_be_hung_up() {
    let world = World::call(&["alice"]);
    let calls = world.focus.live_calls();
    let written = serde_json::to_string(&calls).expect("JSON");
    let read: Vec<LiveCall> = serde_json::from_str(&written).expect("JSON");
    assert_eq!(read, calls);
    assert_eq!(
        read[0].participant,
        ParticipantId::new("@alice:example.org", "ALICE")
    );
    let (kind, content) = read[0].hangup("FOCUS", HangupReason::Restarting);
    assert_eq!(kind, "m.call.hangup");
    let (_, answer) = &world.clients[0].to_device[0];
    for key in [
        "call_id",
        "conf_id",
        "party_id",
        "dest_session_id",
        "device_id",
    ] {
        assert_eq!(answer[key], content[key], "{key}");
    }
}
