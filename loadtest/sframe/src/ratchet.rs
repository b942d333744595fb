//! The megolm ratchet, as vodozemac has it: only its state at an index is used here, never its own encryption.

use rand::CryptoRng;
use vodozemac::megolm::{ExportedSessionKey, InboundGroupSession, SessionConfig, SessionKey};
use vodozemac::{Ed25519SecretKey, base64_encode};
use zeroize::Zeroizing;

use crate::cipher::{Secret, Suite};

/// The ratchet from one index on. There is no way back.
pub(crate) struct Ratchet(InboundGroupSession);

/// The key that a session's keys are signed with, so that whoever has one can tell another of the same session.
pub(crate) struct Signer(Ed25519SecretKey);

/// A key that is none: not base64, of another version, cut short, or not signed by its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct InvalidKey;

// Megolm's formats (olm.md, "Session sharing format"): version, index, ratchet, public key, and a signature in the first.
const SHARED_VERSION: u8 = 2;
const EXPORTED_VERSION: u8 = 1;
const RATCHET_AT: std::ops::Range<usize> = 5..133;

impl Ratchet {
    /// A new session at its beginning.
    pub(crate) fn random(rng: &mut impl CryptoRng) -> (Ratchet, Signer) {
        let mut seed = Zeroizing::new([0_u8; 32]);
        rng.fill_bytes(&mut *seed);
        let signer = Ed25519SecretKey::from_slice(&seed);
        let mut ratchet = Zeroizing::new([0_u8; 128]);
        rng.fill_bytes(&mut *ratchet);
        // Version, index 0, ratchet, public key.
        let mut exported = Zeroizing::new(vec![EXPORTED_VERSION, 0, 0, 0, 0]);
        exported.extend_from_slice(&*ratchet);
        exported.extend_from_slice(signer.public_key().as_bytes());
        let key = ExportedSessionKey::from_bytes(&exported).expect("all parts in their order");
        let session = InboundGroupSession::import(&key, SessionConfig::version_1());
        (Ratchet(session), Signer(signer))
    }

    /// From the `session_key` of an `m.room_key`.
    pub(crate) fn from_shared(session_key: &str) -> Result<Ratchet, InvalidKey> {
        let key = SessionKey::from_base64(session_key).map_err(|_| InvalidKey)?;
        let session = InboundGroupSession::new(&key, SessionConfig::version_1());
        Ok(Ratchet(session))
    }

    /// The session's name: its public key.
    pub(crate) fn session_id(&self) -> String {
        self.0.session_id()
    }

    /// The first index that is known.
    pub(crate) fn index(&self) -> u32 {
        self.0.first_known_index()
    }

    /// Forgets all before `index`. One that is past already changes nothing.
    pub(crate) fn advance_to(&mut self, index: u32) {
        self.0.advance_to(index);
    }

    /// What the key of the frame at `index` is derived from; `None` if it is forgotten. The ratchet stays where it is.
    pub(crate) fn secret_at(&mut self, suite: Suite, index: u32) -> Option<Secret> {
        let exported = Zeroizing::new(self.0.export_at(index)?.to_bytes());
        Some(Secret::extract(suite, &exported[RATCHET_AT]))
    }

    /// The ratchet as it stands, to be shared.
    pub(crate) fn share(&self, signer: &Signer) -> Zeroizing<String> {
        let mut bytes = Zeroizing::new(self.0.export_at_first_known_index().to_bytes());
        bytes[0] = SHARED_VERSION;
        let signature = signer.0.sign(&bytes).to_bytes();
        let signed = Zeroizing::new([bytes.as_slice(), &signature].concat());
        Zeroizing::new(base64_encode(&*signed))
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;
    use rand::rngs::StdRng;

    use super::*;

    fn secret(ratchet: &mut Ratchet, index: u32) -> Option<Vec<u8>> {
        let mut sealed = Vec::new();
        let header = crate::Header {
            key_id: 0,
            counter: index.into(),
        };
        let secret = ratchet.secret_at(Suite::Aes128Gcm, index)?;
        secret.seal(header, &[], b"frame", &mut sealed);
        Some(sealed)
    }

    #[test]
    fn who_gets_the_ratchet_at_an_index_has_all_from_there_and_nothing_before() {
        let (mut own, signer) = Ratchet::random(&mut StdRng::seed_from_u64(1));
        let before = secret(&mut own, 299);
        own.advance_to(300);
        let mut shared = Ratchet::from_shared(&own.share(&signer)).unwrap();
        assert_eq!(
            (shared.index(), shared.session_id()),
            (300, own.session_id())
        );
        for index in [300, 301, 555, 65_536, 16_777_216] {
            assert_eq!(secret(&mut shared, index), secret(&mut own, index));
        }
        assert!(before.is_some() && secret(&mut shared, 299).is_none());
        assert!(secret(&mut own, 299).is_none(), "nor has who has gone on");
    }

    #[test]
    fn a_shared_key_is_one_of_megolm() {
        let (mut own, signer) = Ratchet::random(&mut StdRng::seed_from_u64(2));
        let session = vodozemac::megolm::GroupSession::new(SessionConfig::version_1());
        let theirs = session.session_key().to_base64();
        assert_eq!(own.share(&signer).len(), theirs.len());
        let mut theirs = Ratchet::from_shared(&theirs).unwrap();
        assert_eq!(theirs.session_id(), session.session_id());
        assert_ne!(secret(&mut theirs, 0), secret(&mut own, 0));
    }

    #[test]
    fn refuses_a_key_that_its_session_did_not_sign() {
        let (own, signer) = Ratchet::random(&mut StdRng::seed_from_u64(3));
        let (other, _) = Ratchet::random(&mut StdRng::seed_from_u64(4));
        assert!(Ratchet::from_shared(&own.share(&signer)).is_ok());
        assert!(Ratchet::from_shared(&other.share(&signer)).is_err());
        assert!(Ratchet::from_shared("").is_err());
        assert!(Ratchet::from_shared("not base64!").is_err());
    }
}
