//! Session keys from the master key: AES in counter mode as the pseudo-random function (RFC 3711 §4.3, RFC 7714 §11).
//!
//! The key derivation rate is 0, as DTLS-SRTP has it: one set of session keys for the life of the master key.

use aws_lc_rs::cipher::{AES_128, AES_256, EncryptingKey, EncryptionContext, UnboundCipherKey};
use aws_lc_rs::iv::FixedLength;

use crate::MasterKey;

/// What a derived key is for (RFC 3711 §4.3.2).
#[derive(Clone, Copy, Debug)]
pub(crate) enum Label {
    RtpEncryption = 0x00,
    RtpAuthentication = 0x01,
    RtpSalt = 0x02,
    RtcpEncryption = 0x03,
    RtcpAuthentication = 0x04,
    RtcpSalt = 0x05,
}

/// Where the label lies in the 14 bytes of salt: before the 48-bit index, which is 0.
const LABEL_AT: usize = 7;

/// Derives `N` bytes. The PRF runs with a key of the master key's length: AES-256 for AEAD_AES_256_GCM.
pub(crate) fn derive<const N: usize>(master: &MasterKey, label: Label) -> [u8; N] {
    // Salts of 12 bytes are padded with zeros on the right to the PRF's 14 (RFC 7714 §11). The last two bytes count blocks.
    let mut iv = [0; 16];
    iv[..master.salt().len()].copy_from_slice(master.salt());
    iv[LABEL_AT] ^= label as u8;
    let mut out = [0; N];
    counter_mode(master.key())
        .less_safe_encrypt(&mut out, EncryptionContext::Iv128(FixedLength::from(iv)))
        .expect("counter mode takes any length and this kind of initialization vector");
    out
}

/// Prepares AES in counter mode; `key` has 16 or 32 bytes.
pub(crate) fn counter_mode(key: &[u8]) -> EncryptingKey {
    let algorithm = if key.len() == 32 { &AES_256 } else { &AES_128 };
    UnboundCipherKey::new(algorithm, key)
        .and_then(EncryptingKey::ctr)
        .expect("a master key has exactly its profile's length")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Profile;

    #[test]
    fn derives_the_keys_of_rfc_3711_appendix_b_3() {
        let master = MasterKey::new(
            Profile::Aes128CmHmacSha1_80,
            &0xE1F9_7A0D_3E01_8BE0_D64F_A32C_06DE_4139_u128.to_be_bytes(),
            &0x0EC6_75AD_498A_FEEB_B696_0B3A_ABE6_u128.to_be_bytes()[2..],
        )
        .unwrap();
        let key: [u8; 16] = derive(&master, Label::RtpEncryption);
        let salt: [u8; 14] = derive(&master, Label::RtpSalt);
        let authentication: [u8; 94] = derive(&master, Label::RtpAuthentication);
        assert_eq!(
            key,
            0xC61E_7A93_744F_39EE_1073_4AFE_3FF7_A087_u128.to_be_bytes()
        );
        assert_eq!(
            salt,
            0x30CB_BC08_863D_8C85_D49D_B34A_9AE1_u128.to_be_bytes()[2..]
        );
        assert_eq!(
            authentication[..16],
            0xCEBE_321F_6FF7_716B_6FD4_AB49_AF25_6A15_u128.to_be_bytes()
        );
        assert_eq!(
            authentication[16..32],
            0x6D38_BAA4_8F0A_0ACF_3C34_E235_9E6C_DBCE_u128.to_be_bytes()
        );
        assert_eq!(
            authentication[32..48],
            0xE049_646C_43D9_327A_D175_578E_F722_7098_u128.to_be_bytes()
        );
    }
}
