//! ICE candidates as a line of text (RFC 8839 §5.1).

use std::net::{IpAddr, SocketAddr};

use crate::limits::CANDIDATE_BYTES_MAX;

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
        // RFC 8445 §5.1.2.1 with type preference 126 (host) and component 1.
        let priority = (126 << 24) | (u32::from(u16::MAX - index) << 8) | 255;
        Candidate {
            foundation: (u32::from(index) + 1).to_string(),
            component: 1,
            priority,
            address,
            kind: "host".to_owned(),
        }
    }

    /// Reads the value of `a=candidate:`, with or without the leading `candidate:`; `None` for what is not UDP to an IP address.
    pub fn parse(line: &str) -> Option<Candidate> {
        if line.len() > CANDIDATE_BYTES_MAX {
            return None;
        }
        let mut words = line
            .strip_prefix("candidate:")
            .unwrap_or(line)
            .split_ascii_whitespace();
        let foundation = words.next()?.to_owned();
        let component = words.next()?.parse().ok()?;
        if !words.next()?.eq_ignore_ascii_case("udp") {
            return None;
        }
        let priority = words.next()?.parse().ok()?;
        let ip: IpAddr = words.next()?.parse().ok()?;
        let port: u16 = words.next()?.parse().ok()?;
        if words.next()? != "typ" {
            return None;
        }
        let kind = words.next()?.to_owned();
        Some(Candidate {
            foundation,
            component,
            priority,
            address: SocketAddr::new(ip, port),
            kind,
        })
    }

    /// The line without `a=`: `candidate:1 1 udp 2130706431 192.0.2.1 10000 typ host`.
    pub fn to_line(&self) -> String {
        let (ip, port) = (self.address.ip(), self.address.port());
        format!(
            "candidate:{} {} udp {} {ip} {port} typ {}",
            self.foundation, self.component, self.priority, self.kind
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_a_host_candidate_as_browsers_read_it() {
        let candidate = Candidate::host("192.0.2.1:10000".parse().expect("an address"), 0);
        assert_eq!(
            candidate.to_line(),
            "candidate:1 1 udp 2130706431 192.0.2.1 10000 typ host"
        );
        let second = Candidate::host("[2001:db8::1]:10000".parse().expect("an address"), 1);
        assert_eq!(
            second.to_line(),
            "candidate:2 1 udp 2130706175 2001:db8::1 10000 typ host"
        );
        assert_eq!(Candidate::parse(&second.to_line()), Some(second));
    }

    #[test]
    fn checklist_05_names_tcp_and_rubbish_are_no_candidates_and_no_error() {
        for line in [
            "",
            "candidate:",
            "candidate:1 1 udp 1 7f1c8f2e-8ad1-4f0d-9f0e-3c6d7ad1a000.local 50000 typ host",
            "candidate:1 1 tcp 1518280447 192.0.2.1 9 typ host tcptype active",
            "candidate:1 1 udp 99999999999 192.0.2.1 9 typ host",
            "candidate:1 1 udp 1 192.0.2.1 70000 typ host",
        ] {
            assert_eq!(Candidate::parse(line), None, "{line}");
        }
        let chromium = "candidate:3880106433 1 udp 2122260223 192.0.2.7 41500 typ host generation 0 ufrag Ab+1 network-id 1";
        assert_eq!(
            Candidate::parse(chromium).map(|candidate| candidate.address.port()),
            Some(41500)
        );
    }
}
