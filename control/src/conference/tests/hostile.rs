//! What comes from clients that are broken or mean no good. Others must not notice.

use std::time::Duration;

use serde_json::{Value, json};

use super::{client::Client, world::World};
use crate::conference::{Refusal, TransportInput};

#[test]
fn checklist_38_noise_on_the_channel_changes_nothing_and_is_answered_with_an_error() {
    let mut world = World::call(&["alice", "bob"]);
    for text in [
        "",
        "not JSON",
        "[]",
        "7",
        r#"{"type":7}"#,
        r#"{"type":"m.call.dance","content":{}}"#,
        r#"{"content":{}}"#,
    ] {
        world.say(0, text);
    }
    assert_eq!(world.refused.len(), 7);
    world.say(0, r#"{"type":"m.call.negotiate","content":{}}"#);
    let told: Vec<(&str, Option<&str>)> = world.clients[0]
        .errors
        .iter()
        .map(|error| {
            let about = error.in_reply_to.as_ref();
            (error.errcode.as_str(), about.map(|name| name.name.as_str()))
        })
        .collect();
    assert_eq!(
        told,
        [
            ("M_NOT_JSON", None),
            ("M_NOT_JSON", None),
            ("M_BAD_JSON", None),
            ("M_BAD_JSON", None),
            ("M_BAD_JSON", None),
            ("M_UNRECOGNIZED", Some("m.call.dance")),
            ("M_BAD_JSON", None),
            ("M_BAD_JSON", Some("m.call.negotiate")),
        ]
    );
    assert_eq!(world.clients[1].errors, []);
    assert_eq!(world.clients[0].receives().len(), 2);
}

#[test]
fn an_error_is_not_answered_with_an_error() {
    let mut world = World::call(&["alice"]);
    world.say(
        0,
        r#"{"type":"org.matrix.msc3898.error","content":{"errcode":"M_UNKNOWN"}}"#,
    );
    world.say(0, r#"{"op":"error","errcode":"M_UNKNOWN"}"#);
    assert_eq!(world.refused, [Refusal::UnknownMessage; 2]);
    assert_eq!(world.clients[0].errors, []);
}

#[test]
fn checklist_38_binary_frames_and_second_channels_are_ignored() {
    let mut world = World::call(&["alice", "bob"]);
    let id = world.clients[0].transport.expect("a transport");
    world.input(id, TransportInput::Binary { channel: 1 });
    world.input(
        id,
        TransportInput::ChannelOpen {
            channel: 3,
            label: "datachannel".to_owned(),
        },
    );
    world.input(
        id,
        TransportInput::Text {
            channel: 3,
            text: r#"{"type":"m.call.pong","content":{}}"#.to_owned(),
        },
    );
    world.input(id, TransportInput::ChannelClosed { channel: 3 });
    assert_eq!(
        world.refused,
        [
            Refusal::BinaryMessage,
            Refusal::SecondChannel,
            Refusal::SecondChannel
        ]
    );
    world.renegotiate(0, |alice| alice.share("share", "screen"));
    world.pass(Duration::from_millis(100));
    assert_eq!(world.clients[1].stream_ids(), ["alice-stream", "share"]);
}

#[test]
fn channel_that_closes_may_be_opened_again() {
    let mut world = World::call(&["alice", "bob"]);
    let id = world.clients[0].transport.expect("a transport");
    world.input(id, TransportInput::ChannelClosed { channel: 1 });
    world.pass(Duration::from_secs(20));
    let snapshots = world.clients[0].snapshots;
    world.open(0);
    assert_eq!(world.clients[0].snapshots, snapshots + 1);
    world.input(id, TransportInput::ChannelClosed { channel: 1 });
    world.pass(Duration::from_secs(31));
    assert_eq!(world.focus.participant_count(), 1);
}

#[test]
fn checklist_39_malformed_invites_affect_nobody() {
    let mut world = World::call(&["alice", "bob"]);
    let snapshots = world.clients[1].snapshots;
    let mut mallory = Client::new("mallory", "conf");
    let good = mallory.invite();
    world.clients.push(mallory);
    let sdp = good["offer"]["sdp"].as_str().expect("SDP").to_owned();
    let mut number = 0;
    let mut send = |world: &mut World, change: &dyn Fn(&mut Value)| {
        let mut content = good.clone();
        number += 1;
        content["call_id"] = json!(number.to_string());
        change(&mut content);
        world.call_event(2, "m.call.invite", &content);
    };
    let offers = [
        String::new(),
        "v=0".to_owned(),
        sdp.replace("ice-ufrag", "no-ufrag"),
        sdp.replace("fingerprint", "no-print"),
        sdp.replace("a=mid:1", "a=mid:0"),
        sdp.replace("setup:actpass", "setup:passive"),
        sdp[..sdp.len() / 2].to_owned() + "\0\u{7f}",
        "m=".repeat(100_000),
    ];
    for offer in &offers {
        send(&mut world, &|content| {
            content["offer"]["sdp"] = json!(offer)
        });
    }
    send(&mut world, &|content| content["offer"] = json!(7));
    send(&mut world, &|content| content["conf_id"] = json!(null));
    send(&mut world, &|content| {
        content["call_id"] = json!("x".repeat(300))
    });
    send(&mut world, &|content| {
        content["org.matrix.msc3898.trunk"] = json!(true)
    });

    assert!(world.refused.len() >= 11, "{:?}", world.refused);
    world.hang_up(2);
    world.pass(Duration::from_millis(100));
    assert_eq!(world.focus.participant_count(), 2);
    assert_eq!(world.clients[0].receives().len(), 2);
    assert!(world.clients[1].snapshots <= snapshots + 2);
}

#[test]
fn flood_of_messages_is_cut_off() {
    let mut world = World::call(&["alice", "bob"]);
    for _ in 0..1000 {
        world.say(0, r#"{"type":"m.call.pong","content":{}}"#);
    }
    let cut = world
        .refused
        .iter()
        .filter(|reason| **reason == Refusal::TooManyMessages)
        .count();
    assert!(cut >= 800, "{cut}");
    world.pass(Duration::from_secs(5));
    world.change_metadata(0, |alice| {
        alice
            .metadata
            .streams
            .values_mut()
            .for_each(|stream| stream.audio_muted = true)
    });
    world.pass(Duration::from_millis(100));
    assert!(
        world.clients[1]
            .feed("alice-stream")
            .expect("a feed")
            .audio_muted,
        "it may go on later"
    );
}

#[test]
fn published_tracks_are_bounded() {
    let mut world = World::call(&["alice", "bob"]);
    world.renegotiate(0, |alice| {
        for number in 0..30 {
            alice.push_section(
                super::client::Media::Video,
                Some(("alice-stream", &format!("cam-{number}"))),
                false,
            );
        }
    });
    assert_eq!(world.shards[0].tracks.len(), 12 + 2);
    assert_eq!(world.refused.len(), 20);
    assert_eq!(world.clients[0].errors.len(), 1);
}

#[test]
fn unwritable_ids_are_not_advertised() {
    let mut world = World::new();
    let mut alice = Client::new("alice", "conf");
    let stream = alice.metadata.streams.pop_first().expect("a stream").1;
    alice
        .metadata
        .streams
        .insert("two words\r\na=evil".to_owned(), stream);
    world.join(alice);
    world.join(Client::new("bob", "conf"));
    assert_eq!(world.clients[1].stream_ids(), Vec::<&str>::new());
    assert_eq!(
        world.clients[0].receives().len(),
        2,
        "she sees Bob all the same"
    );
}
