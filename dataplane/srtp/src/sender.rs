//! The outgoing direction of a transport: seals packets of all its sources.

use weir_wire::rtp::FIXED_HEADER_BYTES;
use weir_wire::{ExtSeq, Seq};

use crate::cipher::{Cipher, ENCRYPTED, Engine, Half, RTCP_CLEAR_BYTES};
use crate::{Error, MasterKey, Profile};

/// The first RTP index that 32 bits of roll-over counter cannot hold.
const RTP_INDEX_END: u64 = 1 << 48;

/// Protects what one transport sends, for all SSRCs.
///
/// It keeps no state per SSRC: the roll-over counter comes in with every packet, as part of the extended sequence number. The
/// caller never uses one `(ssrc, index)` for two different packets; a resend is the same packet, or goes out on another SSRC.
pub struct Sender {
    profile: Profile,
    rtp: Cipher,
    rtcp: Cipher,
    /// One count for all sources: it may have gaps within each, and repeats in none.
    next_rtcp_index: u32,
}

impl Sender {
    /// Derives the session keys.
    pub fn new(key: &MasterKey) -> Self {
        Self::with(key, Engine::Fastest)
    }

    /// The same without SIMD kernels: what they are compared with, in tests and in time.
    pub fn portable(key: &MasterKey) -> Self {
        Self::with(key, Engine::Portable)
    }

    fn with(key: &MasterKey, engine: Engine) -> Self {
        Self {
            profile: key.profile(),
            rtp: Cipher::new(key, Half::Rtp, engine),
            rtcp: Cipher::new(key, Half::Rtcp, engine),
            next_rtcp_index: 0,
        }
    }

    /// The profile in use.
    pub fn profile(&self) -> Profile {
        self.profile
    }

    /// Writes `header`, the encrypted `payload` and the tag to `out`, and says how many bytes that is.
    ///
    /// `header` is the whole RTP header with CSRCs and extensions, `payload` ends with the padding if there is any. `index` is the
    /// packet's extended sequence number; its low 16 bits are those in the header, or the answer is [`Error::BadHeader`].
    pub fn protect_rtp(
        &mut self,
        header: &[u8],
        payload: &[u8],
        index: ExtSeq,
        out: &mut [u8],
    ) -> Result<usize, Error> {
        let &[_, _, seq_high, seq_low, _, _, _, _, a, b, c, d, ..] = header else {
            return Err(Error::BadHeader);
        };
        if Seq(u16::from_be_bytes([seq_high, seq_low])) != index.seq() {
            return Err(Error::BadHeader);
        }
        if index.0 >= RTP_INDEX_END {
            return Err(Error::KeyExhausted);
        }
        debug_assert!(
            header.len() >= FIXED_HEADER_BYTES,
            "the pattern above is a header's fixed part"
        );
        let len = header.len() + payload.len() + self.profile.rtp_overhead();
        let out = out.get_mut(..len).ok_or(Error::NoRoom)?;
        self.rtp.seal_rtp(
            u32::from_be_bytes([a, b, c, d]),
            index,
            header,
            payload,
            out,
        );
        Ok(len)
    }

    /// Writes the protected form of a compound RTCP packet to `out`, and says how many bytes that is.
    pub fn protect_rtcp(&mut self, packet: &[u8], out: &mut [u8]) -> Result<usize, Error> {
        let ssrc = rtcp_ssrc(packet)?;
        let len = packet.len() + self.profile.rtcp_overhead();
        let out = out.get_mut(..len).ok_or(Error::NoRoom)?;
        let index = self.next_rtcp_index;
        if index >= ENCRYPTED {
            return Err(Error::KeyExhausted);
        }
        self.next_rtcp_index += 1;
        self.rtcp.seal_rtcp(ssrc, index, packet, out);
        Ok(len)
    }
}

/// The sender's SSRC of a compound RTCP packet, protected or not.
pub(crate) fn rtcp_ssrc(packet: &[u8]) -> Result<u32, Error> {
    match packet {
        &[first, _, _, _, a, b, c, d, ..] if first >> 6 == 2 => {
            Ok(u32::from_be_bytes([a, b, c, d]))
        }
        _ if packet.len() < RTCP_CLEAR_BYTES => Err(Error::TooShort),
        _ => Err(Error::BadHeader),
    }
}

impl std::fmt::Debug for Sender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sender")
            .field("profile", &self.profile)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sender() -> Sender {
        Sender::new(&MasterKey::new(Profile::AeadAes128Gcm, &[1; 16], &[2; 12]).unwrap())
    }

    const HEADER: [u8; 12] = [0x80, 96, 0x12, 0x34, 0, 0, 0, 0, 0, 0, 0, 1];

    #[test]
    fn refuses_an_index_that_is_not_the_headers() {
        let mut out = [0; 100];
        let wrong = ExtSeq::new(0, Seq(0x1235));
        assert_eq!(
            sender().protect_rtp(&HEADER, &[], wrong, &mut out),
            Err(Error::BadHeader)
        );
        assert_eq!(
            sender().protect_rtp(&HEADER[..11], &[], wrong, &mut out),
            Err(Error::BadHeader)
        );
    }

    #[test]
    fn stops_when_the_roll_over_counter_is_used_up() {
        let mut out = [0; 100];
        let last = ExtSeq::new(u32::MAX, Seq(0x1234));
        assert_eq!(sender().protect_rtp(&HEADER, &[], last, &mut out), Ok(28));
        assert_eq!(
            sender().protect_rtp(&HEADER, &[], last.add(1 << 16), &mut out),
            Err(Error::KeyExhausted)
        );
    }

    #[test]
    fn stops_when_the_rtcp_index_is_used_up() {
        let mut sender = sender();
        let mut out = [0; 100];
        sender.next_rtcp_index = (1 << 31) - 1;
        let report = [0x80, 201, 0, 1, 0, 0, 0, 1];
        assert_eq!(sender.protect_rtcp(&report, &mut out), Ok(28));
        assert_eq!(
            sender.protect_rtcp(&report, &mut out),
            Err(Error::KeyExhausted)
        );
    }

    #[test]
    fn says_when_the_output_is_too_small() {
        let index = ExtSeq::new(0, Seq(0x1234));
        assert_eq!(
            sender().protect_rtp(&HEADER, &[0; 10], index, &mut [0; 37]),
            Err(Error::NoRoom)
        );
        assert_eq!(
            sender().protect_rtp(&HEADER, &[0; 10], index, &mut [0; 38]),
            Ok(38)
        );
        assert_eq!(
            sender().protect_rtcp(&[0x80, 201, 0, 1, 0, 0, 0, 1], &mut [0; 27]),
            Err(Error::NoRoom)
        );
    }
}
