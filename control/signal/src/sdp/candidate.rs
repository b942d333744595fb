//! ICE candidates as a line of text (RFC 8839 §5.1).

use std::net::{IpAddr, SocketAddr};

/// One candidate whose address is an IP address. Names (`*.local`) and other transports than UDP are not kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Groups candidates of one base.
    pub foundation: String,
    /// 1 is RTP (and all, with rtcp-mux).
    pub component: u16,
    /// Higher is better.
    pub priority: u32,
    /// Where.
    pub address: SocketAddr,
    /// `host`, `srflx`, `prflx`, `relay`.
    pub kind: String,
}

impl Candidate {
    /// A host candidate of the focus; `index` is its position in the list, the first is preferred.
    pub fn host(address: SocketAddr, index: u16) -> Candidate {
        let _ = (address, index, IpAddr::from([0, 0, 0, 0]));
        todo!()
    }

    /// Reads the value of `a=candidate:`, with or without the leading `candidate:`; `None` for what is not UDP to an IP address.
    pub fn parse(line: &str) -> Option<Candidate> {
        let _ = line;
        todo!()
    }

    /// The line without `a=`: `candidate:1 1 udp 2130706431 192.0.2.1 10000 typ host`.
    pub fn to_line(&self) -> String {
        todo!()
    }
}
