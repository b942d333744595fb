//! Media encryption between participants (MSC3898, "Encryption"): SFrame (RFC 9605) over whole encoded frames, with a key of its
//! own for every frame. No I/O and no clock; what is random comes from a generator that is handed in.
//!
//! ```text
//! set_members ─► Sender ── poll_share ─► m.room_key, over Olm, one for each device ─► Receiver
//!                  │ ▲─────────────────── what the Receiver answers ◄───────────────────┘ │
//!               encrypt ─► clear bytes, header, ciphertext, tag ─► (focus) ─────────► decrypt
//! ```
//! * A *session* is a megolm session: a ratchet that goes forward by one for every frame, whatever stream the frame belongs
//!   to. KID is the session's number at its sender, CTR the index of the ratchet, and the ratchet at this index is the frame's
//!   base key (RFC 9605 §4.4.2). So a nonce never comes twice under one key, and who gets the ratchet at an index cannot go back.
//! * A [`Sender`] tells newcomers the ratchet as it stands. When somebody leaves, it makes a new session, and uses it once
//!   everybody who is left has confirmed it, or [`SWITCH_WITHIN`] after the departure.
//! * A [`Receiver`] keeps the keys of the frames that it skipped, each until it was used, [`LATE_MAX`] frames back: so late
//!   frames decrypt, a frame decrypts once, and what is past stays past. Keys of who has left open what it sent before.
//! * The first bytes of a frame may stay readable ([`Clear`]): they are what a focus needs to forward it. They are authenticated.
//!
//! Who is in a conference, and that a key comes from whom it says, is the caller's to know: see `docs/encryption.md`.

mod cipher;
mod header;
mod inbound;
mod ratchet;
mod receiver;
mod room_key;
mod sender;

pub use cipher::Suite;
pub use header::{Header, HeaderError};
pub use inbound::{LATE_MAX, Refused};
pub use receiver::{KeyRefused, Receiver, ReceiverCounters, SENDERS_MAX, SESSIONS_MAX};
pub use room_key::{Conference, ParticipantId, RoomKey, RoomKeyReceived};
pub use sender::{EncryptError, REPEAT_AFTER, SWITCH_WITHIN, Sender, SenderCounters, Share};

/// How much of a frame stays readable in front of the SFrame header.
///
/// It is the metadata of RFC 9605 §4.4.3: not encrypted, but authenticated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clear {
    /// Nothing: sound.
    Nothing,
    /// The first byte, of frames that have one: in VP8 it says whether the frame is a keyframe (RFC 6386 §9.1).
    FirstByte,
}

impl Clear {
    /// Divides a frame, if it is long enough.
    pub(crate) fn split(self, frame: &[u8]) -> Option<(&[u8], &[u8])> {
        let count = match self {
            Clear::Nothing => 0,
            Clear::FirstByte => 1,
        };
        frame.split_at_checked(count)
    }
}
