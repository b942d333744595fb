//! What a shard tells control.

use std::net::SocketAddr;

use crate::ids::TransportId;

/// One message to control.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// The first authenticated check arrived: datagrams can be sent.
    IceConnected {
        /// The transport.
        id: TransportId,
        /// Where the participant is.
        remote: SocketAddr,
    },
    /// The participant moved: an authenticated check chose another address.
    RemoteChanged {
        /// The transport.
        id: TransportId,
        /// Where the participant is now.
        remote: SocketAddr,
    },
    /// A DTLS datagram, only ever from an authenticated address.
    Datagram {
        /// The transport it belongs to.
        id: TransportId,
        /// The datagram as it came.
        datagram: Vec<u8>,
    },
    /// No authenticated check for 30 s (RFC 7675): the transport is silent until one comes or control removes it.
    ConsentLost {
        /// The transport.
        id: TransportId,
    },
}
