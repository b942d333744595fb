//! Who may use the focus, and who no longer may.
//!
//! Pure: fed with what the homeserver says about rooms, asked for each invite. Does not hang up anybody itself.

use std::time::Duration;

use serde_json::Value;

/// Which invites are accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Policy {
    /// From users who are joined to the room whose `m.call` has the conference's id, as the focus sees it.
    Membership,
    /// From all users of these homeservers (server names, as after the colon of a user id).
    Homeservers(Vec<String>),
    /// From everybody.
    Open,
}

/// Somebody whose legs in a conference must go.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Gone {
    /// The conference.
    pub conf_id: String,
    /// The user.
    pub user_id: String,
    /// One device of it; `None` is all.
    pub device_id: Option<String>,
}

/// The rooms of the focus, their calls and their members. Times are since 1970-01-01 UTC, because `expires_ts` is.
#[derive(Debug)]
pub struct Authoriser {
    policy: Policy,
}

impl Authoriser {
    /// Knows no room yet. `own_user_id` is the focus's: when it leaves a room, everything about the room is forgotten.
    pub fn new(policy: Policy, _own_user_id: &str) -> Self {
        Self { policy }
    }

    /// A user is joined to a room.
    pub fn handle_joined(&mut self, _room_id: &str, _user_id: &str) {}

    /// A user is not joined to a room, whatever else it is.
    pub fn handle_left(&mut self, _room_id: &str, _user_id: &str) {}

    /// A state event of a call, under its stable or unstable type.
    pub fn handle_call_state(
        &mut self,
        _room_id: &str,
        _event_type: &str,
        _state_key: &str,
        _sender: &str,
        _content: &Value,
        _now: Duration,
    ) {
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, _now: Duration) {}

    /// When `handle_timeout` is due next.
    pub fn poll_timeout(&self) -> Option<Duration> {
        None
    }

    /// The next member that is gone.
    pub fn poll_gone(&mut self) -> Option<Gone> {
        None
    }

    /// Whether `user_id` may join the conference now.
    pub fn may(&self, _user_id: &str, _conf_id: &str) -> bool {
        self.policy == Policy::Open
    }
}
