//! The participant as a whole: from a Matrix login to a leave. What the parts do is in their modules; this one owns their
//! order and the task that runs them.

use std::sync::Arc;

use crate::report::{Kind, Report};

/// A picture size in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Size {
    /// Pixels.
    pub width: u16,
    /// Pixels.
    pub height: u16,
}

/// The Matrix device that is the focus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FocusAddress {
    /// Its Matrix user id.
    pub user_id: String,
    /// Its Matrix device id.
    pub device_id: String,
}

/// What a participant publishes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Publish {
    /// The clip in three simulcast layers.
    pub video: bool,
    /// The clip's sound.
    pub audio: bool,
}

/// All that is needed to join a call.
#[derive(Debug, Clone)]
pub struct JoinConfig {
    /// Base address of the homeserver's Client-Server API, e.g. `http://127.0.0.1:8008`.
    pub homeserver: String,
    /// The user's local part; registered if it does not exist and the homeserver lets anyone register.
    pub user: String,
    /// Its password.
    pub password: String,
    /// The room of the call; joined if it is public or the user is invited.
    pub room_id: String,
    /// The call's id: the state key of its `m.call` event.
    pub conf_id: String,
    /// Whom to call.
    pub focus: FocusAddress,
    /// What to send.
    pub publish: Publish,
    /// The size asked for of every video; `None` subscribes to no video.
    pub wanted: Option<Size>,
}

/// Why a participant could not join.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// The homeserver refused or could not be reached.
    #[error("homeserver: {0}")]
    Homeserver(String),
    /// The focus refused the call.
    #[error("the focus refused the call: {0}")]
    Refused(String),
    /// The transport could not be built.
    #[error("transport: {0}")]
    Transport(String),
}

/// One user's device in one call, running on its own tasks until it leaves or is dropped.
#[derive(Debug, Clone)]
pub struct Participant {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {}

impl Participant {
    /// Logs in, joins the room, publishes the member event and calls the focus; returns once the invite is sent.
    ///
    /// The answer, the media and any later re-invite are handled by the participant's own task.
    pub async fn join(config: JoinConfig) -> Result<Participant, JoinError> {
        let _ = config;
        todo!()
    }

    /// A snapshot of everything counted so far.
    pub fn report(&self) -> Report {
        let _ = &self.shared;
        todo!()
    }

    /// Changes the size that is asked for of every video; `None` unsubscribes from all video.
    pub fn set_wanted(&self, wanted: Option<Size>) {
        let _ = wanted;
        todo!()
    }

    /// Changes the size that is asked for of one user's videos, whatever [`set_wanted`](Self::set_wanted) says.
    pub fn set_wanted_of(&self, user_id: &str, wanted: Option<Size>) {
        let _ = (user_id, wanted);
        todo!()
    }

    /// Stops or restarts sending and tells the focus.
    pub fn set_muted(&self, kind: Kind, muted: bool) {
        let _ = (kind, muted);
        todo!()
    }

    /// Hangs up, takes the device out of the member event and stops.
    pub async fn leave(self) {
        todo!()
    }
}
