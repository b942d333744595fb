//! Microphones and cameras that go off and on.

use std::time::Duration;

use super::{client::Client, world::World};

fn set_muted(client: &mut Client, audio: bool, video: bool) {
    let stream = client
        .metadata
        .streams
        .values_mut()
        .next()
        .expect("a stream");
    (stream.audio_muted, stream.video_muted) = (audio, video);
}

fn rename(client: &mut Client, id: &str) {
    let stream = client.metadata.streams.pop_first().expect("a stream").1;
    client.metadata.streams.insert(id.to_owned(), stream);
}

fn rename_in_sdp(client: &mut Client, id: &str) {
    for section in client.sections.iter_mut().take(2) {
        section.sends.as_mut().expect("a track").0 = id.to_owned();
    }
}

#[test]
fn checklist_24_mute_reaches_the_others_within_100_ms() {
    let mut world = World::call(&["alice", "bob"]);
    world.change_metadata(0, |alice| set_muted(alice, true, false));
    world.pass(Duration::from_millis(99));
    let feed = world.clients[1].feed("alice-stream").expect("a feed");
    assert_eq!((feed.audio_muted, feed.video_muted), (true, false));
    let muted = world.shards[0]
        .tracks
        .values()
        .filter(|(_, _, muted)| *muted)
        .count();
    assert_eq!(muted, 1, "the shard knows that silence is no fault");
}

#[test]
fn checklist_24_flags_are_found_by_track_even_under_a_new_stream_id() {
    let mut world = World::call(&["alice", "bob"]);
    world.change_metadata(0, |alice| {
        rename(alice, "never-seen");
        set_muted(alice, false, true);
    });
    world.pass(Duration::from_millis(99));
    assert_eq!(world.clients[1].stream_ids(), ["alice-stream"]);
    assert!(
        world.clients[1]
            .feed("alice-stream")
            .expect("a feed")
            .video_muted
    );
}

#[test]
fn checklist_25_camera_off_and_on_keeps_stream_and_subscription() {
    let mut world = World::call(&["alice", "bob"]);
    let before = world.shards[0].subscription_commands;
    world.change_metadata(0, |alice| set_muted(alice, false, true));
    world.pass(Duration::from_secs(20));
    world.change_metadata(0, |alice| set_muted(alice, false, false));
    world.pass(Duration::from_millis(100));
    let feed = world.clients[1].feed("alice-stream").expect("a feed");
    assert_eq!((feed.audio_muted, feed.video_muted), (false, false));
    assert_eq!(world.shards[0].subscription_commands, before);
}

#[test]
fn checklist_25_track_that_metadata_leaves_out_while_muted_stays() {
    let mut world = World::call(&["alice", "bob"]);
    world.change_metadata(0, |alice| {
        set_muted(alice, false, true);
        alice
            .metadata
            .streams
            .values_mut()
            .next()
            .expect("a stream")
            .tracks
            .remove("alice-cam");
    });
    world.pass(Duration::from_millis(100));
    let feed = world.clients[1].feed("alice-stream").expect("a feed");
    assert!(feed.video_muted && feed.tracks.contains_key("alice-cam"));
}

#[test]
fn checklist_26_two_offers_back_to_back_are_both_answered_and_the_outward_id_stays() {
    let mut world = World::call(&["alice", "bob"]);
    let before = world.shards[0].subscription_commands;
    let answered = world.clients[0].answers_seen;

    rename(&mut world.clients[0], "new-stream");
    rename_in_sdp(&mut world.clients[0], "new-stream");
    let first = world.clients[0].offer();
    rename(&mut world.clients[0], "alice-stream");
    rename_in_sdp(&mut world.clients[0], "alice-stream");
    let second = world.clients[0].offer();
    world.say_only(0, &first);
    world.say_only(0, &second);
    world.settle();
    world.pass(Duration::from_millis(100));

    assert_eq!(world.clients[0].answers_seen, answered + 2);
    assert_eq!(world.clients[1].stream_ids(), ["alice-stream"]);
    assert_eq!(world.clients[1].receives().len(), 2);
    assert_eq!(
        world.shards[0].subscription_commands, before,
        "nothing was interrupted"
    );
}
