//! The two dialects of the data channel in one call. What the words are is tested in `weir-signal`; here, who hears which.

use std::time::Duration;

use weir_shard::{ConferenceId, LayerSet, Size as ShardSize, Speaker, Speakers, TransportStatus};
use weir_signal::channel::{ConnectToFocus, Dialect, FromClient, LayersInUse, Size, ToClient};

use super::{
    client::{Client, name},
    told::{subscription, take_told, track},
    world::World,
};
use crate::conference::{CallEnd, Happened, Refusal, TransportInput};

/// Alice speaks the early dialect, Bob the late one; they see and hear each other.
fn early_alice_and_late_bob() -> World {
    let mut world = World::new();
    world.join(Client::new("alice", "conf").speaking(Dialect::Early));
    world.join(Client::new("bob", "conf").speaking(Dialect::Late));
    world
}

/// Error codes with the words that they are about.
fn errors(world: &World, index: usize) -> Vec<(&str, Option<(Dialect, &str)>)> {
    let errors = world.clients[index].errors.iter();
    errors
        .map(|error| {
            let about = error.in_reply_to.as_ref();
            let about = about.map(|name| (name.dialect, name.name.as_str()));
            (error.errcode.as_str(), about)
        })
        .collect()
}

#[test]
fn one_early_and_one_late_participant_share_a_call() {
    let mut world = early_alice_and_late_bob();
    assert_eq!(world.clients[0].stream_ids(), ["bob-stream"]);
    assert_eq!(world.clients[1].stream_ids(), ["alice-stream"]);
    let tracks = |index: usize| -> Vec<&str> {
        let client: &Client = &world.clients[index];
        client.receives().into_values().collect()
    };
    assert_eq!(tracks(0), ["bob-mic", "bob-cam"]);
    assert_eq!(tracks(1), ["alice-mic", "alice-cam"]);
    let wanted = world.shards[0]
        .subscriptions
        .values()
        .filter_map(|of| of.wanted);
    assert_eq!(
        wanted.collect::<Vec<_>>(),
        [ShardSize::new(1280, 720); 2],
        "sizes mean the same in both"
    );

    world.hang_up(0);
    world.pass(Duration::from_millis(100));
    assert_eq!(world.clients[1].stream_ids(), Vec::<&str>::new());
    assert_eq!(world.count(Happened::CallEnded(CallEnd::Left)), 1);
    assert_eq!(world.refused, []);
}

#[test]
fn who_has_said_nothing_is_told_in_both_and_then_only_in_its_own() {
    let mut world = World::new();
    for (index, dialect) in [Dialect::Early, Dialect::Late].into_iter().enumerate() {
        let mut silent = Client::new(["alice", "bob"][index], "conf").speaking(dialect);
        silent.wants = None;
        world.join(silent);
        assert_eq!(world.clients[index].snapshots, 1, "{dialect:?}");
    }
    // Alice's first, Bob's first, and Bob for Alice.
    assert_eq!(world.not_understood, 3);
    assert_eq!(world.clients[0].stream_ids(), ["bob-stream"]);
    world.say(0, &FromClient::Pong);
    world.say(1, &FromClient::Pong);
    world.change_metadata(0, |alice| alice.metadata.streams.clear());
    world.pass(Duration::from_millis(100));
    assert_eq!(world.clients[1].stream_ids(), Vec::<&str>::new());
    assert_eq!(world.not_understood, 3);
}

#[test]
fn the_first_message_decides_and_later_ones_of_the_other_dialect_are_understood() {
    let mut world = early_alice_and_late_bob();
    let not_understood = world.not_understood;
    world.say(
        1,
        r#"{"op":"unsubscribe","stop":[{"stream_id":"alice-stream","track_id":"alice-cam"}]}"#,
    );
    world.say(1, r#"{"op":"dance"}"#);
    world.say(
        0,
        r#"{"type":"m.call.track_subscription","content":{"unsubscribe":[{"stream_id":"bob-stream","track_id":"bob-cam"}]}}"#,
    );
    world.say(0, r#"{"type":"m.call.dance"}"#);
    let tracks = |index: usize| {
        world.clients[index]
            .receives()
            .into_values()
            .collect::<Vec<_>>()
    };
    assert_eq!((tracks(0), tracks(1)), (vec!["bob-mic"], vec!["alice-mic"]));
    let about = (Dialect::Late, "m.call.dance");
    assert_eq!(errors(&world, 0), [("M_UNRECOGNIZED", Some(about))]);
    let about = (Dialect::Early, "dance");
    assert_eq!(errors(&world, 1), [("M_UNRECOGNIZED", Some(about))]);
    assert_eq!(world.not_understood, not_understood);
}

#[test]
fn what_cannot_be_done_is_answered_by_its_own_name_and_harms_nobody() {
    let mut world = early_alice_and_late_bob();
    let connect = FromClient::ConnectToFocus(ConnectToFocus {
        user_id: "@focus:example.com".to_owned(),
        device_id: "F".to_owned(),
        room_id: "!room:example.com".to_owned(),
        conf_id: "another".to_owned(),
    });
    for index in [0, 1] {
        world.say(index, &connect);
    }
    let early = |name| Some((Dialect::Early, name));
    let late = |name| Some((Dialect::Late, name));
    assert_eq!(errors(&world, 0), [("M_FORBIDDEN", early("connect"))]);
    let about = late("m.call.connect_to_focus");
    assert_eq!(errors(&world, 1), [("M_FORBIDDEN", about)]);

    world.clients[0].errors.clear();
    let own = r#"{"stream_id":"alice-stream","track_id":"alice-mic"}"#;
    for text in [
        r#"{"op":"subscribe","start":"all"}"#,
        r#"{"op":"offer","sdp":"v=0"}"#,
        r#"{"op":"offer"}"#,
        r#"{"op":"metadata"}"#,
        r#"{"op":"connect"}"#,
        &format!(r#"{{"op":"subscribe","start":{own}}}"#),
        r#"{"op":7}"#,
        "{op:alive}",
    ] {
        world.say(0, text);
    }
    assert_eq!(
        errors(&world, 0),
        [
            ("M_BAD_JSON", early("subscribe")),
            ("M_INVALID_PARAM", early("offer")),
            ("M_BAD_JSON", early("offer")),
            ("M_BAD_JSON", early("metadata")),
            ("M_BAD_JSON", early("connect")),
            ("M_INVALID_PARAM", early("subscribe")),
            ("M_BAD_JSON", None),
            ("M_NOT_JSON", None),
        ]
    );
    assert_eq!(world.clients[1].errors.len(), 1);
    for client in &world.clients {
        assert_eq!(client.receives().len(), 2);
    }
}

#[test]
fn requests_of_the_early_dialect_are_bounded_like_the_late_ones() {
    let mut world = early_alice_and_late_bob();
    let many = |count: usize| {
        let entry = |n: usize| format!(r#"{{"stream_id":"s","track_id":"{n}"}}"#);
        let entries: Vec<_> = (0..count).map(entry).collect();
        format!(r#"{{"op":"subscribe","start":[{}]}}"#, entries.join(","))
    };
    for count in [513, 2049, 5000] {
        world.say(0, &many(count));
    }
    assert_eq!(
        world.refused,
        [
            Refusal::TooManySubscriptions,
            Refusal::RequestTooLong,
            Refusal::MalformedMessage
        ]
    );
    let codes: Vec<_> = errors(&world, 0)
        .into_iter()
        .map(|(code, _)| code)
        .collect();
    assert_eq!(codes, ["M_LIMIT_EXCEEDED", "M_TOO_LARGE", "M_TOO_LARGE"]);
    for _ in 0..1000 {
        world.say(0, r#"{"op":"alive"}"#);
    }
    assert_eq!(world.refused.last(), Some(&Refusal::TooManyMessages));
    assert_eq!(world.clients[1].receives().len(), 2);
}

#[test]
fn unsubscribe_stops_and_subscribe_starts_again() {
    let mut world = early_alice_and_late_bob();
    let stop = r#"{"op":"unsubscribe","stop":[{"stream_id":"bob-stream","track_id":"bob-cam"}]}"#;
    world.say(0, stop);
    let (camera, _) = track(&world, 1, "1");
    let flows = |world: &World| {
        let mut subscriptions = world.shards[0].subscriptions.values();
        subscriptions.any(|of| of.track == camera)
    };
    assert!(!flows(&world));
    // The example of the text, with the braces that it forgot, without a list.
    let start = r#"{"op":"subscribe","start":{"stream_id":"bob-stream","track_id":"bob-cam","width":320,"height":180}}"#;
    world.say(0, start);
    assert!(flows(&world));
    let (id, _) = subscription(&world, 0, camera);
    let wanted = world.shards[0].subscriptions[&id].wanted;
    assert_eq!(wanted, Some(ShardSize::new(320, 180)));
    // A size alone needs no description.
    let offers = world.clients[0].offers_seen;
    world.say(0, &start.replace("320", "640").replace("180", "360"));
    let wanted = world.shards[0].subscriptions[&id].wanted;
    assert_eq!(wanted, Some(ShardSize::new(640, 360)));
    assert_eq!(world.clients[0].offers_seen, offers);
}

#[test]
fn publish_and_unpublish_are_offers_or_news_of_the_own_streams() {
    let mut world = early_alice_and_late_bob();
    let publish = |world: &mut World, op: &str, change: fn(&mut Client)| {
        change(&mut world.clients[0]);
        let offer = world.clients[0].offer().to_texts(Dialect::Early).concat();
        let answers = world.clients[0].answers_seen;
        world.say(
            0,
            &offer.replace(r#""op":"offer""#, &format!(r#""op":"{op}""#)),
        );
        assert_eq!(world.clients[0].answers_seen, answers + 1, "{op}");
        world.pass(Duration::from_millis(100));
    };
    publish(&mut world, "publish", |alice| {
        alice.share("share", "screen")
    });
    assert_eq!(world.clients[1].stream_ids(), ["alice-stream", "share"]);
    publish(&mut world, "unpublish", |alice| alice.unshare("share"));
    assert_eq!(world.clients[1].stream_ids(), ["alice-stream"]);

    world.say(
        0,
        r#"{"op":"publish","metadata":{"alice-stream":{"purpose":"m.usermedia","video_muted":true,
            "tracks":{"alice-mic":{},"alice-cam":{"width":1280,"height":720}}}}}"#,
    );
    world.pass(Duration::from_millis(100));
    assert!(
        world.clients[1]
            .feed("alice-stream")
            .expect("a feed")
            .video_muted
    );
    world.say(0, r#"{"op":"unpublish"}"#);
    let about = Some((Dialect::Early, "unpublish"));
    assert_eq!(errors(&world, 0), [("M_BAD_JSON", about)]);
    assert_eq!(world.clients[1].stream_ids(), ["alice-stream"]);
}

#[test]
fn mute_flags_pass_from_each_dialect_to_the_other() {
    let mut world = early_alice_and_late_bob();
    for (own, other, stream) in [(0, 1, "alice-stream"), (1, 0, "bob-stream")] {
        world.change_metadata(own, |client| {
            for stream in client.metadata.streams.values_mut() {
                stream.audio_muted = true;
            }
        });
        world.pass(Duration::from_millis(100));
        assert!(
            world.clients[other]
                .feed(stream)
                .expect("a feed")
                .audio_muted
        );
    }
    assert_eq!(world.refused, []);
}

#[test]
fn who_speaks_and_what_flows_is_told_in_both() {
    let mut world = early_alice_and_late_bob();
    for (index, publisher) in [(0, "bob"), (1, "alice")] {
        let other = 1 - index;
        let (microphone, _) = track(&world, other, "0");
        let speaker = Speaker {
            track: microphone,
            level: 20,
        };
        let speakers = Speakers::from_iter([speaker]);
        world.focus.handle_speakers(ConferenceId(1), speakers);
        let told = take_told(&mut world, index);
        let [ToClient::ActiveSpeaker(speakers)] = told.as_slice() else {
            panic!("who speaks: {told:?}");
        };
        let microphone = name(&format!("{publisher}-stream"), &format!("{publisher}-mic"));
        assert_eq!((&speakers[0].name, speakers[0].level), (&microphone, 20));
        take_told(&mut world, other);

        let (camera, transport) = track(&world, index, "1");
        let layers = LayerSet::default().with(2);
        world.focus.handle_layers_in_use(transport, camera, layers);
        let told = take_told(&mut world, index);
        let [ToClient::LayersInUse(in_use)] = told.as_slice() else {
            panic!("which layers: {told:?}");
        };
        let [LayersInUse { rids, .. }] = in_use.as_slice() else {
            panic!("one track: {in_use:?}");
        };
        assert_eq!(rids, &["q"]);

        world.say(index, &FromClient::FollowStatus);
        let status = TransportStatus {
            estimate_bps: Some(600_000),
            ..TransportStatus::default()
        };
        let now = world.now;
        world.focus.handle_transport_status(transport, status, now);
        world.pass(Duration::from_millis(200));
        let told = take_told(&mut world, index);
        let [ToClient::Status(status)] = told.as_slice() else {
            panic!("what it gets: {told:?}");
        };
        assert_eq!(status.estimate_bps, Some(600_000));
    }
}

#[test]
fn alive_every_30_s_keeps_an_early_participant_and_silence_drops_it() {
    let mut world = early_alice_and_late_bob();
    world.clients[0].lively = false;
    for _ in 0..20 {
        world.pass(Duration::from_secs(30));
        world.say(0, &FromClient::Pong);
    }
    assert_eq!(world.focus.participant_count(), 2);
    assert_eq!(world.refused, []);
    world.pass(Duration::from_secs(74));
    assert_eq!(world.focus.participant_count(), 2);
    world.pass(Duration::from_secs(1));
    assert_eq!(world.focus.participant_count(), 1);
    let (kind, content) = world.clients[0].to_device.last().expect("a hangup");
    assert_eq!(*kind, "m.call.hangup");
    assert_eq!(content["reason"], "keep_alive_timeout");
}

#[test]
fn any_message_is_a_sign_of_life_in_the_early_dialect() {
    let mut world = early_alice_and_late_bob();
    world.clients[0].lively = false;
    for _ in 0..10 {
        world.pass(Duration::from_secs(60));
        world.change_metadata(0, |_| {});
    }
    assert_eq!(world.focus.participant_count(), 2);
}

#[test]
fn an_early_participant_hears_alive_as_often_as_a_late_one_is_asked() {
    let mut world = early_alice_and_late_bob();
    world.pass(Duration::from_secs(600));
    assert_eq!((world.clients[0].pings, world.clients[1].pings), (40, 40));
}

#[test]
fn a_channel_that_is_opened_again_keeps_its_dialect() {
    let mut world = early_alice_and_late_bob();
    let id = world.clients[0].transport.expect("a transport");
    world.input(id, TransportInput::ChannelClosed { channel: 1 });
    let (snapshots, not_understood) = (world.clients[0].snapshots, world.not_understood);
    world.clients[0].wants = Some(Size {
        width: 1,
        height: 1,
    });
    world.open(0);
    assert_eq!(world.clients[0].snapshots, snapshots + 1);
    assert_eq!(world.not_understood, not_understood);
    world.clients[0].lively = false;
    world.pass(Duration::from_secs(74));
    assert_eq!(world.focus.participant_count(), 2);
    world.pass(Duration::from_secs(1));
    assert_eq!(world.focus.participant_count(), 1);
}
