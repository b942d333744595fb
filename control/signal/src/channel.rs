//! The data channel's messages in the late dialect: `{"type": …, "content": {…}}`, one JSON object per text frame.
//!
//! [`FromClient`] is what a participant says and [`ToClient`] what the focus says; both can be read and written, because a
//! synthetic participant uses them from the other side.

use serde_json::Value;

use crate::metadata::StreamMetadata;

/// Names one track.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TrackName {
    /// The stream's id as in the metadata.
    pub stream_id: String,
    /// The track's id as in the metadata.
    pub track_id: String,
}

/// A size in pixels. Zero is possible and means "as small as you can".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
}

/// One track that a participant wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrackRequest {
    /// Which.
    pub name: TrackName,
    /// In which size; `None` where it was not said (audio, or any size).
    pub size: Option<Size>,
}

/// Offer or answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DescriptionKind {
    /// `"offer"`
    Offer,
    /// `"answer"`
    Answer,
}

/// A session description with its type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// Offer or answer.
    pub kind: DescriptionKind,
    /// The SDP text.
    pub sdp: String,
}

/// What a participant says.
#[derive(Debug, Clone, PartialEq)]
pub enum FromClient {
    /// `m.call.track_subscription`
    Subscription {
        /// Tracks wanted, each at most once.
        subscribe: Vec<TrackRequest>,
        /// Tracks no longer wanted.
        unsubscribe: Vec<TrackName>,
    },
    /// `m.call.negotiate`
    Negotiate {
        /// Offer or answer.
        description: Description,
        /// The participant's own streams.
        metadata: Option<StreamMetadata>,
    },
    /// `m.call.sdp_stream_metadata_changed`: the participant's own streams.
    MetadataChanged(StreamMetadata),
    /// `m.call.ping`: not sent by the reference client; a trunk may.
    Ping,
    /// `m.call.pong`
    Pong,
    /// `m.call.connect_to_focus`
    ConnectToFocus(ConnectToFocus),
    /// A message of a type that this version does not know; to be ignored.
    Unknown {
        /// The type as it was said, cut to a loggable length.
        kind: String,
    },
}

/// Asks the focus to connect to another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectToFocus {
    /// The other focus's user.
    pub user_id: String,
    /// The other focus's device.
    pub device_id: String,
    /// The room of the call.
    pub room_id: String,
    /// The conference.
    pub conf_id: String,
}

/// What the focus says.
#[derive(Debug, Clone, PartialEq)]
pub enum ToClient {
    /// `m.call.sdp_stream_metadata_changed`: the complete snapshot of what the receiver may subscribe to.
    MetadataChanged(StreamMetadata),
    /// `m.call.negotiate`
    Negotiate {
        /// Offer or answer.
        description: Description,
        /// The same snapshot.
        metadata: StreamMetadata,
    },
    /// `m.call.ping`
    Ping,
    /// `m.call.pong`
    Pong,
    /// `org.matrix.msc3898.error`: a request could not be carried out.
    Error(ErrorReply),
    /// A message of a type that this version does not know (read by a participant only).
    Unknown {
        /// The type as it was said, cut to a loggable length.
        kind: String,
    },
}

/// Why a request could not be carried out.
#[derive(Debug, Clone, PartialEq)]
pub struct ErrorReply {
    /// A code such as `M_NOT_FOUND`.
    pub errcode: String,
    /// For a person.
    pub error: String,
    /// The `type` of the message that failed.
    pub in_reply_to: String,
    /// More about which part of it, put beside the type.
    pub details: Option<Value>,
}

/// Why a text frame is no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChannelError {
    /// Longer than [`crate::limits::CHANNEL_MESSAGE_BYTES_MAX`].
    #[error("message too long")]
    TooLong,
    /// Not JSON.
    #[error("not JSON")]
    NotJson,
    /// Not an object with a string `type`.
    #[error("no type")]
    NoType,
    /// The named member of `content` is missing or of a wrong type.
    #[error("content without a usable {0}")]
    Content(&'static str),
    /// A list has more entries than its limit.
    #[error("too many entries in {0}")]
    TooMany(&'static str),
}

impl FromClient {
    /// Reads a text frame.
    pub fn parse(text: &str) -> Result<FromClient, ChannelError> {
        let _ = text;
        todo!()
    }

    /// The text frame.
    pub fn to_text(&self) -> String {
        todo!()
    }
}

impl ToClient {
    /// Reads a text frame.
    pub fn parse(text: &str) -> Result<ToClient, ChannelError> {
        let _ = text;
        todo!()
    }

    /// The text frame.
    pub fn to_text(&self) -> String {
        todo!()
    }
}
