use weir_wire::extension::Element;
use weir_wire::rtp::{Error, Header, Outgoing, Packet};
use weir_wire::{NoRoom, RtpTime, Seq};

use crate::hex;

fn outgoing() -> Outgoing {
    Outgoing {
        marker: true,
        payload_type: 96,
        sequence_number: Seq(0xabcd),
        timestamp: RtpTime(0x0102_0304),
        ssrc: 0x1122_3344,
        has_padding: false,
    }
}

#[test]
fn reads_a_packet_with_everything() {
    let bytes =
        hex("b2 e0 abcd 01020304 11223344 00000001 00000002 bede 0001 32 aabbcc 706c64 00 02");
    let packet = Packet::parse(&bytes).unwrap();
    let header = packet.header();
    assert_eq!(
        (header.marker, header.payload_type, header.ssrc),
        (true, 96, 0x1122_3344)
    );
    assert_eq!(
        (header.sequence_number, header.timestamp),
        (Seq(0xabcd), RtpTime(0x0102_0304))
    );
    assert_eq!(
        (header.len, header.extension_profile, header.extension_len),
        (28, Some(0xbede), 4)
    );
    assert_eq!(packet.csrcs().collect::<Vec<_>>(), [1, 2]);
    assert_eq!(packet.payload(), hex("706c64"));
    assert_eq!((packet.payload_range(), packet.padding_len()), (28..31, 2));
    assert_eq!(packet.extension(3), Some(&[0xaa, 0xbb, 0xcc][..]));
    assert_eq!(packet.extension(4), None);
}

#[test]
fn reads_a_padding_only_packet() {
    let bytes = hex("a0 60 0001 00000000 00000001 000000 04");
    let packet = Packet::parse(&bytes).unwrap();
    assert_eq!((packet.payload(), packet.padding_len()), (&[][..], 4));
}

#[test]
fn says_which_check_failed() {
    for (bytes, error) in [
        ("", Error::TooShort),
        ("80 60 0001 00000000 000000", Error::TooShort),
        ("40 60 0001 00000000 00000001", Error::BadVersion),
        ("81 60 0001 00000000 00000001 000000", Error::CsrcsTooLong),
        ("8f 60 0001 00000000 00000001 00000000", Error::CsrcsTooLong),
        ("90 60 0001 00000000 00000001", Error::ExtensionTooLong),
        (
            "90 60 0001 00000000 00000001 bede00",
            Error::ExtensionTooLong,
        ),
        (
            "90 60 0001 00000000 00000001 bede0001 000000",
            Error::ExtensionTooLong,
        ),
        (
            "90 60 0001 00000000 00000001 bedeffff 00000000",
            Error::ExtensionTooLong,
        ),
        ("a0 60 0001 00000000 00000001", Error::BadPadding),
        ("a0 60 0001 00000000 00000001 0000", Error::BadPadding),
        ("a0 60 0001 00000000 00000001 0003", Error::BadPadding),
    ] {
        assert_eq!(Packet::parse(&hex(bytes)).err(), Some(error), "{bytes}");
    }
}

#[test]
fn a_header_can_be_read_before_the_padding_is_plain() {
    let bytes = hex("a0 60 0001 00000000 00000001 ffff");
    let header = Header::parse(&bytes).unwrap();
    assert_eq!((header.len, header.has_padding), (12, true));
}

#[test]
fn writes_no_block_without_elements() {
    let mut out = [0xff; 64];
    assert_eq!(outgoing().emit(&[], &mut out), Ok(12));
    assert_eq!(out[..12], hex("80 e0 abcd 01020304 11223344"));
}

#[test]
fn writes_the_one_byte_form_where_it_can() {
    let elements = [
        Element {
            id: 1,
            data: &[0x7f],
        },
        Element {
            id: 14,
            data: &[1, 2, 3],
        },
    ];
    let mut out = [0xff; 64];
    let len = Outgoing {
        marker: false,
        has_padding: true,
        ..outgoing()
    }
    .emit(&elements, &mut out)
    .unwrap();
    assert_eq!(
        out[..len],
        hex("b0 60 abcd 01020304 11223344 bede 0002 10 7f e2 010203 0000")
    );
}

#[test]
fn writes_the_two_byte_form_where_it_must() {
    for (elements, expected) in [
        (
            &[Element { id: 15, data: &[9] }][..],
            "1000 0001 0f 01 09 00",
        ),
        (&[Element { id: 1, data: &[] }], "1000 0001 01 00 0000"),
        (
            &[
                Element {
                    id: 1,
                    data: &[5; 17],
                },
                Element { id: 2, data: &[6] },
            ],
            "1000 0006 01 11 0505050505050505050505050505050505 02 01 06 0000",
        ),
    ] {
        let mut out = [0xff; 64];
        let len = outgoing().emit(elements, &mut out).unwrap();
        assert_eq!(out[12..len], hex(expected));
        assert_eq!(weir_wire::extension::block_len(elements), len - 12);
        let packet = Packet::parse(&out[..len]).unwrap();
        assert_eq!(packet.extensions().collect::<Vec<_>>(), elements);
    }
}

#[test]
fn says_when_there_is_no_room() {
    let elements = [Element {
        id: 1,
        data: &[0x7f],
    }];
    for len in 0..20 {
        assert_eq!(
            outgoing().emit(&elements, &mut vec![0; len]),
            Err(NoRoom),
            "{len}"
        );
    }
    assert_eq!(outgoing().emit(&elements, &mut [0; 20]), Ok(20));
}
