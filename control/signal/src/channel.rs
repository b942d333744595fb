//! The data channel's messages, one JSON object per text frame: what both dialects of MSC3898 mean.
//!
//! [`FromClient`] is what a participant says and [`ToClient`] what the focus says; both can be read and written, because a trunk
//! and the tests use them from the other side. A focus with many participants says the two that carry metadata as [`Snapshot`].
//! `words` is the table of what each message is called in each [`Dialect`]; here are
//! the messages themselves, named after the late dialect.

mod media;
mod read;
mod snapshot;
mod words;
mod write;

pub use media::{LayersInUse, Speaker, Status, TrackStatus};
pub use snapshot::{RenderedStream, Snapshot};
pub use words::{Dialect, Frame};

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
    /// `m.call.track_subscription`; `subscribe` and `unsubscribe` of the early dialect, each with its list.
    Subscription {
        /// Tracks wanted, each at most once.
        subscribe: Vec<TrackRequest>,
        /// Tracks no longer wanted.
        unsubscribe: Vec<TrackName>,
    },
    /// `m.call.negotiate`; `offer` and `answer` of the early dialect, and its `publish` and `unpublish` if they carry `sdp`.
    Negotiate {
        /// Offer or answer.
        description: Description,
        /// The participant's own streams.
        metadata: Option<StreamMetadata>,
    },
    /// `m.call.sdp_stream_metadata_changed`, `metadata`, and `publish` or `unpublish` without `sdp`: the participant's own
    /// streams.
    MetadataChanged(StreamMetadata),
    /// `m.call.ping`: not sent by the reference client; a trunk may. The early dialect has no such question: it is written as
    /// `alive`, and that is read as [`FromClient::Pong`].
    Ping,
    /// `m.call.pong`, `alive`: a sign of life.
    Pong,
    /// `m.call.connect_to_focus`, `connect`
    ConnectToFocus(ConnectToFocus),
    /// `org.matrix.msc3898.follow_status`, `follow_status`: asks for [`ToClient::Status`] from now on.
    FollowStatus,
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
    /// `m.call.sdp_stream_metadata_changed`, `metadata`: the complete snapshot of what the receiver may subscribe to.
    MetadataChanged(StreamMetadata),
    /// `m.call.negotiate`; `offer` and `answer` of the early dialect.
    Negotiate {
        /// Offer or answer.
        description: Description,
        /// The same snapshot.
        metadata: StreamMetadata,
    },
    /// `m.call.ping`, `alive`
    Ping,
    /// `m.call.pong`. The early dialect has no answer to `alive`: it is written as another, and that is read as
    /// [`ToClient::Ping`].
    Pong,
    /// `org.matrix.msc3898.active_speaker`, `active_speaker`: who speaks now, loudest first.
    ActiveSpeaker(Vec<Speaker>),
    /// `org.matrix.msc3898.layers_in_use`, `layers_in_use`: which layers of the receiver's own simulcast tracks anybody needs.
    LayersInUse(Vec<LayersInUse>),
    /// `org.matrix.msc3898.status`, `status`: what the receiver gets and why it is not more.
    Status(Status),
    /// `org.matrix.msc3898.error`, `error`: a request could not be carried out.
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
    /// The message that failed; `None` where it had no name.
    pub in_reply_to: Option<MessageName>,
    /// More about which part of it, put beside the name.
    pub details: Option<Value>,
}

/// What a message was called by whoever said it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageName {
    /// In which dialect.
    pub dialect: Dialect,
    /// The `type` or `op`, cut to a loggable length.
    pub name: String,
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
    /// Not an object with a string `type` or `op`.
    #[error("no type or op")]
    NoType,
    /// The named member of the content is missing or of a wrong type.
    #[error("content without a usable {0}")]
    Content(&'static str),
    /// A list has more entries than its limit.
    #[error("too many entries in {0}")]
    TooMany(&'static str),
}

impl ChannelError {
    /// The code with which a participant is told, in Matrix's words.
    pub fn errcode(self) -> &'static str {
        match self {
            ChannelError::NotJson => "M_NOT_JSON",
            ChannelError::NoType | ChannelError::Content(_) => "M_BAD_JSON",
            ChannelError::TooLong | ChannelError::TooMany(_) => "M_TOO_LARGE",
        }
    }
}
