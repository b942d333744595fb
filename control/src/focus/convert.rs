//! Words of one crate in those of another.

use crate::conference::{DtlsRole, Fingerprint, Protection};

impl From<weir_matrix::Protection> for Protection {
    fn from(protection: weir_matrix::Protection) -> Self {
        match protection {
            weir_matrix::Protection::Plain => Self::Plain,
            weir_matrix::Protection::Olm => Self::Olm,
        }
    }
}

impl From<Protection> for weir_matrix::Protection {
    fn from(protection: Protection) -> Self {
        match protection {
            Protection::Plain => Self::Plain,
            Protection::Olm => Self::Olm,
        }
    }
}

impl From<DtlsRole> for weir_transport::Role {
    fn from(role: DtlsRole) -> Self {
        match role {
            DtlsRole::Server => Self::Passive,
            DtlsRole::Client => Self::Active,
        }
    }
}

impl From<weir_transport::Fingerprint> for Fingerprint {
    fn from(fingerprint: weir_transport::Fingerprint) -> Self {
        Self {
            algorithm: fingerprint.algorithm.name().to_owned(),
            bytes: fingerprint.bytes,
        }
    }
}

/// The algorithm or the length of a fingerprint is not one that certificates are checked with.
#[derive(Debug, thiserror::Error)]
#[error("the fingerprint's algorithm {0:?} is not known or its length is wrong")]
pub struct UnknownFingerprint(String);

impl TryFrom<Fingerprint> for weir_transport::Fingerprint {
    type Error = UnknownFingerprint;

    fn try_from(fingerprint: Fingerprint) -> Result<Self, UnknownFingerprint> {
        let Some(algorithm) = weir_transport::HashAlgorithm::from_name(&fingerprint.algorithm)
        else {
            return Err(UnknownFingerprint(fingerprint.algorithm));
        };
        // Through the text form, whose parser checks the length.
        let hex: Vec<String> = fingerprint
            .bytes
            .iter()
            .map(|byte| format!("{byte:02X}"))
            .collect();
        Self::parse(&format!("{} {}", algorithm.name(), hex.join(":")))
            .map_err(|_| UnknownFingerprint(fingerprint.algorithm))
    }
}
