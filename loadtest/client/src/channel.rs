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

/// What a focus says.
#[derive(Debug, Clone, PartialEq)]
pub enum FromFocus {
    /// All streams of all others.
    Metadata(Metadata),
    /// `m.call.negotiate`: type (`offer` or `answer`), description, metadata if it came along.
    Negotiate(String, String, Option<Metadata>),
    /// To be answered with [`pong`].
    Ping,
    /// Anything else, whole.
    Other(Value),
}

/// Reads one text frame; `None` if it is no JSON object with a type.
pub fn parse(text: &str) -> Option<FromFocus> {
    let value: Value = serde_json::from_str(text).ok()?;
    let content = &value["content"];
    Some(match value["type"].as_str()? {
        "m.call.sdp_stream_metadata_changed" => FromFocus::Metadata(metadata(content)?),
        "m.call.negotiate" => {
            let description = &content["description"];
            let (kind, sdp) = (description["type"].as_str()?, description["sdp"].as_str()?);
            FromFocus::Negotiate(kind.into(), sdp.into(), metadata(content))
        }
        "m.call.ping" => FromFocus::Ping,
        _ => FromFocus::Other(value),
    })
}

/// The metadata in a content, under its stable or its unstable name.
pub fn metadata(content: &Value) -> Option<Metadata> {
    let names = [
        "sdp_stream_metadata",
        "org.matrix.msc3077.sdp_stream_metadata",
    ];
    let found = names.iter().find_map(|name| content.get(name))?;
    serde_json::from_value(found.clone()).ok()
}

/// Answers a ping.
pub fn pong() -> String {
    json!({"type": "m.call.pong", "content": {}}).to_string()
}

/// Tells the focus of own streams, e.g. after a mute.
pub fn metadata_changed(own: &Metadata) -> String {
    json!({"type": "m.call.sdp_stream_metadata_changed", "content": {"sdp_stream_metadata": own}})
        .to_string()
}

/// Answers an offer (or makes one).
pub fn negotiate(kind: &str, sdp: &str, own: &Metadata) -> String {
    let content = json!({"description": {"type": kind, "sdp": sdp}, "sdp_stream_metadata": own});
    json!({"type": "m.call.negotiate", "content": content}).to_string()
}

/// The whole wanted set: every audio track, and every video track at the size that `wanted` gives for its user.
pub fn track_subscription(others: &Metadata, wanted: impl Fn(&str) -> Option<Size>) -> String {
    let (mut subscribe, mut unsubscribe) = (Vec::new(), Vec::new());
    for (stream_id, stream) in others {
        for (track_id, track) in &stream.tracks {
            let name = json!({"stream_id": stream_id, "track_id": track_id});
            match (track.kind.as_str(), wanted(&stream.user_id)) {
                ("video", None) => unsubscribe.push(name),
                ("video", Some(Size { width, height })) => subscribe.push(json!({
                    "stream_id": stream_id, "track_id": track_id, "width": width, "height": height
                })),
                _ => subscribe.push(name),
            }
        }
    }
    json!({"type": "m.call.track_subscription", "content": {"subscribe": subscribe, "unsubscribe": unsubscribe}})
        .to_string()
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

    const METADATA: &str = r#"{"type":"m.call.sdp_stream_metadata_changed","content":{"sdp_stream_metadata":{
        "s1":{"user_id":"@a:x","device_id":"D","purpose":"m.usermedia","tracks":{"t1":{"kind":"audio"},"t2":{"kind":"video","width":1280,"height":720}}}}}}"#;

    #[test]
    fn reads_a_snapshot_and_asks_for_all_of_it() {
        let Some(FromFocus::Metadata(metadata)) = parse(METADATA) else {
            panic!("metadata")
        };
        let wanted = |_: &str| {
            Some(Size {
                width: 640,
                height: 360,
            })
        };
        let text: Value = serde_json::from_str(&track_subscription(&metadata, wanted)).unwrap();
        assert_eq!(
            text["content"]["subscribe"],
            json!([{"stream_id":"s1","track_id":"t1"},{"stream_id":"s1","track_id":"t2","width":640,"height":360}])
        );
        let text: Value = serde_json::from_str(&track_subscription(&metadata, |_| None)).unwrap();
        assert_eq!(
            text["content"]["unsubscribe"],
            json!([{"stream_id":"s1","track_id":"t2"}])
        );
    }

    #[test]
    fn reads_pings_offers_and_what_it_does_not_know() {
        assert_eq!(
            parse(r#"{"type":"m.call.ping","content":{}}"#),
            Some(FromFocus::Ping)
        );
        let offer =
            r#"{"type":"m.call.negotiate","content":{"description":{"type":"offer","sdp":"v=0"}}}"#;
        assert_eq!(
            parse(offer),
            Some(FromFocus::Negotiate("offer".into(), "v=0".into(), None))
        );
        assert!(matches!(
            parse(r#"{"type":"x"}"#),
            Some(FromFocus::Other(_))
        ));
        assert_eq!(parse("no json"), None);
        assert_eq!(parse("[]"), None);
    }
}
