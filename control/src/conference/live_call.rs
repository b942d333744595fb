//! What is needed to hang up a call from another process.

use serde_json::Value;
use weir_signal::call::{Body, Envelope, FOCUS_SESSION_ID, Message};

use super::{HangupReason, ParticipantId, Protection};

/// A call that is up. A focus that writes these down can, after a crash, hang up those that the crash has left: their clients
/// call again within seconds, instead of waiting half a minute for ICE to fail.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct LiveCall {
    /// The conference.
    pub conf_id: String,
    /// Whom to tell.
    pub participant: ParticipantId,
    /// The call.
    pub call_id: String,
    /// The participant's session, without which it does not listen.
    pub session_id: String,
    /// How to tell.
    pub protection: Protection,
}

impl LiveCall {
    /// The event type and content of the hangup to send to [`LiveCall::participant`].
    pub fn hangup(&self, focus_device_id: &str, reason: HangupReason) -> (&'static str, Value) {
        let theirs = Envelope {
            call_id: self.call_id.clone(),
            conf_id: self.conf_id.clone(),
            party_id: None,
            device_id: self.participant.device_id.clone(),
            sender_session_id: self.session_id.clone(),
            dest_session_id: FOCUS_SESSION_ID.to_owned(),
            seq: None,
        };
        let message = Message {
            envelope: theirs.reply_from(focus_device_id),
            body: Body::Hangup {
                reason: Some(reason.as_str().to_owned()),
            },
        };
        (message.event_type(), message.content())
    }
}
