//! The to-device messages of one call with one focus: what they have in common, and what an invite is answered with.

use serde_json::{Value, json};

use crate::channel::{self, Metadata};
use crate::matrix::{Device, ToDevice};
use crate::participant::FocusAddress;
use crate::peer::Peer;
use crate::sdp::Remote;

/// One side of a call, from its invite on.
#[derive(Debug)]
pub(crate) struct Signalling {
    device: Device,
    focus: FocusAddress,
    conf_id: String,
    session_id: String,
    call_id: String,
    sequence: u32,
}

/// A focus's answer: its description, and the streams that are there.
pub(crate) type Answer = (Remote, Metadata);

impl Signalling {
    /// A call with a new id.
    pub(crate) fn new(
        device: &Device,
        focus: &FocusAddress,
        conf_id: &str,
        session_id: &str,
    ) -> Signalling {
        Signalling {
            device: device.clone(),
            focus: focus.clone(),
            conf_id: conf_id.to_owned(),
            session_id: session_id.to_owned(),
            call_id: crate::random_id(16),
            sequence: 0,
        }
    }

    /// Sends the invite, and the candidates behind it, as the published client does.
    pub(crate) async fn invite(
        &mut self,
        peer: &Peer,
        sdp: &str,
        metadata: &Metadata,
    ) -> Result<(), String> {
        let offer = json!({
            "offer": {"type": "offer", "sdp": sdp},
            "lifetime": 60_000,
            "invitee": self.focus.user_id,
            "capabilities": {"m.call.transferee": false, "m.call.dtmf": false},
            "org.matrix.msc3077.sdp_stream_metadata": metadata,
        });
        self.send("m.call.invite", offer).await?;
        let candidate = |candidate: &String| {
            let (ufrag, _) = peer.credentials();
            json!({"candidate": format!("candidate:{candidate}"), "sdpMid": "0", "sdpMLineIndex": 0, "usernameFragment": ufrag})
        };
        let candidates: Vec<_> = peer.candidates().iter().map(candidate).collect();
        let content = json!({ "candidates": candidates });
        self.send("m.call.candidates", content).await
    }

    /// Takes a message while an answer is waited for: candidates at once, the answer or the reason why there is none is given back.
    pub(crate) async fn handle_unanswered(
        &mut self,
        message: &ToDevice,
        peer: &Peer,
    ) -> Option<Result<Answer, String>> {
        if !self.is_ours(message) {
            return None;
        }
        let content = &message.content;
        match message.event_type.as_str() {
            "m.call.candidates" => {
                candidates(content).for_each(|candidate| peer.add_candidate(candidate));
                None
            }
            "m.call.answer" => {
                let sdp = content["answer"]["sdp"].as_str().unwrap_or_default();
                let Some(answer) = Remote::parse(sdp) else {
                    return Some(Err("an answer that cannot be read".into()));
                };
                let selected = json!({"selected_party_id": content["party_id"]});
                let _ = self.send("m.call.select_answer", selected).await;
                Some(Ok((answer, channel::metadata(content).unwrap_or_default())))
            }
            _ => ended(message).map(Err),
        }
    }

    /// Whether a message is of this call.
    pub(crate) fn is_ours(&self, message: &ToDevice) -> bool {
        let content = &message.content;
        message.sender == self.focus.user_id
            && content["conf_id"] == self.conf_id.as_str()
            && content["call_id"] == self.call_id.as_str()
            && content["dest_session_id"] == self.session_id.as_str()
    }

    /// Ends the call.
    pub(crate) async fn hang_up(&mut self, reason: &str) {
        let _ = self.send("m.call.hangup", json!({"reason": reason})).await;
    }

    /// Adds what every message to a focus has, and sends it.
    async fn send(&mut self, kind: &str, mut content: Value) -> Result<(), String> {
        let device_id = self.device.device_id();
        let common = json!({
            "version": "1",
            "call_id": self.call_id,
            "party_id": device_id,
            "conf_id": self.conf_id,
            "device_id": device_id,
            "sender_session_id": self.session_id,
            "dest_session_id": "sfu",
            "seq": self.sequence,
            "org.matrix.msgid": crate::random_id(32),
        });
        self.sequence += 1;
        if let (Value::Object(content), Value::Object(common)) = (&mut content, common) {
            content.extend(common);
        }
        let focus = (self.focus.user_id.as_str(), self.focus.device_id.as_str());
        let sent = self.device.send_to_device(focus, kind, &content);
        sent.await.map_err(|error| error.to_string())
    }
}

/// Why a message ends its call, if it does.
pub(crate) fn ended(message: &ToDevice) -> Option<String> {
    if !matches!(
        message.event_type.as_str(),
        "m.call.hangup" | "m.call.reject"
    ) {
        return None;
    }
    let reason = message.content["reason"].as_str().unwrap_or("no reason");
    Some(format!("{}: {reason}", message.event_type))
}

fn candidates(content: &Value) -> impl Iterator<Item = &str> {
    let list = content["candidates"].as_array().into_iter().flatten();
    list.filter_map(|candidate| candidate["candidate"].as_str())
        .filter(|candidate| !candidate.is_empty())
}
