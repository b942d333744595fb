//! What strangers, tamperers and replayers get: a reason, and no state.

use weir_srtp::{Error, KeyError, MasterKey, Profile, Receiver, Sender};
use weir_wire::{ExtSeq, Seq};

fn master(profile: Profile, seed: u8) -> MasterKey {
    MasterKey::new(
        profile,
        &[seed; 32][..profile.key_len()],
        &[seed ^ 0x55; 14][..profile.salt_len()],
    )
    .unwrap()
}

fn rtp(sender: &mut Sender, ssrc: u32, index: ExtSeq) -> Vec<u8> {
    let mut header = vec![0x90, 111];
    header.extend(index.seq().0.to_be_bytes());
    header.extend([0, 0, 0, 9]);
    header.extend(ssrc.to_be_bytes());
    header.extend([0xbe, 0xde, 0, 1, 0x10, 0x7f, 0, 0]);
    let mut out = [0; 200];
    let len = sender
        .protect_rtp(&header, b"a little payload", index, &mut out)
        .unwrap();
    out[..len].to_vec()
}

fn rtcp(sender: &mut Sender, ssrc: u32) -> Vec<u8> {
    let mut plain = vec![0x80, 201, 0, 1];
    plain.extend(ssrc.to_be_bytes());
    plain.extend([0x81, 206, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2]);
    let mut out = [0; 200];
    let len = sender.protect_rtcp(&plain, &mut out).unwrap();
    out[..len].to_vec()
}

fn at(number: u64) -> ExtSeq {
    ExtSeq::new(0, Seq(1000)).add(number)
}

#[test]
fn every_flipped_bit_fails_authentication_and_makes_no_state() {
    for profile in Profile::ALL {
        let mut sender = Sender::new(&master(profile, 1));
        let mut receiver = Receiver::new(&master(profile, 1), 4);
        let (rtp, rtcp) = (rtp(&mut sender, 7, at(0)), rtcp(&mut sender, 7));
        for bit in 0..rtp.len() * 8 {
            let mut packet = rtp.clone();
            packet[bit / 8] ^= 1 << (bit % 8);
            assert!(
                receiver.unprotect_rtp(&mut packet).is_err(),
                "{profile:?} RTP bit {bit}"
            );
        }
        for bit in 0..rtcp.len() * 8 {
            let mut packet = rtcp.clone();
            packet[bit / 8] ^= 1 << (bit % 8);
            assert!(
                receiver.unprotect_rtcp(&mut packet).is_err(),
                "{profile:?} RTCP bit {bit}"
            );
        }
        assert_eq!(receiver.sources(), (0, 0));
        assert!(receiver.unprotect_rtp(&mut rtp.clone()).is_ok());
        assert!(receiver.unprotect_rtcp(&mut rtcp.clone()).is_ok());
        assert_eq!(receiver.sources(), (1, 1));
    }
}

#[test]
fn every_shorter_packet_is_refused() {
    for profile in Profile::ALL {
        let mut sender = Sender::new(&master(profile, 1));
        let mut receiver = Receiver::new(&master(profile, 1), 4);
        let (rtp, rtcp) = (rtp(&mut sender, 7, at(0)), rtcp(&mut sender, 7));
        for len in 0..rtp.len() {
            assert!(
                receiver.unprotect_rtp(&mut rtp[..len].to_vec()).is_err(),
                "{profile:?} RTP {len}"
            );
        }
        for len in 0..rtcp.len() {
            assert!(
                receiver.unprotect_rtcp(&mut rtcp[..len].to_vec()).is_err(),
                "{profile:?} RTCP {len}"
            );
        }
        assert_eq!(receiver.sources(), (0, 0));
    }
}

#[test]
fn random_bytes_never_panic_and_never_authenticate() {
    let mut random = 42_u64;
    let mut next = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    for profile in Profile::ALL {
        let mut receiver = Receiver::new(&master(profile, 1), 4);
        for _ in 0..20_000 {
            let mut packet: Vec<u8> = (0..next() % 80).map(|_| next() as u8).collect();
            if let Some(first) = packet.first_mut() {
                *first = *first & 0x3f | 0x80;
            }
            assert!(receiver.unprotect_rtp(&mut packet.clone()).is_err());
            assert!(receiver.unprotect_rtcp(&mut packet).is_err());
        }
        assert_eq!(receiver.sources(), (0, 0));
    }
}

#[test]
fn drops_replayed_and_too_old_packets() {
    for profile in Profile::ALL {
        let mut sender = Sender::new(&master(profile, 1));
        let mut receiver = Receiver::new(&master(profile, 1), 4);
        for number in [1, 2, 2000] {
            assert!(
                receiver
                    .unprotect_rtp(&mut rtp(&mut sender, 7, at(number)))
                    .is_ok()
            );
        }
        assert_eq!(
            receiver.unprotect_rtp(&mut rtp(&mut sender, 7, at(2000))),
            Err(Error::Replayed)
        );
        assert_eq!(
            receiver.unprotect_rtp(&mut rtp(&mut sender, 7, at(976))),
            Err(Error::TooOld)
        );
        assert!(
            receiver
                .unprotect_rtp(&mut rtp(&mut sender, 7, at(977)))
                .is_ok()
        );
        let report = rtcp(&mut sender, 7);
        assert!(receiver.unprotect_rtcp(&mut report.clone()).is_ok());
        assert_eq!(
            receiver.unprotect_rtcp(&mut report.clone()),
            Err(Error::Replayed)
        );
    }
}

#[test]
fn a_forged_number_does_not_move_the_window() {
    for profile in Profile::ALL {
        let mut sender = Sender::new(&master(profile, 1));
        let mut receiver = Receiver::new(&master(profile, 1), 4);
        assert!(
            receiver
                .unprotect_rtp(&mut rtp(&mut sender, 7, at(0)))
                .is_ok()
        );
        let mut forged = rtp(&mut sender, 7, at(1));
        forged[2..4].copy_from_slice(&30_000_u16.to_be_bytes());
        assert_eq!(receiver.unprotect_rtp(&mut forged), Err(Error::AuthFailed));
        assert!(
            receiver
                .unprotect_rtp(&mut rtp(&mut sender, 7, at(1)))
                .is_ok()
        );
    }
}

#[test]
fn sources_are_bounded_and_old_ones_still_work() {
    for profile in Profile::ALL {
        let mut sender = Sender::new(&master(profile, 1));
        let mut receiver = Receiver::new(&master(profile, 1), 2);
        for ssrc in [1, 2] {
            assert!(
                receiver
                    .unprotect_rtp(&mut rtp(&mut sender, ssrc, at(0)))
                    .is_ok()
            );
            assert!(
                receiver
                    .unprotect_rtcp(&mut rtcp(&mut sender, ssrc))
                    .is_ok()
            );
        }
        assert_eq!(
            receiver.unprotect_rtp(&mut rtp(&mut sender, 3, at(0))),
            Err(Error::TooManySources)
        );
        assert_eq!(
            receiver.unprotect_rtcp(&mut rtcp(&mut sender, 3)),
            Err(Error::TooManySources)
        );
        assert!(
            receiver
                .unprotect_rtp(&mut rtp(&mut sender, 1, at(1)))
                .is_ok()
        );
        receiver.forget(1);
        assert!(
            receiver
                .unprotect_rtp(&mut rtp(&mut sender, 3, at(0)))
                .is_ok()
        );
        assert_eq!(receiver.sources(), (2, 1));
    }
}

#[test]
fn the_other_directions_key_does_not_open() {
    for profile in Profile::ALL {
        let mut sender = Sender::new(&master(profile, 1));
        let mut receiver = Receiver::new(&master(profile, 2), 4);
        assert_eq!(
            receiver.unprotect_rtp(&mut rtp(&mut sender, 7, at(0))),
            Err(Error::AuthFailed)
        );
        assert_eq!(
            receiver.unprotect_rtcp(&mut rtcp(&mut sender, 7)),
            Err(Error::AuthFailed)
        );
    }
}

#[test]
fn rtcp_that_is_not_encrypted_is_refused() {
    for profile in Profile::ALL {
        let mut sender = Sender::new(&master(profile, 1));
        let mut receiver = Receiver::new(&master(profile, 1), 4);
        let mut packet = rtcp(&mut sender, 7);
        let index_at = match profile {
            Profile::Aes128CmHmacSha1_80 => packet.len() - 14,
            _ => packet.len() - 4,
        };
        packet[index_at] &= 0x7f;
        assert_eq!(
            receiver.unprotect_rtcp(&mut packet),
            Err(Error::NotEncrypted)
        );
    }
}

#[test]
fn key_material_must_fit_the_profile() {
    for profile in Profile::ALL {
        let (key, salt) = (vec![0; profile.key_len()], vec![0; profile.salt_len()]);
        assert!(MasterKey::new(profile, &key, &salt).is_ok());
        assert_eq!(
            MasterKey::new(profile, &key[1..], &salt).err(),
            Some(KeyError::KeyLength)
        );
        assert_eq!(
            MasterKey::new(profile, &key, &salt[1..]).err(),
            Some(KeyError::SaltLength)
        );
        assert_eq!(Profile::from_dtls_id(profile.dtls_id()), Some(profile));
    }
    assert_eq!(Profile::from_dtls_id(2), None);
}

#[test]
fn debug_output_shows_no_secret() {
    let master = MasterKey::new(Profile::AeadAes128Gcm, &[0xab; 16], &[0xcd; 12]).unwrap();
    assert_eq!(
        format!("{master:?}"),
        "MasterKey { profile: AeadAes128Gcm, .. }"
    );
    assert_eq!(
        format!("{:?}", Sender::new(&master)),
        "Sender { profile: AeadAes128Gcm, .. }"
    );
    assert_eq!(
        format!("{:?}", Receiver::new(&master, 1)),
        "Receiver { profile: AeadAes128Gcm, .. }"
    );
}
