//! Who is in which call, what they publish, and who gets what.
//!
//! Pure: to-device messages, data channel messages, transport events and the time in; to-device messages, commands for
//! shards and data channel messages out. No I/O, no clock, no locks; random numbers come from the seed in [`Settings`].
//!
//! Not here: who may call (`authorise`), DTLS and SCTP (`weir_transport`), media (`weir_shard`).

mod ids;
mod limits;
mod output;
mod settings;

use std::time::Instant;

use weir_shard::TransportId;

pub use ids::ParticipantId;
pub use limits::Limits;
pub use output::{Fingerprint, HangupReason, Output, Protection, Refusal, Sender, TransportInput};
pub use settings::{Settings, Timing};

/// All conferences of one focus.
///
/// Calls are of three kinds. `handle_*`, `refuse_call` and `hang_up_all` put something in. `poll_output` takes out what is
/// to be done because of it. `poll_timeout` says when `handle_timeout` is due.
///
/// **After every call that puts something in, `poll_output` is called until it gives `None`.**
#[derive(Debug)]
pub struct Conferences {
    settings: Settings,
}

impl Conferences {
    /// Makes a focus without conferences.
    pub fn new(settings: Settings) -> Self {
        Self { settings }
    }

    // Signatures to come with weir_signal:
    //   handle_call(&mut self, sender: Sender<'_>, message: weir_signal::call::Message, now)
    //   refuse_call(&mut self, sender: Sender<'_>, message: &weir_signal::call::Message, reason: Refusal, now)

    /// Takes what happened on a transport. About a transport that is gone it does nothing.
    pub fn handle_transport(&mut self, _id: TransportId, _input: TransportInput, _now: Instant) {}

    /// Takes that a user (or one device of it) is no longer a member of the conference: its legs are hung up.
    pub fn handle_member_gone(&mut self, _conf_id: &str, _user_id: &str, _device_id: Option<&str>, _now: Instant) {}

    /// Does what is due. Early or late calls do no harm.
    pub fn handle_timeout(&mut self, _now: Instant) {}

    /// When `handle_timeout` is due next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        None
    }

    /// Hangs up every call and refuses new ones with [`Refusal::Draining`].
    pub fn hang_up_all(&mut self, _reason: HangupReason, _now: Instant) {}

    /// The calls that are up, so that the next process can hang up those that this one leaves behind.
    pub fn live_calls(&self) -> Vec<LiveCall> {
        let _ = &self.settings;
        Vec::new()
    }
}

/// What is needed to hang up a call from another process.
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
