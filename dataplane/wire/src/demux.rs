//! What a datagram is, by its first two bytes (RFC 7983 §7, RFC 5761 §4).

/// The protocols that share one UDP port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A STUN message.
    Stun,
    /// A DTLS record.
    Dtls,
    /// An RTP packet, protected or not.
    Rtp,
    /// An RTCP packet, protected or not.
    Rtcp,
    /// Anything else: ZRTP, TURN channel data, an empty datagram, noise.
    Unknown,
}

impl Kind {
    /// Sorts a datagram. Says nothing about whether it is well-formed.
    pub const fn of(datagram: &[u8]) -> Self {
        match datagram {
            [0..=3, ..] => Self::Stun,
            [20..=63, ..] => Self::Dtls,
            // RTCP packet types lie where RTP payload types 64 to 95 with the marker would; those are never negotiated.
            [128..=191, 192..=223, ..] => Self::Rtcp,
            [128..=191, _, ..] => Self::Rtp,
            _ => Self::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sorts_by_first_byte() {
        for (first, kind) in [
            (0, Kind::Stun),
            (3, Kind::Stun),
            (4, Kind::Unknown),
            (16, Kind::Unknown),
            (19, Kind::Unknown),
            (20, Kind::Dtls),
            (22, Kind::Dtls),
            (63, Kind::Dtls),
            (64, Kind::Unknown),
            (79, Kind::Unknown),
            (127, Kind::Unknown),
            (128, Kind::Rtp),
            (191, Kind::Rtp),
            (192, Kind::Unknown),
            (255, Kind::Unknown),
        ] {
            assert_eq!(Kind::of(&[first, 96]), kind, "first byte {first}");
        }
    }

    #[test]
    fn tells_rtcp_from_rtp_by_second_byte() {
        for (second, kind) in [
            (96, Kind::Rtp),
            (111, Kind::Rtp),
            (191, Kind::Rtp),
            (192, Kind::Rtcp),
            (200, Kind::Rtcp),
            (206, Kind::Rtcp),
            (223, Kind::Rtcp),
            (224, Kind::Rtp),
            (239, Kind::Rtp),
        ] {
            assert_eq!(Kind::of(&[0x80, second]), kind, "second byte {second}");
        }
    }

    #[test]
    fn short_datagrams_are_unknown_unless_one_byte_says_enough() {
        assert_eq!(Kind::of(&[]), Kind::Unknown);
        assert_eq!(Kind::of(&[0x80]), Kind::Unknown);
        assert_eq!(Kind::of(&[22]), Kind::Dtls);
    }
}
