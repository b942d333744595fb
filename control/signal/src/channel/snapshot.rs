//! What everybody is told about everybody. With many participants this is nearly all that is said, so each stream is rendered once,
//! and what a participant is told is put together from the renderings.

use std::sync::Arc;

use serde::{Serialize, Serializer, ser::SerializeMap};
use serde_json::{
    Map, Value,
    value::{RawValue, to_raw_value},
};

use super::{Description, Dialect, words::Word};
use crate::metadata::{Stream, StreamMetadata};

/// One stream as it stands in a snapshot.
#[derive(Debug)]
pub struct RenderedStream {
    id: String,
    json: Box<RawValue>,
}

/// The streams that one participant is told of, in the order in which they are put in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    streams: Vec<Arc<RenderedStream>>,
}

impl RenderedStream {
    /// Renders a stream.
    pub fn new(id: &str, stream: &Stream) -> Self {
        // A `Value` has no keys but strings, and so can always be written down.
        let json = to_raw_value(&stream.to_value()).unwrap_or_else(|_| RawValue::NULL.to_owned());
        Self {
            id: id.to_owned(),
            json,
        }
    }
}

impl PartialEq for RenderedStream {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id && self.json.get() == other.json.get()
    }
}

impl Eq for RenderedStream {}

impl FromIterator<Arc<RenderedStream>> for Snapshot {
    fn from_iter<T: IntoIterator<Item = Arc<RenderedStream>>>(streams: T) -> Self {
        Self {
            streams: streams.into_iter().collect(),
        }
    }
}

impl From<&StreamMetadata> for Snapshot {
    fn from(metadata: &StreamMetadata) -> Self {
        let streams = metadata.streams.iter();
        streams
            .map(|(id, stream)| Arc::new(RenderedStream::new(id, stream)))
            .collect()
    }
}

impl Snapshot {
    /// The text frame of [`ToClient::MetadataChanged`](super::ToClient::MetadataChanged).
    pub fn to_text(&self, dialect: Dialect) -> String {
        self.frame(dialect, Word::Metadata, &Map::new())
    }

    /// The text frame of [`ToClient::Negotiate`](super::ToClient::Negotiate).
    pub fn to_text_with(&self, dialect: Dialect, description: &Description) -> String {
        let (word, said) = dialect.description(description.kind, &description.sdp);
        self.frame(dialect, word, &said)
    }

    fn frame(&self, dialect: Dialect, word: Word, said: &Map<String, Value>) -> String {
        let frame = Frame {
            dialect,
            name: dialect.name(word),
            content: Content {
                said,
                key: dialect.keys().metadata[0],
                streams: self,
            },
        };
        serde_json::to_string(&frame).unwrap_or_default()
    }
}

struct Frame<'a> {
    dialect: Dialect,
    name: &'static str,
    content: Content<'a>,
}

struct Content<'a> {
    said: &'a Map<String, Value>,
    key: &'static str,
    streams: &'a Snapshot,
}

impl Serialize for Frame<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        match self.dialect {
            Dialect::Late => map.serialize_entry("content", &self.content)?,
            Dialect::Early => self.content.write(&mut map)?,
        }
        map.serialize_entry(self.dialect.key(), self.name)?;
        map.end()
    }
}

impl Content<'_> {
    fn write<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        for (key, value) in self.said {
            map.serialize_entry(key, value)?;
        }
        map.serialize_entry(self.key, self.streams)
    }
}

impl Serialize for Content<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        self.write(&mut map)?;
        map.end()
    }
}

impl Serialize for Snapshot {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.streams.iter().map(|of| (&of.id, &of.json)))
    }
}
