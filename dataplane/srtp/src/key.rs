//! Master key and salt as they come from DTLS (RFC 5764 §4.2).

use crate::{KeyError, Profile};

/// Bytes of the longest master key.
const KEY_MAX: usize = 32;
/// Bytes of the longest master salt.
const SALT_MAX: usize = 14;

/// Master key and salt of one direction. `Debug` shows the profile and no secret.
#[derive(Clone)]
pub struct MasterKey {
    profile: Profile,
    key: [u8; KEY_MAX],
    salt: [u8; SALT_MAX],
}

impl MasterKey {
    /// Takes key and salt, which must have exactly the profile's lengths.
    pub fn new(profile: Profile, key: &[u8], salt: &[u8]) -> Result<Self, KeyError> {
        if key.len() != profile.key_len() {
            return Err(KeyError::KeyLength);
        }
        if salt.len() != profile.salt_len() {
            return Err(KeyError::SaltLength);
        }
        let mut own = Self {
            profile,
            key: [0; KEY_MAX],
            salt: [0; SALT_MAX],
        };
        own.key[..key.len()].copy_from_slice(key);
        own.salt[..salt.len()].copy_from_slice(salt);
        Ok(own)
    }

    /// The profile that the key is for.
    pub fn profile(&self) -> Profile {
        self.profile
    }

    /// The master key.
    pub(crate) fn key(&self) -> &[u8] {
        &self.key[..self.profile.key_len()]
    }

    /// The master salt.
    pub(crate) fn salt(&self) -> &[u8] {
        &self.salt[..self.profile.salt_len()]
    }
}

impl std::fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MasterKey")
            .field("profile", &self.profile)
            .finish_non_exhaustive()
    }
}
