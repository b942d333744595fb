//! What participants are told about each other.

use std::time::Duration;

use weir_signal::{
    channel::Dialect,
    metadata::{MediaKind, Purpose},
};

use super::{client::Client, world::World};
use crate::conference::TransportInput;

#[test]
fn checklist_12_snapshot_on_open_even_if_there_is_nobody() {
    let mut world = World::new();
    let alice = world.invite(Client::new("alice", "conf"));
    let id = world.clients[alice].transport.expect("a transport");
    world.input(
        id,
        TransportInput::ChannelOpen {
            channel: 1,
            label: "any".to_owned(),
        },
    );
    let inbox = world.take_inbox(alice);
    assert_eq!(inbox.len(), 1);
    assert_eq!(
        inbox[0].to_text(Dialect::Late),
        r#"{"content":{"sdp_stream_metadata":{}},"type":"m.call.sdp_stream_metadata_changed"}"#
    );
}

#[test]
fn checklist_13_snapshot_is_complete_and_names_the_authenticated_sender() {
    let mut world = World::new();
    let mut alice = Client::new("alice", "conf");
    let stream = alice
        .metadata
        .streams
        .get_mut("alice-stream")
        .expect("a stream");
    stream.user_id = Some("@mallory:example.org".to_owned());
    stream.device_id = Some("MALLORY".to_owned());
    world.join(alice);
    world.join(Client::new("bob", "conf"));

    let feed = world.clients[1].feed("alice-stream").expect("a feed");
    assert_eq!(feed.user_id.as_deref(), Some("@alice:example.org"));
    assert_eq!(feed.device_id.as_deref(), Some("ALICE"));
    assert_eq!((feed.audio_muted, feed.video_muted), (false, false));
    assert_eq!(feed.purpose, Purpose::Usermedia);
    let kinds: Vec<_> = feed
        .tracks
        .iter()
        .map(|(id, track)| (id.as_str(), track.kind))
        .collect();
    assert_eq!(
        kinds,
        [
            ("alice-cam", Some(MediaKind::Video)),
            ("alice-mic", Some(MediaKind::Audio))
        ]
    );
    assert_eq!(
        world.clients[1].stream_ids(),
        ["alice-stream"],
        "and not its own"
    );
}

#[test]
fn checklist_14_newcomers_and_leavers_are_told_to_all_others() {
    let mut world = World::call(&["alice", "bob", "carol"]);
    world.pass(Duration::from_millis(100));
    assert_eq!(
        world.clients[0].stream_ids(),
        ["bob-stream", "carol-stream"]
    );
    assert_eq!(
        world.clients[2].stream_ids(),
        ["alice-stream", "bob-stream"]
    );
    world.hang_up(1);
    world.pass(Duration::from_millis(100));
    assert_eq!(world.clients[0].stream_ids(), ["carol-stream"]);
    assert_eq!(world.clients[2].stream_ids(), ["alice-stream"]);
}

#[test]
fn checklist_14_live_stream_stays_through_renegotiations() {
    let mut world = World::call(&["alice", "bob"]);
    for round in 0..5 {
        world.renegotiate(0, |alice| {
            // As a camera that is unmuted does it: another stream id for a moment.
            let stream = alice.metadata.streams.pop_first().expect("a stream").1;
            let id = if round % 2 == 0 {
                "new-stream"
            } else {
                "alice-stream"
            };
            alice.metadata.streams.insert(id.to_owned(), stream);
            for section in alice.sections.iter_mut().take(2) {
                section.sends.as_mut().expect("a track").0 = id.to_owned();
            }
        });
        world.pass(Duration::from_millis(60));
        assert_eq!(world.clients[1].stream_ids(), ["alice-stream"]);
        assert_eq!(world.clients[1].receives().len(), 2);
    }
}

#[test]
fn unchanged_streams_are_not_told_again() {
    let mut world = World::call(&["alice", "bob"]);
    world.pass(Duration::from_millis(100));
    let before = world.clients[1].snapshots;
    world.change_metadata(0, |_| {});
    world.renegotiate(0, |_| {});
    world.pass(Duration::from_secs(1));
    assert_eq!(world.clients[1].snapshots, before);
}

#[test]
fn many_changes_at_once_are_few_snapshots() {
    let mut world = World::call(&["alice", "bob"]);
    world.pass(Duration::from_millis(100));
    let before = world.clients[1].snapshots;
    for round in 0..100 {
        world.change_metadata(0, |alice| {
            alice
                .metadata
                .streams
                .get_mut("alice-stream")
                .expect("a stream")
                .audio_muted = round % 2 == 0;
        });
        world.pass(Duration::from_millis(1));
    }
    world.pass(Duration::from_millis(100));
    assert!(world.clients[1].snapshots - before <= 4, "one in 50 ms");
    assert!(
        !world.clients[1]
            .feed("alice-stream")
            .expect("a feed")
            .audio_muted,
        "and the last one is right"
    );
}

#[test]
fn checklist_15_one_stream_for_each_purpose() {
    let mut world = World::call(&["alice", "bob"]);
    // A camera that is switched on late comes in a stream of its own.
    world.renegotiate(0, |alice| {
        alice.push_section(
            super::client::Media::Video,
            Some(("late-sdp-stream", "late-cam")),
            false,
        );
        alice.announce("late-stream", Purpose::Usermedia);
        alice.announce_track("late-stream", "late-cam", MediaKind::Video);
        alice.share("share-1", "screen-1");
    });
    world.pass(Duration::from_millis(100));
    assert_eq!(world.clients[1].stream_ids(), ["alice-stream", "share-1"]);
    let tracks: Vec<_> = world.clients[1]
        .feed("alice-stream")
        .expect("a feed")
        .tracks
        .keys()
        .collect();
    assert_eq!(tracks, ["alice-cam", "alice-mic", "late-cam"]);
}

#[test]
fn nobody_takes_a_stream_id_over() {
    let mut world = World::call(&["alice", "bob"]);
    let mut mallory = Client::new("alice", "conf");
    mallory.id.user_id = "@mallory:example.org".to_owned();
    mallory.call_id = "mallory".to_owned();
    mallory.session_id = "mallory".to_owned();
    world.join(mallory);
    world.pass(Duration::from_millis(100));
    let feeds = world.clients[1].feeds.clone().expect("feeds").streams;
    assert_eq!(
        feeds["alice-stream"].user_id.as_deref(),
        Some("@alice:example.org")
    );
    let other = feeds
        .keys()
        .find(|id| *id != "alice-stream")
        .expect("mallory's");
    assert!(other.starts_with("weir-"), "{other}");
    assert_eq!(
        feeds[other].user_id.as_deref(),
        Some("@mallory:example.org")
    );
    assert_eq!(world.clients[1].receives().len(), 4);
}
