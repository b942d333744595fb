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
//! | `device` | what the focus holds to send, and how it comes to be |
//! | `error` | what can go wrong, by whose fault |
//! | `incoming` | what the focus is told |
//! | `appservice` | rooms from what a homeserver pushes to an application service |
//! | `server` | the homeserver by plain requests |
//! | `session` | login, and the same device again after a restart |
//! | `sync` | the loop and its back-off |
//! | `rooms` | room events to what the focus is told; the filter |
//! | `invitations` | joining rooms |
//! | `outbox` | sending, in order per device, over outages |
#![recursion_limit = "256"]

mod appservice;
mod backoff;
mod config;
mod device;
mod error;
mod incoming;
mod invitations;
mod outbox;
mod rooms;
mod server;
mod session;
mod short;
mod sync;

pub use appservice::{AppserviceLink, RoomCount, Transaction, TransactionError};
pub use config::{Appservice, Config, InvitePolicy, Login, Secret};
pub use device::{Device, connect};
pub use error::{ConnectError, SendError};
pub use incoming::{Incoming, Protection};
