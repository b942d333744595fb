//! What is said over to-device messages and over the data channel.

use serde_json::{Value, json};
use weir_signal::call::{Answer, Body, CallError, IceCandidate, Message};
use weir_signal::channel::{
    ChannelError, Description, DescriptionKind, Dialect, FromClient, Size, ToClient, TrackName,
    TrackRequest,
};
use weir_signal::metadata::{MediaKind, StreamMetadata};

/// The reference client's invite, shortened.
fn invite() -> Value {
    json!({
        "version": "1", "call_id": "call1", "party_id": "PHONE", "conf_id": "conf1", "device_id": "PHONE",
        "sender_session_id": "abcdefghij", "dest_session_id": "sfu", "seq": 0, "org.matrix.msgid": "7f2c",
        "offer": {"type": "offer", "sdp": "v=0"}, "lifetime": 60000, "invitee": "@focus:example.org",
        "capabilities": {"m.call.transferee": false, "m.call.dtmf": false},
        "org.matrix.msc3077.sdp_stream_metadata": {"s": {"purpose": "m.usermedia", "tracks": {"t": {"kind": "audio"}}}},
    })
}

#[test]
fn reads_an_invite() {
    let message = Message::parse("m.call.invite", &invite()).expect("an invite");
    assert!(message.envelope.is_for_focus());
    assert_eq!(
        (message.envelope.call_id.as_str(), message.envelope.seq),
        ("call1", Some(0))
    );
    let Body::Invite(invite) = message.body else {
        panic!("not an invite")
    };
    assert_eq!(
        (invite.sdp.as_str(), invite.lifetime_ms, invite.trunk),
        ("v=0", 60_000, false)
    );
    assert_eq!(
        invite
            .metadata
            .expect("metadata")
            .by_track("t")
            .expect("the track")
            .2
            .kind,
        Some(MediaKind::Audio)
    );
}

#[test]
fn checklist_01_a_message_for_another_session_is_told_apart() {
    let mut content = invite();
    content["dest_session_id"] = json!("someone");
    assert!(
        !Message::parse("m.call.invite", &content)
            .expect("an invite")
            .envelope
            .is_for_focus()
    );
}

#[test]
fn checklist_02_an_answer_has_all_that_the_client_asks_for() {
    let invite = Message::parse("m.call.invite", &invite()).expect("an invite");
    let answer = Message {
        envelope: invite.envelope.reply_from("FOCUS"),
        body: Body::Answer(Answer {
            sdp: "v=0".to_owned(),
            metadata: StreamMetadata::default(),
        }),
    };
    assert_eq!(answer.event_type(), "m.call.answer");
    assert_eq!(
        answer.content(),
        json!({
            "version": "1", "call_id": "call1", "conf_id": "conf1", "party_id": "sfu-FOCUS", "device_id": "FOCUS",
            "sender_session_id": "sfu", "dest_session_id": "abcdefghij",
            "answer": {"type": "answer", "sdp": "v=0"}, "org.matrix.msc3077.sdp_stream_metadata": {},
        })
    );
    // Even where both devices have the same id.
    assert_ne!(
        invite.envelope.reply_from("PHONE").party_id,
        invite.envelope.party_id
    );
}

#[test]
fn checklist_03_what_the_focus_says_has_no_seq() {
    let envelope = Message::parse("m.call.invite", &invite())
        .expect("an invite")
        .envelope
        .reply_from("FOCUS");
    for body in [
        Body::Hangup {
            reason: Some("keep_alive_timeout".to_owned()),
        },
        Body::Candidates(Vec::new()),
        Body::Reject { reason: None },
    ] {
        let message = Message {
            envelope: envelope.clone(),
            body,
        };
        assert_eq!(message.content().get("seq"), None);
        assert_eq!(message.content()["party_id"], "sfu-FOCUS");
    }
}

#[test]
fn checklist_05_candidates_of_every_kind_are_taken() {
    let mut content = invite();
    content["candidates"] = json!([
        {"candidate": "candidate:1 1 udp 1 192.0.2.1 9 typ host", "sdpMid": "0", "sdpMLineIndex": 0, "usernameFragment": "abcd"},
        {"candidate": "candidate:1 1 udp 1 x.local 9 typ host", "sdpMLineIndex": null},
        {"candidate": ""}, {}, "rubbish", {"candidate": 7},
    ]);
    let Body::Candidates(candidates) = Message::parse("m.call.candidates", &content)
        .expect("candidates")
        .body
    else {
        panic!("not candidates")
    };
    assert_eq!(candidates.len(), 3);
    assert_eq!(
        candidates[0],
        IceCandidate {
            candidate: "candidate:1 1 udp 1 192.0.2.1 9 typ host".to_owned(),
            sdp_mid: Some("0".to_owned()),
            sdp_m_line_index: Some(0),
            username_fragment: Some("abcd".to_owned()),
        }
    );
    assert!(candidates[2].is_end() && !candidates[1].is_end());
    content["candidates"] = Value::Null;
    assert_eq!(
        Message::parse("m.call.candidates", &content)
            .expect("none")
            .body,
        Body::Candidates(Vec::new())
    );
}

#[test]
fn checklist_06_select_answer_is_read() {
    let mut content = invite();
    content["selected_party_id"] = json!("sfu-FOCUS");
    let body = Message::parse("m.call.select_answer", &content)
        .expect("a message")
        .body;
    assert_eq!(
        body,
        Body::SelectAnswer {
            selected_party_id: "sfu-FOCUS".to_owned()
        }
    );
}

#[test]
fn says_what_is_missing() {
    let cases = [
        ("call_id", CallError::Missing("call_id")),
        ("conf_id", CallError::Missing("conf_id")),
        ("device_id", CallError::Missing("device_id")),
        ("sender_session_id", CallError::Missing("sender_session_id")),
        ("dest_session_id", CallError::Missing("dest_session_id")),
        ("offer", CallError::Missing("offer")),
    ];
    for (member, error) in cases {
        let mut content = invite();
        content.as_object_mut().expect("an object").remove(member);
        assert_eq!(Message::parse("m.call.invite", &content), Err(error));
    }
    let mut content = invite();
    content["conf_id"] = json!("x".repeat(256));
    assert_eq!(
        Message::parse("m.call.invite", &content),
        Err(CallError::TooLong("conf_id"))
    );
    content["offer"]["sdp"] = json!("x".repeat(262_145));
    content["conf_id"] = json!("x");
    assert_eq!(
        Message::parse("m.call.invite", &content),
        Err(CallError::TooLong("offer"))
    );
    assert_eq!(
        Message::parse("m.room.message", &invite()),
        Err(CallError::OtherType)
    );
    assert_eq!(
        Message::parse("m.call.invite", &json!([])),
        Err(CallError::Missing("content"))
    );
}

#[test]
fn to_device_messages_survive_a_round_trip() {
    let mut content = invite();
    for (kind, key, value) in [
        ("m.call.invite", "lifetime", json!("30000")),
        ("m.call.hangup", "reason", json!("user_hangup")),
        ("m.call.reject", "reason", json!("full")),
        (
            "m.call.answer",
            "answer",
            json!({"type": "answer", "sdp": "v=0"}),
        ),
        (
            "m.call.candidates",
            "candidates",
            json!([{"candidate": "", "sdpMid": "", "sdpMLineIndex": 0}]),
        ),
        ("m.call.select_answer", "selected_party_id", json!("x")),
    ] {
        content[key] = value;
        let message = Message::parse(kind, &content).expect("a message");
        assert_eq!(message.event_type(), kind);
        assert_eq!(Message::parse(kind, &message.content()), Ok(message));
    }
}

fn name(stream_id: &str, track_id: &str) -> TrackName {
    TrackName {
        stream_id: stream_id.to_owned(),
        track_id: track_id.to_owned(),
    }
}

#[test]
fn checklist_12_an_empty_snapshot_is_said() {
    let text = ToClient::MetadataChanged(StreamMetadata::default()).to_text(Dialect::Late);
    assert_eq!(
        serde_json::from_str::<Value>(&text).expect("JSON"),
        json!({"type": "m.call.sdp_stream_metadata_changed", "content": {"sdp_stream_metadata": {}}})
    );
}

#[test]
fn checklist_17_an_offer_carries_the_snapshot_and_its_answer_is_read() {
    let metadata = StreamMetadata::parse(&json!({"s": {"tracks": {"t": {"kind": "video"}}}}))
        .expect("metadata");
    let description = Description {
        kind: DescriptionKind::Offer,
        sdp: "v=0\r\n".to_owned(),
    };
    let offer = serde_json::from_str::<Value>(
        &ToClient::Negotiate {
            description,
            metadata,
        }
        .to_text(Dialect::Late),
    )
    .expect("JSON");
    assert_eq!(offer["type"], "m.call.negotiate");
    assert_eq!(
        offer["content"]["description"],
        json!({"type": "offer", "sdp": "v=0\r\n"})
    );
    assert_eq!(
        offer["content"]["sdp_stream_metadata"]["s"]["tracks"],
        json!({"t": {"kind": "video"}})
    );
    let answer =
        r#"{"type":"m.call.negotiate","content":{"description":{"type":"answer","sdp":"v=0"}}}"#;
    let description = Description {
        kind: DescriptionKind::Answer,
        sdp: "v=0".to_owned(),
    };
    assert_eq!(
        FromClient::parse(answer),
        Ok(FromClient::Negotiate {
            description,
            metadata: None
        })
    );
}

#[test]
fn checklist_19_an_entry_that_names_nothing_leaves_the_others() {
    let text = json!({"type": "m.call.track_subscription", "content": {
        "subscribe": [{"track_id": "t"}, 7, {"stream_id": "s", "track_id": "t"}, {"stream_id": "", "track_id": "t"}],
        "unsubscribe": {"stream_id": "u", "track_id": "v"},
    }});
    let expected = FromClient::Subscription {
        subscribe: vec![TrackRequest {
            name: name("s", "t"),
            size: None,
        }],
        unsubscribe: vec![name("u", "v")],
    };
    assert_eq!(FromClient::parse(&text.to_string()), Ok(expected));
}

#[test]
fn checklist_22_lists_and_sizes_may_be_missing_or_zero() {
    let request = |content: Value| {
        FromClient::parse(
            &json!({"type": "m.call.track_subscription", "content": content}).to_string(),
        )
    };
    let empty = FromClient::Subscription {
        subscribe: Vec::new(),
        unsubscribe: Vec::new(),
    };
    assert_eq!(request(json!({})), Ok(empty.clone()));
    assert_eq!(
        request(json!({"subscribe": null, "unsubscribe": []})),
        Ok(empty)
    );
    for (entry, size) in [
        (
            json!({"stream_id": "s", "track_id": "t", "width": 0, "height": 0}),
            Some(Size {
                width: 0,
                height: 0,
            }),
        ),
        (
            json!({"stream_id": "s", "track_id": "t", "width": 640}),
            None,
        ),
        (
            json!({"stream_id": "s", "track_id": "t", "width": 640.4, "height": 360.0}),
            Some(Size {
                width: 640,
                height: 360,
            }),
        ),
        (
            json!({"stream_id": "s", "track_id": "t", "width": "x", "height": -1}),
            None,
        ),
    ] {
        let expected = FromClient::Subscription {
            subscribe: vec![TrackRequest {
                name: name("s", "t"),
                size,
            }],
            unsubscribe: Vec::new(),
        };
        assert_eq!(request(json!({"subscribe": [entry]})), Ok(expected));
    }
}

#[test]
fn checklist_38_what_is_not_understood_is_told_apart_and_harmless() {
    assert_eq!(
        FromClient::parse(r#"{"type":"org.example.new","content":{}}"#),
        Ok(FromClient::Unknown {
            kind: "org.example.new".to_owned()
        })
    );
    for (text, error) in [
        ("", ChannelError::NotJson),
        ("hello", ChannelError::NotJson),
        ("[]", ChannelError::NoType),
        ("{}", ChannelError::NoType),
        (r#"{"type":7}"#, ChannelError::NoType),
        (
            r#"{"type":"m.call.negotiate"}"#,
            ChannelError::Content("description"),
        ),
        (
            r#"{"type":"m.call.negotiate","content":{"description":{"type":"pranswer"}}}"#,
            ChannelError::Content("description.type"),
        ),
        (
            r#"{"type":"m.call.sdp_stream_metadata_changed","content":{}}"#,
            ChannelError::Content("sdp_stream_metadata"),
        ),
        (
            r#"{"type":"m.call.track_subscription","content":{"subscribe":"all"}}"#,
            ChannelError::Content("subscribe"),
        ),
        (
            r#"{"type":"m.call.connect_to_focus","content":{}}"#,
            ChannelError::Content("focus"),
        ),
    ] {
        assert_eq!(FromClient::parse(text), Err(error), "{text}");
    }
    assert_eq!(
        FromClient::parse(&"[".repeat(200_000)),
        Err(ChannelError::NotJson)
    );
    assert_eq!(
        FromClient::parse(&" ".repeat(262_145)),
        Err(ChannelError::TooLong)
    );
}

#[test]
fn checklist_35_ping_and_pong_are_as_short_as_the_text_has_them() {
    assert_eq!(
        serde_json::from_str::<Value>(&ToClient::Ping.to_text(Dialect::Late)).expect("JSON"),
        json!({"type": "m.call.ping", "content": {}})
    );
    assert_eq!(
        FromClient::parse(r#"{"type":"m.call.pong","content":{}}"#),
        Ok(FromClient::Pong)
    );
    assert_eq!(
        FromClient::parse(r#"{"type":"m.call.pong"}"#),
        Ok(FromClient::Pong)
    );
}

#[test]
fn what_is_told_about_media_reads_as_it_was_written() {
    for text in [
        r#"{"content":{"speakers":[{"device_id":"D","level":23,"stream_id":"s","track_id":"t","user_id":"@a:b"}]},"type":"org.matrix.msc3898.active_speaker"}"#,
        r#"{"content":{"tracks":[{"mid":"1","rids":["h","q"],"stream_id":"s","track_id":"t"}]},"type":"org.matrix.msc3898.layers_in_use"}"#,
        r#"{"content":{"allocated_bps":1,"estimate_bps":600000,"tracks":[{"height":360,"reason":"flowing","rid":"h","stream_id":"s","temporal":1,"track_id":"t","width":640}],"wanted_bps":2},"type":"org.matrix.msc3898.status"}"#,
    ] {
        let message = ToClient::parse(text).expect(text);
        assert!(!matches!(message, ToClient::Unknown { .. }), "{text}");
        let written: Value = serde_json::from_str(&message.to_text(Dialect::Late)).expect("JSON");
        assert_eq!(written, serde_json::from_str::<Value>(text).expect("JSON"));
    }
    let asked = r#"{"type":"org.matrix.msc3898.follow_status"}"#;
    assert_eq!(FromClient::parse(asked), Ok(FromClient::FollowStatus));
}
