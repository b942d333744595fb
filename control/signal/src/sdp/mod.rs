//! SDP: a typed model for reading ([`Description`]) and the focus's end of one peer connection ([`Session`]).
//!
//! ```text
//! text ─► crate sdp (lines) ─► attribute (values) ─► description (model) ─► session (state) ─► write ─► text
//!                                                       codec, extension, candidate
//! ```
//! RFC 8866 (SDP), RFC 9429 (JSEP), RFC 8843 (BUNDLE), RFC 8853 and 8851 (simulcast, rid), RFC 8839 (ICE), RFC 8842 (DTLS),
//! RFC 8841 (SCTP), RFC 8285 (extmap), RFC 8830 (msid).

pub mod candidate;
pub mod codec;
pub mod description;
pub mod extension;
pub mod session;

pub use candidate::Candidate;
pub use codec::{Codec, CodecMapping};
pub use description::{
    CodecDescription, Description, Direction, ExtMap, Fingerprint, IceCredentials, Msid, Rid, Section, SectionKind, SendOrReceive, Setup,
    SimulcastLayer, SsrcGroup,
};
pub use extension::ExtensionIds;
pub use session::{LocalParameters, Offered, Published, PublishedRid, Remote, SdpError, SendTrack, Sending, Session};

pub use crate::metadata::MediaKind;
