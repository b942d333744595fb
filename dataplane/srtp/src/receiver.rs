//! The incoming direction of a transport: authenticates, decrypts, refuses replays.

use weir_wire::ExtSeq;

use crate::{Error, MasterKey, Profile};

/// What is known of an RTP packet once it is authentic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unprotected {
    /// Bytes of the plain packet, at the start of the buffer.
    pub len: usize,
    /// The packet's sequence number with its roll-over counter.
    pub index: ExtSeq,
}

/// Unprotects what one transport receives, for a bounded number of SSRCs.
pub struct Receiver {
    profile: Profile,
}

impl Receiver {
    /// Derives the session keys; at most `sources_max` SSRCs are told apart, in RTP and in RTCP each.
    pub fn new(key: &MasterKey, _sources_max: usize) -> Self {
        Self { profile: key.profile() }
    }

    /// The profile in use.
    pub fn profile(&self) -> Profile {
        self.profile
    }

    /// Authenticates and decrypts an SRTP packet in place.
    ///
    /// On an error the buffer's contents are unspecified, and nothing else has changed.
    pub fn unprotect_rtp(&mut self, _packet: &mut [u8]) -> Result<Unprotected, Error> {
        todo!()
    }

    /// Authenticates and decrypts an SRTCP packet in place, and says how many bytes the plain compound packet has.
    ///
    /// On an error the buffer's contents are unspecified, and nothing else has changed.
    pub fn unprotect_rtcp(&mut self, _packet: &mut [u8]) -> Result<usize, Error> {
        todo!()
    }

    /// Forgets an SSRC, so that another can take its place. Only for sources that are gone for good: its old packets can be
    /// replayed from then on.
    pub fn forget(&mut self, _ssrc: u32) {}
}

impl std::fmt::Debug for Receiver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Receiver").field("profile", &self.profile).finish_non_exhaustive()
    }
}
