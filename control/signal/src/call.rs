//! Contents of the `m.call.*` to-device messages between a client and a focus (MSC2746, MSC3401, MSC3898).
//!
//! [`Message::parse`] takes the event type and the content; [`Message::event_type`] and [`Message::content`] give them back. Which
//! sender a message came from is known from the envelope of the to-device message, never from its content.

use serde_json::{Value, json};

use crate::limits::{CANDIDATE_BYTES_MAX, CANDIDATES_MAX, ID_BYTES_MAX, SDP_BYTES_MAX};
use crate::metadata::{StreamMetadata, UNSTABLE_KEY, is_id, truncated};

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
        Envelope::of_focus(
            &self.call_id,
            &self.conf_id,
            own_device_id,
            &self.sender_session_id,
        )
    }

    /// The envelope of everything that the focus, as device `own_device_id`, says to a session in a leg of its own or another's
    /// making.
    pub fn of_focus(
        call_id: &str,
        conf_id: &str,
        own_device_id: &str,
        dest_session_id: &str,
    ) -> Envelope {
        Envelope {
            call_id: call_id.to_owned(),
            conf_id: conf_id.to_owned(),
            // A client drops what has its own party id, which is its device id; two users' devices may have the same id.
            party_id: Some(format!("{FOCUS_SESSION_ID}-{own_device_id}")),
            device_id: own_device_id.to_owned(),
            sender_session_id: FOCUS_SESSION_ID.to_owned(),
            dest_session_id: dest_session_id.to_owned(),
            seq: None,
        }
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
        let read: fn(&Value) -> Result<Body, CallError> = match event_type {
            "m.call.invite" => invite,
            "m.call.answer" => answer,
            "m.call.candidates" => |content| Ok(Body::Candidates(candidates(content))),
            "m.call.select_answer" => |content| {
                Ok(Body::SelectAnswer {
                    selected_party_id: required_id(content, "selected_party_id")?,
                })
            },
            "m.call.hangup" => |content| {
                Ok(Body::Hangup {
                    reason: reason(content),
                })
            },
            "m.call.reject" => |content| {
                Ok(Body::Reject {
                    reason: reason(content),
                })
            },
            _ => return Err(CallError::OtherType),
        };
        Ok(Message {
            envelope: Envelope::parse(content)?,
            body: read(content)?,
        })
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
        let mut content = self.envelope.to_value();
        match &self.body {
            Body::Invite(invite) => {
                content["offer"] = json!({"type": "offer", "sdp": invite.sdp});
                content["lifetime"] = json!(invite.lifetime_ms);
                if let Some(invitee) = &invite.invitee {
                    content["invitee"] = json!(invitee);
                }
                if let Some(metadata) = &invite.metadata {
                    content[UNSTABLE_KEY] = metadata.to_value();
                }
                if invite.trunk {
                    content[TRUNK_KEY] = json!(true);
                }
            }
            Body::Answer(answer) => {
                content["answer"] = json!({"type": "answer", "sdp": answer.sdp});
                content[UNSTABLE_KEY] = answer.metadata.to_value();
            }
            Body::Candidates(candidates) => {
                content["candidates"] = candidates.iter().map(IceCandidate::to_value).collect();
            }
            Body::SelectAnswer { selected_party_id } => {
                content["selected_party_id"] = json!(selected_party_id)
            }
            Body::Hangup { reason } | Body::Reject { reason } => {
                if let Some(reason) = reason {
                    content["reason"] = json!(reason);
                }
            }
        }
        content
    }
}

/// Says that the caller is another focus.
const TRUNK_KEY: &str = "org.matrix.msc3898.trunk";
/// What an invite without a usable lifetime gets; the reference client's own value.
const LIFETIME_DEFAULT_MS: u64 = 60_000;

impl Envelope {
    fn parse(content: &Value) -> Result<Envelope, CallError> {
        if !content.is_object() {
            return Err(CallError::Missing("content"));
        }
        Ok(Envelope {
            call_id: required_id(content, "call_id")?,
            conf_id: required_id(content, "conf_id")?,
            party_id: content
                .get("party_id")
                .and_then(Value::as_str)
                .filter(|id| is_id(id))
                .map(str::to_owned),
            device_id: required_id(content, "device_id")?,
            sender_session_id: required_id(content, "sender_session_id")?,
            dest_session_id: required_id(content, "dest_session_id")?,
            seq: content.get("seq").and_then(Value::as_u64),
        })
    }

    fn to_value(&self) -> Value {
        let mut value = json!({
            // A string: the number 0 would mean a version without party ids.
            "version": "1",
            "call_id": self.call_id,
            "conf_id": self.conf_id,
            "device_id": self.device_id,
            "sender_session_id": self.sender_session_id,
            "dest_session_id": self.dest_session_id,
        });
        if let Some(party_id) = &self.party_id {
            value["party_id"] = json!(party_id);
        }
        if let Some(seq) = self.seq {
            value["seq"] = json!(seq);
        }
        value
    }
}

impl IceCandidate {
    /// Whether it says that there will be no more.
    pub fn is_end(&self) -> bool {
        self.candidate.is_empty()
    }

    /// An entry of a wrong type is left out; none of its members is needed.
    fn parse(entry: &Value) -> Option<IceCandidate> {
        let text = |key| {
            entry
                .get(key)
                .and_then(Value::as_str)
                .filter(|text| text.len() <= CANDIDATE_BYTES_MAX)
        };
        Some(IceCandidate {
            candidate: text("candidate")?.to_owned(),
            sdp_mid: text("sdpMid").map(str::to_owned),
            sdp_m_line_index: entry
                .get("sdpMLineIndex")
                .and_then(Value::as_u64)
                .and_then(|index| index.try_into().ok()),
            username_fragment: text("usernameFragment").map(str::to_owned),
        })
    }

    fn to_value(&self) -> Value {
        let mut value = json!({"candidate": self.candidate});
        if let Some(mid) = &self.sdp_mid {
            value["sdpMid"] = json!(mid);
        }
        if let Some(index) = self.sdp_m_line_index {
            value["sdpMLineIndex"] = json!(index);
        }
        if let Some(ufrag) = &self.username_fragment {
            value["usernameFragment"] = json!(ufrag);
        }
        value
    }
}

fn invite(content: &Value) -> Result<Body, CallError> {
    // Some clients say the number as a string, as the example of MSC3077 does.
    let lifetime = content.get("lifetime");
    let lifetime_ms =
        lifetime.and_then(|value| value.as_u64().or_else(|| value.as_str()?.parse().ok()));
    Ok(Body::Invite(Invite {
        sdp: session_description(content, "offer")?,
        lifetime_ms: lifetime_ms.unwrap_or(LIFETIME_DEFAULT_MS),
        invitee: content
            .get("invitee")
            .and_then(Value::as_str)
            .filter(|id| is_id(id))
            .map(str::to_owned),
        metadata: StreamMetadata::find_in(content),
        trunk: content
            .get(TRUNK_KEY)
            .and_then(Value::as_bool)
            .unwrap_or(false),
    }))
}

fn answer(content: &Value) -> Result<Body, CallError> {
    let metadata = StreamMetadata::find_in(content).unwrap_or_default();
    Ok(Body::Answer(Answer {
        sdp: session_description(content, "answer")?,
        metadata,
    }))
}

fn session_description(content: &Value, name: &'static str) -> Result<String, CallError> {
    let description = content.get(name).ok_or(CallError::Missing(name))?;
    if description.get("type").is_some_and(|kind| kind != name) {
        return Err(CallError::Missing(name));
    }
    match description.get("sdp").and_then(Value::as_str) {
        None => Err(CallError::Missing(name)),
        Some(sdp) if sdp.len() > SDP_BYTES_MAX => Err(CallError::TooLong(name)),
        Some(sdp) => Ok(sdp.to_owned()),
    }
}

fn candidates(content: &Value) -> Vec<IceCandidate> {
    let entries = content.get("candidates").and_then(Value::as_array);
    entries
        .into_iter()
        .flatten()
        .filter_map(IceCandidate::parse)
        .take(CANDIDATES_MAX)
        .collect()
}

fn reason(content: &Value) -> Option<String> {
    content.get("reason").and_then(Value::as_str).map(truncated)
}

fn required_id(content: &Value, name: &'static str) -> Result<String, CallError> {
    match content.get(name).and_then(Value::as_str) {
        Some(id) if id.len() > ID_BYTES_MAX => Err(CallError::TooLong(name)),
        Some(id) if is_id(id) => Ok(id.to_owned()),
        _ => Err(CallError::Missing(name)),
    }
}
