//! Who is in a conference.

use std::fmt;

/// One (user, device). Printed shortened: what identifies a person does not belong in a log.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct ParticipantId {
    /// The authenticated Matrix user.
    pub user_id: String,
    /// Its device: authenticated if the invite was encrypted, else claimed, and then only ever one of this user's.
    pub device_id: String,
}

impl ParticipantId {
    /// Names a participant.
    pub fn new(user_id: impl Into<String>, device_id: impl Into<String>) -> Self {
        Self {
            user_id: user_id.into(),
            device_id: device_id.into(),
        }
    }

    /// The part of the user id after the first colon; empty if there is none.
    pub fn server_name(&self) -> &str {
        server_name(&self.user_id)
    }
}

/// The part of a user id after the first colon; empty if there is none.
pub(crate) fn server_name(user_id: &str) -> &str {
    user_id
        .split_once(':')
        .map_or("", |(_, server_name)| server_name)
}

impl fmt::Display for ParticipantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fn head(text: &str, characters: usize) -> &str {
            text.char_indices()
                .nth(characters)
                .map_or(text, |(end, _)| &text[..end])
        }
        write!(
            f,
            "{}…/{}…",
            head(&self.user_id, 4),
            head(&self.device_id, 3)
        )
    }
}

impl fmt::Debug for ParticipantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_no_whole_id() {
        let participant = ParticipantId::new("@alice:example.org", "ABCDEFGH");
        assert_eq!(participant.to_string(), "@ali…/ABC…");
        assert_eq!(format!("{participant:?}"), "@ali…/ABC…");
        assert_eq!(ParticipantId::new("é", "").to_string(), "é…/…");
    }

    #[test]
    fn server_name_is_what_follows_the_first_colon() {
        assert_eq!(
            ParticipantId::new("@alice:example.org:8448", "D").server_name(),
            "example.org:8448"
        );
        assert_eq!(ParticipantId::new("alice", "D").server_name(), "");
    }
}
