//! The data channel establishment protocol: the two messages of RFC 8832.
//!
//! Only the words: what a channel is and when it is open, `sctp` knows.

/// A message with the payload protocol identifier 50.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Message {
    /// `DATA_CHANNEL_OPEN`.
    Open(Open),
    /// `DATA_CHANNEL_ACK`.
    Ack,
}

/// `DATA_CHANNEL_OPEN` (RFC 8832 §5.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Open {
    /// How messages travel, in both directions.
    pub(crate) delivery: Delivery,
    /// The channel's name; not checked to be unique by anybody.
    pub(crate) label: String,
}

/// The channel type with its parameter (RFC 8832 §5.1, "Channel Type").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Delivery {
    /// Whether messages arrive in the order in which they were sent.
    pub(crate) ordered: bool,
    /// When the sender gives up.
    pub(crate) reliability: Reliability,
}

/// When a sender gives up on a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reliability {
    /// Never.
    Reliable,
    /// After so many retransmissions.
    Retransmissions(u32),
    /// After so many milliseconds.
    LifetimeMs(u32),
}

/// Which check of a message failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ParseError {
    /// Shorter than its header, or than the lengths in the header say.
    TooShort,
    /// Neither OPEN nor ACK.
    UnknownType,
    /// A channel type that RFC 8832 does not define.
    UnknownChannelType,
    /// The label is not UTF-8.
    LabelNotUtf8,
}

const TYPE_ACK: u8 = 0x02;
const TYPE_OPEN: u8 = 0x03;
const OPEN_HEADER_BYTES: usize = 12;

impl Message {
    /// Reads one message.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Message, ParseError> {
        match bytes.first() {
            None => Err(ParseError::TooShort),
            Some(&TYPE_ACK) => Ok(Message::Ack),
            Some(&TYPE_OPEN) => Open::parse(bytes).map(Message::Open),
            Some(_) => Err(ParseError::UnknownType),
        }
    }

    /// Writes the message.
    pub(crate) fn emit(&self) -> Vec<u8> {
        match self {
            Message::Ack => vec![TYPE_ACK],
            Message::Open(open) => open.emit(),
        }
    }
}

impl Open {
    fn parse(bytes: &[u8]) -> Result<Open, ParseError> {
        let (header, rest) = bytes
            .split_first_chunk::<OPEN_HEADER_BYTES>()
            .ok_or(ParseError::TooShort)?;
        let [_, channel_type, _, _, p0, p1, p2, p3, l0, l1, _, _] = *header;
        let parameter = u32::from_be_bytes([p0, p1, p2, p3]);
        let delivery =
            Delivery::parse(channel_type, parameter).ok_or(ParseError::UnknownChannelType)?;
        // The sub-protocol that follows the label is of no interest, so its length is not checked either.
        let label = rest
            .get(..usize::from(u16::from_be_bytes([l0, l1])))
            .ok_or(ParseError::TooShort)?;
        let label = std::str::from_utf8(label).map_err(|_| ParseError::LabelNotUtf8)?;
        Ok(Open {
            delivery,
            label: label.to_owned(),
        })
    }

    fn emit(&self) -> Vec<u8> {
        let (channel_type, parameter) = self.delivery.emit();
        let label_bytes = u16::try_from(self.label.len()).unwrap_or(u16::MAX);
        let label = &self.label.as_bytes()[..usize::from(label_bytes)];
        let mut bytes = vec![TYPE_OPEN, channel_type, 0, 0];
        bytes.extend_from_slice(&parameter.to_be_bytes());
        bytes.extend_from_slice(&label_bytes.to_be_bytes());
        bytes.extend_from_slice(&[0, 0]);
        bytes.extend_from_slice(label);
        bytes
    }
}

impl Delivery {
    /// Ordered and reliable: what a channel is if nothing else was asked for.
    pub(crate) const RELIABLE: Delivery = Delivery {
        ordered: true,
        reliability: Reliability::Reliable,
    };

    fn parse(channel_type: u8, parameter: u32) -> Option<Delivery> {
        let reliability = match channel_type & 0x7f {
            0 => Reliability::Reliable,
            1 => Reliability::Retransmissions(parameter),
            2 => Reliability::LifetimeMs(parameter),
            _ => return None,
        };
        Some(Delivery {
            ordered: channel_type & 0x80 == 0,
            reliability,
        })
    }

    fn emit(self) -> (u8, u32) {
        let (kind, parameter) = match self.reliability {
            Reliability::Reliable => (0, 0),
            Reliability::Retransmissions(count) => (1, count),
            Reliability::LifetimeMs(ms) => (2, ms),
        };
        (if self.ordered { kind } else { kind | 0x80 }, parameter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // What Chromium sends for createDataChannel("datachannel").
    const OPEN: [u8; 23] = *b"\x03\x00\x01\x00\x00\x00\x00\x00\x00\x0b\x00\x00datachannel";

    #[test]
    fn reads_the_open_of_a_browser() {
        let open = Open {
            delivery: Delivery::RELIABLE,
            label: "datachannel".into(),
        };
        assert_eq!(Message::parse(&OPEN), Ok(Message::Open(open)));
        assert_eq!(Message::parse(&[2]), Ok(Message::Ack));
    }

    #[test]
    fn writes_an_open_that_reads_back() {
        for delivery in [
            Delivery::RELIABLE,
            Delivery {
                ordered: false,
                reliability: Reliability::Retransmissions(3),
            },
            Delivery {
                ordered: true,
                reliability: Reliability::LifetimeMs(500),
            },
        ] {
            let open = Message::Open(Open {
                delivery,
                label: "ü".into(),
            });
            assert_eq!(Message::parse(&open.emit()), Ok(open));
        }
    }

    #[test]
    fn refuses_every_cut_and_every_wrong_type() {
        for len in 0..OPEN.len() {
            assert_eq!(Message::parse(&OPEN[..len]), Err(ParseError::TooShort));
        }
        assert_eq!(Message::parse(&[9]), Err(ParseError::UnknownType));
        let mut open = OPEN;
        open[1] = 3;
        assert_eq!(Message::parse(&open), Err(ParseError::UnknownChannelType));
        let mut open = OPEN;
        open[12] = 0xff;
        assert_eq!(Message::parse(&open), Err(ParseError::LabelNotUtf8));
    }
}
