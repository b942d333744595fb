//! The SFrame header (RFC 9605 §4.3): which key, which frame.
//!
//! ```text
//! X K K K Y C C C | KID, K+1 bytes if X | CTR, C+1 bytes if Y
//! ```
//! A number below 8 lies in the first byte itself; any other follows in as few bytes as hold it.

/// Key and frame that a ciphertext belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// KID: the session, by its number at its sender.
    pub key_id: u64,
    /// CTR: the frame, by the index of the session's ratchet.
    pub counter: u64,
}

/// Why bytes are no header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// It ends before its numbers do.
    #[error("header cut short")]
    Truncated,
    /// A number takes more bytes than it needs, which no sender may do (RFC 9605 §4.3).
    #[error("header longer than it has to be")]
    NotMinimal,
}

/// First byte, and eight bytes for each number.
pub(crate) const BYTES_MAX: usize = 17;

impl Header {
    /// Reads the header at the start of `bytes`; gives it, its own bytes, and the bytes after it.
    ///
    /// # Errors
    /// [`HeaderError`]. There is one encoding of a header, so what is read is what [`emit`](Self::emit) writes.
    pub fn parse(bytes: &[u8]) -> Result<(Header, &[u8], &[u8]), HeaderError> {
        let (&config, rest) = bytes.split_first().ok_or(HeaderError::Truncated)?;
        let (key_id, rest) = number(config >> 4, rest)?;
        let (counter, rest) = number(config & 0x0f, rest)?;
        let own = &bytes[..bytes.len() - rest.len()];
        Ok((Header { key_id, counter }, own, rest))
    }

    /// Appends the header to `out`.
    pub fn emit(&self, out: &mut Vec<u8>) {
        let (key_id, key_id_bytes) = (self.key_id.to_be_bytes(), length(self.key_id));
        let (counter, counter_bytes) = (self.counter.to_be_bytes(), length(self.counter));
        out.push(nibble(self.key_id) << 4 | nibble(self.counter));
        out.extend_from_slice(&key_id[8 - key_id_bytes..]);
        out.extend_from_slice(&counter[8 - counter_bytes..]);
    }
}

/// A number from its half of the first byte, and from the bytes that follow if that says so.
fn number(nibble: u8, rest: &[u8]) -> Result<(u64, &[u8]), HeaderError> {
    let low = nibble & 0x07;
    if nibble & 0x08 == 0 {
        return Ok((low.into(), rest));
    }
    let count = usize::from(low) + 1;
    let (bytes, rest) = rest.split_at_checked(count).ok_or(HeaderError::Truncated)?;
    let value = bytes
        .iter()
        .fold(0, |value, byte| value << 8 | u64::from(*byte));
    match length(value) == count {
        true => Ok((value, rest)),
        false => Err(HeaderError::NotMinimal),
    }
}

/// Bytes that a number takes behind the first one.
fn length(value: u64) -> usize {
    match value {
        0..8 => 0,
        _ => (8 - value.leading_zeros() / 8) as usize,
    }
}

/// A number's half of the first byte.
fn nibble(value: u64) -> u8 {
    match length(value) {
        0 => value as u8,
        count => 0x08 | (count as u8 - 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 9605 Appendix C.1: the numbers at which an encoding becomes longer, and what each half becomes.
    const EDGES: [(u64, u8, &[u8]); 17] = [
        (0, 0x0, &[]),
        (1, 0x1, &[]),
        (255, 0x8, &[0xff]),
        (256, 0x9, &[1, 0]),
        (65535, 0x9, &[0xff; 2]),
        (65536, 0xa, &[1, 0, 0]),
        (16_777_215, 0xa, &[0xff; 3]),
        (16_777_216, 0xb, &[1, 0, 0, 0]),
        (4_294_967_295, 0xb, &[0xff; 4]),
        (4_294_967_296, 0xc, &[1, 0, 0, 0, 0]),
        (1_099_511_627_775, 0xc, &[0xff; 5]),
        (1_099_511_627_776, 0xd, &[1, 0, 0, 0, 0, 0]),
        (281_474_976_710_655, 0xd, &[0xff; 6]),
        (281_474_976_710_656, 0xe, &[1, 0, 0, 0, 0, 0, 0]),
        (72_057_594_037_927_935, 0xe, &[0xff; 7]),
        (72_057_594_037_927_936, 0xf, &[1, 0, 0, 0, 0, 0, 0, 0]),
        (18_446_744_073_709_551_615, 0xf, &[0xff; 8]),
    ];

    fn emitted(key_id: u64, counter: u64) -> Vec<u8> {
        let mut out = Vec::new();
        Header { key_id, counter }.emit(&mut out);
        out
    }

    #[test]
    fn all_headers_of_the_rfc_are_written_and_read() {
        for (key_id, high, key_id_bytes) in EDGES {
            for (counter, low, counter_bytes) in EDGES {
                let first = [high << 4 | low];
                let expected = [&first[..], key_id_bytes, counter_bytes].concat();
                assert_eq!(emitted(key_id, counter), expected);
                let followed = [expected.as_slice(), &[0xee]].concat();
                let header = Header { key_id, counter };
                assert_eq!(
                    Header::parse(&followed),
                    Ok((header, expected.as_slice(), [0xee].as_slice()))
                );
            }
        }
    }

    #[test]
    fn some_headers_as_they_stand_in_the_rfc() {
        assert_eq!(emitted(0, 255), [0x08, 0xff]);
        assert_eq!(emitted(1, 65536), [0x1a, 0x01, 0x00, 0x00]);
        assert_eq!(emitted(255, 0), [0x80, 0xff]);
        assert_eq!(emitted(256, 256), [0x99, 0x01, 0x00, 0x01, 0x00]);
        assert_eq!(
            emitted(16_777_215, 65535),
            [0xa9, 0xff, 0xff, 0xff, 0xff, 0xff]
        );
        assert_eq!(emitted(0x123, 0x4567), [0x99, 0x01, 0x23, 0x45, 0x67]);
    }

    #[test]
    fn refuses_a_header_cut_short_at_every_length() {
        let whole = emitted(u64::MAX, u64::MAX);
        assert_eq!(whole.len(), BYTES_MAX);
        for length in 0..whole.len() {
            assert_eq!(
                Header::parse(&whole[..length]),
                Err(HeaderError::Truncated),
                "{length}"
            );
        }
    }

    #[test]
    fn refuses_a_number_that_takes_more_bytes_than_it_needs() {
        assert_eq!(Header::parse(&[0x08, 7]), Err(HeaderError::NotMinimal));
        assert_eq!(Header::parse(&[0x09, 0, 255]), Err(HeaderError::NotMinimal));
        assert_eq!(Header::parse(&[0x90, 0, 255]), Err(HeaderError::NotMinimal));
    }
}
