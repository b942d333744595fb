//! Hostile and broken input: nothing panics, nothing grows, and a healthy peer's call survives it.

mod common;

use std::time::Duration;

use common::{Certificates, FINE, Pair, Random};
use weir_transport::{Association, Role};

const LIMIT: Duration = Duration::from_secs(10);

/// A datagram that is random, or begins like DTLS.
fn datagram(random: &mut Random) -> Vec<u8> {
    let len = random.below(200) as usize;
    let mut bytes: Vec<u8> = (0..len).map(|_| random.next() as u8).collect();
    if random.below(2) == 0 && bytes.len() > 13 {
        bytes[0] = 20 + random.below(5) as u8;
        bytes[1..3].copy_from_slice(&[254, 253]);
        bytes[3] = 0;
        let body = (bytes.len() - 13) as u16;
        bytes[11..13].copy_from_slice(&body.to_be_bytes());
    }
    bytes
}

#[test]
fn random_datagrams_do_no_harm_before_the_handshake() {
    let certificates = Certificates::new();
    let mut random = Random(1);
    for role in [Role::Active, Role::Passive] {
        for _ in 0..20 {
            let fingerprint = certificates.active.fingerprint();
            let now = std::time::Instant::now();
            let mut association = Association::new(&certificates.passive, role, fingerprint, now);
            for _ in 0..200 {
                association.handle_datagram(&datagram(&mut random), now);
                while association.poll_transmit().is_some() {}
                while association.poll_event().is_some() {}
            }
        }
    }
}

#[test]
fn random_datagrams_do_no_harm_to_a_connected_pair() {
    let mut pair = Pair::new(&Certificates::new(), FINE, 1);
    assert!(pair.connect(LIMIT));
    let mut random = Random(2);
    for _ in 0..5000 {
        let now = pair.now;
        let garbage = datagram(&mut random);
        pair.passive.association.handle_datagram(&garbage, now);
        pair.active.association.handle_datagram(&garbage, now);
    }
    let now = pair.now;
    pair.active
        .association
        .send_text(0, "still here", now)
        .unwrap();
    assert!(pair.run(LIMIT, |pair| pair.passive.texts() == ["still here"]));
}

#[test]
fn damaged_handshakes_never_panic() {
    let certificates = Certificates::new();
    let mut random = Random(3);
    for round in 0..60 {
        let now = std::time::Instant::now();
        let of_active = certificates.active.fingerprint();
        let of_passive = certificates.passive.fingerprint();
        let mut ends = [
            Association::new(&certificates.active, Role::Active, of_passive, now),
            Association::new(&certificates.passive, Role::Passive, of_active, now),
        ];
        for _ in 0..20 {
            for from in [0, 1] {
                while let Some(mut datagram) = ends[from].poll_transmit() {
                    // Records of epoch 0 are not protected: this reaches the parsers.
                    if random.below(4) == 0 {
                        let at = random.below(datagram.len() as u64) as usize;
                        datagram[at] ^= 1 << random.below(8);
                    }
                    if random.below(8) == 0 {
                        datagram.truncate(random.below(datagram.len() as u64) as usize);
                    }
                    ends[1 - from].handle_datagram(&datagram, now);
                }
                while ends[from].poll_event().is_some() {}
            }
        }
        assert!(round < 60);
    }
}
