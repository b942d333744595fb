//! What participants tell each other of their keys, as the contents of to-device messages.

use std::fmt;

use serde::{Deserialize, Serialize};
use zeroize::Zeroize as _;

/// One user's device: who sends, who receives.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ParticipantId {
    /// Matrix user id.
    pub user_id: String,
    /// Matrix device id.
    pub device_id: String,
}

impl ParticipantId {
    /// From its two names.
    pub fn new(user_id: &str, device_id: &str) -> ParticipantId {
        ParticipantId {
            user_id: user_id.to_owned(),
            device_id: device_id.to_owned(),
        }
    }
}

/// The call that keys are for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conference {
    /// Its room.
    #[serde(rename = "m.room_id")]
    pub room_id: String,
    /// Its id in the room: the state key of its `m.call` event.
    #[serde(rename = "m.call_id")]
    pub call_id: String,
}

/// The content of an `m.room_key`: a megolm session from an index on, for the media of one call.
///
/// MSC3898 says that it names call and room. It does not say how a frame names its session and which cipher is used: that is in
/// two members of our own. There is no `room_id`, so that nobody takes it for the key of a room's messages.
#[derive(Clone, Serialize, Deserialize)]
pub struct RoomKey {
    /// [`RoomKey::ALGORITHM`].
    pub algorithm: String,
    /// The call.
    #[serde(flatten)]
    pub conference: Conference,
    /// The session's public key.
    pub session_id: String,
    /// Index, ratchet, public key and signature in megolm's format, base64.
    pub session_key: String,
    /// KID: the session's number at its sender.
    #[serde(rename = "org.matrix.msc3898.key_id")]
    pub key_id: u64,
    /// A number of the registry of RFC 9605 §8.1.
    #[serde(rename = "org.matrix.msc3898.cipher_suite")]
    pub cipher_suite: u16,
}

impl RoomKey {
    /// The type of the event.
    pub const EVENT_TYPE: &str = "m.room_key";
    /// Megolm's ratchet.
    pub const ALGORITHM: &str = "m.megolm.v1.aes-sha2";
}

impl fmt::Debug for RoomKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RoomKey")
            .field("conference", &self.conference)
            .field("session_id", &self.session_id)
            .field("key_id", &self.key_id)
            .finish_non_exhaustive()
    }
}

impl Drop for RoomKey {
    fn drop(&mut self) {
        self.session_key.zeroize();
    }
}

/// The answer to a [`RoomKey`]: its session is known from here on.
///
/// A departure's new session is used once everybody has it. MSC3898 does not say how a sender learns that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomKeyReceived {
    /// The call.
    #[serde(flatten)]
    pub conference: Conference,
    /// The session.
    pub session_id: String,
}

impl RoomKeyReceived {
    /// The type of the event.
    pub const EVENT_TYPE: &str = "org.matrix.msc3898.room_key_received";
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = r#"{"algorithm":"m.megolm.v1.aes-sha2","m.room_id":"!r:x","m.call_id":"c","session_id":"S","session_key":"AgA","org.matrix.msc3898.key_id":3,"org.matrix.msc3898.cipher_suite":4}"#;

    #[test]
    fn a_key_is_written_and_read_under_the_names_of_the_proposal() {
        let key: RoomKey = serde_json::from_str(KEY).unwrap();
        assert_eq!(
            (
                key.conference.call_id.as_str(),
                key.key_id,
                key.cipher_suite
            ),
            ("c", 3, 4)
        );
        assert_eq!(serde_json::to_string(&key).unwrap(), KEY);
        assert!(!format!("{key:?}").contains("AgA"), "keys are not logged");
    }

    #[test]
    fn a_key_without_its_call_is_none() {
        assert!(serde_json::from_str::<RoomKey>(&KEY.replace("m.call_id", "call_id")).is_err());
    }
}
