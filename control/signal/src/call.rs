//! Contents of the `m.call.*` to-device messages between a client and a focus (MSC2746, MSC3401, MSC3898).
//!
//! [`Message::parse`] takes the event type and the content; [`Message::event_type`] and [`Message::content`] give them back. Which
//! sender a message came from is known from the envelope of the to-device message, never from its content.

use serde_json::Value;

use crate::metadata::StreamMetadata;

/// The session id by which a focus is called.
pub const FOCUS_SESSION_ID: &str = "sfu";

/// What every message has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// The leg's id, chosen by the caller; a new one for every attempt.
    pub call_id: String,
    /// The conference.
    pub conf_id: String,
    /// The sender's party within the leg. Not empty in what the focus sends.
    pub party_id: Option<String>,
    /// The sender's device, by its own claim; the reply goes to it.
    pub device_id: String,
    /// The sender's session: random for a client, [`FOCUS_SESSION_ID`] for a focus.
    pub sender_session_id: String,
    /// The receiver's session.
    pub dest_session_id: String,
    /// Position in the leg, counted from 0; `None` in what the focus sends (a number makes the client wait for its predecessors).
    pub seq: Option<u64>,
}

impl Envelope {
    /// Whether it is meant for a focus.
    pub fn is_for_focus(&self) -> bool {
        self.dest_session_id == FOCUS_SESSION_ID
    }

    /// The envelope of everything that the focus, as device `own_device_id`, says in the leg that `self` belongs to.
    pub fn reply_from(&self, own_device_id: &str) -> Envelope {
        let _ = own_device_id;
        todo!()
    }
}

/// One trickled candidate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IceCandidate {
    /// The `candidate:` line; empty at the end of candidates.
    pub candidate: String,
    /// Media section by id.
    pub sdp_mid: Option<String>,
    /// Media section by position.
    pub sdp_m_line_index: Option<u32>,
    /// ICE generation.
    pub username_fragment: Option<String>,
}

/// What a message says beyond its envelope.
#[derive(Debug, Clone, PartialEq)]
pub enum Body {
    /// `m.call.invite`
    Invite(Invite),
    /// `m.call.answer`
    Answer(Answer),
    /// `m.call.candidates`
    Candidates(Vec<IceCandidate>),
    /// `m.call.select_answer`
    SelectAnswer {
        /// The party whose answer was taken.
        selected_party_id: String,
    },
    /// `m.call.hangup`
    Hangup {
        /// `user_hangup`, `ice_failed`, `invite_timeout`, `keep_alive_timeout`, …
        reason: Option<String>,
    },
    /// `m.call.reject`
    Reject {
        /// Why, for logs and people; the reference client does not read it.
        reason: Option<String>,
    },
}

/// The first message of a leg.
#[derive(Debug, Clone, PartialEq)]
pub struct Invite {
    /// The offer's SDP.
    pub sdp: String,
    /// How long the invite is good for, in milliseconds from its sending.
    pub lifetime_ms: u64,
    /// Whom it is for, if said.
    pub invitee: Option<String>,
    /// The caller's own streams.
    pub metadata: Option<StreamMetadata>,
    /// The caller is another focus (`org.matrix.msc3898.trunk`).
    pub trunk: bool,
}

/// The answer to an invite.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The answer's SDP.
    pub sdp: String,
    /// The answerer's streams: everybody else's, if it is a focus.
    pub metadata: StreamMetadata,
}

/// One to-device message of a call.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// Who, to whom, in which leg.
    pub envelope: Envelope,
    /// What.
    pub body: Body,
}

/// Why a to-device message is not one that the focus can read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// Not an `m.call.*` type between a client and a focus.
    #[error("not a call message")]
    OtherType,
    /// A member is missing or of a wrong type.
    #[error("no usable {0}")]
    Missing(&'static str),
    /// A member is longer than its limit.
    #[error("{0} too long")]
    TooLong(&'static str),
}

impl Message {
    /// Reads a to-device message.
    pub fn parse(event_type: &str, content: &Value) -> Result<Message, CallError> {
        let _ = (event_type, content);
        todo!()
    }

    /// The event type to send it with.
    pub fn event_type(&self) -> &'static str {
        match self.body {
            Body::Invite(_) => "m.call.invite",
            Body::Answer(_) => "m.call.answer",
            Body::Candidates(_) => "m.call.candidates",
            Body::SelectAnswer { .. } => "m.call.select_answer",
            Body::Hangup { .. } => "m.call.hangup",
            Body::Reject { .. } => "m.call.reject",
        }
    }

    /// The content to send it with.
    pub fn content(&self) -> Value {
        todo!()
    }
}
