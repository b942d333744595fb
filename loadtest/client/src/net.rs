//! The sockets of participants: one for each, on all addresses of both families, so that a participant binds nothing before it knows
//! where its focus is, and ICE has one pair to check for each address of the focus.
//!
//! ```text
//!   kernel ──► filter (light participants: counts and drops media) ──► ring of a receiving thread ──► Sink: sorts, decrypts
//!   kernel ◄── sendto ◄── whichever task has something to say
//! ```
//! Few threads receive for all participants, on `tokio-uring`: one operation waits on each socket, and nothing is allocated for a
//! datagram that is not kept. They are not pinned: the focus under test may sit on the same machine, and knows better where.
//! Where io_uring is forbidden (containers), the same threads use tokio's sockets. docs/decisions/0008 has the reasons and figures.

mod filter;
mod meminfo;
mod threads;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Instant;

use socket2::{Domain, Protocol, Socket as Raw, Type};

use crate::health::{HEALTH, Health};

/// Takes what arrives, on a receiving thread: it must not wait.
pub(crate) trait Sink: Send + Sync {
    fn handle(&self, datagram: &[u8], from: SocketAddr, now: Instant);
}

/// What is asked of the system for each socket. It gives as much as `net.core.rmem_max` allows.
const RECEIVE_BUFFER_BYTES: usize = 1 << 20;

/// One participant's socket. It receives until it is dropped.
pub(crate) struct Socket(Arc<Shared>);

/// What the receiving thread and the participant have in common.
pub(crate) struct Shared {
    raw: Raw,
    port: u16,
    dual: bool,
    closed: AtomicBool,
    sink: OnceLock<Weak<dyn Sink>>,
    counts: Counts,
}

#[derive(Debug, Default)]
struct Counts {
    received: AtomicU64,
    received_bytes: AtomicU64,
    sent: AtomicU64,
    sent_bytes: AtomicU64,
    /// Datagrams lost before the filter was there.
    lost_before: AtomicU32,
    filtering: AtomicBool,
    half_full: AtomicBool,
    overflows_told: AtomicU32,
}

/// What a socket counted so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct SocketCounts {
    pub(crate) received: u64,
    pub(crate) received_bytes: u64,
    pub(crate) sent: u64,
    pub(crate) sent_bytes: u64,
    pub(crate) filtered: u64,
    pub(crate) overflowed: u64,
}

impl Socket {
    /// Binds a port on all addresses. Datagrams are lost until [`receive`](Self::receive) says where they go.
    pub(crate) fn bind() -> io::Result<Socket> {
        // Where IPv6 is switched off, IPv4 alone has to do.
        let (raw, dual) = match dual_stack() {
            Ok(raw) => (raw, true),
            Err(_) => {
                let raw = Raw::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
                raw.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)).into())?;
                (raw, false)
            }
        };
        // The system gives less than asked for rather than refuse.
        let _ = raw.set_recv_buffer_size(RECEIVE_BUFFER_BYTES);
        let local = raw.local_addr()?.as_socket();
        let port = local.map_or(0, |local| local.port());
        Ok(Socket(Arc::new(Shared {
            raw,
            port,
            dual,
            closed: AtomicBool::new(false),
            sink: OnceLock::new(),
            counts: Counts::default(),
        })))
    }

    /// Begins to receive; only the first call counts.
    pub(crate) fn receive(&self, sink: &Arc<dyn Sink>) -> io::Result<()> {
        if self.0.sink.set(Arc::downgrade(sink)).is_ok() {
            let socket: UdpSocket = self.0.raw.try_clone()?.into();
            threads::receive(socket, Arc::clone(&self.0));
        }
        Ok(())
    }

    /// The bound port.
    pub(crate) fn port(&self) -> u16 {
        self.0.port
    }

    /// Whether it reaches IPv6 addresses.
    pub(crate) fn has_ipv6(&self) -> bool {
        self.0.dual
    }

    /// Sends at once, or not at all: a full buffer loses the datagram as a network would.
    pub(crate) fn send_to(&self, datagram: &[u8], to: SocketAddr) -> io::Result<usize> {
        let to = match to {
            SocketAddr::V4(to) if self.0.dual => {
                SocketAddr::from((to.ip().to_ipv6_mapped(), to.port()))
            }
            to => to,
        };
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        let sent = self.0.raw.send_to_with_flags(datagram, &to.into(), flags);
        match &sent {
            Ok(bytes) => {
                self.0.counts.sent.fetch_add(1, Ordering::Relaxed);
                self.0
                    .counts
                    .sent_bytes
                    .fetch_add(*bytes as u64, Ordering::Relaxed);
            }
            Err(_) => Health::count(&HEALTH.send_errors),
        }
        sent
    }

    /// From here on the kernel drops media except for one packet in `one_in` (at least 1), and counts it.
    pub(crate) fn sample(&self, one_in: u32) -> io::Result<()> {
        let before = meminfo::read(&self.0.raw)?;
        self.0.raw.attach_filter(&filter::program(one_in))?;
        self.0
            .counts
            .lost_before
            .store(before.drops, Ordering::Relaxed);
        self.0.counts.filtering.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// What was counted so far; also looks how full the buffer is.
    pub(crate) fn counts(&self) -> SocketCounts {
        let counts = &self.0.counts;
        let get = |of: &AtomicU64| of.load(Ordering::Relaxed);
        let memory = meminfo::read(&self.0.raw).unwrap_or_default();
        let (filtered, overflowed) = counts.lost(memory);
        Socket::tell(counts, overflowed);
        SocketCounts {
            received: get(&counts.received),
            received_bytes: get(&counts.received_bytes),
            sent: get(&counts.sent),
            sent_bytes: get(&counts.sent_bytes),
            filtered: filtered.into(),
            overflowed: overflowed.into(),
        }
    }

    fn tell(counts: &Counts, overflowed: u32) {
        let told = counts.overflows_told.swap(overflowed, Ordering::Relaxed);
        let new = overflowed.saturating_sub(told);
        HEALTH
            .socket_overflows
            .fetch_add(new.into(), Ordering::Relaxed);
    }
}

impl Counts {
    /// The kernel has one count for what the filter dropped and for what found the buffer full. A buffer that is never seen half
    /// full takes all that passes the filter for seconds.
    fn lost(&self, memory: meminfo::Memory) -> (u32, u32) {
        if memory.allocated > memory.limit / 2 {
            self.half_full.store(true, Ordering::Relaxed);
        }
        if !self.filtering.load(Ordering::Relaxed) {
            return (0, memory.drops);
        }
        let before = self.lost_before.load(Ordering::Relaxed);
        let since = memory.drops.wrapping_sub(before);
        if self.half_full.load(Ordering::Relaxed) {
            (0, memory.drops)
        } else {
            (since, before)
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.0.closed.store(true, Ordering::Release);
        // An operation that waits on the socket keeps it open: a datagram of its own wakes it up.
        let own = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port()));
        let own = if self.0.dual {
            SocketAddr::from((Ipv6Addr::LOCALHOST, self.port()))
        } else {
            own
        };
        if self.0.sink.get().is_some() {
            let _ = self
                .0
                .raw
                .send_to_with_flags(&[], &own.into(), libc::MSG_DONTWAIT);
        }
    }
}

impl Shared {
    /// Takes a datagram on a receiving thread; false when the socket is to be closed.
    fn handle(&self, datagram: &[u8], from: SocketAddr) -> bool {
        if self.closed.load(Ordering::Acquire) {
            return false;
        }
        self.counts.received.fetch_add(1, Ordering::Relaxed);
        self.counts
            .received_bytes
            .fetch_add(datagram.len() as u64, Ordering::Relaxed);
        let Some(sink) = self.sink.get().and_then(Weak::upgrade) else {
            return true;
        };
        let from = SocketAddr::new(from.ip().to_canonical(), from.port());
        sink.handle(datagram, from, Instant::now());
        true
    }
}

fn dual_stack() -> io::Result<Raw> {
    let raw = Raw::new(Domain::IPV6, Type::DGRAM, Some(Protocol::UDP))?;
    raw.set_only_v6(false)?;
    raw.bind(&SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)).into())?;
    Ok(raw)
}

/// The own address from which this one is reached; asks the routing table, nothing is sent.
pub(crate) fn source_towards(to: IpAddr) -> io::Result<IpAddr> {
    let any: SocketAddr = match to {
        IpAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        IpAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let probe = UdpSocket::bind(any)?;
    probe.connect((to, 9))?;
    Ok(probe.local_addr()?.ip())
}

#[cfg(test)]
mod tests;
