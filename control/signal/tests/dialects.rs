//! Message by message: what both dialects of MSC3898 say means the same, and is said as its text has it. The examples are those of
//! the two texts, as far as they are JSON.

use serde_json::{Value, json};
use weir_signal::channel::{
    ChannelError, ConnectToFocus, Description, DescriptionKind, Dialect, ErrorReply, Frame,
    FromClient, LayersInUse, MessageName, Size, Snapshot, Speaker, Status, ToClient, TrackName,
    TrackRequest, TrackStatus,
};
use weir_signal::metadata::StreamMetadata;

fn name(stream_id: &str, track_id: &str) -> TrackName {
    TrackName {
        stream_id: stream_id.to_owned(),
        track_id: track_id.to_owned(),
    }
}

fn request(stream_id: &str, track_id: &str, size: Option<(u32, u32)>) -> TrackRequest {
    TrackRequest {
        name: name(stream_id, track_id),
        size: size.map(|(width, height)| Size { width, height }),
    }
}

/// The example that both texts have in common.
fn metadata_value() -> Value {
    json!({
        "streamId1": {
            "purpose": "m.usermedia",
            "audio_muted": false,
            "video_muted": true,
            "tracks": {"trackId1": {"width": 1920, "height": 1080}, "trackId2": {}},
        }
    })
}

fn metadata() -> StreamMetadata {
    StreamMetadata::parse(&metadata_value()).expect("metadata")
}

fn description(kind: DescriptionKind) -> Description {
    Description {
        kind,
        sdp: "v=0\r\n".to_owned(),
    }
}

fn value(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

fn late(kind: &str, content: Value) -> Value {
    json!({"type": kind, "content": content})
}

/// What a participant says: the meaning, in the late dialect, in the early one.
fn said_by_participants() -> Vec<(FromClient, Value, Vec<Value>)> {
    let first =
        json!({"stream_id": "streamId1", "track_id": "trackId1", "width": 1920, "height": 1080});
    let second =
        json!({"stream_id": "streamId2", "track_id": "trackId2", "width": 256, "height": 144});
    let (third, fourth) = (
        json!({"stream_id": "streamId3", "track_id": "trackId4"}),
        json!({"stream_id": "streamId4", "track_id": "trackId4"}),
    );
    vec![
        (
            FromClient::Subscription {
                subscribe: vec![
                    request("streamId1", "trackId1", Some((1920, 1080))),
                    request("streamId2", "trackId2", Some((256, 144))),
                ],
                unsubscribe: vec![name("streamId3", "trackId4"), name("streamId4", "trackId4")],
            },
            late(
                "m.call.track_subscription",
                json!({"subscribe": [first, second], "unsubscribe": [third, fourth]}),
            ),
            vec![
                json!({"op": "unsubscribe", "stop": [third, fourth]}),
                json!({"op": "subscribe", "start": [first, second]}),
            ],
        ),
        (
            FromClient::Subscription {
                subscribe: vec![request("streamId3", "trackId4", None)],
                unsubscribe: Vec::new(),
            },
            late(
                "m.call.track_subscription",
                json!({"subscribe": [third], "unsubscribe": []}),
            ),
            vec![json!({"op": "subscribe", "start": [third]})],
        ),
        (
            FromClient::Subscription {
                subscribe: Vec::new(),
                unsubscribe: vec![name("streamId3", "trackId4")],
            },
            late(
                "m.call.track_subscription",
                json!({"subscribe": [], "unsubscribe": [third]}),
            ),
            vec![json!({"op": "unsubscribe", "stop": [third]})],
        ),
        (
            FromClient::Negotiate {
                description: description(DescriptionKind::Offer),
                metadata: Some(metadata()),
            },
            late(
                "m.call.negotiate",
                json!({"description": {"type": "offer", "sdp": "v=0\r\n"}, "sdp_stream_metadata": metadata_value()}),
            ),
            vec![json!({"op": "offer", "sdp": "v=0\r\n", "metadata": metadata_value()})],
        ),
        (
            FromClient::Negotiate {
                description: description(DescriptionKind::Answer),
                metadata: None,
            },
            late(
                "m.call.negotiate",
                json!({"description": {"type": "answer", "sdp": "v=0\r\n"}}),
            ),
            vec![json!({"op": "answer", "sdp": "v=0\r\n"})],
        ),
        (
            FromClient::MetadataChanged(metadata()),
            late(
                "m.call.sdp_stream_metadata_changed",
                json!({"sdp_stream_metadata": metadata_value()}),
            ),
            vec![json!({"op": "metadata", "metadata": metadata_value()})],
        ),
        (
            FromClient::Pong,
            late("m.call.pong", json!({})),
            vec![json!({"op": "alive"})],
        ),
        (
            FromClient::ConnectToFocus(ConnectToFocus {
                user_id: "@focus:example.com".to_owned(),
                device_id: "FS5F589EF".to_owned(),
                room_id: "!room:example.com".to_owned(),
                conf_id: "cvsiu2893".to_owned(),
            }),
            late(
                "m.call.connect_to_focus",
                json!({"focus": {"user_id": "@focus:example.com", "device_id": "FS5F589EF"},
                    "room_id": "!room:example.com", "conf_id": "cvsiu2893"}),
            ),
            vec![json!({"op": "connect",
                "focus": {"user_id": "@focus:example.com", "device_id": "FS5F589EF"},
                "room_id": "!room:example.com", "conf_id": "cvsiu2893"})],
        ),
        (
            FromClient::FollowStatus,
            late("org.matrix.msc3898.follow_status", json!({})),
            vec![json!({"op": "follow_status"})],
        ),
        (
            FromClient::Unknown {
                kind: "dance".to_owned(),
            },
            late("dance", json!({})),
            vec![json!({"op": "dance"})],
        ),
    ]
}

#[test]
fn what_a_participant_says_means_the_same_in_both_dialects() {
    for (meaning, late, early) in said_by_participants() {
        let said: Vec<Value> = meaning
            .to_texts(Dialect::Late)
            .iter()
            .map(|text| value(text))
            .collect();
        assert_eq!(said, std::slice::from_ref(&late));
        assert_eq!(FromClient::parse(&late.to_string()), Ok(meaning.clone()));

        let texts = meaning.to_texts(Dialect::Early);
        let said: Vec<Value> = texts.iter().map(|text| value(text)).collect();
        assert_eq!(said, early);
        // A request that needs two messages is two meanings; nothing else does.
        let read: Vec<_> = texts
            .iter()
            .map(|text| FromClient::parse(text).expect("a message"))
            .collect();
        match (&meaning, read.as_slice()) {
            (meaning, [read]) => assert_eq!(read, meaning),
            (
                FromClient::Subscription {
                    subscribe,
                    unsubscribe,
                },
                [stop, start],
            ) => {
                let only = |subscribe: &[_], unsubscribe: &[_]| FromClient::Subscription {
                    subscribe: subscribe.to_vec(),
                    unsubscribe: unsubscribe.to_vec(),
                };
                assert_eq!(*stop, only(&[], unsubscribe));
                assert_eq!(*start, only(subscribe, &[]));
            }
            other => panic!("{other:?}"),
        }
    }
}

/// What a focus says: the meaning, in the late dialect, in the early one.
fn said_by_the_focus() -> Vec<(ToClient, Value, Value)> {
    let track = json!({"stream_id": "s", "track_id": "t"});
    let with = |members: Value| {
        let mut track = track.clone();
        let members = members.as_object().expect("an object").clone();
        track.as_object_mut().expect("an object").extend(members);
        track
    };
    let speakers = json!([with(
        json!({"user_id": "@a:b", "device_id": "D", "level": 23})
    )]);
    let in_use = json!([with(json!({"mid": "1", "rids": ["h", "q"]}))]);
    let tracks = json!([with(
        json!({"reason": "flowing", "rid": "h", "width": 640, "height": 360, "temporal": 1})
    )]);
    vec![
        (
            ToClient::MetadataChanged(metadata()),
            late(
                "m.call.sdp_stream_metadata_changed",
                json!({"sdp_stream_metadata": metadata_value()}),
            ),
            json!({"op": "metadata", "metadata": metadata_value()}),
        ),
        (
            ToClient::Negotiate {
                description: description(DescriptionKind::Offer),
                metadata: metadata(),
            },
            late(
                "m.call.negotiate",
                json!({"description": {"type": "offer", "sdp": "v=0\r\n"}, "sdp_stream_metadata": metadata_value()}),
            ),
            json!({"op": "offer", "sdp": "v=0\r\n", "metadata": metadata_value()}),
        ),
        (
            ToClient::Negotiate {
                description: description(DescriptionKind::Answer),
                metadata: metadata(),
            },
            late(
                "m.call.negotiate",
                json!({"description": {"type": "answer", "sdp": "v=0\r\n"}, "sdp_stream_metadata": metadata_value()}),
            ),
            json!({"op": "answer", "sdp": "v=0\r\n", "metadata": metadata_value()}),
        ),
        (
            ToClient::Ping,
            late("m.call.ping", json!({})),
            json!({"op": "alive"}),
        ),
        (
            ToClient::ActiveSpeaker(vec![Speaker {
                user_id: "@a:b".to_owned(),
                device_id: "D".to_owned(),
                name: name("s", "t"),
                level: 23,
            }]),
            late(
                "org.matrix.msc3898.active_speaker",
                json!({"speakers": speakers}),
            ),
            json!({"op": "active_speaker", "speakers": speakers}),
        ),
        (
            ToClient::LayersInUse(vec![LayersInUse {
                name: name("s", "t"),
                mid: "1".to_owned(),
                rids: vec!["h".to_owned(), "q".to_owned()],
            }]),
            late(
                "org.matrix.msc3898.layers_in_use",
                json!({"tracks": in_use}),
            ),
            json!({"op": "layers_in_use", "tracks": in_use}),
        ),
        (
            ToClient::Status(Status {
                estimate_bps: Some(600_000),
                allocated_bps: 1,
                wanted_bps: 2,
                tracks: vec![TrackStatus {
                    name: name("s", "t"),
                    rid: Some("h".to_owned()),
                    size: Some(Size {
                        width: 640,
                        height: 360,
                    }),
                    temporal: Some(1),
                    reason: "flowing".to_owned(),
                }],
            }),
            late(
                "org.matrix.msc3898.status",
                json!({"estimate_bps": 600_000, "allocated_bps": 1, "wanted_bps": 2, "tracks": tracks}),
            ),
            json!({"op": "status", "estimate_bps": 600_000, "allocated_bps": 1, "wanted_bps": 2, "tracks": tracks}),
        ),
    ]
}

#[test]
fn what_the_focus_says_means_the_same_in_both_dialects() {
    for (meaning, late, early) in said_by_the_focus() {
        for (dialect, said) in [(Dialect::Late, late), (Dialect::Early, early)] {
            assert_eq!(value(&meaning.to_text(dialect)), said);
            let frame = Frame::open(&said.to_string()).expect("a frame");
            assert_eq!(frame.dialect(), dialect);
            assert_eq!(ToClient::read(&frame), Ok(meaning.clone()));
        }
    }
}

#[test]
fn a_snapshot_of_rendered_streams_reads_as_the_message_it_stands_for() {
    for (meaning, late, early) in said_by_the_focus() {
        for (dialect, expected) in [(Dialect::Late, late), (Dialect::Early, early)] {
            let said = match &meaning {
                ToClient::MetadataChanged(metadata) => Snapshot::from(metadata).to_text(dialect),
                ToClient::Negotiate {
                    description,
                    metadata,
                } => Snapshot::from(metadata).to_text_with(dialect, description),
                _ => continue,
            };
            assert_eq!(value(&said), expected);
        }
    }
}

#[test]
fn snapshots_are_equal_if_they_say_the_same() {
    let (one, mut other) = (metadata(), metadata());
    assert_eq!(Snapshot::from(&one), Snapshot::from(&other));
    let stream = other.streams.values_mut().next().expect("a stream");
    stream.audio_muted = !stream.audio_muted;
    assert_ne!(Snapshot::from(&one), Snapshot::from(&other));
    assert_ne!(Snapshot::from(&one), Snapshot::default());
}

#[test]
fn an_error_names_what_it_is_about_as_it_was_said() {
    let error = |in_reply_to| {
        ToClient::Error(ErrorReply {
            errcode: "M_NOT_FOUND".to_owned(),
            error: "no such track".to_owned(),
            in_reply_to,
            details: Some(json!({"track_id": "t"})),
        })
    };
    let about = |dialect, name: &str| {
        Some(MessageName {
            dialect,
            name: name.to_owned(),
        })
    };
    for (in_reply_to, written) in [
        (
            about(Dialect::Late, "m.call.track_subscription"),
            json!({"type": "m.call.track_subscription", "track_id": "t"}),
        ),
        (
            about(Dialect::Early, "subscribe"),
            json!({"op": "subscribe", "track_id": "t"}),
        ),
        (None, json!({"track_id": "t"})),
    ] {
        let error = error(in_reply_to);
        let content =
            json!({"errcode": "M_NOT_FOUND", "error": "no such track", "in_reply_to": written});
        let said = value(&error.to_text(Dialect::Late));
        assert_eq!(said, late("org.matrix.msc3898.error", content.clone()));
        assert_eq!(ToClient::parse(&said.to_string()), Ok(error.clone()));

        let said = value(&error.to_text(Dialect::Early));
        let mut early = content;
        early["op"] = json!("error");
        assert_eq!(said, early);
        assert_eq!(ToClient::parse(&said.to_string()), Ok(error));
    }
}

#[test]
fn the_early_dialect_has_one_word_for_ping_and_pong() {
    let alive = FromClient::Ping.to_texts(Dialect::Early).concat();
    assert_eq!(value(&alive), json!({"op": "alive"}));
    assert_eq!(FromClient::parse(&alive), Ok(FromClient::Pong));
    let alive = ToClient::Pong.to_text(Dialect::Early);
    assert_eq!(value(&alive), json!({"op": "alive"}));
    assert_eq!(ToClient::parse(&alive), Ok(ToClient::Ping));
    // The late one has two, for either side.
    let text = late("m.call.ping", json!({})).to_string();
    assert_eq!(FromClient::parse(&text), Ok(FromClient::Ping));
    let text = late("m.call.pong", json!({})).to_string();
    assert_eq!(ToClient::parse(&text), Ok(ToClient::Pong));
}

#[test]
fn publish_and_unpublish_are_offers_or_metadata() {
    for op in ["publish", "unpublish"] {
        let text = json!({"op": op, "sdp": "v=0\r\n", "metadata": metadata_value()});
        assert_eq!(
            FromClient::parse(&text.to_string()),
            Ok(FromClient::Negotiate {
                description: description(DescriptionKind::Offer),
                metadata: Some(metadata()),
            })
        );
        let text = json!({"op": op, "metadata": metadata_value()});
        assert_eq!(
            FromClient::parse(&text.to_string()),
            Ok(FromClient::MetadataChanged(metadata()))
        );
        for (text, missing) in [
            (json!({"op": op}), "metadata"),
            (json!({"op": op, "sdp": 7, "metadata": {}}), "sdp"),
        ] {
            let read = FromClient::parse(&text.to_string());
            assert_eq!(read, Err(ChannelError::Content(missing)), "{text}");
        }
    }
}

#[test]
fn either_text_may_be_followed_loosely() {
    let both = FromClient::Subscription {
        subscribe: vec![request("streamId1", "trackId1", Some((1920, 1080)))],
        unsubscribe: vec![name("streamId1", "trackId2")],
    };
    let start =
        json!({"stream_id": "streamId1", "track_id": "trackId1", "width": 1920, "height": 1080});
    let stop = json!({"stream_id": "streamId1", "track_id": "trackId2"});
    for text in [
        // The early example, with the braces that make it JSON, and without its list; both lists in one message.
        json!({"op": "subscribe", "start": start, "stop": stop}),
        json!({"op": "unsubscribe", "start": [start], "stop": [stop]}),
        // The names of the late text's prose, and those of its example.
        late(
            "m.call.track_subscription",
            json!({"start": [start], "stop": [stop]}),
        ),
        late(
            "m.call.track_subscription",
            json!({"subscribe": start, "unsubscribe": stop}),
        ),
    ] {
        assert_eq!(
            FromClient::parse(&text.to_string()),
            Ok(both.clone()),
            "{text}"
        );
    }
    for key in [
        "metadata",
        "sdp_stream_metadata",
        "org.matrix.msc3077.sdp_stream_metadata",
    ] {
        let text = json!({"op": "metadata", key: metadata_value()}).to_string();
        let read = FromClient::parse(&text);
        assert_eq!(read, Ok(FromClient::MetadataChanged(metadata())), "{key}");
    }
    let text = late(
        "m.call.sdp_stream_metadata_changed",
        json!({"metadata": {}}),
    );
    assert_eq!(
        FromClient::parse(&text.to_string()),
        Err(ChannelError::Content("sdp_stream_metadata"))
    );
}

#[test]
fn what_is_wrong_in_the_early_dialect_is_said() {
    // Word by word as in the text, which is no JSON.
    let example = r#"{
    "op": "subscribe",
    "start": [
        "stream_id": "streamId1",
        "track_id": "trackId1",
        "width": 1920,
        "height": 1080
    ],
}"#;
    let many: Vec<_> = (0..4097)
        .map(|n| json!({"stream_id": "s", "track_id": n.to_string()}))
        .collect();
    for (text, error) in [
        (example.to_owned(), ChannelError::NotJson),
        (json!({"op": 7}).to_string(), ChannelError::NoType),
        (json!({"start": []}).to_string(), ChannelError::NoType),
        (
            json!({"op": "offer"}).to_string(),
            ChannelError::Content("sdp"),
        ),
        (
            json!({"op": "answer", "sdp": []}).to_string(),
            ChannelError::Content("sdp"),
        ),
        (
            json!({"op": "metadata"}).to_string(),
            ChannelError::Content("metadata"),
        ),
        (
            json!({"op": "subscribe", "start": 7}).to_string(),
            ChannelError::Content("start"),
        ),
        (
            json!({"op": "unsubscribe", "stop": "all"}).to_string(),
            ChannelError::Content("stop"),
        ),
        (
            json!({"op": "subscribe", "start": many}).to_string(),
            ChannelError::TooMany("start"),
        ),
        (
            json!({"op": "connect"}).to_string(),
            ChannelError::Content("focus"),
        ),
        (
            json!({"op": "alive", "x": "x".repeat(262_144)}).to_string(),
            ChannelError::TooLong,
        ),
    ] {
        assert_eq!(FromClient::parse(&text), Err(error), "{text:.80}");
    }
    for (error, errcode) in [
        (ChannelError::NotJson, "M_NOT_JSON"),
        (ChannelError::NoType, "M_BAD_JSON"),
        (ChannelError::Content("sdp"), "M_BAD_JSON"),
        (ChannelError::TooMany("start"), "M_TOO_LARGE"),
        (ChannelError::TooLong, "M_TOO_LARGE"),
    ] {
        assert_eq!(error.errcode(), errcode);
    }
}

#[test]
fn what_only_the_other_side_says_is_unknown() {
    for name in ["error", "active_speaker", "layers_in_use", "status"] {
        let read = FromClient::parse(&json!({"op": name}).to_string());
        let kind = name.to_owned();
        assert_eq!(read, Ok(FromClient::Unknown { kind }));
        let late = late(&format!("org.matrix.msc3898.{name}"), json!({})).to_string();
        let read = FromClient::parse(&late).expect("a frame");
        assert!(matches!(read, FromClient::Unknown { .. }));
        let is_error = Frame::open(&late).expect("a frame").is_error();
        assert_eq!(is_error, name == "error");
    }
    for name in [
        "subscribe",
        "unsubscribe",
        "publish",
        "unpublish",
        "connect",
        "follow_status",
    ] {
        let read = ToClient::parse(&json!({"op": name}).to_string());
        let kind = name.to_owned();
        assert_eq!(read, Ok(ToClient::Unknown { kind }));
    }
    // Names are cut before anybody keeps or logs them, and are not confused by it.
    let long = "x".repeat(1000);
    let read = FromClient::parse(&json!({"op": long}).to_string());
    let kind = "x".repeat(64);
    assert_eq!(read, Ok(FromClient::Unknown { kind }));
}
