//! Asking for tracks, and getting them.

use weir_shard::Size as ShardSize;
use weir_signal::{
    channel::{FromClient, Size, TrackRequest},
    metadata::MediaKind,
    sdp::{Description, Direction},
};

use super::{
    client::{Client, name},
    world::World,
};
use crate::conference::Refusal;

fn request(stream_id: &str, track_id: &str, size: Option<(u32, u32)>) -> TrackRequest {
    TrackRequest {
        name: name(stream_id, track_id),
        size: size.map(|(width, height)| Size { width, height }),
    }
}

fn subscribe(subscribe: Vec<TrackRequest>) -> FromClient {
    FromClient::Subscription {
        subscribe,
        unsubscribe: Vec::new(),
    }
}

/// Alice publishes; Bob asks for nothing by himself.
fn alice_and_passive_bob() -> World {
    let mut world = World::call(&["alice"]);
    let mut bob = Client::new("bob", "conf");
    bob.wants = None;
    world.join(bob);
    world
}

fn forwarded(world: &World, index: usize) -> usize {
    let transport = world.clients[index].transport;
    let shards = world
        .shards
        .iter()
        .flat_map(|shard| shard.subscriptions.values());
    shards
        .filter(|subscription| Some(subscription.transport) == transport)
        .count()
}

#[test]
fn checklist_16_subscription_makes_an_offer_with_the_msid_of_the_metadata() {
    let mut world = alice_and_passive_bob();
    world.say(
        1,
        &subscribe(vec![request(
            "alice-stream",
            "alice-cam",
            Some((1280, 720)),
        )]),
    );
    assert_eq!(world.clients[1].offers_seen, 1);
    let offer = Description::parse(&world.clients[1].last_sdp).expect("SDP");
    let section = offer.sections.last().expect("a section");
    let msid = section.msid.as_ref().expect("an msid");
    assert_eq!(
        (msid.stream_id.as_str(), msid.track_id.as_deref()),
        ("alice-stream", Some("alice-cam"))
    );
    assert_eq!(
        (offer.sections.len(), section.direction),
        (4, Direction::SendOnly),
        "a section of its own"
    );
}

#[test]
fn checklist_17_media_flows_after_the_answer_to_that_offer() {
    let mut world = alice_and_passive_bob();
    world.say_only(
        1,
        &subscribe(vec![request("alice-stream", "alice-mic", None)]),
    );
    assert_eq!(forwarded(&world, 1), 0, "not before the answer");
    world.settle();
    assert!(
        world.clients[1]
            .feed("alice-stream")
            .expect("a feed")
            .tracks
            .contains_key("alice-mic")
    );
    assert_eq!(forwarded(&world, 1), 1);
}

#[test]
fn checklist_18_repeats_cost_nothing_and_sizes_need_no_offer() {
    let mut world = alice_and_passive_bob();
    let text = subscribe(vec![request("alice-stream", "alice-cam", Some((320, 180)))]);
    world.say(1, &text);
    let before = world.shards[0].subscription_commands;
    for _ in 0..10 {
        world.say(1, &text);
    }
    assert_eq!(world.shards[0].subscription_commands, before);

    world.say(
        1,
        &subscribe(vec![request(
            "alice-stream",
            "alice-cam",
            Some((1280, 720)),
        )]),
    );
    assert_eq!(world.clients[1].offers_seen, 1, "no renegotiation");
    let subscription = world.shards[0]
        .subscriptions
        .values()
        .find(|subscription| subscription.wanted.is_some());
    assert_eq!(
        subscription.expect("a subscription").wanted,
        Some(ShardSize::new(1280, 720))
    );
}

#[test]
fn checklist_19_unknown_track_does_not_keep_others_and_is_remembered() {
    let mut world = alice_and_passive_bob();
    world.say(
        1,
        &subscribe(vec![
            request("alice-share", "alice-screen", Some((1920, 1080))),
            request("alice-stream", "alice-mic", None),
        ]),
    );
    assert_eq!(forwarded(&world, 1), 1);
    assert_eq!(world.clients[1].errors.len(), 0);
    world.renegotiate(0, |alice| alice.share("alice-share", "alice-screen"));
    assert_eq!(forwarded(&world, 1), 2, "it came, and was asked for");
}

#[test]
fn checklist_20_unsubscribe_stops_and_resubscribe_starts_on_the_same_section() {
    let mut world = alice_and_passive_bob();
    let start = subscribe(vec![request("alice-stream", "alice-cam", None)]);
    let stop = FromClient::Subscription {
        subscribe: Vec::new(),
        unsubscribe: vec![name("alice-stream", "alice-cam")],
    };
    world.say(1, &start);
    let first: Vec<_> = world.clients[1]
        .receives()
        .into_keys()
        .map(str::to_owned)
        .collect();
    world.say_only(1, &stop);
    assert_eq!(forwarded(&world, 1), 0, "at once");
    world.settle();
    let offer = Description::parse(&world.clients[1].last_sdp).expect("SDP");
    assert_eq!(
        offer.sections.last().expect("a section").direction,
        Direction::Inactive
    );
    world.say(1, &start);
    assert_eq!(
        world.clients[1].receives().into_keys().collect::<Vec<_>>(),
        first
    );
    assert_eq!(
        (forwarded(&world, 1), world.clients[1].sections.len()),
        (1, 4)
    );
}

#[test]
fn checklist_21_no_other_track_on_a_section_whose_track_is_advertised() {
    let mut world = alice_and_passive_bob();
    world.join(Client::new("carol", "conf"));
    world.say(
        1,
        &subscribe(vec![request("alice-stream", "alice-cam", None)]),
    );
    let stop = FromClient::Subscription {
        subscribe: Vec::new(),
        unsubscribe: vec![name("alice-stream", "alice-cam")],
    };
    world.say(1, &stop);
    world.say(
        1,
        &subscribe(vec![request("carol-stream", "carol-cam", None)]),
    );
    let receives = world.clients[1].receives();
    assert_eq!(
        receives.into_iter().collect::<Vec<_>>(),
        [("w1", "carol-cam")],
        "w0 waits for alice-cam"
    );

    world.hang_up(0);
    world.join(Client::new("dave", "conf"));
    world.say(
        1,
        &subscribe(vec![request("dave-stream", "dave-cam", None)]),
    );
    let receives = world.clients[1].receives();
    assert_eq!(
        receives.into_iter().collect::<Vec<_>>(),
        [("w0", "dave-cam"), ("w1", "carol-cam")],
        "Alice is gone"
    );
}

#[test]
fn checklist_22_missing_lists_and_sizes_are_accepted() {
    let mut world = alice_and_passive_bob();
    world.say(1, r#"{"type":"m.call.track_subscription","content":{}}"#);
    let one = r#"{"stream_id":"alice-stream","track_id":"alice-cam","width":0}"#;
    world.say(
        1,
        &format!(r#"{{"type":"m.call.track_subscription","content":{{"subscribe":[{one}]}}}}"#),
    );
    let subscription = world.shards[0]
        .subscriptions
        .values()
        .find(|s| Some(s.transport) == world.clients[1].transport);
    assert_eq!(
        subscription.expect("a subscription").wanted,
        None,
        "the lowest layer"
    );
    let one = r#"{"stream_id":"alice-stream","track_id":"alice-cam"}"#;
    world.say(
        1,
        &format!(r#"{{"type":"m.call.track_subscription","content":{{"unsubscribe":[{one}]}}}}"#),
    );
    assert_eq!((forwarded(&world, 1), world.refused.len()), (0, 0));
}

#[test]
fn own_tracks_are_refused_and_others_served() {
    let mut world = alice_and_passive_bob();
    world.say(
        1,
        &subscribe(vec![
            request("bob-stream", "bob-mic", None),
            request("alice-stream", "alice-mic", None),
        ]),
    );
    assert_eq!(world.refused, [Refusal::OwnTrack]);
    let about = world.clients[1].errors[0].in_reply_to.as_ref();
    assert_eq!(about.expect("a name").name, "m.call.track_subscription");
    assert_eq!(forwarded(&world, 1), 1);
}

#[test]
fn subscriptions_and_requests_are_bounded() {
    let mut world = alice_and_passive_bob();
    let many = |count: usize| {
        subscribe(
            (0..count)
                .map(|n| request("s", &n.to_string(), None))
                .collect(),
        )
    };
    world.say(1, &many(513));
    assert_eq!(world.refused, [Refusal::TooManySubscriptions]);
    world.say(1, &many(2049));
    assert_eq!(world.refused.last(), Some(&Refusal::RequestTooLong));
    assert_eq!(world.clients[1].errors.len(), 2);
    world.say(1, &many(10_000));
    assert_eq!(world.refused.last(), Some(&Refusal::MalformedMessage));
}

#[test]
fn sound_is_subscribed_to_without_a_source_for_retransmissions() {
    let mut world = alice_and_passive_bob();
    world.say(
        1,
        &subscribe(vec![
            request("alice-stream", "alice-mic", None),
            request("alice-stream", "alice-cam", None),
        ]),
    );
    let kinds: Vec<_> = world.clients[1]
        .feed("alice-stream")
        .expect("a feed")
        .tracks
        .values()
        .map(|t| t.kind)
        .collect();
    assert_eq!(kinds, [Some(MediaKind::Video), Some(MediaKind::Audio)]);
    let transport = world.clients[1].transport;
    let bobs = world.shards[0]
        .subscriptions
        .values()
        .filter(|subscription| Some(subscription.transport) == transport);
    let rtx: Vec<_> = bobs
        .map(|of| (of.rtx_ssrc.is_some(), of.codecs[0].rtx_payload_type))
        .collect();
    assert_eq!(rtx.len(), 2);
    assert!(rtx.contains(&(true, Some(97))), "{rtx:?}");
    assert!(rtx.contains(&(false, None)), "{rtx:?}");
    assert_eq!(world.clients[1].offers_seen, 1, "one offer for both");
}
