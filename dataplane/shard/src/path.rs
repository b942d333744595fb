//! Between which two sockets a datagram travels. What comes in is told apart by this alone.
//!
//! Participants all come to the socket that a shard listens on; their addresses tell them apart. A called focus has one address,
//! though, and several trunks may lead to it: each leaves from a socket of its own.

use std::net::SocketAddr;

/// A local and a remote transport address (RFC 8445 §4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Path {
    /// The socket of the shard.
    pub local: Local,
    /// The other end's address.
    pub remote: SocketAddr,
}

impl Path {
    /// Between the socket that the shard listens on and this address.
    pub fn listening(remote: SocketAddr) -> Self {
        Self {
            local: Local::LISTENING,
            remote,
        }
    }
}

/// One of the shard's sockets of an address family, by number. The runtime has one for each number up to
/// [`crate::Config::calling_sockets`], and which family is meant the remote address says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Local(pub u8);

impl Local {
    /// The one whose address others are told.
    pub const LISTENING: Self = Self(0);

    /// The sockets that calls may leave from, the first ones first. The one that the shard listens on is the last resort: on
    /// it two foci that call each other at the same time would meet, and neither would let the other in.
    pub(crate) fn to_call_from(calling_sockets: u8) -> impl Iterator<Item = Self> {
        (1..=calling_sockets).map(Self).chain([Self::LISTENING])
    }
}
