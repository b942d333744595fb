//! The focus's Matrix device: login, sync, to-device messages and room state.
//!
//! This crate knows Matrix and nothing of calls: it hands over every to-device message and the call state of every
//! joined room as JSON, and sends what it is given. matrix-sdk lives here alone, and none of its types leave.
//!
//! [`connect`] gives a [`Device`] to send with and the receiver of everything that comes in. A task behind them syncs
//! until the [`Device`] is shut down or the receiver is dropped.
//!
//! | file | what it is |
//! |---|---|
//! | `config` | what an operator says: homeserver, account, store |
//! | `error` | what can go wrong, by whose fault |
//! | `incoming` | what the focus is told |
//! | `session` | login, and the same device again after a restart |
//! | `sync` | the loop, its back-off and the filter |
//! | `rooms` | a sync response to call state and membership; invitations |
//! | `outbox` | sending, in order per device, over outages |
#![recursion_limit = "256"]

mod config;
mod device;
mod error;
mod incoming;

pub use config::{Config, InvitePolicy, Login, Secret};
pub use device::{Device, connect};
pub use error::{ConnectError, SendError};
pub use incoming::{Incoming, Protection};
