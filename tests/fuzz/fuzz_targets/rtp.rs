//! RTP packets: sorting, header, padding, CSRCs, extensions, and the header that is written from what was read.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weir_wire::extension::Element;
use weir_wire::rtp::{Outgoing, Packet};
use weir_wire::{Kind, NoRoom};

fuzz_target!(|bytes: &[u8]| {
    let kind = Kind::of(bytes);
    let Ok(packet) = Packet::parse(bytes) else { return };
    assert!(matches!(kind, Kind::Rtp | Kind::Rtcp));
    let header = packet.header();
    assert_eq!(header.len + packet.payload().len() + packet.padding_len(), bytes.len());
    assert!(packet.csrcs().count() <= 15);

    let elements: Vec<Element<'_>> = packet.extensions().collect();
    let outgoing = Outgoing {
        marker: header.marker,
        payload_type: header.payload_type,
        sequence_number: header.sequence_number,
        timestamp: header.timestamp,
        ssrc: header.ssrc,
        has_padding: false,
    };
    // Elements of one byte may need two in the other form, so the block may be larger than the one that was read.
    let mut out = vec![0; 12 + weir_wire::extension::block_len(&elements)];
    match outgoing.emit(&elements, &mut out) {
        Err(NoRoom) => assert!(out.len() > 0xffff * 4),
        Ok(len) => {
            assert_eq!(len, out.len());
            let again = Packet::parse(&out).expect("what is written can be read");
            assert_eq!(again.header().sequence_number, header.sequence_number);
            assert_eq!(again.extensions().collect::<Vec<_>>(), elements);
        }
    }
});
