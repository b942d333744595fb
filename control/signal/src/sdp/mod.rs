//! SDP: a typed model for reading ([`Description`]) and the focus's end of one peer connection ([`Session`]).
//!
//! ```text
//! text ─► crate sdp (lines) ─► attribute (values) ─► description (model) ─► session (state) ─► write ─► text
//!                                                       codec, extension, candidate
//! ```
//! RFC 8866 (SDP), RFC 9429 (JSEP), RFC 8843 (BUNDLE), RFC 8853 and 8851 (simulcast, rid), RFC 8839 (ICE), RFC 8842 (DTLS),
//! RFC 8841 (SCTP), RFC 8285 (extmap), RFC 8830 (msid).

mod agreed;
pub mod candidate;
pub mod codec;
pub mod description;
pub mod error;
pub mod extension;
mod line;
mod parse;
pub mod session;
pub mod terms;
mod write;

pub use candidate::Candidate;
pub use codec::{Codec, CodecMapping};
pub use description::{
    CodecDescription, Description, Direction, ExtMap, Fingerprint, IceCredentials, Msid, Receives,
    Rid, Section, SectionKind, SendOrReceive, Sends, Setup, SimulcastLayer, SsrcGroup,
};
pub use error::SdpError;
pub use extension::ExtensionIds;
pub use session::Session;
pub use terms::{LocalParameters, Offered, Published, PublishedRid, Remote, SendTrack, Sending};

pub use crate::metadata::MediaKind;
