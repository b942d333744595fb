//! From the words of a frame to what they mean.

use serde_json::Value;

use super::words::{Keys, Word};
use super::{
    ChannelError, ConnectToFocus, Description, DescriptionKind, Dialect, ErrorReply, Frame,
    FromClient, MessageName, Size, ToClient, TrackName, TrackRequest, media,
};
use crate::limits::SUBSCRIPTIONS_MAX;
use crate::metadata::{StreamMetadata, is_id, pixels, truncated};

impl FromClient {
    /// Reads a text frame of either dialect.
    ///
    /// # Errors
    /// As [`Frame::open`] and [`FromClient::read`].
    pub fn parse(text: &str) -> Result<FromClient, ChannelError> {
        FromClient::read(&Frame::open(text)?)
    }

    /// Reads what a participant says. What only a focus says is unknown here.
    ///
    /// # Errors
    /// [`ChannelError::Content`] or [`ChannelError::TooMany`].
    pub fn read(frame: &Frame) -> Result<FromClient, ChannelError> {
        let Some(word) = frame.word else {
            return Ok(frame.unknown_from_client());
        };
        let (keys, content) = (frame.dialect.keys(), &frame.content);
        Ok(match word {
            Word::Subscribe | Word::Unsubscribe => FromClient::Subscription {
                subscribe: list(content, keys.start)?
                    .into_iter()
                    .filter_map(track_request)
                    .collect(),
                unsubscribe: list(content, keys.stop)?
                    .into_iter()
                    .filter_map(track_name)
                    .collect(),
            },
            // The early text leaves open what they carry. Without a description they can only be about the streams.
            Word::Publish | Word::Unpublish if content.get("sdp").is_none() => {
                FromClient::MetadataChanged(required_metadata(content, keys)?)
            }
            Word::Offer | Word::Answer | Word::Publish | Word::Unpublish => FromClient::Negotiate {
                description: frame.description(word)?,
                metadata: StreamMetadata::find_under(content, keys.metadata),
            },
            Word::Metadata => FromClient::MetadataChanged(required_metadata(content, keys)?),
            // A participant's `alive` asks for nothing.
            Word::Ping if frame.dialect == Dialect::Early => FromClient::Pong,
            Word::Ping => FromClient::Ping,
            Word::Pong => FromClient::Pong,
            Word::Connect => FromClient::ConnectToFocus(connect_to_focus(content)?),
            Word::FollowStatus => FromClient::FollowStatus,
            Word::ActiveSpeaker | Word::LayersInUse | Word::Status | Word::Error => {
                frame.unknown_from_client()
            }
        })
    }
}

impl ToClient {
    /// Reads a text frame of either dialect.
    ///
    /// # Errors
    /// As [`Frame::open`] and [`ToClient::read`].
    pub fn parse(text: &str) -> Result<ToClient, ChannelError> {
        ToClient::read(&Frame::open(text)?)
    }

    /// Reads what a focus says. What only a participant says is unknown here.
    ///
    /// # Errors
    /// [`ChannelError::Content`] or [`ChannelError::TooMany`].
    pub fn read(frame: &Frame) -> Result<ToClient, ChannelError> {
        let (keys, content) = (frame.dialect.keys(), &frame.content);
        let unknown = || ToClient::Unknown {
            kind: frame.name.clone(),
        };
        let Some(word) = frame.word else {
            return Ok(unknown());
        };
        Ok(match word {
            Word::Metadata => ToClient::MetadataChanged(required_metadata(content, keys)?),
            Word::Offer | Word::Answer => ToClient::Negotiate {
                description: frame.description(word)?,
                metadata: required_metadata(content, keys)?,
            },
            Word::Ping => ToClient::Ping,
            Word::Pong => ToClient::Pong,
            Word::ActiveSpeaker => ToClient::ActiveSpeaker(
                list(content, &["speakers"])?
                    .into_iter()
                    .filter_map(media::speaker)
                    .collect(),
            ),
            Word::LayersInUse => ToClient::LayersInUse(
                list(content, &["tracks"])?
                    .into_iter()
                    .filter_map(media::layers_in_use)
                    .collect(),
            ),
            Word::Status => ToClient::Status(media::status(content, list(content, &["tracks"])?)),
            Word::Error => ToClient::Error(error_reply(content)),
            Word::Subscribe
            | Word::Unsubscribe
            | Word::Publish
            | Word::Unpublish
            | Word::Connect
            | Word::FollowStatus => unknown(),
        })
    }
}

impl Frame {
    fn unknown_from_client(&self) -> FromClient {
        FromClient::Unknown {
            kind: self.name.clone(),
        }
    }

    fn description(&self, word: Word) -> Result<Description, ChannelError> {
        let content = &self.content;
        let (kind, sdp, missing) = match self.dialect {
            Dialect::Early => {
                let kind = match word {
                    Word::Answer => DescriptionKind::Answer,
                    _ => DescriptionKind::Offer,
                };
                (kind, content.get("sdp"), "sdp")
            }
            Dialect::Late => {
                let description = content
                    .get("description")
                    .ok_or(ChannelError::Content("description"))?;
                let kind = match description.get("type").and_then(Value::as_str) {
                    Some("offer") => DescriptionKind::Offer,
                    Some("answer") => DescriptionKind::Answer,
                    _ => return Err(ChannelError::Content("description.type")),
                };
                (kind, description.get("sdp"), "description.sdp")
            }
        };
        let sdp = sdp
            .and_then(Value::as_str)
            .ok_or(ChannelError::Content(missing))?;
        Ok(Description {
            kind,
            sdp: sdp.to_owned(),
        })
    }
}

/// The list under the first of the names that is there. A bare object is a list of one; absent or null is an empty list.
fn list<'a>(
    content: &'a Value,
    names: &'static [&'static str],
) -> Result<Vec<&'a Value>, ChannelError> {
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
pub(super) fn track_name(entry: &Value) -> Option<TrackName> {
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
    Some(TrackRequest {
        name: track_name(entry)?,
        size: size(entry),
    })
}

/// A size of which both sides are said.
pub(super) fn size(entry: &Value) -> Option<Size> {
    Some(Size {
        width: pixels(entry.get("width"))?,
        height: pixels(entry.get("height"))?,
    })
}

fn required_metadata(content: &Value, keys: Keys) -> Result<StreamMetadata, ChannelError> {
    StreamMetadata::find_under(content, keys.metadata)
        .ok_or(ChannelError::Content(keys.metadata[0]))
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
    let text = |key| {
        let value = content.get(key).and_then(Value::as_str);
        value.map(truncated).unwrap_or_default()
    };
    let mut in_reply_to = content.get("in_reply_to").cloned().unwrap_or_default();
    let name = Dialect::ALL.into_iter().find_map(|dialect| {
        let name = in_reply_to.get(dialect.key())?.as_str().map(truncated)?;
        Some(MessageName { dialect, name })
    });
    let details = in_reply_to.as_object_mut().and_then(|details| {
        if let Some(name) = &name {
            details.remove(name.dialect.key());
        }
        (!details.is_empty()).then(|| Value::Object(details.clone()))
    });
    ErrorReply {
        errcode: text("errcode"),
        error: text("error"),
        in_reply_to: name,
        details,
    }
}
