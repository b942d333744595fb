//! An embedded homeserver: the part of the Client-Server API that calls need, in memory.
//!
//! For the demo and for load tests, never for a deployment: anyone may register, nothing is stored, there is no
//! federation, no authorisation of state events beyond membership, and no history. It serves matrix-sdk and browsers.
//!
//! | file | what it is |
//! |---|---|

mod server;

pub use server::{Config, Focus, Homeserver, StartError};
