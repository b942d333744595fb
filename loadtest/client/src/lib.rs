//! A synthetic participant of a Matrix call: it joins as a client does, publishes a known picture in three simulcast layers
//! and a known sound, subscribes to everyone else, and checks every packet and every picture that it gets.
//!
//! It is an independent implementation: nothing below it is shared with the focus, so that a mistake of the focus
//! cannot hide in the same mistake made on the other side.
//!
//! ```text
//! participant ─┬─ matrix    login, rooms, to-device messages (Client-Server API over HTTP)
//!              ├─ choose    which focus; pure. measure: how near foci are
//!              ├─ call      one call from invite to end; signalling, sdp and channel are its words, alive its signs of life
//!   attendance ┼─ media     what is sent when and what is counted, on a transport that is up
//!              ├─ net       one socket each, received from by few threads; a filter for who only counts
//!              ├─ peer      ICE (full), DTLS, SRTP, SCTP; link is what is up
//!              ├─ publish   clips ► vp8 payloader ► RTP, NACK and PLI answers, sender reports; schedule: when what is due
//!              ├─ receive   RTP ► checks ► frames ► catalogue, pictures (the frame number) ► report
//!              └─ encryption  if asked for: whole frames, with keys that participants exchange over Olm
//! ```
//! * [`Checks::Full`] looks at every packet and every frame, and decodes as much as is asked for. [`Checks::Light`] does all of the
//!   signalling, ICE, DTLS, pings and receiver reports, but has media dropped and counted by the kernel, so that thousands fit.
//! * [`GeneratorHealth`] says whether the generator kept up: late sends, late timers, full sockets and queues. Without it no figure says
//!   anything of a focus.
//! * [`peer`], [`publish`], [`receive`] and [`sdp`] know nothing of Matrix, and take what other servers offer: full ICE, other payload types
//!   and extension ids, streams named by `a=ssrc` or by mid, no data channel. Whoever has a remote description, and can carry the own one
//!   there, can publish and validate: [`attendance`] runs the same media as a participant's. Names for [`receive::Owner`] are then
//!   whatever the publisher was announced as.
//!
//! Every module can be used alone: a test that wants to send something hostile takes [`matrix`] and [`peer`] and leaves the rest.

mod alive;
pub mod attendance;
mod call;
pub mod catalogue;
pub mod channel;
pub mod checks;
pub mod choose;
pub mod clips;
mod clock;
pub mod decode;
pub mod encryption;
pub mod frames;
pub mod health;
pub mod histogram;
mod link;
pub mod matrix;
pub mod measure;
mod media;
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
mod signalling;
mod twcc;
pub mod vp8;

pub use channel::Dialect;
pub use clips::Clips;
pub use clock::unix_ms;
pub use health::{GeneratorHealth, generator_health};
pub use histogram::Histogram;
pub use link::Up;
pub use participant::{
    Camera, Checks, Choosing, Decode, DecodedFrames, Detour, Encryption, FocusAddress, JoinConfig,
    JoinError, LayerRate, Participant, Publish, SAMPLE_ONE_IN, Size, Tamper, TransportFeedback,
};
pub use report::{
    AudioReport, CheckedHow, DelayBy, EncryptionReport, Kind, Latencies, Report, RtxReport,
    SampleReport, SentReport, StreamReport, TransportReport, UndecryptedReport, VideoReport,
    Violation, ViolationCount,
};
/// What [`EncryptionReport`] is made of.
pub use weir_sframe::{ReceiverCounters, SenderCounters};
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
