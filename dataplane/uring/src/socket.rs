//! The sockets of a shard, and addresses as the kernel writes them.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, RawFd};

use socket2::{Domain, Protocol, Socket, Type};
use weir_shard::{Local, Path};

use crate::config::SOCKET_BUFFER_BYTES;
use crate::error::SpawnError;

/// The longest address that a UDP socket has: `sockaddr_in6`.
pub(crate) const NAME_BYTES: usize = size_of::<libc::sockaddr_in6>();

/// Bound UDP sockets, by their place among the ring's fixed files: first those that listen, in the order of the configuration, then
/// those to call from, which are opened when they are first needed and stay.
pub(crate) struct Sockets {
    bound: Vec<Bound>,
    /// Of each family, IPv4 first: the place of every socket, by [`Local`]; `None` until it is open.
    places: [Vec<Option<u32>>; 2],
}

struct Bound {
    socket: Socket,
    address: SocketAddr,
    local: Local,
}

impl Sockets {
    /// Opens and binds a socket for each address, and makes room for `calling` more of each one's family.
    pub(crate) fn open(listen: &[SocketAddr], calling: u8) -> Result<Sockets, SpawnError> {
        let each = 1 + usize::from(calling);
        let mut sockets = Sockets {
            bound: Vec::with_capacity(listen.len() * each),
            places: [const { Vec::new() }; 2],
        };
        for address in listen {
            sockets.places[family(address)] = vec![None; each];
            let opened = sockets.add(*address, Local::LISTENING, |_, socket| {
                warn_of_small_buffers(socket);
                Ok(())
            });
            opened.map_err(|source| SpawnError::Socket {
                address: *address,
                source,
            })?;
        }
        Ok(sockets)
    }

    /// Opens the socket that a path leaves from, on a port that the kernel chooses, and gives its place. It counts as open once
    /// `register` has taken place and socket. `None` where there is nothing to open: it is open, or none of the family
    /// listens, or there are to be no more.
    pub(crate) fn open_for(
        &mut self,
        path: Path,
        register: impl FnOnce(u32, &Socket) -> io::Result<()>,
    ) -> io::Result<Option<u32>> {
        let family = family(&path.remote);
        let listening = self.bound.iter().map(|of| of.address);
        let address = listening
            .filter(|_| self.places[family].get(usize::from(path.local.0)) == Some(&None))
            .find(|address| self::family(address) == family);
        let Some(mut address) = address else {
            return Ok(None);
        };
        address.set_port(0);
        self.add(address, path.local, register).map(Some)
    }

    fn add(
        &mut self,
        address: SocketAddr,
        local: Local,
        register: impl FnOnce(u32, &Socket) -> io::Result<()>,
    ) -> io::Result<u32> {
        let (socket, address) = bind(address)?;
        let place = self.bound.len() as u32;
        register(place, &socket)?;
        if let Some(free) = self.places[family(&address)].get_mut(usize::from(local.0)) {
            *free = Some(place);
        }
        self.bound.push(Bound {
            socket,
            address,
            local,
        });
        Ok(place)
    }

    /// Where they receive, those that are open.
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        self.bound.iter().map(|of| of.address).collect()
    }

    /// Descriptors for every place that there may be; -1 for those that are not open (`io_uring_register`(2): a hole).
    pub(crate) fn descriptors(&self) -> Vec<RawFd> {
        let open = self.bound.iter().map(|of| of.socket.as_raw_fd());
        open.chain(std::iter::repeat(-1))
            .take(self.room())
            .collect()
    }

    /// How many are open.
    pub(crate) fn len(&self) -> usize {
        self.bound.len()
    }

    /// How many are open to call from.
    pub(crate) fn calling(&self) -> usize {
        let calling = |of: &&Bound| of.local != Local::LISTENING;
        self.bound.iter().filter(calling).count()
    }

    /// How many there can be.
    pub(crate) fn room(&self) -> usize {
        self.places.iter().map(Vec::len).sum()
    }

    /// The place of the socket that a path leaves from, if it is open.
    pub(crate) fn place_of(&self, path: Path) -> Option<u32> {
        let places = &self.places[family(&path.remote)];
        *places.get(usize::from(path.local.0))?
    }

    /// The path on which something came from `remote` to the socket in this place.
    pub(crate) fn path_to(&self, place: u32, remote: SocketAddr) -> Option<Path> {
        let local = self.bound.get(place as usize)?.local;
        Some(Path { local, remote })
    }
}

fn family(address: &SocketAddr) -> usize {
    usize::from(address.is_ipv6())
}

fn bind(address: SocketAddr) -> io::Result<(Socket, SocketAddr)> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::DGRAM,
        Some(Protocol::UDP),
    )?;
    if address.is_ipv6() {
        // Otherwise IPv4 would come in here too, in another notation, and the shard would see two of everyone.
        socket.set_only_v6(true)?;
    }
    enlarge(&socket, libc::SO_RCVBUFFORCE);
    enlarge(&socket, libc::SO_SNDBUFFORCE);
    socket.bind(&address.into())?;
    let bound = socket
        .local_addr()?
        .as_socket()
        .ok_or(io::ErrorKind::AddrNotAvailable)?;
    Ok((socket, bound))
}

/// Asks for a large buffer: beyond the system's limit if we may, else up to it. A small one works, and loses bursts.
fn enlarge(socket: &Socket, option: libc::c_int) {
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
    // Whatever comes of it shows in the size that it has then.
    let _ = if option == libc::SO_RCVBUFFORCE {
        socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES)
    } else {
        socket.set_send_buffer_size(SOCKET_BUFFER_BYTES)
    };
}

fn warn_of_small_buffers(socket: &Socket) {
    for (got, limit) in [
        (socket.recv_buffer_size(), "net.core.rmem_max"),
        (socket.send_buffer_size(), "net.core.wmem_max"),
    ] {
        // The kernel reports twice what it was asked for.
        let got = got.unwrap_or(0) / 2;
        if got < SOCKET_BUFFER_BYTES {
            tracing::warn!(
                got,
                wanted = SOCKET_BUFFER_BYTES,
                "small socket buffer: raise {limit}, or give the process CAP_NET_ADMIN"
            );
        }
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

    fn path(local: u8, remote: &str) -> Path {
        Path {
            local: Local(local),
            remote: remote.parse().unwrap(),
        }
    }

    fn nothing_is_opened(sockets: &mut Sockets, path: Path) {
        let opened = sockets.open_for(path, |_, _| unreachable!("nothing is opened for {path:?}"));
        assert_eq!(opened.unwrap(), None);
    }

    const V4: &str = "192.0.2.1:1";
    const V6: &str = "[2001:db8::1]:1";

    #[test]
    fn sends_from_the_socket_of_the_same_family() {
        let listen = ["[::1]:0".parse().unwrap(), "127.0.0.1:0".parse().unwrap()];
        let sockets = Sockets::open(&listen, 0).unwrap();
        assert_eq!(sockets.place_of(path(0, V4)), Some(1));
        assert_eq!(sockets.place_of(path(0, V6)), Some(0));
        let only = Sockets::open(&listen[..1], 0).unwrap();
        assert_eq!(only.place_of(path(0, V4)), None);
    }

    #[test]
    fn sockets_to_call_from_are_opened_once_when_they_are_needed() {
        let listen = ["[::1]:0".parse().unwrap(), "127.0.0.1:0".parse().unwrap()];
        let mut sockets = Sockets::open(&listen, 2).unwrap();
        assert_eq!((sockets.len(), sockets.room()), (2, 6));
        for (at, path) in [path(2, V4), path(1, V6), path(1, V4), path(2, V6)]
            .into_iter()
            .enumerate()
        {
            assert_eq!(sockets.place_of(path), None);
            let refused = sockets.open_for(path, |_, _| Err(io::ErrorKind::Other.into()));
            assert!(refused.is_err());
            assert_eq!((sockets.place_of(path), sockets.calling()), (None, at));
            let mut registered = None;
            let place = sockets.open_for(path, |place, socket| {
                registered = Some((place, socket.as_raw_fd()));
                Ok(())
            });
            let place = place.unwrap().unwrap();
            assert_eq!(place as usize, 2 + at);
            let descriptor = sockets.descriptors()[place as usize];
            assert_eq!(registered, Some((place, descriptor)));
            assert_eq!(sockets.place_of(path), Some(place));
            assert_eq!(sockets.path_to(place, path.remote), Some(path));
            nothing_is_opened(&mut sockets, path);
        }
        let addresses = sockets.addresses();
        let ips: Vec<_> = addresses.iter().map(|of| of.ip().to_string()).collect();
        assert_eq!(
            ips,
            ["::1", "127.0.0.1", "127.0.0.1", "::1", "127.0.0.1", "::1"]
        );
        assert!(addresses.iter().all(|address| address.port() != 0));
        nothing_is_opened(&mut sockets, path(3, V4));
    }

    #[test]
    fn nothing_is_opened_for_a_family_that_is_not_listened_on() {
        let mut sockets = Sockets::open(&["127.0.0.1:0".parse().unwrap()], 2).unwrap();
        nothing_is_opened(&mut sockets, path(1, V6));
        assert_eq!(sockets.descriptors()[1..], [-1, -1]);
    }
}
