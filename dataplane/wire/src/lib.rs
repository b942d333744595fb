//! Said in bits: RTP, RTCP, STUN, header extensions, and what payload descriptors and keyframes say about layers and sizes.
//!
//! Every format has the same parts: a `parse` that checks all lengths once and never panics, a view or a plain struct with the
//! meaning, an `emit` into a buffer of the caller, and an error enum that says which check failed. Nothing here allocates, keeps
//! state between packets, or believes a length that it has not checked.

pub mod av1;
pub mod demux;
pub mod dependency;
pub mod extension;
pub mod h264;
pub mod rtcp;
pub mod rtp;
pub mod seq;
pub mod stun;
pub mod vp8;
pub mod vp9;

mod bits;
mod cursor;

pub use cursor::NoRoom;
pub use demux::Kind;
pub use seq::{ExtRtpTime, ExtSeq, RtpTime, Seq, SeqUnwrapper, TimeUnwrapper};
