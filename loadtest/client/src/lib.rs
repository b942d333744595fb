//! A synthetic participant of a Matrix call: it joins as a client does, publishes a known picture in three simulcast layers
//! and a known sound, subscribes to everyone else, and checks every packet and every picture that it gets.
//!
//! It is an independent implementation: nothing below it is shared with the focus, so that a mistake of the focus
//! cannot hide in the same mistake made on the other side.
//!
//! ```text
//! participant ─┬─ matrix    login, rooms, to-device messages (Client-Server API over HTTP)
//!              ├─ call      one call from invite to end; sdp and channel are its words
//!              ├─ peer      ICE (full), DTLS (client), SRTP, SCTP over one tokio socket set
//!              ├─ publish   clips ► vp8 payloader ► RTP, NACK and PLI answers, sender reports
//!              └─ receive   RTP ► checks ► frames ► pictures (decode, pattern: the frame number) ► report
//! ```
//! Every module can be used alone: a test that wants to send something hostile takes [`matrix`] and [`peer`] and leaves the rest.

mod call;
pub mod catalogue;
pub mod channel;
pub mod checks;
pub mod clips;
mod clock;
pub mod decode;
pub mod frames;
pub mod health;
pub mod histogram;
mod link;
pub mod matrix;
mod net;
pub mod participant;
pub mod pattern;
pub mod peer;
pub mod pictures;
pub mod publish;
pub mod receive;
pub mod report;
pub mod schedule;
pub mod sdp;
mod twcc;
pub mod vp8;

pub use clips::Clips;
pub use health::{GeneratorHealth, generator_health};
pub use histogram::Histogram;
pub use link::Up;
pub use participant::{
    Camera, Checks, Decode, DecodedFrames, Detour, FocusAddress, JoinConfig, JoinError, LayerRate,
    Participant, Publish, SAMPLE_ONE_IN, Size, Tamper, TransportFeedback,
};
pub use report::{
    AudioReport, CheckedHow, DelayBy, Kind, Latencies, Report, RtxReport, SampleReport, SentReport,
    StreamReport, TransportReport, VideoReport, Violation, ViolationCount,
};
/// What [`peer::Link`] sends, for tests that make their own packets.
pub use {rtcp, rtp};

/// Random letters and digits, for ids that only have to differ.
pub fn random_id(length: usize) -> String {
    use rand::Rng as _;
    rand::rng()
        .sample_iter(rand::distr::Alphanumeric)
        .take(length)
        .map(char::from)
        .collect()
}
