//! The words on the data channel and the streams' metadata, as the participant says and reads them (MSC3898, MSC3077).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::participant::Size;
use crate::report::Kind;

/// Stream id to stream.
pub type Metadata = BTreeMap<String, Stream>;

/// One stream of somebody.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Stream {
    /// Who sends it.
    pub user_id: String,
    /// From which device.
    pub device_id: String,
    /// `m.usermedia` or `m.screenshare`.
    pub purpose: String,
    /// The microphone is off.
    pub audio_muted: bool,
    /// The camera is off.
    pub video_muted: bool,
    /// Track id to track.
    pub tracks: BTreeMap<String, Track>,
}

/// One track of a stream.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Track {
    /// `audio` or `video`.
    pub kind: String,
    /// Pixels, if the sender said so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub width: Option<u32>,
    /// Pixels, if the sender said so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub height: Option<u32>,
}

/// Which form of MSC3898's data channel a participant speaks. Of the other one it understands nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dialect {
    /// `{"type": "m.call.…", "content": {…}}`
    #[default]
    Late,
    /// `{"op": "…", …}`
    Early,
}

/// What a focus says.
#[derive(Debug, Clone, PartialEq)]
pub enum FromFocus {
    /// All streams of all others.
    Metadata(Metadata),
    /// A description: its type (`offer` or `answer`), itself, metadata if it came along.
    Negotiate(String, String, Option<Metadata>),
    /// A sign of life. In the late dialect it is to be answered with [`Dialect::pong`].
    Ping,
    /// The answer to a ping of the participant's own. The early dialect has none.
    Pong,
    /// Who speaks, the loudest first.
    ActiveSpeaker(Vec<Speaker>),
    /// Something could not be done: `errcode`, `error`, `in_reply_to`.
    Error(Value),
    /// Anything else: what it is called, and what it says.
    Other(String, Value),
}

/// Somebody who is heard.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Speaker {
    /// Who.
    pub user_id: String,
    /// On which device.
    pub device_id: String,
    /// The microphone's stream.
    pub stream_id: String,
    /// The microphone's track.
    pub track_id: String,
    /// In -dBov: 0 is loudest, 127 silence.
    pub level: u8,
}

impl Dialect {
    /// Reads one text frame; `None` if it is no JSON object of this dialect.
    pub fn parse(self, text: &str) -> Option<FromFocus> {
        let mut value: Value = serde_json::from_str(text).ok()?;
        let (name, content) = match self {
            Dialect::Late => (value["type"].as_str()?.to_owned(), value["content"].take()),
            Dialect::Early => (value["op"].as_str()?.to_owned(), value),
        };
        Some(match (self, name.as_str()) {
            (Dialect::Late, "m.call.sdp_stream_metadata_changed")
            | (Dialect::Early, "metadata") => FromFocus::Metadata(metadata(&content)?),
            (Dialect::Late, "m.call.negotiate") => {
                let description = &content["description"];
                let (kind, sdp) = (description["type"].as_str()?, description["sdp"].as_str()?);
                FromFocus::Negotiate(kind.into(), sdp.into(), metadata(&content))
            }
            (Dialect::Early, "offer" | "answer") => {
                let sdp = content["sdp"].as_str()?;
                FromFocus::Negotiate(name, sdp.into(), metadata(&content))
            }
            (Dialect::Late, "m.call.pong") => FromFocus::Pong,
            (Dialect::Late, "m.call.ping") | (Dialect::Early, "alive") => FromFocus::Ping,
            (Dialect::Late, "org.matrix.msc3898.active_speaker")
            | (Dialect::Early, "active_speaker") => {
                let speakers = content.get("speakers")?.clone();
                FromFocus::ActiveSpeaker(serde_json::from_value(speakers).ok()?)
            }
            (Dialect::Late, "org.matrix.msc3898.error") | (Dialect::Early, "error") => {
                FromFocus::Error(content)
            }
            _ => FromFocus::Other(name, content),
        })
    }

    /// A question that a focus answers at once. In the early dialect it is only a sign of life.
    pub fn ping(self) -> String {
        match self {
            Dialect::Late => json!({"type": "m.call.ping", "content": {}}),
            Dialect::Early => json!({"op": "alive"}),
        }
        .to_string()
    }

    /// A sign of life; in the late dialect the answer to a ping.
    pub fn pong(self) -> String {
        match self {
            Dialect::Late => json!({"type": "m.call.pong", "content": {}}),
            Dialect::Early => json!({"op": "alive"}),
        }
        .to_string()
    }

    /// Tells the focus of own streams, e.g. after a mute.
    pub fn metadata_changed(self, own: &Metadata) -> String {
        match self {
            Dialect::Late => {
                let content = json!({"sdp_stream_metadata": own});
                json!({"type": "m.call.sdp_stream_metadata_changed", "content": content})
            }
            Dialect::Early => json!({"op": "metadata", "metadata": own}),
        }
        .to_string()
    }

    /// Answers an offer (or makes one).
    pub fn negotiate(self, kind: &str, sdp: &str, own: &Metadata) -> String {
        match self {
            Dialect::Late => {
                let description = json!({"type": kind, "sdp": sdp});
                let content = json!({"description": description, "sdp_stream_metadata": own});
                json!({"type": "m.call.negotiate", "content": content})
            }
            Dialect::Early => json!({"op": kind, "sdp": sdp, "metadata": own}),
        }
        .to_string()
    }

    /// The whole wanted set: every audio track, and every video track at the size that `wanted` gives for its user. One message
    /// in the late dialect, one for each of the lists that is not empty in the early one.
    pub fn track_subscription(
        self,
        others: &Metadata,
        wanted: impl Fn(&str) -> Option<Size>,
    ) -> Vec<String> {
        let (mut subscribe, mut unsubscribe) = (Vec::new(), Vec::new());
        for (stream_id, stream) in others {
            for (track_id, track) in &stream.tracks {
                let mut name = json!({"stream_id": stream_id, "track_id": track_id});
                match (track.kind.as_str(), wanted(&stream.user_id)) {
                    ("video", None) => unsubscribe.push(name),
                    ("video", Some(size)) => {
                        name["width"] = size.width.into();
                        name["height"] = size.height.into();
                        subscribe.push(name);
                    }
                    _ => subscribe.push(name),
                }
            }
        }
        match self {
            Dialect::Late => {
                let content = json!({"subscribe": subscribe, "unsubscribe": unsubscribe});
                vec![json!({"type": "m.call.track_subscription", "content": content}).to_string()]
            }
            Dialect::Early => {
                let stop = json!({"op": "unsubscribe", "stop": unsubscribe}).to_string();
                let start = json!({"op": "subscribe", "start": subscribe}).to_string();
                let stop = (!unsubscribe.is_empty()).then_some(stop);
                stop.into_iter()
                    .chain((!subscribe.is_empty()).then_some(start))
                    .collect()
            }
        }
    }
}

/// The metadata in a content, under whichever of its names.
pub fn metadata(content: &Value) -> Option<Metadata> {
    let names = [
        "sdp_stream_metadata",
        "org.matrix.msc3077.sdp_stream_metadata",
        "metadata",
    ];
    let found = names.iter().find_map(|name| content.get(name))?;
    serde_json::from_value(found.clone()).ok()
}

/// The name of a kind in metadata.
pub fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Audio => "audio",
        Kind::Video => "video",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAMS: &str = r#"{"s1":{"user_id":"@a:x","device_id":"D","purpose":"m.usermedia",
        "tracks":{"t1":{"kind":"audio"},"t2":{"kind":"video","width":1280,"height":720}}}}"#;

    /// A snapshot as each dialect has it.
    fn snapshots() -> [(Dialect, String); 2] {
        let late = format!(
            r#"{{"type":"m.call.sdp_stream_metadata_changed","content":{{"sdp_stream_metadata":{STREAMS}}}}}"#
        );
        let early = format!(r#"{{"op":"metadata","metadata":{STREAMS}}}"#);
        [(Dialect::Late, late), (Dialect::Early, early)]
    }

    fn streams() -> Metadata {
        serde_json::from_str(STREAMS).unwrap()
    }

    fn values(texts: &[String]) -> Vec<Value> {
        let value = |text: &String| serde_json::from_str(text).unwrap();
        texts.iter().map(value).collect()
    }

    #[test]
    fn a_snapshot_is_read_in_the_own_dialect_only() {
        for (dialect, text) in snapshots() {
            assert_eq!(dialect.parse(&text), Some(FromFocus::Metadata(streams())));
        }
        let [(late, in_late), (early, in_early)] = snapshots();
        assert_eq!((late.parse(&in_early), early.parse(&in_late)), (None, None));
    }

    #[test]
    fn asks_for_all_of_a_snapshot_or_for_the_sound_alone() {
        let all = |_: &str| {
            Some(Size {
                width: 640,
                height: 360,
            })
        };
        let audio = json!({"stream_id":"s1","track_id":"t1"});
        let video = json!({"stream_id":"s1","track_id":"t2"});
        let sized = json!({"stream_id":"s1","track_id":"t2","width":640,"height":360});
        let late = |subscribe: Value, unsubscribe: Value| {
            let content = json!({"subscribe": subscribe, "unsubscribe": unsubscribe});
            json!({"type": "m.call.track_subscription", "content": content})
        };
        let said = Dialect::Late.track_subscription(&streams(), all);
        assert_eq!(values(&said), [late(json!([audio, sized]), json!([]))]);
        let said = Dialect::Late.track_subscription(&streams(), |_| None);
        assert_eq!(values(&said), [late(json!([audio]), json!([video]))]);

        let said = Dialect::Early.track_subscription(&streams(), all);
        assert_eq!(
            values(&said),
            [json!({"op": "subscribe", "start": [audio, sized]})]
        );
        let said = Dialect::Early.track_subscription(&streams(), |_| None);
        assert_eq!(
            values(&said),
            [
                json!({"op": "unsubscribe", "stop": [video]}),
                json!({"op": "subscribe", "start": [audio]}),
            ]
        );
    }

    #[test]
    fn reads_what_a_focus_says_in_the_late_dialect() {
        let parse = |text: &str| Dialect::Late.parse(text);
        assert_eq!(
            parse(r#"{"type":"m.call.ping","content":{}}"#),
            Some(FromFocus::Ping)
        );
        let offer =
            r#"{"type":"m.call.negotiate","content":{"description":{"type":"offer","sdp":"v=0"}}}"#;
        let expected = FromFocus::Negotiate("offer".into(), "v=0".into(), None);
        assert_eq!(parse(offer), Some(expected));
        let error = r#"{"type":"org.matrix.msc3898.error","content":{"errcode":"M_NOT_FOUND"}}"#;
        let expected = FromFocus::Error(json!({"errcode": "M_NOT_FOUND"}));
        assert_eq!(parse(error), Some(expected));
        assert!(matches!(
            parse(r#"{"type":"x"}"#),
            Some(FromFocus::Other(name, _)) if name == "x"
        ));
        let pong = r#"{"type":"m.call.pong","content":{}}"#;
        assert_eq!(parse(pong), Some(FromFocus::Pong));
        assert_eq!(parse("no json"), None);
        assert_eq!(parse("[]"), None);
    }

    #[test]
    fn reads_what_a_focus_says_in_the_early_dialect() {
        let parse = |text: &str| Dialect::Early.parse(text);
        assert_eq!(parse(r#"{"op":"alive"}"#), Some(FromFocus::Ping));
        for kind in ["offer", "answer"] {
            let text = json!({"op": kind, "sdp": "v=0", "metadata": streams()}).to_string();
            let expected = FromFocus::Negotiate(kind.into(), "v=0".into(), Some(streams()));
            assert_eq!(parse(&text), Some(expected));
        }
        let speaker =
            r#"{"user_id":"@a:x","device_id":"D","stream_id":"s1","track_id":"t1","level":23}"#;
        let Some(FromFocus::ActiveSpeaker(speakers)) = parse(&format!(
            r#"{{"op":"active_speaker","speakers":[{speaker}]}}"#
        )) else {
            panic!("who speaks")
        };
        assert_eq!(
            (speakers[0].user_id.as_str(), speakers[0].level),
            ("@a:x", 23)
        );
        let Some(FromFocus::Error(error)) = parse(r#"{"op":"error","errcode":"M_NOT_JSON"}"#)
        else {
            panic!("an error")
        };
        assert_eq!(error["errcode"], "M_NOT_JSON");
        assert_eq!(parse("[]"), None);
    }

    #[test]
    fn says_what_each_text_says() {
        let own = streams();
        let early = |text: String| serde_json::from_str::<Value>(&text).unwrap();
        assert_eq!(early(Dialect::Early.pong()), json!({"op": "alive"}));
        assert_eq!(
            early(Dialect::Early.metadata_changed(&own)),
            json!({"op": "metadata", "metadata": own})
        );
        assert_eq!(
            early(Dialect::Early.negotiate("answer", "v=0", &own)),
            json!({"op": "answer", "sdp": "v=0", "metadata": own})
        );
        let late = early;
        assert_eq!(
            late(Dialect::Late.pong()),
            json!({"type": "m.call.pong", "content": {}})
        );
        assert_eq!(
            late(Dialect::Late.metadata_changed(&own)),
            json!({"type": "m.call.sdp_stream_metadata_changed", "content": {"sdp_stream_metadata": own}})
        );
        assert_eq!(
            late(Dialect::Late.negotiate("answer", "v=0", &own)),
            json!({"type": "m.call.negotiate", "content": {
                "description": {"type": "answer", "sdp": "v=0"}, "sdp_stream_metadata": own}})
        );
    }
}
