//! The focus's own certificate, and fingerprints of anybody's.
//!
//! No chain and no name is ever checked: the fingerprint that came through signalling is the whole proof of who a peer
//! is (RFC 8122, RFC 8827 §6.5).

use std::fmt;

use aws_lc_rs::digest;
use dimpl::DtlsCertificate;

/// The focus's certificate and private key, made once at start and used for all of its transports.
#[derive(Clone)]
pub struct Certificate {
    pub(crate) dtls: DtlsCertificate,
}

impl Certificate {
    /// Makes a new key (ECDSA on P-256) and signs a certificate for it, valid for a year.
    pub fn generate() -> Result<Certificate, CertificateError> {
        let dtls = dimpl::certificate::generate_self_signed_certificate()
            .map_err(|_| CertificateError::Generation)?;
        Ok(Certificate { dtls })
    }

    /// The SHA-256 fingerprint, for `a=fingerprint` of our SDP.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(HashAlgorithm::Sha256, &self.dtls.certificate)
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Certificate({})", self.fingerprint())
    }
}

/// The certificate could not be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// The crypto library refused to make a key or to sign.
    #[error("could not generate a key or sign a certificate with it")]
    Generation,
}

/// A hash function that a fingerprint may use (RFC 8122 §5); the broken ones, MD2 and MD5, are not here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HashAlgorithm {
    /// `sha-1`: old peers only.
    Sha1,
    /// `sha-256`: what every browser sends.
    Sha256,
    /// `sha-384`.
    Sha384,
    /// `sha-512`.
    Sha512,
}

impl HashAlgorithm {
    /// Finds the algorithm by its name in SDP, whatever its case.
    pub fn from_name(name: &str) -> Option<HashAlgorithm> {
        [Self::Sha1, Self::Sha256, Self::Sha384, Self::Sha512]
            .into_iter()
            .find(|algorithm| algorithm.name().eq_ignore_ascii_case(name))
    }

    /// The name in SDP, such as `sha-256`.
    pub fn name(self) -> &'static str {
        match self {
            HashAlgorithm::Sha1 => "sha-1",
            HashAlgorithm::Sha256 => "sha-256",
            HashAlgorithm::Sha384 => "sha-384",
            HashAlgorithm::Sha512 => "sha-512",
        }
    }

    fn digest(self) -> &'static digest::Algorithm {
        match self {
            HashAlgorithm::Sha1 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
            HashAlgorithm::Sha256 => &digest::SHA256,
            HashAlgorithm::Sha384 => &digest::SHA384,
            HashAlgorithm::Sha512 => &digest::SHA512,
        }
    }
}

/// The hash of a certificate, as in `a=fingerprint`.
#[derive(Clone, PartialEq, Eq)]
pub struct Fingerprint {
    /// How it was made.
    pub algorithm: HashAlgorithm,
    /// The hash itself.
    pub bytes: Vec<u8>,
}

impl Fingerprint {
    /// Computes the fingerprint of a certificate in DER.
    pub fn of(algorithm: HashAlgorithm, certificate: &[u8]) -> Fingerprint {
        let bytes = digest::digest(algorithm.digest(), certificate)
            .as_ref()
            .to_vec();
        Fingerprint { algorithm, bytes }
    }

    /// Parses the value of `a=fingerprint`: `sha-256 AB:CD:…`, upper or lower case.
    pub fn parse(value: &str) -> Result<Fingerprint, FingerprintError> {
        let (name, hex) = value
            .trim()
            .split_once(' ')
            .ok_or(FingerprintError::Syntax)?;
        let algorithm = HashAlgorithm::from_name(name).ok_or(FingerprintError::UnknownAlgorithm)?;
        let bytes = hex
            .trim()
            .split(':')
            .map(parse_octet)
            .collect::<Option<Vec<u8>>>()
            .ok_or(FingerprintError::Syntax)?;
        if bytes.len() != algorithm.digest().output_len() {
            return Err(FingerprintError::Length);
        }
        Ok(Fingerprint { algorithm, bytes })
    }

    /// Whether it is the fingerprint of this certificate in DER.
    pub fn matches(&self, certificate: &[u8]) -> bool {
        *self == Fingerprint::of(self.algorithm, certificate)
    }

    /// The hash as SDP writes it: `AB:CD:…`.
    pub fn hex(&self) -> String {
        let octets: Vec<String> = self.bytes.iter().map(|b| format!("{b:02X}")).collect();
        octets.join(":")
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.algorithm.name(), self.hex())
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a fingerprint from SDP was not understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FingerprintError {
    /// Not `algorithm hex:hex:…`.
    #[error("fingerprint is not of the form `sha-256 AB:CD:…`")]
    Syntax,
    /// A hash function that is not known, or not safe any more.
    #[error("fingerprint uses an unknown hash function")]
    UnknownAlgorithm,
    /// Not as long as the hash function's output.
    #[error("fingerprint has the wrong length")]
    Length,
}

fn parse_octet(text: &str) -> Option<u8> {
    if text.len() != 2 {
        return None;
    }
    let mut value = 0;
    for digit in text.chars() {
        value = value * 16 + digit.to_digit(16)?;
    }
    u8::try_from(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_fingerprint_as_browsers_write_it() {
        // SHA-1 of the three bytes "abc", FIPS 180-4's example.
        let line = "SHA-1 A9:99:3e:36:47:06:81:6A:BA:3E:25:71:78:50:C2:6C:9C:D0:D8:9D";
        let fingerprint = Fingerprint::parse(line).unwrap();
        assert_eq!(fingerprint.algorithm, HashAlgorithm::Sha1);
        assert!(fingerprint.matches(b"abc"));
        assert!(!fingerprint.matches(b"abd"));
        assert_eq!(
            fingerprint.to_string(),
            "sha-1 A9:99:3E:36:47:06:81:6A:BA:3E:25:71:78:50:C2:6C:9C:D0:D8:9D"
        );
    }

    #[test]
    fn own_fingerprint_survives_the_way_through_sdp() {
        let own = Certificate::generate().unwrap().fingerprint();
        assert_eq!(own.algorithm, HashAlgorithm::Sha256);
        assert_eq!(own.hex().len(), 95);
        assert_eq!(Fingerprint::parse(&own.to_string()), Ok(own));
    }

    #[test]
    fn refuses_what_is_not_a_fingerprint() {
        let cases = [
            ("", FingerprintError::Syntax),
            ("sha-256", FingerprintError::Syntax),
            ("sha-1 +9:99", FingerprintError::Syntax),
            ("sha-1 A9:9", FingerprintError::Syntax),
            ("sha-1 A9:99", FingerprintError::Length),
            ("sha-256 ", FingerprintError::Syntax),
            ("md5 A9:99", FingerprintError::UnknownAlgorithm),
        ];
        for (line, error) in cases {
            assert_eq!(Fingerprint::parse(line), Err(error), "{line}");
        }
    }
}
