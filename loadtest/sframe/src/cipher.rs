//! Key derivation and encryption of one frame (RFC 9605 §4.4), on `aws-lc-rs`.
//!
//! The suites that truncate their tags are not here: half of a tag is as dear as the whole, and no frame is that small.

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::{aead, hkdf, hmac};
use zeroize::{Zeroize as _, Zeroizing};

use crate::header::{BYTES_MAX, Header};

/// A cipher suite (RFC 9605 §8.1).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Suite {
    /// `AES_128_GCM_SHA256_128`.
    #[default]
    Aes128Gcm,
    /// `AES_256_GCM_SHA512_128`.
    Aes256Gcm,
}

impl Suite {
    /// Its number in the registry.
    pub fn id(self) -> u16 {
        match self {
            Suite::Aes128Gcm => 0x0004,
            Suite::Aes256Gcm => 0x0005,
        }
    }

    /// The suite with this number, if it is one of these.
    pub fn from_id(id: u16) -> Option<Suite> {
        [Suite::Aes128Gcm, Suite::Aes256Gcm]
            .into_iter()
            .find(|suite| suite.id() == id)
    }

    fn aead(self) -> &'static aead::Algorithm {
        match self {
            Suite::Aes128Gcm => &AES_128_GCM,
            Suite::Aes256Gcm => &AES_256_GCM,
        }
    }

    fn hash(self) -> hkdf::Algorithm {
        match self {
            Suite::Aes128Gcm => hkdf::HKDF_SHA256,
            Suite::Aes256Gcm => hkdf::HKDF_SHA512,
        }
    }
}

/// Bytes of the tag behind the ciphertext, in both suites.
pub(crate) const TAG_BYTES: usize = 16;
/// What SHA-512 gives.
const SECRET_BYTES_MAX: usize = 64;
/// What AES-256 takes.
const KEY_BYTES_MAX: usize = 32;

/// What the key of one frame is derived from: `sframe_secret`.
///
/// It says nothing of the frames before and after, other than the ratchet that it came from.
pub(crate) struct Secret {
    suite: Suite,
    bytes: [u8; SECRET_BYTES_MAX],
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.bytes.zeroize();
    }
}

/// Not what the tag says: another key, or other bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotAuthentic;

impl Secret {
    /// HKDF-Extract with an empty salt.
    pub(crate) fn extract(suite: Suite, base_key: &[u8]) -> Secret {
        let salt = hmac::Key::new(suite.hash().hmac_algorithm(), &[]);
        let tag = hmac::sign(&salt, base_key);
        let mut bytes = [0; SECRET_BYTES_MAX];
        bytes[..tag.as_ref().len()].copy_from_slice(tag.as_ref());
        Secret { suite, bytes }
    }

    /// Appends header, ciphertext and tag to `out`.
    pub(crate) fn seal(&self, header: Header, metadata: &[u8], frame: &[u8], out: &mut Vec<u8>) {
        let start = out.len();
        header.emit(out);
        let aad = Aad::from([&out[start..], metadata].concat());
        let start = out.len();
        out.extend_from_slice(frame);
        let (key, salt) = self.derive(header.key_id);
        let nonce = nonce(salt, header.counter);
        let tag = key
            .seal_in_place_separate_tag(nonce, aad, &mut out[start..])
            .expect("a frame is far smaller than what GCM can carry");
        out.extend_from_slice(tag.as_ref());
    }

    /// Decrypts what follows the header at the end of `out`, from `start` on, in place.
    pub(crate) fn open(
        &self,
        header: Header,
        header_bytes: &[u8],
        metadata: &[u8],
        out: &mut Vec<u8>,
        start: usize,
    ) -> Result<(), NotAuthentic> {
        debug_assert!(header_bytes.len() <= BYTES_MAX);
        let aad = Aad::from([header_bytes, metadata].concat());
        let (key, salt) = self.derive(header.key_id);
        let nonce = nonce(salt, header.counter);
        let opened = key.open_in_place(nonce, aad, &mut out[start..]);
        let length = opened.map_err(|_| NotAuthentic)?.len();
        out.truncate(start + length);
        Ok(())
    }

    /// `sframe_key` and `sframe_salt` (RFC 9605 §4.4.2).
    fn derive(&self, key_id: u64) -> (LessSafeKey, [u8; NONCE_LEN]) {
        let mut bytes = Zeroizing::new([0_u8; KEY_BYTES_MAX]);
        let key = &mut bytes[..self.suite.aead().key_len()];
        self.expand(b"SFrame 1.0 Secret key ", key_id, key);
        let key = UnboundKey::new(self.suite.aead(), key).expect("as long as the cipher says");
        let mut salt = [0; NONCE_LEN];
        self.expand(b"SFrame 1.0 Secret salt ", key_id, &mut salt);
        (LessSafeKey::new(key), salt)
    }

    fn expand(&self, label: &[u8], key_id: u64, out: &mut [u8]) {
        let hash = self.suite.hash();
        let length = hash.hmac_algorithm().tag_len();
        let secret = hkdf::Prk::new_less_safe(hash, &self.bytes[..length]);
        let (key_id, suite) = (key_id.to_be_bytes(), self.suite.id().to_be_bytes());
        let info = [label, &key_id, &suite];
        let okm = secret.expand(&info, Length(out.len()));
        okm.and_then(|okm| okm.fill(out))
            .expect("no longer than one block of the hash");
    }
}

/// How much HKDF-Expand gives.
struct Length(usize);

impl hkdf::KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

/// The salt with the counter in its last bytes (RFC 9605 §4.4.3).
fn nonce(mut salt: [u8; NONCE_LEN], counter: u64) -> Nonce {
    let last = salt.iter_mut().skip(NONCE_LEN - 8);
    last.zip(counter.to_be_bytes())
        .for_each(|(salt, byte)| *salt ^= byte);
    Nonce::assume_unique_for_key(salt)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 9605 Appendix C.3: the same for all suites.
    const HEADER: Header = Header {
        key_id: 0x123,
        counter: 0x4567,
    };
    const BASE_KEY: &str = "000102030405060708090a0b0c0d0e0f";
    const METADATA: &[u8] = b"IETF SFrame WG";
    const PLAINTEXT: &[u8] = b"draft-ietf-sframe-enc";

    /// What differs: suite, `sframe_secret`, `sframe_salt`, ciphertext with its header.
    const VECTORS: [(Suite, &str, &str, &str); 2] = [
        (
            Suite::Aes128Gcm,
            "d926952ca8b7ec4a95941d1ada3a5203ceff8cceee34f574d23909eb314c40c0",
            "75234edefe07819026751816",
            "9901234567b7412c2513a1b66dbb48841bbaf17f598751176ad847681a69c6d0b091c07018ce4adb34eb",
        ),
        (
            Suite::Aes256Gcm,
            "0fc3ea6de6aac97a35f194cf9bed94d4b5230f1cb45a785c9fe5dce9c188938ab6ba005bc4c0a19181599e9d1bcf7b74aca48b60bf5e254e546d809313e083a3",
            "84991c167b8cd23c93708ec7",
            "990123456794f509d36e9beacb0e261d99c7d1e972f1fed787d4049f17ca21353c1cc24d56ceabced279",
        ),
    ];

    fn unhex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text
            .bytes()
            .map(|digit| (digit as char).to_digit(16).unwrap() as u8)
            .collect();
        digits
            .chunks(2)
            .map(|pair| pair[0] << 4 | pair[1])
            .collect()
    }

    #[test]
    fn derives_and_seals_as_the_rfc_does() {
        for (suite, secret, salt, ciphertext) in VECTORS {
            let own = Secret::extract(suite, &unhex(BASE_KEY));
            let secret = unhex(secret);
            assert_eq!(own.bytes[..secret.len()], secret);
            assert_eq!(own.derive(HEADER.key_id).1.to_vec(), unhex(salt));
            let mut out = Vec::new();
            own.seal(HEADER, METADATA, PLAINTEXT, &mut out);
            assert_eq!(out, unhex(ciphertext));
        }
    }

    /// The page's tests have the same bytes (`tests/browser/modules_encryption.js`); both are as Python's `cryptography` makes them.
    #[test]
    fn seals_a_picture_behind_its_readable_byte() {
        let secret = Secret::extract(Suite::Aes128Gcm, &unhex(BASE_KEY));
        let frame = unhex("1002009d012a0005d002");
        let (metadata, rest) = crate::Clear::FirstByte.split(&frame).unwrap();
        let header = Header {
            key_id: 3,
            counter: 300,
        };
        let mut out = metadata.to_vec();
        secret.seal(header, metadata, rest, &mut out);
        let expected = "1039012c76b1a80d845bf33f9d9fe7684ea68df8cf2ebc2c03c696bc88";
        assert_eq!(out, unhex(expected));
    }

    #[test]
    fn opens_what_the_rfc_sealed() {
        for (suite, _, _, ciphertext) in VECTORS {
            let secret = Secret::extract(suite, &unhex(BASE_KEY));
            let ciphertext = unhex(ciphertext);
            let (header, own, rest) = Header::parse(&ciphertext).unwrap();
            assert_eq!(header, HEADER);
            let mut out = [&b"kept"[..], rest].concat();
            assert_eq!(secret.open(header, own, METADATA, &mut out, 4), Ok(()));
            assert_eq!(out, [&b"kept"[..], PLAINTEXT].concat());
        }
    }

    #[test]
    fn refuses_every_changed_bit() {
        let secret = Secret::extract(Suite::Aes128Gcm, &unhex(BASE_KEY));
        let mut sealed = Vec::new();
        secret.seal(HEADER, METADATA, PLAINTEXT, &mut sealed);
        let open = |sealed: &[u8], metadata: &[u8]| {
            let (header, own, rest) = Header::parse(sealed).map_err(|_| NotAuthentic)?;
            secret.open(header, own, metadata, &mut rest.to_vec(), 0)
        };
        assert_eq!(open(&sealed, METADATA), Ok(()));
        assert_eq!(open(&sealed, b"IETF SFrame WH"), Err(NotAuthentic));
        for bit in 0..sealed.len() * 8 {
            let mut changed = sealed.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(open(&changed, METADATA), Err(NotAuthentic), "bit {bit}");
        }
        for length in 0..sealed.len() {
            assert_eq!(
                open(&sealed[..length], METADATA),
                Err(NotAuthentic),
                "{length}"
            );
        }
    }

    #[test]
    fn suites_are_known_by_their_numbers() {
        assert_eq!(Suite::from_id(4), Some(Suite::Aes128Gcm));
        assert_eq!(Suite::from_id(5), Some(Suite::Aes256Gcm));
        assert_eq!((Suite::from_id(0), Suite::from_id(3)), (None, None));
    }
}
