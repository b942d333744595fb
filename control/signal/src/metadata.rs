//! Stream metadata (MSC3077, MSC3291, and the track list of MSC3898): what each `MediaStream` is, whose, and whether muted.
//!
//! The reader is tolerant: a field of a wrong type is as good as absent, a stream that is no object is left out. What the focus
//! sends is always complete (`user_id`, `device_id`, `purpose`, mute flags, `kind` of every track).

use std::collections::BTreeMap;

use serde_json::Value;

/// The key of metadata in the data channel's messages, and the stable key in to-device contents.
pub const STABLE_KEY: &str = "sdp_stream_metadata";
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

impl StreamMetadata {
    /// Reads the metadata object itself. `None` if it is not an object or names too many streams.
    pub fn parse(value: &Value) -> Option<StreamMetadata> {
        let _ = value;
        todo!()
    }

    /// Finds the object under its stable or unstable key in `content` and reads it.
    pub fn find_in(content: &Value) -> Option<StreamMetadata> {
        let _ = content;
        todo!()
    }

    /// The JSON object.
    pub fn to_value(&self) -> Value {
        todo!()
    }

    /// Looks a track up by its id alone: the stream's id may have changed under way (a client that unmutes its camera announces a
    /// new stream id and takes it back), the track's id does not.
    pub fn by_track(&self, track_id: &str) -> Option<(&str, &Stream, &Track)> {
        let _ = track_id;
        todo!()
    }
}
