//! What the focus is told by its homeserver.

use std::time::Instant;

use serde_json::Value;

/// How a to-device message travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protection {
    /// As the homeservers see it. The sender's *user* is what its homeserver vouches for; its device is a claim.
    Plain,
    /// Encrypted from device to device with Olm.
    Olm,
}

/// Something that came from the homeserver.
#[derive(Clone, Debug, PartialEq)]
pub enum Incoming {
    /// A to-device message to this device.
    ToDevice {
        /// User that sent it, as authenticated by the homeservers (and by Olm, if encrypted).
        sender: String,
        /// Event type; of the inner event if it was encrypted.
        event_type: String,
        /// Content; of the inner event if it was encrypted.
        content: Value,
        /// How it travelled. An answer should travel in the same way.
        protection: Protection,
        /// Device that sent it; known only for [`Protection::Olm`].
        sender_device: Option<String>,
        /// When the response of the homeserver that it was in had arrived and been decrypted. Matrix does not tell when it was
        /// sent.
        arrived: Instant,
    },
    /// A state event `m.call` or `m.call.member` (or its unstable name) of a joined room: at the start, then each change.
    CallState {
        /// Room it is in.
        room_id: String,
        /// Event type as it was in the room, stable or unstable.
        event_type: String,
        /// State key.
        state_key: String,
        /// User that set it.
        sender: String,
        /// Content; an empty object if it was redacted.
        content: Value,
    },
    /// Whether a user is joined to a room that the focus is in, or was in: at the start, then each change.
    ///
    /// When the focus itself left, this is said of the focus's own user, and no more comes about the room.
    Membership {
        /// The room.
        room_id: String,
        /// The user whose membership it is.
        user_id: String,
        /// `true` for `join`; `false` for everything else (`invite`, `leave`, `ban`, `knock`).
        joined: bool,
    },
    /// The homeserver answers; said after the first sync (after its contents) and after each outage.
    SyncUp,
    /// The homeserver does not answer. The device keeps trying; nothing is lost.
    SyncDown {
        /// What it answered instead, for the log.
        error: String,
    },
}
