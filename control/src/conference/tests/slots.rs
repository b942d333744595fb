//! Participants without media: they hold a place or measure the way (MSC3898 "Joining a call").

use std::time::Duration;

use weir_signal::{
    channel::FromClient,
    metadata::{MediaKind, PROBE, Purpose},
};

use super::{
    client::{Client, Media},
    world::World,
};
use crate::conference::{CallEnd, Happened, Limits, Refusal};

/// Somebody whose offer has the data channel alone.
pub(super) fn without_media(name: &str) -> Client {
    let mut client = Client::new(name, "conf");
    client.sections.clear();
    client.metadata = Default::default();
    client.push_section(Media::Data, None, false);
    client
}

/// The same with a stream that only measures the way.
fn probing(name: &str) -> Client {
    let mut client = without_media(name);
    client.push_section(Media::Video, Some(("probe", "burst")), false);
    client.announce("probe", Purpose::Other(PROBE.to_owned()));
    client.announce_track("probe", "burst", MediaKind::Video);
    client
}

fn last_reason(world: &World, index: usize) -> (&str, &str) {
    let (kind, content) = world.clients[index].to_device.last().expect("a message");
    (kind, content["reason"].as_str().expect("a reason"))
}

fn slots_of(per_focus: usize, per_user: usize) -> World {
    World::with(Limits {
        slots_max: per_focus,
        slots_per_user_max: per_user,
        invites_per_user_per_second: 100.0,
        ..Limits::default()
    })
}

#[test]
fn an_invite_without_media_is_answered_pinged_and_ended_when_no_media_follows() {
    let mut world = World::call(&["alice"]);
    let bob = world.join(without_media("bob"));
    let (kind, _) = &world.clients[bob].to_device[0];
    assert_eq!(*kind, "m.call.answer");
    assert_eq!(world.clients[bob].stream_ids(), ["alice-stream"]);
    assert_eq!(world.clients[0].stream_ids(), [""; 0], "nobody sees it");
    // Alice's streams were asked for, and that is media.
    assert_eq!(world.focus.slot_count(), 0);

    let carol = world.invite(Client {
        wants: None,
        ..without_media("carol")
    });
    world.open(carol);
    assert_eq!(world.focus.slot_count(), 1);
    world.pass(Duration::from_secs(119));
    assert_eq!(
        (world.focus.participant_count(), world.clients[carol].pings),
        (3, 7)
    );
    world.pass(Duration::from_secs(1));
    assert_eq!(
        last_reason(&world, carol),
        ("m.call.hangup", "org.matrix.msc3898.slot_expired")
    );
    assert_eq!(world.count(Happened::CallEnded(CallEnd::SlotExpired)), 1);
    world.pass(Duration::from_secs(300));
    assert_eq!(
        (world.focus.participant_count(), world.focus.slot_count()),
        (2, 0)
    );
}

#[test]
fn media_that_follows_makes_a_slot_a_participant_like_any_other() {
    let mut world = World::call(&["alice"]);
    let bob = world.join(Client {
        wants: None,
        ..without_media("bob")
    });
    assert_eq!(world.focus.slot_count(), 1);
    world.renegotiate(bob, |bob| {
        bob.push_section(Media::Audio, Some(("bob-stream", "bob-mic")), false);
        bob.announce("bob-stream", Purpose::Usermedia);
        bob.announce_track("bob-stream", "bob-mic", MediaKind::Audio);
    });
    assert_eq!(world.focus.slot_count(), 0);
    world.pass(Duration::from_secs(600));
    assert_eq!(world.focus.participant_count(), 2);
    assert_eq!(world.clients[0].stream_ids(), ["bob-stream"]);
}

#[test]
fn a_call_with_media_takes_the_place_of_the_slot() {
    let mut world = slots_of(1, 1);
    world.join(without_media("alice"));
    let mut again = Client::new("alice", "conf");
    again.call_id = "with-media".to_owned();
    world.join(again);
    assert_eq!(
        (world.focus.participant_count(), world.focus.slot_count()),
        (1, 0)
    );
    world.pass(Duration::from_secs(600));
    assert_eq!(world.focus.participant_count(), 1);
    assert_eq!(world.refused, []);
}

/// A device without media calls.
fn device(world: &mut World, name: &str, device_id: &str) -> usize {
    let mut client = without_media(name);
    client.id.device_id = device_id.to_owned();
    client.call_id = format!("call-{}", world.clients.len());
    world.invite(client)
}

#[test]
fn slots_are_few_for_the_focus_and_for_each_user_and_others_join_as_before() {
    let mut world = slots_of(3, 2);
    device(&mut world, "alice", "ONE");
    device(&mut world, "alice", "TWO");
    device(&mut world, "alice", "TWO");
    let third = device(&mut world, "alice", "THREE");
    device(&mut world, "bob", "ONE");
    let fourth = device(&mut world, "carol", "ONE");
    use Refusal::{TooManySlots, TooManySlotsOfUser};
    assert_eq!(world.refused, [TooManySlotsOfUser, TooManySlots]);
    assert_eq!(
        last_reason(&world, third),
        ("m.call.reject", "too_many_slots_of_user")
    );
    assert_eq!(
        last_reason(&world, fourth),
        ("m.call.reject", "too_many_slots")
    );
    world.join(Client::new("dave", "conf"));
    assert_eq!(
        (world.focus.participant_count(), world.focus.slot_count()),
        (4, 3)
    );

    // A place that was given up is free again.
    world.hang_up(4);
    assert_eq!(world.focus.slot_count(), 2);
    device(&mut world, "carol", "TWO");
    assert_eq!(world.focus.slot_count(), 3);
    world.hang_up_all();
    assert_eq!(world.focus.slot_count(), 0);
}

#[test]
fn no_slots_where_the_operator_wants_none() {
    let mut world = slots_of(0, 4);
    world.invite(without_media("alice"));
    world.invite(probing("bob"));
    assert_eq!(world.refused, [Refusal::TooManySlots; 2]);
    world.join(Client::new("carol", "conf"));
    assert_eq!(world.focus.participant_count(), 1);
}

#[test]
fn a_probe_is_received_and_nobody_is_told_of_it() {
    let mut world = World::call(&["alice", "bob"]);
    world.pass(Duration::from_secs(1));
    let snapshots = world.clients[0].snapshots;
    let carol = world.join(Client {
        wants: None,
        ..probing("carol")
    });
    world.pass(Duration::from_secs(1));
    assert_eq!(world.focus.slot_count(), 1);
    let tracks: usize = world.shards.iter().map(|shard| shard.tracks.len()).sum();
    assert_eq!(tracks, 5, "the shard takes its packets");
    assert_eq!(world.clients[0].stream_ids(), ["bob-stream"]);
    assert_eq!(world.clients[0].snapshots, snapshots, "no change, no word");
    assert_eq!(world.focus.publisher_count(), 2);

    // Nor can it be asked for by whoever guesses its name.
    world.say(
        0,
        r#"{"type":"m.call.track_subscription","content":{"subscribe":[{"stream_id":"probe","track_id":"burst"}]}}"#,
    );
    let subscriptions = world.shards.iter().map(|shard| shard.subscriptions.len());
    assert_eq!(subscriptions.sum::<usize>(), 4, "of Alice and Bob");
    world.say(carol, &FromClient::Ping);
    world.pass(Duration::from_secs(120));
    assert_eq!(
        last_reason(&world, carol),
        ("m.call.hangup", "org.matrix.msc3898.slot_expired")
    );
    let tracks: usize = world.shards.iter().map(|shard| shard.tracks.len()).sum();
    assert_eq!(tracks, 4);
}
