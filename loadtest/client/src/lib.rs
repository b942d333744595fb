//! A synthetic participant of a Matrix call: it joins as a client does, publishes a known picture in three simulcast layers
//! and a known sound, subscribes to everyone else, and checks every packet and every picture that it gets.
//!
//! It is an independent implementation: nothing below it is shared with the focus except the words of the signalling
//! (`weir-signal`'s metadata and data channel messages), so that a mistake of the focus cannot hide in a mistake made twice.
//!
//! ```text
//! participant ─┬─ matrix    login, rooms, to-device messages (Client-Server API over HTTP)
//!              ├─ sdp       the participant's own offers and answers
//!              ├─ peer      ICE (full), DTLS (client), SRTP, SCTP over one tokio socket set
//!              ├─ publish   clips ► vp8 payloader ► RTP, NACK and PLI answers, sender reports
//!              └─ receive   RTP ► checks ► frames ► vp8 decoder ► pattern (frame number) ► report
//! ```
//! Every module can be used alone: a test that wants to send something hostile takes [`matrix`] and [`peer`] and leaves the rest.

pub mod participant;
pub mod report;

pub use participant::{FocusAddress, JoinConfig, JoinError, Participant, Publish, Size};
pub use report::{AudioReport, Kind, Report, StreamReport, VideoReport, Violation};
