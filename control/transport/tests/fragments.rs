//! Browsers' ClientHellos no longer fit one datagram: a post-quantum key share alone has 1184 bytes.

mod common;

use std::time::Instant;

use common::Certificates;
use weir_transport::{Association, Event, Role};

const RECORD_HEADER: usize = 13;
const HANDSHAKE_HEADER: usize = 12;

/// Cuts a datagram with one unfragmented handshake message into two with a fragment each (RFC 6347 §4.2.3).
fn cut(datagram: &[u8], at: usize) -> [Vec<u8>; 2] {
    let handshake = &datagram[RECORD_HEADER..RECORD_HEADER + HANDSHAKE_HEADER];
    let body = &datagram[RECORD_HEADER + HANDSHAKE_HEADER..];
    let part = |sequence: u8, offset: usize, bytes: &[u8]| {
        let mut part = datagram[..RECORD_HEADER].to_vec();
        part[10] = sequence;
        part[11..13].copy_from_slice(&((HANDSHAKE_HEADER + bytes.len()) as u16).to_be_bytes());
        part.extend_from_slice(&handshake[..6]);
        part.extend_from_slice(&(offset as u32).to_be_bytes()[1..]);
        part.extend_from_slice(&(bytes.len() as u32).to_be_bytes()[1..]);
        part.extend_from_slice(bytes);
        part
    };
    [part(0, 0, &body[..at]), part(1, at, &body[at..])]
}

/// Adds one to the sequence numbers of the unprotected records, because the cut has made one more.
fn renumber(datagram: &mut [u8]) {
    let mut rest = datagram;
    while rest.len() >= RECORD_HEADER {
        if rest[3..5] == [0, 0] {
            rest[10] += 1;
        }
        let len = usize::from(u16::from_be_bytes([rest[11], rest[12]]));
        rest = &mut rest[RECORD_HEADER + len..];
    }
}

/// Runs a handshake whose ClientHello comes in the given order of fragments; says whether the server got keys.
fn connects(order: [usize; 2]) -> bool {
    let certificates = Certificates::new();
    let now = Instant::now();
    let of_client = certificates.active.fingerprint();
    let of_server = certificates.passive.fingerprint();
    let mut client = Association::new(&certificates.active, Role::Active, of_server, now);
    let mut server = Association::new(&certificates.passive, Role::Passive, of_client, now);
    let hello = client.poll_transmit().unwrap();
    assert_eq!(hello[RECORD_HEADER], 1, "a ClientHello");
    let parts = cut(&hello, 60);
    for n in order {
        assert_eq!(server.poll_transmit(), None);
        server.handle_datagram(&parts[n], now);
    }
    for _ in 0..4 {
        while let Some(datagram) = server.poll_transmit() {
            client.handle_datagram(&datagram, now);
        }
        while let Some(mut datagram) = client.poll_transmit() {
            renumber(&mut datagram);
            server.handle_datagram(&datagram, now);
        }
    }
    std::iter::from_fn(|| server.poll_event()).any(|event| matches!(event, Event::Keys(_)))
}

#[test]
fn a_client_hello_may_come_in_two_datagrams() {
    assert!(connects([0, 1]));
}

#[test]
fn the_second_half_of_a_client_hello_may_come_first() {
    assert!(connects([1, 0]));
}
