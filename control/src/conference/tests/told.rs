//! What the shards tell about media, and who hears of it.

use std::time::Duration;

use weir_shard::{
    ConferenceId, LayerSet, Reason, Size as ShardSize, Speaker, Speakers, SubscriptionId,
    SubscriptionStatus, TrackId, TransportId, TransportStatus,
};
use weir_signal::channel::{FromClient, LayersInUse, Size, ToClient, TrackStatus};

use super::{
    client::{Client, name},
    world::World,
};

/// The shard's id of a track that was published on section `mid` of a client.
pub(super) fn track(world: &World, index: usize, mid: &str) -> (TrackId, TransportId) {
    let transport = world.clients[index].transport.expect("a transport");
    let tracks = world.shards.iter().flat_map(|shard| &shard.tracks);
    let found = tracks
        .into_iter()
        .find(|(_, (owner, of, _))| *owner == transport && of == mid);
    (*found.expect("a track").0, transport)
}

pub(super) fn subscription(
    world: &World,
    index: usize,
    track: TrackId,
) -> (SubscriptionId, TransportId) {
    let transport = world.clients[index].transport.expect("a transport");
    let subscriptions = world.shards.iter().flat_map(|shard| &shard.subscriptions);
    let found = subscriptions
        .into_iter()
        .find(|(_, of)| of.transport == transport && of.track == track);
    (*found.expect("a subscription").0, transport)
}

pub(super) fn take_told(world: &mut World, index: usize) -> Vec<ToClient> {
    world.settle();
    std::mem::take(&mut world.clients[index].told)
}

#[test]
fn everybody_hears_who_speaks_and_a_newcomer_what_was_told_before() {
    let mut world = World::call(&["alice", "bob"]);
    let (microphone, _) = track(&world, 0, "0");
    let speaker = Speaker {
        track: microphone,
        level: 23,
    };
    world
        .focus
        .handle_speakers(ConferenceId(1), Speakers::from_iter([speaker]));
    let speakers = vec![weir_signal::channel::Speaker {
        user_id: "@alice:example.org".to_owned(),
        device_id: "ALICE".to_owned(),
        name: name("alice-stream", "alice-mic"),
        level: 23,
    }];
    let expected = [ToClient::ActiveSpeaker(speakers)];
    for index in [0, 1] {
        assert_eq!(take_told(&mut world, index), expected);
    }
    world.join(Client::new("carol", "conf"));
    assert_eq!(take_told(&mut world, 2), expected);
    world
        .focus
        .handle_speakers(ConferenceId(9), Speakers::default());
    assert_eq!(take_told(&mut world, 0), [], "another conference");
}

#[test]
fn a_publisher_hears_which_of_its_layers_are_needed_by_section_and_rid() {
    let mut world = World::call(&["alice", "bob"]);
    let (camera, transport) = track(&world, 0, "1");
    let layers = LayerSet::default().with(1).with(2);
    world.focus.handle_layers_in_use(transport, camera, layers);
    let in_use = LayersInUse {
        name: name("alice-stream", "alice-cam"),
        mid: "1".to_owned(),
        rids: vec!["h".to_owned(), "q".to_owned()],
    };
    assert_eq!(
        take_told(&mut world, 0),
        [ToClient::LayersInUse(vec![in_use])]
    );
    assert_eq!(take_told(&mut world, 1), []);
    // Of a track that is gone, or of a stranger's.
    world
        .focus
        .handle_layers_in_use(transport, TrackId(999), layers);
    world
        .focus
        .handle_layers_in_use(TransportId(999), camera, layers);
    assert_eq!(take_told(&mut world, 0), []);
}

#[test]
fn what_somebody_gets_is_told_to_who_asks_together_and_only_when_it_changes() {
    let mut world = World::call(&["alice", "bob"]);
    let (camera, _) = track(&world, 0, "1");
    let (microphone, _) = track(&world, 0, "0");
    let (video, transport) = subscription(&world, 1, camera);
    let (audio, _) = subscription(&world, 1, microphone);
    let smaller = SubscriptionStatus {
        layer: Some(1),
        size: Some(ShardSize::new(640, 360)),
        temporal: Some(1),
        reason: Reason::LittleBandwidth,
    };
    let now = world.now;
    world
        .focus
        .handle_subscription_status(transport, video, smaller, now);
    world.pass(Duration::from_secs(1));
    assert_eq!(take_told(&mut world, 1), [], "nobody asked");

    world.say(1, &FromClient::FollowStatus);
    let flowing = SubscriptionStatus {
        layer: None,
        size: None,
        temporal: None,
        reason: Reason::Flowing,
    };
    let estimate = TransportStatus {
        estimate_bps: Some(600_000),
        allocated_bps: 500_000,
        wanted_bps: 2_000_000,
    };
    let now = world.now;
    let focus = &mut world.focus;
    focus.handle_subscription_status(transport, audio, flowing, now);
    focus.handle_transport_status(transport, estimate, now);
    world.pass(Duration::from_millis(200));
    let told = take_told(&mut world, 1);
    let [ToClient::Status(status)] = told.as_slice() else {
        panic!("one message: {told:?}");
    };
    assert_eq!(status.estimate_bps, Some(600_000));
    assert_eq!(
        (status.allocated_bps, status.wanted_bps),
        (500_000, 2_000_000)
    );
    let of_video = TrackStatus {
        name: name("alice-stream", "alice-cam"),
        rid: Some("h".to_owned()),
        size: Some(Size {
            width: 640,
            height: 360,
        }),
        temporal: Some(1),
        reason: "little_bandwidth".to_owned(),
    };
    let of_audio = TrackStatus {
        name: name("alice-stream", "alice-mic"),
        rid: None,
        size: None,
        temporal: None,
        reason: "flowing".to_owned(),
    };
    assert!(status.tracks.contains(&of_video), "{status:?}");
    assert!(status.tracks.contains(&of_audio), "{status:?}");
    assert_eq!(status.tracks.len(), 2);

    world.pass(Duration::from_secs(5));
    assert_eq!(take_told(&mut world, 1), [], "nothing has changed");
}
