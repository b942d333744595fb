//! The transforms: what is encrypted, what is authenticated, and where the tag goes.
//!
//! ```text
//!                      RTP                            RTCP
//! AES-CM + HMAC-SHA1   header | payload* | tag        8 bytes | rest* | E, index | tag
//! AES-GCM              header | payload* | tag        8 bytes | rest* | tag | E, index        * encrypted
//! ```

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::cipher::{EncryptingKey, EncryptionContext};
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::{constant_time, hmac};
use weir_wire::ExtSeq;

use crate::derive::{Label, counter_mode, derive};
use crate::kernel::VaesGcm;
use crate::{Error, MasterKey, Profile};

/// Bytes of an RTCP packet that stay readable: the header of the first packet and the sender's SSRC.
pub(crate) const RTCP_CLEAR_BYTES: usize = 8;
/// Bytes of the E flag and the SRTCP index.
pub(crate) const RTCP_INDEX_BYTES: usize = 4;
/// The E flag: the packet is encrypted.
pub(crate) const ENCRYPTED: u32 = 1 << 31;

const GCM_TAG_BYTES: usize = 16;
const HMAC_TAG_BYTES: usize = 10;

/// Which half of the session keys.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Half {
    Rtp,
    Rtcp,
}

/// Who computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Engine {
    /// A SIMD kernel where the processor has what it needs, else the library.
    Fastest,
    /// The library, always.
    Portable,
}

/// One set of session keys with its transform.
pub(crate) enum Cipher {
    Gcm(Gcm),
    /// Boxed: its prepared HMAC takes 1.7 KiB, which the other profiles need not carry around.
    CounterMode(Box<CounterMode>),
}

impl Cipher {
    pub(crate) fn new(master: &MasterKey, half: Half, engine: Engine) -> Self {
        let (encryption, authentication, salt) = match half {
            Half::Rtp => (
                Label::RtpEncryption,
                Label::RtpAuthentication,
                Label::RtpSalt,
            ),
            Half::Rtcp => (
                Label::RtcpEncryption,
                Label::RtcpAuthentication,
                Label::RtcpSalt,
            ),
        };
        match master.profile() {
            Profile::Aes128CmHmacSha1_80 => Self::CounterMode(Box::new(CounterMode {
                key: counter_mode(&derive::<16>(master, encryption)),
                salt: derive(master, salt),
                authentication: hmac::Key::new(
                    hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
                    &derive::<20>(master, authentication),
                ),
            })),
            Profile::AeadAes128Gcm => Self::Gcm(Gcm {
                key: GcmKey::new(&derive::<16>(master, encryption), engine),
                salt: derive(master, salt),
            }),
            Profile::AeadAes256Gcm => Self::Gcm(Gcm {
                key: GcmKey::new(&derive::<32>(master, encryption), engine),
                salt: derive(master, salt),
            }),
        }
    }

    /// Writes header, sealed payload and tag; `out` has exactly that length.
    pub(crate) fn seal_rtp(
        &self,
        ssrc: u32,
        index: ExtSeq,
        header: &[u8],
        payload: &[u8],
        out: &mut [u8],
    ) {
        match self {
            Self::Gcm(gcm) => gcm.seal_rtp(ssrc, index, header, payload, out),
            Self::CounterMode(cm) => cm.seal_rtp(ssrc, index, header, payload, out),
        }
    }

    /// Authenticates a packet and decrypts what lies between header and tag.
    pub(crate) fn open_rtp(
        &self,
        ssrc: u32,
        index: ExtSeq,
        header_len: usize,
        packet: &mut [u8],
    ) -> Result<(), Error> {
        match self {
            Self::Gcm(gcm) => gcm.open_rtp(ssrc, index, header_len, packet),
            Self::CounterMode(cm) => cm.open_rtp(ssrc, index, header_len, packet),
        }
    }

    /// Writes the protected packet; `out` has exactly its length, `plain` at least [`RTCP_CLEAR_BYTES`].
    pub(crate) fn seal_rtcp(&self, ssrc: u32, index: u32, plain: &[u8], out: &mut [u8]) {
        match self {
            Self::Gcm(gcm) => gcm.seal_rtcp(ssrc, index, plain, out),
            Self::CounterMode(cm) => cm.seal_rtcp(ssrc, index, plain, out),
        }
    }

    /// The E flag and index of a protected packet; `None` when it is too short to hold them, a header and a tag.
    pub(crate) fn rtcp_trailer(&self, packet: &[u8]) -> Option<u32> {
        let before_index = match self {
            Self::Gcm(_) => packet.len().checked_sub(RTCP_INDEX_BYTES)?,
            Self::CounterMode(_) => packet
                .len()
                .checked_sub(RTCP_INDEX_BYTES + HMAC_TAG_BYTES)?,
        };
        let tag_before = if matches!(self, Self::Gcm(_)) {
            GCM_TAG_BYTES
        } else {
            0
        };
        if before_index < RTCP_CLEAR_BYTES + tag_before {
            return None;
        }
        packet
            .get(before_index..)?
            .first_chunk()
            .map(|word| u32::from_be_bytes(*word))
    }

    /// Authenticates a packet that [`Self::rtcp_trailer`] gave this encrypted index for, and decrypts it.
    pub(crate) fn open_rtcp(&self, ssrc: u32, index: u32, packet: &mut [u8]) -> Result<(), Error> {
        match self {
            Self::Gcm(gcm) => gcm.open_rtcp(ssrc, index, packet),
            Self::CounterMode(cm) => cm.open_rtcp(ssrc, index, packet),
        }
    }
}

/// A key of AES-GCM with whoever computes with it.
enum GcmKey {
    Library(LessSafeKey),
    /// Boxed: half a kilobyte, which the other does not need.
    Kernel(Box<VaesGcm>),
}

impl GcmKey {
    /// Prepares a key of 16 or 32 bytes.
    fn new(key: &[u8], engine: Engine) -> Self {
        let kernel = match engine {
            Engine::Fastest => VaesGcm::new(key),
            Engine::Portable => None,
        };
        if let Some(kernel) = kernel {
            return Self::Kernel(Box::new(kernel));
        }
        let algorithm = if key.len() == 32 {
            &AES_256_GCM
        } else {
            &AES_128_GCM
        };
        let key = UnboundKey::new(algorithm, key)
            .expect("a session key has exactly its algorithm's length");
        Self::Library(LessSafeKey::new(key))
    }
}

/// AES-GCM (RFC 7714). The nonce is made of SSRC and index, so the caller's rule never to use one pair twice keeps it unique.
pub(crate) struct Gcm {
    key: GcmKey,
    salt: [u8; 12],
}

impl Gcm {
    fn nonce(&self, ssrc: u32, low: [u8; 6]) -> [u8; 12] {
        let mut nonce = self.salt;
        xor(&mut nonce[2..6], &ssrc.to_be_bytes());
        xor(&mut nonce[6..], &low);
        nonce
    }

    fn rtp_nonce(&self, ssrc: u32, index: ExtSeq) -> [u8; 12] {
        let [_, _, low @ ..] = index.0.to_be_bytes();
        self.nonce(ssrc, low)
    }

    fn rtcp_nonce(&self, ssrc: u32, index: u32) -> [u8; 12] {
        let [a, b, c, d] = index.to_be_bytes();
        self.nonce(ssrc, [0, 0, a, b, c, d])
    }

    fn seal(&self, nonce: [u8; 12], aad: &[u8], plain: &[u8], out: &mut [u8]) {
        let (sealed, tag) = out.split_at_mut(plain.len());
        match &self.key {
            GcmKey::Kernel(key) => tag.copy_from_slice(&key.seal(&nonce, aad, plain, sealed)),
            GcmKey::Library(key) => {
                let nonce = Nonce::assume_unique_for_key(nonce);
                key.seal_out_of_place_scatter(nonce, Aad::from(aad), plain, sealed, &[], tag)
                    .expect(
                        "the output is as long as text and tag, and no datagram is near the cipher's limit",
                    );
            }
        }
    }

    fn open(&self, nonce: [u8; 12], aad: &[u8], sealed_and_tag: &mut [u8]) -> Result<(), Error> {
        match &self.key {
            GcmKey::Kernel(key) => {
                let (text, tag) = sealed_and_tag
                    .split_last_chunk_mut::<GCM_TAG_BYTES>()
                    .ok_or(Error::AuthFailed)?;
                let expected = key.open(&nonce, aad, text);
                constant_time::verify_slices_are_equal(&expected, tag)
                    .map_err(|_| Error::AuthFailed)
            }
            GcmKey::Library(key) => {
                let nonce = Nonce::assume_unique_for_key(nonce);
                let opened = key.open_in_place(nonce, Aad::from(aad), sealed_and_tag);
                opened.map(|_| ()).map_err(|_| Error::AuthFailed)
            }
        }
    }

    fn seal_rtp(&self, ssrc: u32, index: ExtSeq, header: &[u8], payload: &[u8], out: &mut [u8]) {
        let (out_header, rest) = out.split_at_mut(header.len());
        out_header.copy_from_slice(header);
        self.seal(self.rtp_nonce(ssrc, index), header, payload, rest);
    }

    fn open_rtp(
        &self,
        ssrc: u32,
        index: ExtSeq,
        header_len: usize,
        packet: &mut [u8],
    ) -> Result<(), Error> {
        let (header, rest) = packet.split_at_mut(header_len);
        self.open(self.rtp_nonce(ssrc, index), header, rest)
    }

    fn seal_rtcp(&self, ssrc: u32, index: u32, plain: &[u8], out: &mut [u8]) {
        let (clear, plain) = plain.split_at(RTCP_CLEAR_BYTES);
        let (out, trailer) = out.split_at_mut(out.len() - RTCP_INDEX_BYTES);
        let (out_clear, rest) = out.split_at_mut(RTCP_CLEAR_BYTES);
        out_clear.copy_from_slice(clear);
        trailer.copy_from_slice(&(index | ENCRYPTED).to_be_bytes());
        self.seal(
            self.rtcp_nonce(ssrc, index),
            &rtcp_aad(clear, trailer),
            plain,
            rest,
        );
    }

    fn open_rtcp(&self, ssrc: u32, index: u32, packet: &mut [u8]) -> Result<(), Error> {
        let (packet, trailer) = packet.split_at_mut(packet.len() - RTCP_INDEX_BYTES);
        let (clear, rest) = packet.split_at_mut(RTCP_CLEAR_BYTES);
        self.open(
            self.rtcp_nonce(ssrc, index),
            &rtcp_aad(clear, trailer),
            rest,
        )
    }
}

/// What GCM authenticates of an RTCP packet besides the encrypted part: the clear bytes, then E flag and index (RFC 7714 §9.2).
fn rtcp_aad(clear: &[u8], trailer: &[u8]) -> [u8; RTCP_CLEAR_BYTES + RTCP_INDEX_BYTES] {
    let mut aad = [0; RTCP_CLEAR_BYTES + RTCP_INDEX_BYTES];
    aad[..RTCP_CLEAR_BYTES].copy_from_slice(clear);
    aad[RTCP_CLEAR_BYTES..].copy_from_slice(trailer);
    aad
}

/// AES in counter mode with HMAC-SHA1, its tag cut to 80 bits (RFC 3711 §4.1.1, §4.2.1).
pub(crate) struct CounterMode {
    key: EncryptingKey,
    salt: [u8; 14],
    authentication: hmac::Key,
}

impl CounterMode {
    /// Encrypts or decrypts: counter mode is its own inverse.
    fn apply(&self, ssrc: u32, index: u64, bytes: &mut [u8]) {
        let mut iv = [0; 16];
        iv[..14].copy_from_slice(&self.salt);
        xor(&mut iv[4..8], &ssrc.to_be_bytes());
        xor(&mut iv[8..14], &index.to_be_bytes()[2..]);
        self.key
            .less_safe_encrypt(bytes, EncryptionContext::Iv128(FixedLength::from(iv)))
            .expect("counter mode takes any length and this kind of initialization vector");
    }

    /// The tag over `authenticated` and, for RTP, the roll-over counter that is not sent.
    fn tag(&self, authenticated: &[u8], roll_over: &[u8]) -> [u8; HMAC_TAG_BYTES] {
        let mut context = hmac::Context::with_key(&self.authentication);
        context.update(authenticated);
        context.update(roll_over);
        let mut tag = [0; HMAC_TAG_BYTES];
        tag.copy_from_slice(&context.sign().as_ref()[..HMAC_TAG_BYTES]);
        tag
    }

    fn check(&self, authenticated: &[u8], roll_over: &[u8], tag: &[u8]) -> Result<(), Error> {
        let expected = self.tag(authenticated, roll_over);
        constant_time::verify_slices_are_equal(&expected, tag).map_err(|_| Error::AuthFailed)
    }

    fn seal_rtp(&self, ssrc: u32, index: ExtSeq, header: &[u8], payload: &[u8], out: &mut [u8]) {
        let (authenticated, tag) = out.split_at_mut(header.len() + payload.len());
        let (out_header, out_payload) = authenticated.split_at_mut(header.len());
        out_header.copy_from_slice(header);
        out_payload.copy_from_slice(payload);
        self.apply(ssrc, index.0, out_payload);
        tag.copy_from_slice(&self.tag(authenticated, &index.roll_over().to_be_bytes()));
    }

    fn open_rtp(
        &self,
        ssrc: u32,
        index: ExtSeq,
        header_len: usize,
        packet: &mut [u8],
    ) -> Result<(), Error> {
        let (authenticated, tag) = packet.split_at_mut(packet.len() - HMAC_TAG_BYTES);
        self.check(authenticated, &index.roll_over().to_be_bytes(), tag)?;
        self.apply(ssrc, index.0, &mut authenticated[header_len..]);
        Ok(())
    }

    fn seal_rtcp(&self, ssrc: u32, index: u32, plain: &[u8], out: &mut [u8]) {
        let (authenticated, tag) = out.split_at_mut(plain.len() + RTCP_INDEX_BYTES);
        let (body, trailer) = authenticated.split_at_mut(plain.len());
        body.copy_from_slice(plain);
        self.apply(ssrc, u64::from(index), &mut body[RTCP_CLEAR_BYTES..]);
        trailer.copy_from_slice(&(index | ENCRYPTED).to_be_bytes());
        tag.copy_from_slice(&self.tag(authenticated, &[]));
    }

    fn open_rtcp(&self, ssrc: u32, index: u32, packet: &mut [u8]) -> Result<(), Error> {
        let (authenticated, tag) = packet.split_at_mut(packet.len() - HMAC_TAG_BYTES);
        self.check(authenticated, &[], tag)?;
        let end = authenticated.len() - RTCP_INDEX_BYTES;
        self.apply(
            ssrc,
            u64::from(index),
            &mut authenticated[RTCP_CLEAR_BYTES..end],
        );
        Ok(())
    }
}

fn xor(into: &mut [u8], with: &[u8]) {
    for (byte, mask) in into.iter_mut().zip(with) {
        *byte ^= mask;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex<const N: usize>(text: &str) -> [u8; N] {
        let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
        let bytes: Vec<u8> = digits
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect();
        bytes.try_into().unwrap()
    }

    /// The session key and salt of RFC 7714 §16 and §17, with each engine.
    fn gcm_of_rfc_7714(profile: Profile) -> [Gcm; 2] {
        let key: [u8; 32] = std::array::from_fn(|at| at as u8);
        [Engine::Fastest, Engine::Portable].map(|engine| Gcm {
            key: GcmKey::new(&key[..profile.key_len()], engine),
            salt: *b"Quid pro quo",
        })
    }

    const RTP_HEADER: &str = "8040f17b 8041f8d3 5501a0b2";
    const RTP_PAYLOAD: &str =
        "47616c6c 69612065 7374206f 6d6e6973 20646976 69736120 696e2070 61727465 73207472 6573";
    const RTP_GCM_128: &str = "8040f17b 8041f8d3 5501a0b2 f24de3a3 fb34de6c acba861c 9d7e4bca be633bd5 0d294e6f 42a5f47a 51c7d19b
        36de3adf 8833899d 7f27beb1 6a9152cf 765ee439 0cce";
    const RTP_GCM_256: &str = "8040f17b 8041f8d3 5501a0b2 32b1de78 a822fe12 ef9f78fa 332e33aa b1801238 9a58e2f3 b50b2a02 76ffae0f
        1ba63799 b87b7aa3 db36dfff d6b0f9bb 7878d7a7 6c13";
    const RTCP: &str = "81c8000d 4d617273 4e545031 4e545032 52545020 0000042a 0000e930 4c756e61 deadbeef deadbeef deadbeef
        deadbeef deadbeef";
    const RTCP_GCM_128: &str = "81c8000d 4d617273 63e94885 dcdab67c a727d766 2f6b7e99 7ff5c0f7 6c06f32d c676a5f1 730d6fda 4ce09b46
        86303ded 0bb9275b c84aa458 96cf4d2f c5abf872 45d9eade 800005d4";
    const RTCP_GCM_256: &str = "81c8000d 4d617273 d50ae4d1 f5ce5d30 4ba297e4 7d470c28 2c3ece5d bffe0a50 a2eaa5c1 110555be 8415f658
        c61de047 6f1b6fad 1d1eb30c 4446839f 57ff6f6c b26ac3be 800005d4";

    fn check_rtp(profile: Profile, sealed: &str) {
        for gcm in gcm_of_rfc_7714(profile) {
            let (header, payload) = (hex::<12>(RTP_HEADER), hex::<38>(RTP_PAYLOAD));
            let (ssrc, index) = (0x5501_a0b2, ExtSeq(0xf17b));
            let mut packet = [0; 66];
            gcm.seal_rtp(ssrc, index, &header, &payload, &mut packet);
            assert_eq!(packet, hex(sealed));
            gcm.open_rtp(ssrc, index, 12, &mut packet).unwrap();
            assert_eq!(packet[12..50], payload);
        }
    }

    fn check_rtcp(profile: Profile, sealed: &str) {
        for gcm in gcm_of_rfc_7714(profile) {
            let plain = hex::<52>(RTCP);
            let mut packet = [0; 72];
            gcm.seal_rtcp(0x4d61_7273, 0x5d4, &plain, &mut packet);
            assert_eq!(packet, hex(sealed));
            gcm.open_rtcp(0x4d61_7273, 0x5d4, &mut packet).unwrap();
            assert_eq!(packet[..52], plain);
        }
    }

    #[test]
    fn seals_as_rfc_7714_section_16_1() {
        check_rtp(Profile::AeadAes128Gcm, RTP_GCM_128);
    }

    #[test]
    fn seals_as_rfc_7714_section_16_2() {
        check_rtp(Profile::AeadAes256Gcm, RTP_GCM_256);
    }

    #[test]
    fn seals_rtcp_as_rfc_7714_section_17_1() {
        check_rtcp(Profile::AeadAes128Gcm, RTCP_GCM_128);
    }

    #[test]
    fn seals_rtcp_as_rfc_7714_section_17_3() {
        check_rtcp(Profile::AeadAes256Gcm, RTCP_GCM_256);
    }

    #[test]
    fn makes_the_keystream_of_rfc_3711_appendix_b_2() {
        let cm = CounterMode {
            key: counter_mode(&hex::<16>("2B7E151628AED2A6ABF7158809CF4F3C")),
            salt: hex("F0F1F2F3F4F5F6F7F8F9FAFBFCFD"),
            authentication: hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &[]),
        };
        let mut stream = vec![0; 0xff02 * 16];
        cm.apply(0, 0, &mut stream);
        let first = hex::<48>(
            "E03EAD0935C95E80E166B16DD92B4EB4 D23513162B02D0F72A43A2FE4A5F97AB 41E95B3BB0A2E8DD477901E4FCA894C0",
        );
        let last = hex::<48>(
            "EC8CDF7398607CB0F2D21675EA9EA1E4 362B7C3C6773516318A077D7FC5073AE 6A2CC3787889374FBEB4C81B17BA6C44",
        );
        assert_eq!(stream[..48], first);
        assert_eq!(stream[stream.len() - 48..], last);
    }
}
