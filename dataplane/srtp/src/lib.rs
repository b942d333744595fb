//! SRTP and SRTCP (RFC 3711, RFC 7714): key derivation, replay protection and sealing.
//!
//! A transport has one [`Sender`] and one [`Receiver`], made from the keys that DTLS exported. The sender seals from one
//! buffer into another (the only pass over the bytes); the receiver authenticates and decrypts in place, and keeps nothing for a
//! packet that does not authenticate. Nothing here allocates per packet, reads a clock or makes a random number.

mod cipher;
mod derive;
mod error;
mod kernel;
mod key;
mod profile;
mod receiver;
mod replay;
mod sender;

pub use error::{Error, KeyError};
pub use key::MasterKey;
pub use profile::Profile;
pub use receiver::{Receiver, Unprotected};
pub use sender::Sender;
