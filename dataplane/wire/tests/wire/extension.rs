use weir_wire::extension::{
    AudioLevel, Elements, absolute_send_time, stream_name, transport_sequence,
};

use crate::hex;

fn elements(profile: u16, block: &str) -> Vec<(u8, Vec<u8>)> {
    Elements::new(profile, &hex(block))
        .map(|element| (element.id, element.data.to_vec()))
        .collect()
}

#[test]
fn reads_the_one_byte_example_of_rfc_8285() {
    // §4.2: an element of one byte, one of two bytes, two bytes of padding, one of four bytes.
    let block = "10 aa 21 bbcc 0000 33 01020304";
    assert_eq!(
        elements(0xbede, block),
        [
            (1, vec![0xaa]),
            (2, vec![0xbb, 0xcc]),
            (3, vec![1, 2, 3, 4])
        ]
    );
}

#[test]
fn reads_the_two_byte_example_of_rfc_8285() {
    // §4.3: an element without data, one of one byte, a byte of padding, one of four bytes.
    let block = "01 00 02 01 aa 00 03 04 01020304";
    assert_eq!(
        elements(0x1000, block),
        [(1, vec![]), (2, vec![0xaa]), (3, vec![1, 2, 3, 4])]
    );
    assert_eq!(
        elements(0x100f, block).len(),
        3,
        "the application bits do not matter"
    );
}

#[test]
fn an_element_past_the_end_ends_the_block_and_keeps_what_came_before() {
    assert_eq!(elements(0xbede, "10 aa 2f bbcc"), [(1, vec![0xaa])]);
    assert_eq!(elements(0xbede, "10 aa 20"), [(1, vec![0xaa])]);
    assert_eq!(elements(0x1000, "01 01 aa 02 05 bb"), [(1, vec![0xaa])]);
    assert_eq!(elements(0x1000, "01 01 aa 02"), [(1, vec![0xaa])]);
}

#[test]
fn id_15_and_id_0_with_a_length_end_a_one_byte_block() {
    assert_eq!(elements(0xbede, "10 aa f0 bb 20 cc"), [(1, vec![0xaa])]);
    assert_eq!(elements(0xbede, "10 aa 01 bbbb 20 cc"), [(1, vec![0xaa])]);
}

#[test]
fn another_profile_has_no_elements() {
    assert_eq!(elements(0x1010, "10 aa 00 00"), []);
    assert_eq!(elements(0xabac, "10 aa 00 00"), []);
}

#[test]
fn reads_the_typed_elements() {
    assert_eq!(
        AudioLevel::parse(&[0x85]),
        Some(AudioLevel {
            voice: true,
            level: 5
        })
    );
    assert_eq!(
        AudioLevel::parse(&[0x7f, 0]),
        Some(AudioLevel {
            voice: false,
            level: 127
        })
    );
    assert_eq!(AudioLevel::parse(&[]), None);
    assert_eq!(
        AudioLevel {
            voice: true,
            level: 5
        }
        .emit(),
        [0x85]
    );
    assert_eq!(
        transport_sequence(&[0x12, 0x34]).map(|seq| seq.0),
        Some(0x1234)
    );
    assert_eq!(transport_sequence(&[0x12]), None);
    assert_eq!(absolute_send_time(&[1, 2, 3]), Some(0x01_0203));
    assert_eq!(absolute_send_time(&[1, 2]), None);
}

#[test]
fn stream_names_are_tokens() {
    assert_eq!(stream_name(b"f"), Some("f"));
    assert_eq!(stream_name(b"video-1_a.b\0\0"), Some("video-1_a.b"));
    for bad in [
        &b""[..],
        b"\0f",
        b"a b",
        b"a\nb",
        b"a;b",
        b"a:b",
        "ä".as_bytes(),
        b"\xff",
    ] {
        assert_eq!(stream_name(bad), None, "{bad:?}");
    }
}
