//! The outgoing direction of a transport: seals packets of all its sources.

use weir_wire::ExtSeq;

use crate::{Error, MasterKey, Profile};

/// Protects what one transport sends, for all SSRCs.
///
/// It keeps no state per SSRC: the roll-over counter comes in with every packet, as part of the extended sequence number. The
/// caller never uses one `(ssrc, index)` for two different packets; a resend is the same packet, or goes out on another SSRC.
pub struct Sender {
    profile: Profile,
}

impl Sender {
    /// Derives the session keys.
    pub fn new(key: &MasterKey) -> Self {
        Self { profile: key.profile() }
    }

    /// The profile in use.
    pub fn profile(&self) -> Profile {
        self.profile
    }

    /// Writes `header`, the encrypted `payload` and the tag to `out`, and says how many bytes that is.
    ///
    /// `header` is the whole RTP header with CSRCs and extensions, `payload` ends with the padding if there is any. `index` is the
    /// packet's extended sequence number; its low 16 bits are those in the header.
    pub fn protect_rtp(&mut self, _header: &[u8], _payload: &[u8], _index: ExtSeq, _out: &mut [u8]) -> Result<usize, Error> {
        todo!()
    }

    /// Writes the protected form of a compound RTCP packet to `out`, and says how many bytes that is.
    pub fn protect_rtcp(&mut self, _packet: &[u8], _out: &mut [u8]) -> Result<usize, Error> {
        todo!()
    }
}

impl std::fmt::Debug for Sender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sender").field("profile", &self.profile).finish_non_exhaustive()
    }
}
