//! Every profile against `webrtc-srtp`, an implementation that shares no code with this one: what either protects, the other
//! unprotects to the same bytes, over roll-overs from every interesting start.

use webrtc_srtp::context::Context;
use webrtc_srtp::option::{srtcp_replay_protection, srtp_replay_protection};
use webrtc_srtp::protection_profile::ProtectionProfile;
use weir_srtp::{Error, MasterKey, Profile, Receiver, Sender};
use weir_wire::{ExtSeq, Seq};

const STARTS: [u16; 9] = [0, 1, 127, 128, 255, 32767, 32768, 65534, 65535];
const PROFILES: [(Profile, ProtectionProfile); 3] = [
    (
        Profile::Aes128CmHmacSha1_80,
        ProtectionProfile::Aes128CmHmacSha1_80,
    ),
    (Profile::AeadAes128Gcm, ProtectionProfile::AeadAes128Gcm),
    (Profile::AeadAes256Gcm, ProtectionProfile::AeadAes256Gcm),
];
const KEY: [u8; 32] = *b"a master key of thirty-two bytes";
const SALT: [u8; 14] = *b"fourteen bytes";

fn master(profile: Profile) -> MasterKey {
    MasterKey::new(
        profile,
        &KEY[..profile.key_len()],
        &SALT[..profile.salt_len()],
    )
    .unwrap()
}

fn other(profile: ProtectionProfile) -> Context {
    let (key, salt) = (&KEY[..profile.key_len()], &SALT[..profile.salt_len()]);
    Context::new(
        key,
        salt,
        profile,
        Some(srtp_replay_protection(1024)),
        Some(srtcp_replay_protection(128)),
    )
    .unwrap()
}

/// A plain packet whose shape depends on its number: with and without CSRCs and extensions, payloads of 0 to 1199 bytes.
fn plain(index: ExtSeq, ssrc: u32) -> (Vec<u8>, usize) {
    let mut packet = vec![0x80, 96];
    packet.extend(index.seq().0.to_be_bytes());
    packet.extend((index.0 as u32).wrapping_mul(3000).to_be_bytes());
    packet.extend(ssrc.to_be_bytes());
    if index.0 % 3 == 1 {
        packet[0] |= 2;
        packet.extend([1, 2, 3, 4, 5, 6, 7, 8]);
    }
    if index.0 % 2 == 1 {
        packet[0] |= 0x10;
        packet.extend([0xbe, 0xde, 0, 1, 0x10, 0xff, 0, 0]);
    }
    let header_len = packet.len();
    let payload_len = (index.0 * 37 % 1200) as usize;
    packet.extend((0..payload_len).map(|at| (at as u64 ^ index.0) as u8));
    (packet, header_len)
}

/// Numbers from `start` over three roll-overs: runs of four, with strides between them.
fn indexes(start: u16) -> impl Iterator<Item = ExtSeq> {
    let mut index = ExtSeq::new(0, Seq(start));
    let mut step = 0;
    std::iter::from_fn(move || {
        let current = index;
        step += 1;
        let near_turn = (index.seq().0.wrapping_add(20)) < 40;
        index = index.add(if near_turn || step % 4 != 0 { 1 } else { 997 });
        (current.roll_over() < 3).then_some(current)
    })
}

#[test]
fn other_reads_what_we_protect_over_every_roll_over() {
    for (profile, theirs) in PROFILES {
        for start in STARTS {
            let (mut sender, mut receiver) = (Sender::new(&master(profile)), other(theirs));
            let mut out = [0; 1500];
            for index in indexes(start) {
                let (packet, header_len) = plain(index, 0xdead_beef);
                let (header, payload) = packet.split_at(header_len);
                let len = sender
                    .protect_rtp(header, payload, index, &mut out)
                    .unwrap();
                assert_eq!(len, packet.len() + profile.rtp_overhead());
                let read = receiver
                    .decrypt_rtp(&out[..len])
                    .unwrap_or_else(|e| panic!("{profile:?} {index:?}: {e}"));
                assert_eq!(read, packet, "{profile:?} from {start} at {index:?}");
            }
        }
    }
}

#[test]
fn we_read_what_other_protects_over_every_roll_over() {
    for (profile, theirs) in PROFILES {
        for start in STARTS {
            let (mut sender, mut receiver) = (other(theirs), Receiver::new(&master(profile), 1));
            for index in indexes(start) {
                let (packet, _) = plain(index, 0xdead_beef);
                let mut protected = sender.encrypt_rtp(&packet).unwrap().to_vec();
                let read = receiver.unprotect_rtp(&mut protected);
                let read =
                    read.unwrap_or_else(|e| panic!("{profile:?} from {start} at {index:?}: {e}"));
                assert_eq!(read.index, index);
                assert_eq!(
                    protected[..read.len],
                    packet,
                    "{profile:?} from {start} at {index:?}"
                );
            }
        }
    }
}

#[test]
fn both_write_the_same_bytes() {
    for (profile, theirs) in PROFILES {
        let (mut sender, mut writer) = (Sender::new(&master(profile)), other(theirs));
        let mut out = [0; 1500];
        for index in indexes(65534).take(500) {
            let (packet, header_len) = plain(index, 7);
            let len = sender
                .protect_rtp(
                    &packet[..header_len],
                    &packet[header_len..],
                    index,
                    &mut out,
                )
                .unwrap();
            assert_eq!(
                out[..len],
                writer.encrypt_rtp(&packet).unwrap(),
                "{profile:?} at {index:?}"
            );
        }
    }
}

/// Compound RTCP packets of several lengths and senders.
fn report(number: u32) -> Vec<u8> {
    let mut packet = vec![0x80, 201, 0, 1];
    packet.extend((number % 3).to_be_bytes());
    for _ in 0..number % 4 {
        packet.extend([0x81, 206, 0, 2, 0, 0, 0, 1]);
        packet.extend(number.to_be_bytes());
    }
    packet
}

#[test]
fn rtcp_goes_both_ways() {
    for (profile, theirs) in PROFILES {
        let (mut sender, mut their_receiver) = (Sender::new(&master(profile)), other(theirs));
        let (mut their_sender, mut receiver) = (other(theirs), Receiver::new(&master(profile), 3));
        let mut out = [0; 200];
        for number in 0..300 {
            let packet = report(number);
            let len = sender.protect_rtcp(&packet, &mut out).unwrap();
            assert_eq!(len, packet.len() + profile.rtcp_overhead());
            assert_eq!(
                their_receiver.decrypt_rtcp(&out[..len]).unwrap(),
                packet,
                "{profile:?} {number}"
            );

            let mut protected = their_sender.encrypt_rtcp(&packet).unwrap().to_vec();
            let len = receiver.unprotect_rtcp(&mut protected).unwrap();
            assert_eq!(protected[..len], packet, "{profile:?} {number}");
        }
    }
}

/// A fixed shuffle: blocks of 64 numbers, each in an order of its own, some twice.
fn shuffled(start: u16, count: u64) -> Vec<ExtSeq> {
    let mut random = 1_u64 << 40 | u64::from(start);
    let mut order: Vec<(u64, ExtSeq)> = Vec::new();
    for number in 0..count {
        for copy in 0..2 {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            // The first packet stays first: before it nobody knows the roll-over.
            let place = if number == 0 {
                0
            } else {
                number + (random >> 40) % 64
            };
            if copy == 0 || random >> 62 == 0 {
                order.push((place, ExtSeq::new(0, Seq(start)).add(number)));
            }
        }
    }
    order.sort_by_key(|(place, _)| *place);
    order.into_iter().map(|(_, index)| index).collect()
}

#[test]
fn both_accept_the_same_packets_out_of_order() {
    for (profile, theirs) in PROFILES {
        for start in STARTS {
            let mut sender = Sender::new(&master(profile));
            let (mut receiver, mut their_receiver) =
                (Receiver::new(&master(profile), 1), other(theirs));
            let (mut out, mut accepted) = ([0; 1500], 0);
            for index in shuffled(start, 300) {
                let (packet, header_len) = plain(index, 1);
                let len = sender
                    .protect_rtp(
                        &packet[..header_len],
                        &packet[header_len..],
                        index,
                        &mut out,
                    )
                    .unwrap();
                let theirs = their_receiver.decrypt_rtp(&out[..len]);
                let ours = receiver.unprotect_rtp(&mut out[..len]);
                assert_eq!(
                    ours.is_ok(),
                    theirs.is_ok(),
                    "{profile:?} from {start} at {index:?}: {ours:?} {theirs:?}"
                );
                match ours {
                    Ok(read) => {
                        accepted += 1;
                        assert_eq!(read.index, index);
                        assert_eq!(out[..read.len], packet);
                    }
                    Err(error) => assert_eq!(error, Error::Replayed),
                }
            }
            assert_eq!(accepted, 300, "{profile:?} from {start}: each number once");
        }
    }
}
