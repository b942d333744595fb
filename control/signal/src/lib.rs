//! Said in words: the data channel's messages, stream metadata, the contents of `m.call.*` to-device messages, and SDP.
//!
//! ```text
//!  to-device JSON ──► call::Message ─────┐
//!  data channel ────► channel::FromClient┼──► the conference ──► call::Message, channel::ToClient
//!  offers, answers ─► sdp::Session ──────┘                  ──► sdp::Session: answers, own offers
//! ```
//! Nothing here does I/O, reads a clock or draws a random number. Everything that is parsed may be hostile: a parser never panics,
//! every size is bounded (see [`limits`]), and an error says which check failed.
//!
//! Not here: who may do what (the conference decides that), and bits (crate `weir-wire`).

pub mod call;
pub mod channel;
pub mod limits;
pub mod metadata;
pub mod sdp;
