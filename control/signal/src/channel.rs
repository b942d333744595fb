//! The data channel's messages in the late dialect: `{"type": …, "content": {…}}`, one JSON object per text frame.
//!
//! [`FromClient`] is what a participant says and [`ToClient`] what the focus says; both can be read and written, because a
//! synthetic participant uses them from the other side.

mod media;

pub use media::{LayersInUse, Speaker, Status, TrackStatus};

use serde_json::{Map, Value, json};

use crate::limits::{CHANNEL_MESSAGE_BYTES_MAX, SUBSCRIPTIONS_MAX};
use crate::metadata::{STABLE_KEY, StreamMetadata, is_id, pixels, truncated};

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
    /// `org.matrix.msc3898.follow_status`: asks for [`ToClient::Status`] from now on.
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
    /// `org.matrix.msc3898.active_speaker`: who speaks now, loudest first.
    ActiveSpeaker(Vec<Speaker>),
    /// `org.matrix.msc3898.layers_in_use`: which layers of the receiver's own simulcast tracks anybody needs.
    LayersInUse(Vec<LayersInUse>),
    /// `org.matrix.msc3898.status`: what the receiver gets and why it is not more.
    Status(Status),
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
        let (kind, content) = open_frame(text)?;
        Ok(match kind.as_str() {
            SUBSCRIPTION => FromClient::Subscription {
                subscribe: list(&content, &["subscribe", "start"])?
                    .into_iter()
                    .filter_map(track_request)
                    .collect(),
                unsubscribe: list(&content, &["unsubscribe", "stop"])?
                    .into_iter()
                    .filter_map(track_name)
                    .collect(),
            },
            NEGOTIATE => FromClient::Negotiate {
                description: description(&content)?,
                metadata: StreamMetadata::find_in(&content),
            },
            METADATA_CHANGED => FromClient::MetadataChanged(required_metadata(&content)?),
            PING => FromClient::Ping,
            PONG => FromClient::Pong,
            CONNECT => FromClient::ConnectToFocus(connect_to_focus(&content)?),
            FOLLOW_STATUS => FromClient::FollowStatus,
            other => FromClient::Unknown {
                kind: truncated(other),
            },
        })
    }

    /// The text frame.
    pub fn to_text(&self) -> String {
        match self {
            FromClient::Subscription {
                subscribe,
                unsubscribe,
            } => frame(
                SUBSCRIPTION,
                json!({
                    "subscribe": subscribe.iter().map(track_request_value).collect::<Vec<_>>(),
                    "unsubscribe": unsubscribe.iter().map(track_name_value).collect::<Vec<_>>(),
                }),
            ),
            FromClient::Negotiate {
                description,
                metadata,
            } => frame(NEGOTIATE, negotiate_value(description, metadata.as_ref())),
            FromClient::MetadataChanged(metadata) => {
                frame(METADATA_CHANGED, json!({STABLE_KEY: metadata.to_value()}))
            }
            FromClient::Ping => frame(PING, json!({})),
            FromClient::Pong => frame(PONG, json!({})),
            FromClient::ConnectToFocus(connect) => frame(
                CONNECT,
                json!({
                    "focus": {"user_id": connect.user_id, "device_id": connect.device_id},
                    "room_id": connect.room_id,
                    "conf_id": connect.conf_id,
                }),
            ),
            FromClient::FollowStatus => frame(FOLLOW_STATUS, json!({})),
            FromClient::Unknown { kind } => frame(kind, json!({})),
        }
    }
}

impl ToClient {
    /// Reads a text frame.
    pub fn parse(text: &str) -> Result<ToClient, ChannelError> {
        let (kind, content) = open_frame(text)?;
        Ok(match kind.as_str() {
            METADATA_CHANGED => ToClient::MetadataChanged(required_metadata(&content)?),
            NEGOTIATE => ToClient::Negotiate {
                description: description(&content)?,
                metadata: required_metadata(&content)?,
            },
            PING => ToClient::Ping,
            PONG => ToClient::Pong,
            ACTIVE_SPEAKER => ToClient::ActiveSpeaker(
                list(&content, &["speakers"])?
                    .into_iter()
                    .filter_map(media::speaker)
                    .collect(),
            ),
            LAYERS_IN_USE => ToClient::LayersInUse(
                list(&content, &["tracks"])?
                    .into_iter()
                    .filter_map(media::layers_in_use)
                    .collect(),
            ),
            STATUS => ToClient::Status(media::status(&content, list(&content, &["tracks"])?)),
            ERROR => ToClient::Error(error_reply(&content)),
            other => ToClient::Unknown {
                kind: truncated(other),
            },
        })
    }

    /// The text frame.
    pub fn to_text(&self) -> String {
        match self {
            ToClient::MetadataChanged(metadata) => {
                frame(METADATA_CHANGED, json!({STABLE_KEY: metadata.to_value()}))
            }
            ToClient::Negotiate {
                description,
                metadata,
            } => frame(NEGOTIATE, negotiate_value(description, Some(metadata))),
            ToClient::Ping => frame(PING, json!({})),
            ToClient::Pong => frame(PONG, json!({})),
            ToClient::ActiveSpeaker(speakers) => frame(
                ACTIVE_SPEAKER,
                json!({"speakers": speakers.iter().map(media::speaker_value).collect::<Vec<_>>()}),
            ),
            ToClient::LayersInUse(tracks) => frame(
                LAYERS_IN_USE,
                json!({"tracks": tracks.iter().map(media::layers_in_use_value).collect::<Vec<_>>()}),
            ),
            ToClient::Status(status) => frame(STATUS, media::status_value(status)),
            ToClient::Error(error) => {
                let mut in_reply_to = match &error.details {
                    Some(Value::Object(details)) => details.clone(),
                    _ => Map::new(),
                };
                in_reply_to.insert("type".to_owned(), json!(error.in_reply_to));
                frame(
                    ERROR,
                    json!({"errcode": error.errcode, "error": error.error, "in_reply_to": in_reply_to}),
                )
            }
            ToClient::Unknown { kind } => frame(kind, json!({})),
        }
    }
}

const SUBSCRIPTION: &str = "m.call.track_subscription";
const NEGOTIATE: &str = "m.call.negotiate";
const METADATA_CHANGED: &str = "m.call.sdp_stream_metadata_changed";
const PING: &str = "m.call.ping";
const PONG: &str = "m.call.pong";
const CONNECT: &str = "m.call.connect_to_focus";
const ERROR: &str = "org.matrix.msc3898.error";
const ACTIVE_SPEAKER: &str = "org.matrix.msc3898.active_speaker";
const LAYERS_IN_USE: &str = "org.matrix.msc3898.layers_in_use";
const STATUS: &str = "org.matrix.msc3898.status";
const FOLLOW_STATUS: &str = "org.matrix.msc3898.follow_status";

fn frame(kind: &str, content: Value) -> String {
    json!({"type": kind, "content": content}).to_string()
}

/// The type and the content of a frame; an absent content is an empty one.
fn open_frame(text: &str) -> Result<(String, Value), ChannelError> {
    if text.len() > CHANNEL_MESSAGE_BYTES_MAX {
        return Err(ChannelError::TooLong);
    }
    // The parser's own depth limit bounds the stack.
    let Ok(mut value) = serde_json::from_str::<Value>(text) else {
        return Err(ChannelError::NotJson);
    };
    let Some(Value::String(kind)) = value.get_mut("type").map(Value::take) else {
        return Err(ChannelError::NoType);
    };
    let content = value
        .get_mut("content")
        .map(Value::take)
        .unwrap_or_else(|| json!({}));
    Ok((kind, content))
}

/// The list under the first of the names that is there. A bare object is a list of one; absent or null is an empty list.
fn list<'a>(content: &'a Value, names: &[&'static str]) -> Result<Vec<&'a Value>, ChannelError> {
    let name = names
        .iter()
        .find(|name| content.get(**name).is_some())
        .copied()
        .unwrap_or_default();
    match content.get(name) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(entries)) if entries.len() > SUBSCRIPTIONS_MAX => {
            Err(ChannelError::TooMany(name))
        }
        Some(Value::Array(entries)) => Ok(entries.iter().collect()),
        Some(entry @ Value::Object(_)) => Ok(vec![entry]),
        Some(_) => Err(ChannelError::Content(name)),
    }
}

/// An entry that names no track is left out: the others are still served.
fn track_name(entry: &Value) -> Option<TrackName> {
    let id = |key| {
        entry
            .get(key)
            .and_then(Value::as_str)
            .filter(|id| is_id(id))
            .map(str::to_owned)
    };
    Some(TrackName {
        stream_id: id("stream_id")?,
        track_id: id("track_id")?,
    })
}

fn track_request(entry: &Value) -> Option<TrackRequest> {
    let size = match (pixels(entry.get("width")), pixels(entry.get("height"))) {
        (Some(width), Some(height)) => Some(Size { width, height }),
        _ => None,
    };
    Some(TrackRequest {
        name: track_name(entry)?,
        size,
    })
}

fn track_name_value(name: &TrackName) -> Value {
    json!({"stream_id": name.stream_id, "track_id": name.track_id})
}

fn track_request_value(request: &TrackRequest) -> Value {
    let mut value = track_name_value(&request.name);
    if let Some(size) = request.size {
        value["width"] = json!(size.width);
        value["height"] = json!(size.height);
    }
    value
}

fn description(content: &Value) -> Result<Description, ChannelError> {
    let description = content
        .get("description")
        .ok_or(ChannelError::Content("description"))?;
    let kind = match description.get("type").and_then(Value::as_str) {
        Some("offer") => DescriptionKind::Offer,
        Some("answer") => DescriptionKind::Answer,
        _ => return Err(ChannelError::Content("description.type")),
    };
    let sdp = description
        .get("sdp")
        .and_then(Value::as_str)
        .ok_or(ChannelError::Content("description.sdp"))?;
    Ok(Description {
        kind,
        sdp: sdp.to_owned(),
    })
}

fn negotiate_value(description: &Description, metadata: Option<&StreamMetadata>) -> Value {
    let kind = match description.kind {
        DescriptionKind::Offer => "offer",
        DescriptionKind::Answer => "answer",
    };
    let mut value = json!({"description": {"type": kind, "sdp": description.sdp}});
    if let Some(metadata) = metadata {
        value[STABLE_KEY] = metadata.to_value();
    }
    value
}

fn required_metadata(content: &Value) -> Result<StreamMetadata, ChannelError> {
    StreamMetadata::find_in(content).ok_or(ChannelError::Content(STABLE_KEY))
}

fn connect_to_focus(content: &Value) -> Result<ConnectToFocus, ChannelError> {
    let id = |value: Option<&Value>, name| match value.and_then(Value::as_str) {
        Some(id) if is_id(id) => Ok(id.to_owned()),
        _ => Err(ChannelError::Content(name)),
    };
    let focus = content.get("focus").ok_or(ChannelError::Content("focus"))?;
    Ok(ConnectToFocus {
        user_id: id(focus.get("user_id"), "focus.user_id")?,
        device_id: id(focus.get("device_id"), "focus.device_id")?,
        room_id: id(content.get("room_id"), "room_id")?,
        conf_id: id(content.get("conf_id"), "conf_id")?,
    })
}

fn error_reply(content: &Value) -> ErrorReply {
    let text = |value: Option<&Value>| {
        value
            .and_then(Value::as_str)
            .map(truncated)
            .unwrap_or_default()
    };
    let mut in_reply_to = content.get("in_reply_to").cloned().unwrap_or_default();
    let kind = text(in_reply_to.get("type"));
    let details = in_reply_to.as_object_mut().and_then(|details| {
        details.remove("type");
        (!details.is_empty()).then(|| Value::Object(details.clone()))
    });
    ErrorReply {
        errcode: text(content.get("errcode")),
        error: text(content.get("error")),
        in_reply_to: kind,
        details,
    }
}
