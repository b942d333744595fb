//! Stream metadata (MSC3077, MSC3291, and the track list of MSC3898): what each `MediaStream` is, whose, and whether muted.
//!
//! The reader is tolerant: a field of a wrong type is as good as absent, a stream that is no object is left out. What the focus
//! sends is always complete (`user_id`, `device_id`, `purpose`, mute flags, `kind` of every track).

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::limits::{ID_BYTES_MAX, STREAMS_MAX, TRACKS_MAX};

/// The key of metadata in the data channel's messages, and the stable key in to-device contents.
pub const STABLE_KEY: &str = "sdp_stream_metadata";
/// The purpose of a stream with which a client measures the way to the focus. Nobody else is told of it.
pub const PROBE: &str = "org.matrix.msc3898.probe";
/// The key of metadata in to-device contents (MSC3077's unstable prefix).
pub const UNSTABLE_KEY: &str = "org.matrix.msc3077.sdp_stream_metadata";

/// Audio or video.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MediaKind {
    /// `"audio"`
    Audio,
    /// `"video"`
    Video,
}

/// What a stream shows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Purpose {
    /// `m.usermedia`: camera and microphone. Also what an absent purpose means.
    #[default]
    Usermedia,
    /// `m.screenshare`
    Screenshare,
    /// Anything else, kept as it was said.
    Other(String),
}

/// One track of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Track {
    /// Audio or video; `None` where the sender did not say (then SDP knows).
    pub kind: Option<MediaKind>,
    /// Full width in pixels, video only.
    pub width: Option<u32>,
    /// Full height in pixels, video only.
    pub height: Option<u32>,
}

/// One stream.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Stream {
    /// Whose it is. A claim, when it was read from a participant.
    pub user_id: Option<String>,
    /// From which device. A claim, when it was read from a participant.
    pub device_id: Option<String>,
    /// Camera or screen.
    pub purpose: Purpose,
    /// The microphone is off.
    pub audio_muted: bool,
    /// The camera is off.
    pub video_muted: bool,
    /// Tracks by `track_id`.
    pub tracks: BTreeMap<String, Track>,
}

/// Streams by `stream_id`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StreamMetadata {
    /// The streams.
    pub streams: BTreeMap<String, Stream>,
}

impl MediaKind {
    /// As written in metadata and after `m=`.
    pub fn as_str(self) -> &'static str {
        match self {
            MediaKind::Audio => "audio",
            MediaKind::Video => "video",
        }
    }
}

impl Purpose {
    /// As written in metadata.
    pub fn as_str(&self) -> &str {
        match self {
            Purpose::Usermedia => "m.usermedia",
            Purpose::Screenshare => "m.screenshare",
            Purpose::Other(other) => other,
        }
    }

    /// Whether the stream is there only to measure the way ([`PROBE`]).
    pub fn is_probe(&self) -> bool {
        self.as_str() == PROBE
    }

    fn parse(value: Option<&Value>) -> Purpose {
        let Some(said) = value.and_then(Value::as_str).map(truncated) else {
            return Purpose::Usermedia;
        };
        match said.as_str() {
            "m.usermedia" => Purpose::Usermedia,
            "m.screenshare" => Purpose::Screenshare,
            _ => Purpose::Other(said),
        }
    }
}

impl StreamMetadata {
    /// Reads the metadata object itself. `None` if it is not an object or names too many streams or tracks.
    pub fn parse(value: &Value) -> Option<StreamMetadata> {
        let object = value.as_object()?;
        if object.len() > STREAMS_MAX {
            return None;
        }
        let mut streams = BTreeMap::new();
        let mut track_count = 0;
        for (stream_id, stream) in object {
            if let (true, Some(stream)) = (is_id(stream_id), Stream::parse(stream)) {
                track_count += stream.tracks.len();
                streams.insert(stream_id.clone(), stream);
            }
        }
        (track_count <= TRACKS_MAX).then_some(StreamMetadata { streams })
    }

    /// Finds the object under its stable or unstable key in `content` and reads it.
    pub fn find_in(content: &Value) -> Option<StreamMetadata> {
        StreamMetadata::find_under(content, &[STABLE_KEY, UNSTABLE_KEY])
    }

    /// Finds the object under the first of the keys that is there and reads it.
    pub(crate) fn find_under(content: &Value, keys: &[&str]) -> Option<StreamMetadata> {
        let found = keys.iter().find_map(|key| content.get(*key))?;
        StreamMetadata::parse(found)
    }

    /// The JSON object.
    pub fn to_value(&self) -> Value {
        Value::Object(
            self.streams
                .iter()
                .map(|(stream_id, stream)| (stream_id.clone(), stream.to_value()))
                .collect(),
        )
    }

    /// Looks a track up by its id alone: the stream's id may have changed under way (a client that unmutes its camera announces a
    /// new stream id and takes it back), the track's id does not.
    pub fn by_track(&self, track_id: &str) -> Option<(&str, &Stream, &Track)> {
        self.streams.iter().find_map(|(stream_id, stream)| {
            stream
                .tracks
                .get(track_id)
                .map(|track| (stream_id.as_str(), stream, track))
        })
    }
}

impl Stream {
    fn parse(value: &Value) -> Option<Stream> {
        let object = value.as_object()?;
        let flag = |key| object.get(key).and_then(Value::as_bool).unwrap_or(false);
        let id = |key| {
            object
                .get(key)
                .and_then(Value::as_str)
                .filter(|id| is_id(id))
                .map(str::to_owned)
        };
        let tracks = object.get("tracks").and_then(Value::as_object);
        Some(Stream {
            user_id: id("user_id"),
            device_id: id("device_id"),
            purpose: Purpose::parse(object.get("purpose")),
            audio_muted: flag("audio_muted"),
            video_muted: flag("video_muted"),
            tracks: tracks
                .into_iter()
                .flatten()
                .filter(|(track_id, _)| is_id(track_id))
                .map(|(track_id, track)| (track_id.clone(), Track::parse(track)))
                .collect(),
        })
    }

    pub(crate) fn to_value(&self) -> Value {
        let mut object = Map::new();
        for (key, id) in [("user_id", &self.user_id), ("device_id", &self.device_id)] {
            if let Some(id) = id {
                object.insert(key.to_owned(), json!(id));
            }
        }
        object.insert("purpose".to_owned(), json!(self.purpose.as_str()));
        object.insert("audio_muted".to_owned(), json!(self.audio_muted));
        object.insert("video_muted".to_owned(), json!(self.video_muted));
        let tracks = self
            .tracks
            .iter()
            .map(|(track_id, track)| (track_id.clone(), track.to_value()));
        object.insert("tracks".to_owned(), Value::Object(tracks.collect()));
        Value::Object(object)
    }
}

impl Track {
    /// Anything is a track, if only an unknown one: its id is what matters.
    fn parse(value: &Value) -> Track {
        let kind = match value.get("kind").and_then(Value::as_str) {
            Some("audio") => Some(MediaKind::Audio),
            Some("video") => Some(MediaKind::Video),
            _ => None,
        };
        Track {
            kind,
            width: pixels(value.get("width")),
            height: pixels(value.get("height")),
        }
    }

    fn to_value(self) -> Value {
        let mut object = Map::new();
        if let Some(kind) = self.kind {
            object.insert("kind".to_owned(), json!(kind.as_str()));
        }
        for (key, pixels) in [("width", self.width), ("height", self.height)] {
            if let Some(pixels) = pixels {
                object.insert(key.to_owned(), json!(pixels));
            }
        }
        Value::Object(object)
    }
}

/// A number of pixels; browsers say fractions for scaled pictures.
pub(crate) fn pixels(value: Option<&Value>) -> Option<u32> {
    let value = value?;
    match value.as_u64() {
        Some(pixels) => u32::try_from(pixels).ok(),
        // `as` saturates; what is no size at all is as good as absent.
        None => value
            .as_f64()
            .filter(|pixels| (0.0..=65535.0).contains(pixels))
            .map(|pixels| pixels as u32),
    }
}

/// Whether a stream's, track's or device's id can be kept and repeated.
pub(crate) fn is_id(id: &str) -> bool {
    !id.is_empty() && id.len() <= ID_BYTES_MAX && !id.chars().any(|c| c.is_control())
}

/// A string of a peer, short enough to be kept or logged.
pub(crate) fn truncated(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_both_keys_and_prefers_the_stable_one() {
        let one = json!({"s": {"tracks": {"t": {"kind": "audio"}}}});
        for key in [
            "sdp_stream_metadata",
            "org.matrix.msc3077.sdp_stream_metadata",
        ] {
            let metadata = StreamMetadata::find_in(&json!({key: one})).expect("metadata");
            assert_eq!(
                metadata.streams["s"].tracks["t"].kind,
                Some(MediaKind::Audio)
            );
        }
        assert_eq!(StreamMetadata::find_in(&json!({})), None);
    }

    #[test]
    fn tolerates_wrong_types_and_missing_fields() {
        let metadata = StreamMetadata::parse(&json!({
            "a": {"purpose": 3, "audio_muted": "yes", "tracks": {"t": null, "u": {"kind": "smell", "width": -1, "height": 720.5}}},
            "b": [],
            "c": {},
        }))
        .expect("an object");
        assert_eq!(metadata.streams.keys().collect::<Vec<_>>(), ["a", "c"]);
        assert_eq!(metadata.streams["a"].tracks["t"], Track::default());
        assert_eq!(
            metadata.streams["a"].tracks["u"],
            Track {
                kind: None,
                width: None,
                height: Some(720)
            }
        );
        assert_eq!(metadata.streams["c"].purpose, Purpose::Usermedia);
    }

    #[test]
    fn refuses_more_streams_than_the_limit() {
        let many: Map<String, Value> = (0..2049).map(|n| (n.to_string(), json!({}))).collect();
        assert_eq!(StreamMetadata::parse(&Value::Object(many)), None);
    }

    #[test]
    fn checklist_13_an_entry_has_all_that_the_client_reads() {
        let mut metadata = StreamMetadata::default();
        let track = Track {
            kind: Some(MediaKind::Video),
            width: Some(1280),
            height: Some(720),
        };
        metadata.streams.insert(
            "stream".to_owned(),
            Stream {
                user_id: Some("@alice:example.org".to_owned()),
                device_id: Some("PHONE".to_owned()),
                purpose: Purpose::Screenshare,
                audio_muted: true,
                video_muted: false,
                tracks: BTreeMap::from([("track".to_owned(), track)]),
            },
        );
        let value = metadata.to_value();
        assert_eq!(
            value,
            json!({"stream": {"user_id": "@alice:example.org", "device_id": "PHONE", "purpose": "m.screenshare", "audio_muted": true,
                "video_muted": false, "tracks": {"track": {"kind": "video", "width": 1280, "height": 720}}}})
        );
        assert_eq!(StreamMetadata::parse(&value), Some(metadata));
    }

    #[test]
    fn checklist_24_flags_are_found_by_track_id_under_a_new_stream_id() {
        let metadata = StreamMetadata::parse(&json!({
            "new-stream": {"purpose": "m.usermedia", "audio_muted": false, "video_muted": true, "tracks": {"cam": {"kind": "video"}}},
            "other": {"tracks": {"mic": {"kind": "audio"}}},
        }))
        .expect("metadata");
        let (stream_id, stream, track) = metadata.by_track("cam").expect("the track");
        assert_eq!(
            (stream_id, stream.video_muted, track.kind),
            ("new-stream", true, Some(MediaKind::Video))
        );
        assert_eq!(metadata.by_track("gone"), None);
    }
}
