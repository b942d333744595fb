//! The incoming direction of a transport: authenticates, decrypts, refuses replays.

use weir_wire::rtp::{self, Header};
use weir_wire::{ExtSeq, Seq};

use crate::cipher::{Cipher, ENCRYPTED, Engine, Half};
use crate::replay::Sources;
use crate::sender::rtcp_ssrc;
use crate::{Error, MasterKey, Profile};

/// 64-packet words of the RTP replay window: 1024 packets are a second of video at 10 Mbit/s, so that an answer to a NACK on
/// the same SSRC is still accepted. More cost 8 bytes a word and source; fewer lose late packets.
const RTP_WINDOW_WORDS: usize = 16;
/// 64-packet words of the RTCP replay window: 128 packets are seconds even of dense feedback.
const RTCP_WINDOW_WORDS: usize = 2;

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
    rtp: Cipher,
    rtcp: Cipher,
    rtp_sources: Sources<RTP_WINDOW_WORDS>,
    rtcp_sources: Sources<RTCP_WINDOW_WORDS>,
}

impl Receiver {
    /// Derives the session keys; at most `sources_max` SSRCs are told apart, in RTP and in RTCP each. Their memory is taken now:
    /// about 170 bytes for each.
    pub fn new(key: &MasterKey, sources_max: usize) -> Self {
        Self::with(key, sources_max, Engine::Fastest)
    }

    /// The same without SIMD kernels: what they are compared with, in tests and in time.
    pub fn portable(key: &MasterKey, sources_max: usize) -> Self {
        Self::with(key, sources_max, Engine::Portable)
    }

    fn with(key: &MasterKey, sources_max: usize, engine: Engine) -> Self {
        Self {
            profile: key.profile(),
            rtp: Cipher::new(key, Half::Rtp, engine),
            rtcp: Cipher::new(key, Half::Rtcp, engine),
            rtp_sources: Sources::new(sources_max),
            rtcp_sources: Sources::new(sources_max),
        }
    }

    /// The profile in use.
    pub fn profile(&self) -> Profile {
        self.profile
    }

    /// Authenticates and decrypts an SRTP packet in place.
    ///
    /// On an error the buffer's contents are unspecified, and nothing else has changed.
    pub fn unprotect_rtp(&mut self, packet: &mut [u8]) -> Result<Unprotected, Error> {
        let len = packet
            .len()
            .checked_sub(self.profile.rtp_overhead())
            .ok_or(Error::TooShort)?;
        let header = Header::parse(&packet[..len]).map_err(|error| match error {
            rtp::Error::TooShort => Error::TooShort,
            _ => Error::BadHeader,
        })?;
        let source = self.rtp_sources.get(header.ssrc);
        let index = match source {
            Some(window) => nearest(ExtSeq(window.highest()), header.sequence_number)?,
            None => ExtSeq::new(0, header.sequence_number),
        };
        if let Some(window) = source {
            window.check(index.0)?;
        }
        self.rtp.open_rtp(header.ssrc, index, header.len, packet)?;
        self.rtp_sources.accept(header.ssrc, index.0)?;
        Ok(Unprotected { len, index })
    }

    /// Authenticates and decrypts an SRTCP packet in place, and says how many bytes the plain compound packet has.
    ///
    /// On an error the buffer's contents are unspecified, and nothing else has changed.
    pub fn unprotect_rtcp(&mut self, packet: &mut [u8]) -> Result<usize, Error> {
        let ssrc = rtcp_ssrc(packet)?;
        let trailer = self.rtcp.rtcp_trailer(packet).ok_or(Error::TooShort)?;
        if trailer & ENCRYPTED == 0 {
            return Err(Error::NotEncrypted);
        }
        let index = trailer & !ENCRYPTED;
        if let Some(window) = self.rtcp_sources.get(ssrc) {
            window.check(u64::from(index))?;
        }
        self.rtcp.open_rtcp(ssrc, index, packet)?;
        self.rtcp_sources.accept(ssrc, u64::from(index))?;
        Ok(packet.len() - self.profile.rtcp_overhead())
    }

    /// Lets more SSRCs be told apart, whose memory is taken now; fewer than before changes nothing.
    pub fn raise_sources(&mut self, sources_max: usize) {
        self.rtp_sources.raise(sources_max);
        self.rtcp_sources.raise(sources_max);
    }

    /// How many sources have a state: in RTP, and in RTCP.
    pub fn sources(&self) -> (usize, usize) {
        (self.rtp_sources.len(), self.rtcp_sources.len())
    }

    /// Forgets an SSRC, so that another can take its place. Only for sources that are gone for good: its old packets can be
    /// replayed from then on.
    pub fn forget(&mut self, ssrc: u32) {
        self.rtp_sources.forget(ssrc);
        self.rtcp_sources.forget(ssrc);
    }
}

/// The index that a packet has when its source last reached `highest` (RFC 3711 appendix A).
///
/// There is nothing before the first turn: there a number more than half a turn away is one further on, as libsrtp has it. After
/// the last turn a new key is needed.
fn nearest(highest: ExtSeq, seq: Seq) -> Result<ExtSeq, Error> {
    const HALF: u16 = 0x8000;
    let (roll_over, local) = (highest.roll_over(), highest.seq().0);
    let guess = if local < HALF {
        if seq.0.saturating_sub(local) > HALF {
            roll_over.saturating_sub(1)
        } else {
            roll_over
        }
    } else if local - HALF > seq.0 {
        roll_over.checked_add(1).ok_or(Error::KeyExhausted)?
    } else {
        roll_over
    };
    Ok(ExtSeq::new(guess, seq))
}

impl std::fmt::Debug for Receiver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Receiver")
            .field("profile", &self.profile)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guesses_the_roll_over_as_the_standard_does() {
        for (roll_over, highest, seq, expected) in [
            (5, 0, 0, Ok(5)),
            (5, 0, 32768, Ok(5)),
            (5, 0, 32769, Ok(4)),
            (5, 65535, 0, Ok(6)),
            (5, 65535, 32766, Ok(6)),
            (5, 65535, 32767, Ok(5)),
            (5, 32767, 65535, Ok(5)),
            (5, 32768, 0, Ok(5)),
            (5, 32769, 0, Ok(6)),
            (0, 0, 65535, Ok(0)),
            (u32::MAX, 65535, 0, Err(Error::KeyExhausted)),
        ] {
            let guess = nearest(ExtSeq::new(roll_over, Seq(highest)), Seq(seq));
            assert_eq!(
                guess.map(ExtSeq::roll_over),
                expected,
                "highest {highest}, seq {seq}"
            );
        }
    }
}
