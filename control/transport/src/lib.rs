//! The slow path of a transport: DTLS, SCTP and data channels, without I/O.
//!
//! One [`Association`] stands for one peer. It takes the DTLS datagrams that the shard hands to control, and gives
//! datagrams to send, SRTP keys, channel messages and its next deadline:
//!
//! ```text
//!   datagrams ⇄ dtls (dimpl) ⇄ sctp (sctp-proto) ⇄ dcep (RFC 8832) ⇄ events, send_text
//!                 └─► Keys
//! ```
//!
//! It is not ICE and not SRTP: which address the datagrams go to, and what is done with the keys, is the shard's.

mod association;
mod certificate;
mod dcep;
mod dtls;
mod sctp;

pub use association::{Association, Event, Failure, Role, SendError};
pub use certificate::{
    Certificate, CertificateError, Fingerprint, FingerprintError, HashAlgorithm,
};
pub use dtls::Keys;
pub use sctp::{CHANNELS_MAX, LABEL_BYTES_MAX, MESSAGE_BYTES_MAX, SEND_QUEUE_BYTES_MAX};
