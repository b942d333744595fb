//! What passes a relay, packet by packet: the headers of RTP (RFC 3550 §5.1), which are not encrypted, as a table.
//!
//! Not here: RTCP, DTLS and STUN, and anything that SRTP encrypts.

use std::io::{self, Write};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::relay::Direction;

/// The columns. `us` is the wall clock in microseconds since 1970, `bytes` the UDP payload.
pub const COLUMNS: &str = "us,direction,ssrc,payload_type,marker,seq,timestamp,bytes";

/// Writes a line for every RTP packet.
pub struct Trace {
    out: Box<dyn Write + Send>,
}

impl Trace {
    /// Writes the columns' names.
    ///
    /// # Errors
    ///
    /// What the system says about writing.
    pub fn new(mut out: Box<dyn Write + Send>) -> io::Result<Self> {
        writeln!(out, "{COLUMNS}")?;
        Ok(Self { out })
    }

    /// Takes a datagram that has just come; what is not RTP is passed over.
    ///
    /// # Errors
    ///
    /// What the system says about writing.
    pub fn handle(
        &mut self,
        direction: Direction,
        datagram: &[u8],
        now: SystemTime,
    ) -> io::Result<()> {
        let Some(line) = line(datagram) else {
            return Ok(());
        };
        let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let direction = match direction {
            Direction::Up => "up",
            Direction::Down => "down",
        };
        writeln!(self.out, "{},{direction},{line}", since.as_micros())
    }
}

/// The columns behind the direction. RTCP has 192 to 223 where RTP has marker and payload type (RFC 5761 §4).
fn line(datagram: &[u8]) -> Option<String> {
    let [
        128..=191,
        second,
        s0,
        s1,
        t0,
        t1,
        t2,
        t3,
        r0,
        r1,
        r2,
        r3,
        ..,
    ] = *datagram
    else {
        return None;
    };
    if (192..=223).contains(&second) {
        return None;
    }
    let ssrc = u32::from_be_bytes([r0, r1, r2, r3]);
    let seq = u16::from_be_bytes([s0, s1]);
    let timestamp = u32::from_be_bytes([t0, t1, t2, t3]);
    let (marker, payload_type) = (second >> 7, second & 0x7f);
    let bytes = datagram.len();
    Some(format!(
        "{ssrc},{payload_type},{marker},{seq},{timestamp},{bytes}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rtp_becomes_a_line_and_nothing_else_does() {
        let rtp = [
            0x90, 0xe0, 0x01, 0x02, 0, 0, 0, 10, 0, 0, 0, 9, 0xbe, 0xde, 0, 0,
        ];
        assert_eq!(line(&rtp).as_deref(), Some("9,96,1,258,10,16"));
        let rtcp = [0x80, 201, 0, 1, 0, 0, 0, 9, 0, 0, 0, 0];
        assert_eq!(line(&rtcp), None);
        let stun = [0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42, 0, 0, 0, 0];
        assert_eq!(line(&stun), None);
        assert_eq!(line(&rtp[..11]), None, "cut short");
    }
}
