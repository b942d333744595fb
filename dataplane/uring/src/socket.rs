//! The sockets of a shard, and addresses as the kernel writes them.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, RawFd};

use socket2::{Domain, Protocol, Socket, Type};

use crate::config::SOCKET_BUFFER_BYTES;
use crate::error::SpawnError;

/// The longest address that a UDP socket has: `sockaddr_in6`.
pub(crate) const NAME_BYTES: usize = size_of::<libc::sockaddr_in6>();

/// Bound UDP sockets, in the order of the configuration, which is also their order among the ring's fixed files.
pub(crate) struct Sockets {
    bound: Vec<(Socket, SocketAddr)>,
}

impl Sockets {
    /// Opens and binds a socket for each address.
    pub(crate) fn open(listen: &[SocketAddr]) -> Result<Sockets, SpawnError> {
        let mut bound = Vec::new();
        for address in listen {
            let socket = open(*address).map_err(|source| SpawnError::Socket {
                address: *address,
                source,
            })?;
            bound.push(socket);
        }
        Ok(Sockets { bound })
    }

    /// Where they receive.
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        self.bound.iter().map(|(_, address)| *address).collect()
    }

    /// Their descriptors.
    pub(crate) fn descriptors(&self) -> impl Iterator<Item = RawFd> {
        self.bound.iter().map(|(socket, _)| socket.as_raw_fd())
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.bound.len()
    }

    /// The place of the socket that can send to `remote`.
    pub(crate) fn place_for(&self, remote: SocketAddr) -> Option<u32> {
        let place = self
            .bound
            .iter()
            .position(|(_, address)| address.is_ipv4() == remote.is_ipv4())?;
        u32::try_from(place).ok()
    }
}

fn open(address: SocketAddr) -> io::Result<(Socket, SocketAddr)> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::DGRAM,
        Some(Protocol::UDP),
    )?;
    if address.is_ipv6() {
        // Otherwise IPv4 would come in here too, in another notation, and the shard would see two of everyone.
        socket.set_only_v6(true)?;
    }
    enlarge(&socket, libc::SO_RCVBUFFORCE, "net.core.rmem_max");
    enlarge(&socket, libc::SO_SNDBUFFORCE, "net.core.wmem_max");
    socket.bind(&address.into())?;
    let bound = socket
        .local_addr()?
        .as_socket()
        .ok_or(io::ErrorKind::AddrNotAvailable)?;
    Ok((socket, bound))
}

/// Asks for a large buffer: beyond the system's limit if we may, else up to it. A small one works, and loses bursts.
fn enlarge(socket: &Socket, option: libc::c_int, limit: &str) {
    let bytes = SOCKET_BUFFER_BYTES as libc::c_int;
    // SAFETY: the option's value is an int, and `bytes` is one that outlives the call.
    let forced = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            option,
            (&raw const bytes).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if forced == 0 {
        return;
    }
    let (asked, got) = if option == libc::SO_RCVBUFFORCE {
        (
            socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES),
            socket.recv_buffer_size(),
        )
    } else {
        (
            socket.set_send_buffer_size(SOCKET_BUFFER_BYTES),
            socket.send_buffer_size(),
        )
    };
    // The kernel reports twice what it was asked for.
    let got = got.unwrap_or(0) / 2;
    if asked.is_err() || got < SOCKET_BUFFER_BYTES {
        tracing::warn!(
            got,
            wanted = SOCKET_BUFFER_BYTES,
            "small socket buffer: raise {limit}, or give the process CAP_NET_ADMIN"
        );
    }
}

/// An address as `sendmsg` wants it.
pub(crate) struct Name {
    pub(crate) bytes: [u8; NAME_BYTES],
    pub(crate) len: usize,
}

impl Name {
    /// No address yet.
    pub(crate) const EMPTY: Name = Name {
        bytes: [0; NAME_BYTES],
        len: 0,
    };

    /// Writes an address as `sockaddr_in` or `sockaddr_in6` (ip(7), ipv6(7)).
    pub(crate) fn emit(address: SocketAddr) -> Name {
        let mut bytes = [0; NAME_BYTES];
        let len = match address {
            SocketAddr::V4(v4) => {
                bytes[0..2].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
                bytes[2..4].copy_from_slice(&v4.port().to_be_bytes());
                bytes[4..8].copy_from_slice(&v4.ip().octets());
                size_of::<libc::sockaddr_in>()
            }
            SocketAddr::V6(v6) => {
                bytes[0..2].copy_from_slice(&(libc::AF_INET6 as u16).to_ne_bytes());
                bytes[2..4].copy_from_slice(&v6.port().to_be_bytes());
                bytes[4..8].copy_from_slice(&v6.flowinfo().to_be_bytes());
                bytes[8..24].copy_from_slice(&v6.ip().octets());
                bytes[24..28].copy_from_slice(&v6.scope_id().to_ne_bytes());
                NAME_BYTES
            }
        };
        Name { bytes, len }
    }

    /// Reads an address that `recvmsg` wrote. The flow label is left out: it is no part of who a peer is.
    pub(crate) fn parse(name: &[u8]) -> Option<SocketAddr> {
        let family = i32::from(u16::from_ne_bytes(*name.first_chunk()?));
        let port = u16::from_be_bytes(*name.get(2..)?.first_chunk()?);
        match family {
            libc::AF_INET => {
                let octets: [u8; 4] = *name.get(4..)?.first_chunk()?;
                Some(SocketAddr::V4(SocketAddrV4::new(
                    Ipv4Addr::from(octets),
                    port,
                )))
            }
            libc::AF_INET6 => {
                let octets: [u8; 16] = *name.get(8..)?.first_chunk()?;
                let scope = u32::from_ne_bytes(*name.get(24..)?.first_chunk()?);
                Some(SocketAddr::V6(SocketAddrV6::new(
                    Ipv6Addr::from(octets),
                    port,
                    0,
                    scope,
                )))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_read_back_and_cuts_are_refused() {
        for text in ["192.0.2.7:3478", "[2001:db8::1]:443", "[fe80::1%2]:9"] {
            let address: SocketAddr = text.parse().unwrap();
            let name = Name::emit(address);
            assert_eq!(Name::parse(&name.bytes[..name.len]), Some(address));
            for len in 0..8 {
                assert_eq!(Name::parse(&name.bytes[..len]), None, "{text} cut to {len}");
            }
        }
        assert_eq!(Name::parse(&[0; NAME_BYTES]), None);
    }

    #[test]
    fn sends_from_the_socket_of_the_same_family() {
        let listen = ["[::1]:0".parse().unwrap(), "127.0.0.1:0".parse().unwrap()];
        let sockets = Sockets::open(&listen).unwrap();
        assert_eq!(sockets.place_for("192.0.2.1:1".parse().unwrap()), Some(1));
        assert_eq!(
            sockets.place_for("[2001:db8::1]:1".parse().unwrap()),
            Some(0)
        );
        let only = Sockets::open(&listen[..1]).unwrap();
        assert_eq!(only.place_for("192.0.2.1:1".parse().unwrap()), None);
    }
}
