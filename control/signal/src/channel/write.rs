//! From what is meant to the words of a dialect.

use serde_json::{Map, Value, json};

use super::words::Word;
use super::{
    ConnectToFocus, Description, Dialect, ErrorReply, FromClient, Snapshot, ToClient, TrackName,
    TrackRequest, media,
};
use crate::metadata::StreamMetadata;

impl FromClient {
    /// The text frames: one, but for a request of the early dialect that both subscribes and unsubscribes.
    pub fn to_texts(&self, dialect: Dialect) -> Vec<String> {
        let text = match self {
            FromClient::Subscription {
                subscribe,
                unsubscribe,
            } => return subscription(dialect, subscribe, unsubscribe),
            FromClient::Negotiate {
                description,
                metadata,
            } => negotiate(dialect, description, metadata.as_ref()),
            FromClient::MetadataChanged(metadata) => Snapshot::from(metadata).to_text(dialect),
            FromClient::Ping => dialect.frame(Word::Ping, json!({})),
            FromClient::Pong => dialect.frame(Word::Pong, json!({})),
            FromClient::ConnectToFocus(connect) => {
                dialect.frame(Word::Connect, connect_value(connect))
            }
            FromClient::FollowStatus => dialect.frame(Word::FollowStatus, json!({})),
            FromClient::Unknown { kind } => dialect.frame_named(kind, json!({})),
        };
        vec![text]
    }
}

impl ToClient {
    /// The text frame.
    pub fn to_text(&self, dialect: Dialect) -> String {
        match self {
            ToClient::MetadataChanged(metadata) => Snapshot::from(metadata).to_text(dialect),
            ToClient::Negotiate {
                description,
                metadata,
            } => negotiate(dialect, description, Some(metadata)),
            ToClient::Ping => dialect.frame(Word::Ping, json!({})),
            ToClient::Pong => dialect.frame(Word::Pong, json!({})),
            ToClient::ActiveSpeaker(speakers) => dialect.frame(
                Word::ActiveSpeaker,
                json!({"speakers": values(speakers, media::speaker_value)}),
            ),
            ToClient::LayersInUse(tracks) => dialect.frame(
                Word::LayersInUse,
                json!({"tracks": values(tracks, media::layers_in_use_value)}),
            ),
            ToClient::Status(status) => dialect.frame(Word::Status, media::status_value(status)),
            ToClient::Error(error) => dialect.frame(Word::Error, error_value(error)),
            ToClient::Unknown { kind } => dialect.frame_named(kind, json!({})),
        }
    }
}

fn values<T>(of: &[T], value: impl Fn(&T) -> Value) -> Vec<Value> {
    of.iter().map(value).collect()
}

fn subscription(
    dialect: Dialect,
    subscribe: &[TrackRequest],
    unsubscribe: &[TrackName],
) -> Vec<String> {
    let keys = dialect.keys();
    let (start, stop) = (keys.start[0], keys.stop[0]);
    let starting = values(subscribe, track_request_value);
    let stopping = values(unsubscribe, track_name_value);
    match dialect {
        Dialect::Late => {
            vec![dialect.frame(Word::Subscribe, json!({start: starting, stop: stopping}))]
        }
        Dialect::Early => {
            let mut texts = Vec::new();
            if !stopping.is_empty() {
                texts.push(dialect.frame(Word::Unsubscribe, json!({stop: stopping})));
            }
            if !starting.is_empty() || texts.is_empty() {
                texts.push(dialect.frame(Word::Subscribe, json!({start: starting})));
            }
            texts
        }
    }
}

pub(super) fn track_name_value(name: &TrackName) -> Value {
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

fn negotiate(
    dialect: Dialect,
    description: &Description,
    metadata: Option<&StreamMetadata>,
) -> String {
    if let Some(metadata) = metadata {
        return Snapshot::from(metadata).to_text_with(dialect, description);
    }
    let (word, content) = dialect.description(description.kind, &description.sdp);
    dialect.frame(word, Value::Object(content))
}

fn connect_value(connect: &ConnectToFocus) -> Value {
    json!({
        "focus": {"user_id": connect.user_id, "device_id": connect.device_id},
        "room_id": connect.room_id,
        "conf_id": connect.conf_id,
    })
}

fn error_value(error: &ErrorReply) -> Value {
    let mut in_reply_to = match &error.details {
        Some(Value::Object(details)) => details.clone(),
        _ => Map::new(),
    };
    if let Some(name) = &error.in_reply_to {
        in_reply_to.insert(name.dialect.key().to_owned(), json!(name.name));
    }
    json!({"errcode": error.errcode, "error": error.error, "in_reply_to": in_reply_to})
}
