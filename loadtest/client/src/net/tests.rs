use std::sync::Mutex;
use std::time::Duration;

use super::*;

#[derive(Default)]
struct Collected(Mutex<Vec<(Vec<u8>, SocketAddr)>>);

impl Sink for Collected {
    fn handle(&self, datagram: &[u8], from: SocketAddr, _: Instant) {
        self.0.lock().unwrap().push((datagram.to_vec(), from));
    }
}

impl Collected {
    fn until(&self, count: usize) -> Vec<(Vec<u8>, SocketAddr)> {
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(20) {
            let collected = self.0.lock().unwrap().clone();
            if collected.len() >= count {
                return collected;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        panic!("{} datagrams, not {count}", self.0.lock().unwrap().len());
    }
}

fn receiving() -> (Socket, Arc<Collected>, Arc<dyn Sink>) {
    let (socket, collected) = (Socket::bind().unwrap(), Arc::<Collected>::default());
    let sink: Arc<dyn Sink> = collected.clone();
    socket.receive(&sink).unwrap();
    (socket, collected, sink)
}

#[test]
fn one_socket_reaches_both_families_and_names_who_sent() {
    let (socket, collected, _sink) = receiving();
    for ip in [
        IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(Ipv6Addr::LOCALHOST),
    ] {
        let Ok(other) = UdpSocket::bind((ip, 0)) else {
            continue; // A machine without IPv6.
        };
        other.send_to(b"\x80hello", (ip, socket.port())).unwrap();
        let seen = collected.until(1);
        assert_eq!(
            seen.last(),
            Some(&(b"\x80hello".to_vec(), other.local_addr().unwrap()))
        );
        socket
            .send_to(b"back", other.local_addr().unwrap())
            .unwrap();
        let mut buffer = [0; 16];
        let (length, from) = other.recv_from(&mut buffer).unwrap();
        assert_eq!(
            (&buffer[..length], from.port()),
            (&b"back"[..], socket.port())
        );
        collected.0.lock().unwrap().clear();
    }
    let counts = socket.counts();
    assert_eq!(
        (counts.sent, counts.received),
        (counts.sent_bytes / 4, counts.received_bytes / 6)
    );
    assert!(counts.sent > 0 && counts.overflowed == 0 && counts.filtered == 0);
}

#[test]
fn a_sampled_socket_keeps_all_but_media_and_counts_every_packet() {
    let (socket, collected, _sink) = receiving();
    socket.sample(64).unwrap();
    let other = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let to = (Ipv4Addr::LOCALHOST, socket.port());
    // STUN, DTLS, RTCP of both ends of its range, TURN channels, something short: none of it is media.
    let others: [&[u8]; 8] = [
        &[0, 1, 0, 0],
        &[22, 254, 253],
        &[0x80, 192, 1],
        &[0x80, 200, 1],
        &[0xbf, 223, 1],
        &[64, 0, 1],
        &[192, 96, 1],
        &[0x80],
    ];
    others
        .iter()
        .for_each(|datagram| drop(other.send_to(datagram, to)));
    let media = 6400;
    for index in 0..media {
        // Payload types 0, 96 and 127 with and without marker.
        let second = [0, 96, 127, 0xe0, 0xff, 191][index % 6];
        let number = (index as u16).to_be_bytes();
        other
            .send_to(
                &[0x80 | (index % 64) as u8, second, number[0], number[1]],
                to,
            )
            .unwrap();
    }
    // The last one passes, and all before it have been counted.
    other.send_to(b"\x01end", to).unwrap();
    let seen = collected.until(others.len() + 1);
    let start = Instant::now();
    let mut seen = seen;
    while !seen.iter().any(|(datagram, _)| datagram == b"\x01end") {
        assert!(start.elapsed() < Duration::from_secs(20));
        std::thread::sleep(Duration::from_millis(2));
        seen = collected.until(1);
    }
    for datagram in others {
        assert!(
            seen.iter().any(|(seen, _)| seen == datagram),
            "{datagram:02x?} is no media"
        );
    }
    let counts = socket.counts();
    let sampled = seen.len() - others.len() - 1;
    assert_eq!(counts.filtered + sampled as u64, media as u64);
    assert_eq!((counts.received, counts.overflowed), (seen.len() as u64, 0));
    assert_eq!(sampled, 100, "of {media}");
}

#[test]
fn what_finds_the_buffer_full_is_counted_as_lost() {
    let socket = Socket::bind().unwrap();
    let other = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    // Nobody receives; far more than any default for `net.core.rmem_max`.
    let (mut sent, limit) = (0u64, 200_000);
    while socket.counts().overflowed == 0 && sent < limit {
        for _ in 0..100 {
            other
                .send_to(&[0x80; 1200], (Ipv4Addr::LOCALHOST, socket.port()))
                .unwrap();
        }
        sent += 100;
    }
    assert!(sent < limit, "a buffer without an end");
    let lost = socket.counts().overflowed;
    // The filter counts in the same place; the buffer was full, so nobody can say which.
    socket.sample(64).unwrap();
    other
        .send_to(&[0x80; 1200], (Ipv4Addr::LOCALHOST, socket.port()))
        .unwrap();
    let counts = socket.counts();
    assert_eq!((counts.overflowed, counts.filtered), (lost + 1, 0));
}

#[test]
fn a_dropped_socket_closes_its_port() {
    let (socket, _, _sink) = receiving();
    let port = socket.port();
    drop(socket);
    let start = Instant::now();
    while UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).is_err() {
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "port {port} is still open"
        );
        std::thread::sleep(Duration::from_millis(2));
    }
}
