//! An embedded homeserver: the part of the Client-Server API that calls need, in memory.
//!
//! For the demo and for load tests, never for a deployment: anyone may register, nothing is stored (passwords least of
//! all are safe), there is no federation, no power levels and no history to speak of. It serves matrix-sdk and
//! browsers, and hands a to-device message to a waiting sync at once.
//!
//! | file | what it is |
//! |---|---|
//! | `server` | the listener, which can go away and come back with its data |
//! | `http` | routes, CORS, who calls, bodies |
//! | `error` | Matrix error answers |
//! | `api` | one file per group of endpoints: JSON to calls of the state and back |
//! | `state` | users, devices, rooms, streams; no I/O, no waiting |
//! | `limits` | how much of everything there may be |

mod api;
mod error;
mod http;
mod limits;
mod server;
mod state;

pub use server::{Config, Focus, Homeserver, StartError};
