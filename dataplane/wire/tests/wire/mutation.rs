//! Noise for every parser: good packets with bytes changed, cut, repeated and joined. Nothing may panic, and what is read may not
//! be more than there was. The fuzz targets in `tests/fuzz` do the same with coverage feedback.

use weir_wire::extension::{Element, Elements, stream_name};
use weir_wire::rtcp::{Compound, Packet as Rtcp, ReportBlock, SenderInfo, Writer, twcc};
use weir_wire::stun::{BindingRequest, Key, Message, Role, TransactionId, emit_success};
use weir_wire::{Kind, RtpTime, Seq, av1, dependency, h264, rtp, vp8, vp9};

use crate::{Random, hex};

/// Rounds; a second or two.
const ROUNDS: usize = 500_000;

fn seeds() -> Vec<Vec<u8>> {
    let mut out = [0; 1500];
    let mut seeds = vec![
        hex(
            "b2e0abcd 01020304 11223344 00000001 00000002 bede0002 32aabbcc 10 7f 0000 706c6400 02",
        ),
        hex("9060abcd 01020304 11223344 10000002 0303aabbcc 0101 7f 900a80"),
        hex("b5f0b49dea77 500200 9d012a 8002 6801"),
        hex("883ee400"),
        hex("aa92340007580140 00b4 0280 0168 0500 02d0 010401 824983"),
        hex("6742c016d900a02ff97011000003000100000300020f162e48"),
        hex("28 0d 0a0d2000000cc4ff6736be48086801"),
    ];
    let key = Key::new("password");
    let request = BindingRequest {
        transaction_id: TransactionId([1; 12]),
        username: "focus:client",
        priority: 1,
        role: Role::Controlling { tie_breaker: 1 },
        use_candidate: true,
    };
    let len = request.emit(&key, &mut out).unwrap();
    seeds.push(out[..len].to_vec());
    let len = emit_success(
        TransactionId([2; 12]),
        "[2001:db8::1]:9".parse().unwrap(),
        &key,
        &mut out,
    )
    .unwrap();
    seeds.push(out[..len].to_vec());
    seeds.push(compound());
    seeds
}

fn compound() -> Vec<u8> {
    let mut out = [0; 1500];
    let mut writer = Writer::new(&mut out);
    let info = SenderInfo {
        ntp: 1,
        rtp_time: RtpTime(2),
        packet_count: 3,
        octet_count: 4,
    };
    let block = ReportBlock {
        ssrc: 1,
        fraction_lost: 2,
        cumulative_lost: 3,
        highest_sequence: 4,
        jitter: 5,
        last_sr: 6,
        delay_since_last_sr: 7,
    };
    writer.sender_report(1, &info, &[block, block]).unwrap();
    writer.cname(1, "a name").unwrap();
    writer.nack(1, 2, &[Seq(1), Seq(2), Seq(40)]).unwrap();
    writer.pli(1, 2).unwrap();
    writer.fir(1, 2, 3).unwrap();
    writer.remb(1, 1_000_000, &[2, 3]).unwrap();
    let feedback = twcc::Feedback {
        sender_ssrc: 1,
        media_ssrc: 2,
        feedback_count: 0,
        base: Seq(9),
    };
    let arrivals = [Some(1000), None, Some(2000), Some(900_000), Some(100)];
    writer.transport_feedback(&feedback, &arrivals).unwrap();
    writer.bye(&[1, 2]).unwrap();
    let len = writer.len();
    out[..len].to_vec()
}

fn mutate(bytes: &mut Vec<u8>, seeds: &[Vec<u8>], random: &mut Random) {
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len() + 1);
        match random.below(6) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, random.next() as u8),
            2 => bytes.extend(&seeds[random.below(seeds.len())]),
            3 => bytes
                .iter_mut()
                .skip(at)
                .take(1)
                .for_each(|byte| *byte = [0, 0xff, 0x7f, 0x80][random.below(4)]),
            4 => bytes
                .iter_mut()
                .skip(at)
                .take(1)
                .for_each(|byte| *byte ^= 1 << random.below(8)),
            _ => bytes
                .iter_mut()
                .skip(at)
                .take(1)
                .for_each(|byte| *byte = random.next() as u8),
        }
        bytes.truncate(1500);
    }
}

#[test]
fn no_parser_panics_or_over_reads() {
    let seeds = seeds();
    let key = Key::new("password");
    let mut random = Random(0x5eed);
    for round in 0..ROUNDS {
        let mut bytes = seeds[round % seeds.len()].clone();
        mutate(&mut bytes, &seeds, &mut random);
        let _ = Kind::of(&bytes);
        read_rtp(&bytes);
        read_rtcp(&bytes);
        read_stun(&bytes, &key);
        read_vp8(&bytes);
        read_vp9(&bytes);
        let _ = (h264::keyframe_size(&bytes), av1::keyframe_size(&bytes));
        let _ = dependency::Descriptor::parse(&bytes, None);
        read_extensions(&bytes);
    }
}

fn read_rtp(bytes: &[u8]) {
    let Ok(packet) = rtp::Packet::parse(bytes) else {
        return;
    };
    let header = packet.header();
    assert_eq!(
        header.len + packet.payload().len() + packet.padding_len(),
        bytes.len()
    );
    let elements: usize = packet.extensions().map(|element| element.data.len()).sum();
    assert!(elements <= header.extension_len);
    assert!(packet.csrcs().count() <= 15);
}

fn read_rtcp(bytes: &[u8]) {
    let Ok(compound) = Compound::parse(bytes) else {
        return;
    };
    let mut packets = 0;
    for packet in compound.packets() {
        packets += 1;
        let items = match packet {
            Ok(Rtcp::SenderReport(report)) => report.reports().count(),
            Ok(Rtcp::ReceiverReport(report)) => report.reports().count(),
            Ok(Rtcp::Sdes(sdes)) => sdes.cnames().count(),
            Ok(Rtcp::Bye(bye)) => bye.ssrcs().count(),
            Ok(Rtcp::Nack(nack)) => nack.seqs().count() / 17,
            Ok(Rtcp::Fir(fir)) => fir.entries().count(),
            Ok(Rtcp::Remb(remb)) => remb.ssrcs().count(),
            Ok(Rtcp::TransportFeedback(feedback)) => {
                assert_eq!(
                    feedback.arrivals().count(),
                    usize::from(feedback.status_count)
                );
                0
            }
            Ok(Rtcp::Pli(_) | Rtcp::Unknown { .. }) | Err(_) => 0,
        };
        assert!(items * 4 <= bytes.len());
    }
    assert!(packets * 4 <= bytes.len());
}

fn read_stun(bytes: &[u8], key: &Key) {
    let Ok(message) = Message::parse(bytes) else {
        return;
    };
    let _ = (
        message.class(),
        message.is_binding(),
        message.transaction_id(),
        message.role(),
        message.priority(),
    );
    let _ = (
        message.ufrags(),
        message.xor_mapped_address(),
        message.error_code(),
        message.unknown_required(),
    );
    let _ = (
        message.use_candidate(),
        message.check_fingerprint(),
        message.check_integrity(key),
    );
    let values: usize = message.attributes().map(|(_, value)| value.len() + 4).sum();
    assert!(values <= bytes.len());
}

fn read_vp8(bytes: &[u8]) {
    let Ok((descriptor, len)) = vp8::Descriptor::parse(bytes) else {
        return;
    };
    let _ = (
        vp8::starts_keyframe(&descriptor, &bytes[len..]),
        vp8::keyframe_size(&bytes[len..]),
    );
    let mut out = [0; vp8::DESCRIPTOR_BYTES_MAX];
    let written = descriptor.emit(&mut out).unwrap();
    assert_eq!(
        vp8::Descriptor::parse(&out[..written]),
        Ok((descriptor, written))
    );
}

fn read_vp9(bytes: &[u8]) {
    let Ok(descriptor) = vp9::Descriptor::parse(bytes) else {
        return;
    };
    assert!(descriptor.head_len <= descriptor.len && descriptor.len <= bytes.len());
    let mut out = [0; vp9::HEAD_BYTES_MAX];
    let written = descriptor.head.emit(&mut out).unwrap();
    assert_eq!(out[..written], bytes[..written]);
}

fn read_extensions(bytes: &[u8]) {
    for profile in [0xbede, 0x1000] {
        let elements: Vec<Element<'_>> = Elements::new(profile, bytes).collect();
        elements.iter().for_each(|element| {
            assert!(stream_name(element.data).is_none_or(|name| name.is_ascii()))
        });
        let data: usize = elements.iter().map(|element| element.data.len()).sum();
        assert!(data <= bytes.len());
    }
}
