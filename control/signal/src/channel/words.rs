//! The words of the two dialects: the one table that says what each message of the model is called in each, and the few places in
//! which their contents differ.
//!
//! | | late | early |
//! |---|---|---|
//! | a message | `{"type": …, "content": {…}}` | `{"op": …, …}`: the content lies beside the word |
//! | a description | `description: {type, sdp}` | `sdp`; the word says which kind it is |
//! | metadata | `sdp_stream_metadata` | `metadata` |
//! | lists of tracks | `subscribe`, `unsubscribe` in one message | `start` in one message, `stop` in another |
//! | life | the focus pings, the client pongs | both say `alive` by themselves |
//!
//! MSC3898 changed from one to the other without a version number. A reader takes either, and more than a writer says: see [`Keys`].

use serde_json::{Map, Value, json};

use super::{ChannelError, DescriptionKind, MessageName};
use crate::limits::CHANNEL_MESSAGE_BYTES_MAX;
use crate::metadata::{STABLE_KEY, UNSTABLE_KEY, truncated};

/// Which form of MSC3898's data channel is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dialect {
    /// `{"op": …}`, with media encryption in the same text.
    Early,
    /// `{"type": …, "content": …}`, the names of Matrix events.
    Late,
}

/// A message of the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Word {
    Subscribe,
    Unsubscribe,
    Offer,
    Answer,
    Publish,
    Unpublish,
    Metadata,
    Ping,
    Pong,
    Connect,
    FollowStatus,
    ActiveSpeaker,
    LayersInUse,
    Status,
    Error,
}

/// What each is called: `type` of the late dialect, `op` of the early one. Where one name stands for several messages, the first
/// row is what it is read as, and its content says the rest.
#[rustfmt::skip]
const TABLE: [(Word, &str, &str); 15] = [
    (Word::Subscribe,     "m.call.track_subscription",          "subscribe"),
    (Word::Unsubscribe,   "m.call.track_subscription",          "unsubscribe"),
    (Word::Offer,         "m.call.negotiate",                   "offer"),
    (Word::Answer,        "m.call.negotiate",                   "answer"),
    (Word::Publish,       "m.call.negotiate",                   "publish"),
    (Word::Unpublish,     "m.call.negotiate",                   "unpublish"),
    (Word::Metadata,      "m.call.sdp_stream_metadata_changed", "metadata"),
    (Word::Ping,          "m.call.ping",                        "alive"),
    (Word::Pong,          "m.call.pong",                        "alive"),
    (Word::Connect,       "m.call.connect_to_focus",            "connect"),
    // Ours, in neither text.
    (Word::FollowStatus,  "org.matrix.msc3898.follow_status",   "follow_status"),
    (Word::ActiveSpeaker, "org.matrix.msc3898.active_speaker",  "active_speaker"),
    (Word::LayersInUse,   "org.matrix.msc3898.layers_in_use",   "layers_in_use"),
    (Word::Status,        "org.matrix.msc3898.status",          "status"),
    (Word::Error,         "org.matrix.msc3898.error",           "error"),
];

/// Under which names a member is looked for; the first is the one that is written.
///
/// The late text's prose says `start` and `stop` where its example says `subscribe` and `unsubscribe`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Keys {
    pub(super) start: &'static [&'static str],
    pub(super) stop: &'static [&'static str],
    pub(super) metadata: &'static [&'static str],
}

const EARLY: Keys = Keys {
    start: &["start"],
    stop: &["stop"],
    metadata: &["metadata", STABLE_KEY, UNSTABLE_KEY],
};

const LATE: Keys = Keys {
    start: &["subscribe", "start"],
    stop: &["unsubscribe", "stop"],
    metadata: &[STABLE_KEY, UNSTABLE_KEY],
};

impl Dialect {
    /// Both, the late one first.
    pub const ALL: [Dialect; 2] = [Dialect::Late, Dialect::Early];

    /// The member that says what a message is.
    pub(super) fn key(self) -> &'static str {
        match self {
            Dialect::Early => "op",
            Dialect::Late => "type",
        }
    }

    pub(super) fn keys(self) -> Keys {
        match self {
            Dialect::Early => EARLY,
            Dialect::Late => LATE,
        }
    }

    fn word(self, name: &str) -> Option<Word> {
        let row = TABLE.iter().find(|(_, late, early)| match self {
            Dialect::Early => *early == name,
            Dialect::Late => *late == name,
        });
        row.map(|(word, ..)| *word)
    }

    /// A whole message.
    pub(super) fn frame(self, word: Word, content: Value) -> String {
        self.frame_named(self.name(word), content)
    }

    /// What a message is called.
    pub(super) fn name(self, word: Word) -> &'static str {
        let row = TABLE.iter().find(|(of, ..)| *of == word);
        row.map_or("", |(_, late, early)| match self {
            Dialect::Early => early,
            Dialect::Late => late,
        })
    }

    /// A whole message of a name that is in no table.
    pub(super) fn frame_named(self, name: &str, mut content: Value) -> String {
        match self {
            Dialect::Late => json!({"type": name, "content": content}).to_string(),
            Dialect::Early => {
                content["op"] = json!(name);
                content.to_string()
            }
        }
    }

    /// The word and the members with which a description is said.
    pub(super) fn description(
        self,
        kind: DescriptionKind,
        sdp: &str,
    ) -> (Word, Map<String, Value>) {
        let (word, name) = match kind {
            DescriptionKind::Offer => (Word::Offer, "offer"),
            DescriptionKind::Answer => (Word::Answer, "answer"),
        };
        let (key, value) = match self {
            Dialect::Early => ("sdp", json!(sdp)),
            Dialect::Late => ("description", json!({"type": name, "sdp": sdp})),
        };
        (word, Map::from_iter([(key.to_owned(), value)]))
    }
}

/// A text frame whose dialect and name are known, and whose content has not been looked at.
#[derive(Debug, Clone)]
pub struct Frame {
    pub(super) dialect: Dialect,
    /// As it was said, cut to a loggable length.
    pub(super) name: String,
    pub(super) word: Option<Word>,
    /// An absent content is an empty one.
    pub(super) content: Value,
}

impl Frame {
    /// Reads what a frame is. With both a `type` and an `op` it is of the late dialect.
    ///
    /// # Errors
    /// [`ChannelError::TooLong`], [`ChannelError::NotJson`] or [`ChannelError::NoType`]: then nothing is known of it.
    pub fn open(text: &str) -> Result<Frame, ChannelError> {
        if text.len() > CHANNEL_MESSAGE_BYTES_MAX {
            return Err(ChannelError::TooLong);
        }
        // The parser's own depth limit bounds the stack.
        let Ok(mut value) = serde_json::from_str::<Value>(text) else {
            return Err(ChannelError::NotJson);
        };
        let said = Dialect::ALL.into_iter().find_map(|dialect| {
            let name = value.get(dialect.key())?.as_str()?;
            Some((dialect, truncated(name), dialect.word(name)))
        });
        let (dialect, name, word) = said.ok_or(ChannelError::NoType)?;
        let content = match dialect {
            Dialect::Early => value,
            Dialect::Late => value
                .get_mut("content")
                .map_or_else(|| json!({}), Value::take),
        };
        Ok(Frame {
            dialect,
            name,
            word,
            content,
        })
    }

    /// In which dialect it was said.
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// What it is called, for a reply about it.
    pub fn name(&self) -> MessageName {
        MessageName {
            dialect: self.dialect,
            name: self.name.clone(),
        }
    }

    /// Whether it is an error message. Whoever answers one with another never stops.
    pub fn is_error(&self) -> bool {
        self.word == Some(Word::Error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_has_one_row_and_is_read_as_it_was_written() {
        for (index, (word, late, early)) in TABLE.iter().enumerate() {
            assert!(
                TABLE
                    .iter()
                    .skip(index + 1)
                    .all(|(other, ..)| other != word),
                "{word:?} twice"
            );
            for (dialect, name) in [(Dialect::Late, late), (Dialect::Early, early)] {
                let text = dialect.frame(*word, json!({"a": 1}));
                let frame = Frame::open(&text).expect("a frame");
                assert_eq!((frame.dialect, frame.name.as_str()), (dialect, *name));
                assert_eq!(frame.content["a"], 1);
                // One name for several is read as the first of them.
                let first = TABLE.iter().find(|(_, l, e)| l == name || e == name);
                assert_eq!(frame.word, first.map(|row| row.0));
            }
        }
    }

    #[test]
    fn a_frame_with_both_words_is_late() {
        let frame = Frame::open(r#"{"op":"alive","type":"m.call.pong"}"#).expect("a frame");
        assert_eq!(
            (frame.dialect, frame.word),
            (Dialect::Late, Some(Word::Pong))
        );
        let frame = Frame::open(r#"{"op":"alive","type":7}"#).expect("a frame");
        assert_eq!(frame.dialect, Dialect::Early);
    }
}
