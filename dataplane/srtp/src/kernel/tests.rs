//! The kernel against `aws_lc_rs`: every length, every alignment that matters, random associated data.

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

use super::*;

/// SplitMix64: repeatable.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next() as u8).collect()
    }
}

/// The kernel and the reference with one key; `None` where the processor has no kernel.
fn both(key: &[u8]) -> Option<(VaesGcm, LessSafeKey)> {
    let algorithm = if key.len() == 16 {
        &AES_128_GCM
    } else {
        &AES_256_GCM
    };
    let reference = LessSafeKey::new(UnboundKey::new(algorithm, key).unwrap());
    let kernel = VaesGcm::new(key);
    if kernel.is_none() {
        println!("this processor has no VAES and VPCLMULQDQ: nothing is compared");
    }
    kernel.map(|kernel| (kernel, reference))
}

/// Seals with both, compares, opens again.
fn compare(kernel: &VaesGcm, reference: &LessSafeKey, nonce: &[u8; 12], aad: &[u8], plain: &[u8]) {
    let what = || format!("{} bytes, {} associated", plain.len(), aad.len());
    let mut expected = plain.to_vec();
    let nonce_again = Nonce::assume_unique_for_key(*nonce);
    let tag = reference
        .seal_in_place_separate_tag(nonce_again, Aad::from(aad), &mut expected)
        .unwrap();
    // Not aligned to anything, and between bytes that must stay.
    let mut sealed = vec![0xee; plain.len() + 6];
    let own = kernel.seal(nonce, aad, plain, &mut sealed[3..3 + plain.len()]);
    assert_eq!(sealed[3..3 + plain.len()], expected, "text of {}", what());
    assert_eq!(own, tag.as_ref(), "tag of {}", what());
    assert_eq!(sealed[..3], [0xee; 3]);
    assert_eq!(sealed[3 + plain.len()..], [0xee; 3]);
    let own = kernel.open(nonce, aad, &mut sealed[3..3 + plain.len()]);
    assert_eq!(own, tag.as_ref(), "opened tag of {}", what());
    assert_eq!(sealed[3..3 + plain.len()], *plain, "opened {}", what());
    assert_eq!(sealed[..3], [0xee; 3]);
    assert_eq!(sealed[3 + plain.len()..], [0xee; 3]);
}

#[test]
fn agrees_with_the_reference_for_every_length() {
    let mut random = Random(1);
    for key_len in [16, 32] {
        for len in 0..=1500 {
            let key = random.bytes(key_len);
            let Some((kernel, reference)) = both(&key) else {
                return;
            };
            let nonce = random.bytes(12).try_into().unwrap();
            let plain = random.bytes(len);
            let any = random.next() as usize % 300;
            for aad_len in [12, 20, 28, any] {
                let aad = random.bytes(aad_len);
                compare(&kernel, &reference, &nonce, &aad, &plain);
            }
        }
    }
}

#[test]
fn agrees_with_the_reference_for_every_length_of_associated_data() {
    let mut random = Random(2);
    let Some((kernel, reference)) = both(&random.bytes(16)) else {
        return;
    };
    for aad_len in 0..=600 {
        let (aad, plain) = (random.bytes(aad_len), random.bytes(aad_len % 67));
        let nonce = random.bytes(12).try_into().unwrap();
        compare(&kernel, &reference, &nonce, &aad, &plain);
    }
}

#[test]
fn every_bit_counts() {
    let mut random = Random(3);
    let Some((kernel, _)) = both(&random.bytes(16)) else {
        return;
    };
    let (nonce, aad, plain) = ([7; 12], random.bytes(20), random.bytes(300));
    let mut sealed = vec![0; 300];
    let tag = kernel.seal(&nonce, &aad, &plain, &mut sealed);
    for bit in 0..8 * sealed.len() {
        let mut broken = sealed.clone();
        broken[bit / 8] ^= 1 << (bit % 8);
        assert_ne!(kernel.open(&nonce, &aad, &mut broken), tag, "bit {bit}");
    }
    for bit in 0..8 * aad.len() {
        let mut broken = aad.clone();
        broken[bit / 8] ^= 1 << (bit % 8);
        let mut sealed = sealed.clone();
        assert_ne!(kernel.open(&nonce, &broken, &mut sealed), tag, "bit {bit}");
    }
}

#[test]
fn takes_only_keys_that_aes_has() {
    assert!(VaesGcm::new(&[0; 24]).is_none());
    assert!(VaesGcm::new(&[]).is_none());
}
