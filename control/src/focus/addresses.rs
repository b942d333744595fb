//! What clients are told to send to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// Destinations for which the kernel is asked which source address it would use. Nothing is sent: connecting a datagram
/// socket only looks up a route. They are addresses for documentation (RFC 5737, RFC 3849).
const ELSEWHERE_V4: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 9);
const ELSEWHERE_V6: SocketAddr = SocketAddr::new(
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
    9,
);

/// The addresses of one shard as clients see them: the operator's where there are any of the family, else the one it
/// listens on, else the one of the default route.
pub(super) fn advertised(listening: &[SocketAddr], advertise: &[IpAddr]) -> Vec<SocketAddr> {
    listening
        .iter()
        .flat_map(|address| of_one(*address, advertise))
        .collect()
}

fn of_one(address: SocketAddr, advertise: &[IpAddr]) -> Vec<SocketAddr> {
    let chosen: Vec<SocketAddr> = advertise
        .iter()
        .filter(|ip| ip.is_ipv4() == address.is_ipv4())
        .map(|ip| SocketAddr::new(*ip, address.port()))
        .collect();
    if !chosen.is_empty() {
        return chosen;
    }
    if !address.ip().is_unspecified() {
        return vec![address];
    }
    route_address(address.is_ipv4())
        .map(|ip| SocketAddr::new(ip, address.port()))
        .into_iter()
        .collect()
}

/// This machine's address on its default route, if it has one.
fn route_address(v4: bool) -> Option<IpAddr> {
    let (any, elsewhere) = if v4 {
        (SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)), ELSEWHERE_V4)
    } else {
        (SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)), ELSEWHERE_V6)
    };
    let socket = UdpSocket::bind(any).ok()?;
    socket.connect(elsewhere).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn operators_addresses_replace_those_of_their_family() {
        let listening = [address("0.0.0.0:7882"), address("[::1]:7882")];
        let advertise = ["203.0.113.7".parse().expect("an address")];
        assert_eq!(
            advertised(&listening, &advertise),
            [address("203.0.113.7:7882"), address("[::1]:7882")]
        );
    }

    #[test]
    fn address_that_is_listened_on_is_advertised() {
        assert_eq!(
            advertised(&[address("127.0.0.1:5")], &[]),
            [address("127.0.0.1:5")]
        );
    }
}
