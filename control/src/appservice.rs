//! The focus as an application service of its homeserver (Application Service API).
//!
//! Without it the focus knows the rooms that it is in. With it the homeserver pushes what happens in all rooms of its users, so that
//! nobody has to invite the focus. What becomes of the events is `weir_matrix`'s and `authorise`'s; here is what the operator
//! and the homeserver meet.
//!
//! | module | what it is |
//! |---|---|
//! | `tokens` | what the two know each other by |
//! | `registration` | the file that the homeserver is given |
//! | `endpoint` | where the homeserver pushes to |
//! | `ping` | whether it can |
//! | `counters` | what `/metrics` says of it |

pub(crate) mod counters;
pub(crate) mod endpoint;
pub(crate) mod ping;
mod registration;
mod tokens;

pub use registration::registration;
pub use tokens::{Tokens, TokensError};
