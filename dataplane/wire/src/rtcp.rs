//! RTCP: reports, descriptions and feedback (RFC 3550 §6, RFC 4585, RFC 5104, transport-wide feedback, REMB).
//!
//! A datagram is a [`Compound`] of packets. Its outer lengths are checked at once; each packet's inside when it comes by, so that
//! one bad packet does not hide the others:
//!
//! ```
//! # use weir_wire::rtcp::{Compound, Packet};
//! # let datagram = [0x81, 206, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2];
//! for packet in Compound::parse(&datagram).unwrap().packets() {
//!     match packet {
//!         Ok(Packet::Pli(pli)) => assert_eq!(pli.media_ssrc, 2),
//!         Ok(_) => {}
//!         Err(error) => println!("ignored: {error}"),
//!     }
//! }
//! ```
//!
//! [`Writer`] puts compounds together. Reduced-size ones (RFC 5506) are read and may be written.

mod feedback;
mod report;
pub mod twcc;
mod writer;

pub use feedback::{Fir, FirEntry, Nack, Pli, Remb};
pub use report::{Bye, ReceiverReport, ReportBlock, Sdes, SenderInfo, SenderReport};
pub use twcc::TransportFeedback;
pub use writer::{COUNT_MAX, Writer};

use crate::cursor::Reader;

/// Packet types (RFC 3550 §12.1, RFC 4585 §6.1) and the feedback formats that are spoken here.
mod kind {
    pub(super) const SENDER_REPORT: u8 = 200;
    pub(super) const RECEIVER_REPORT: u8 = 201;
    pub(super) const SDES: u8 = 202;
    pub(super) const BYE: u8 = 203;
    pub(super) const TRANSPORT_FEEDBACK: u8 = 205;
    pub(super) const PAYLOAD_FEEDBACK: u8 = 206;

    pub(super) const FORMAT_NACK: u8 = 1;
    pub(super) const FORMAT_TRANSPORT_WIDE: u8 = 15;
    pub(super) const FORMAT_PLI: u8 = 1;
    pub(super) const FORMAT_FIR: u8 = 4;
    pub(super) const FORMAT_APPLICATION: u8 = 15;
}

/// Which check of an RTCP packet failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Error {
    /// Shorter than its header, or than its type needs.
    #[error("RTCP packet is too short")]
    TooShort,
    /// Not version 2.
    #[error("RTCP version is not 2")]
    BadVersion,
    /// The length field goes past the end.
    #[error("RTCP length goes past the end")]
    BadLength,
    /// Padding that is zero or longer than the packet.
    #[error("RTCP padding is wrong")]
    BadPadding,
    /// The count in the header promises more than the packet holds.
    #[error("RTCP count is more than the packet holds")]
    BadCount,
    /// A description item is not terminated, or goes past the end.
    #[error("RTCP source description is malformed")]
    BadDescription,
    /// A transport-wide feedback's chunks and deltas do not agree with its status count.
    #[error("transport-wide feedback is malformed")]
    BadFeedback,
}

/// A datagram of RTCP packets whose outer lengths have been checked.
#[derive(Clone, Copy, Debug)]
pub struct Compound<'a> {
    bytes: &'a [u8],
}

impl<'a> Compound<'a> {
    /// Checks version, lengths and padding of all packets in a plain datagram. An empty datagram is an error.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(bytes);
        loop {
            Raw::read(&mut reader)?;
            if reader.is_empty() {
                return Ok(Self { bytes });
            }
        }
    }

    /// The packets in order; an `Err` is a packet whose inside is malformed, and the next one follows.
    pub fn packets(&self) -> impl Iterator<Item = Result<Packet<'a>, Error>> + use<'a> {
        let mut reader = Reader::new(self.bytes);
        std::iter::from_fn(move || {
            if reader.is_empty() {
                return None;
            }
            // The lengths have been checked: this cannot fail before the reader is empty.
            let raw = Raw::read(&mut reader).ok()?;
            Some(Packet::parse(&raw))
        })
    }
}

/// A packet's header fields and what follows them, without padding.
struct Raw<'a> {
    count: u8,
    packet_type: u8,
    body: &'a [u8],
}

impl<'a> Raw<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, Error> {
        let first = reader.u8().ok_or(Error::TooShort)?;
        if first >> 6 != 2 {
            return Err(Error::BadVersion);
        }
        let packet_type = reader.u8().ok_or(Error::TooShort)?;
        let words = usize::from(reader.u16().ok_or(Error::TooShort)?);
        let mut body = reader.take(words * 4).ok_or(Error::BadLength)?;
        if first & 0x20 != 0 {
            // Deviation: RFC 3550 has padding in the last packet only, and in multiples of four. Transport-wide feedback is
            // padded from any byte, wherever it stands.
            let padding = usize::from(*body.last().ok_or(Error::BadPadding)?);
            let rest = body
                .len()
                .checked_sub(padding)
                .filter(|_| padding > 0)
                .ok_or(Error::BadPadding)?;
            body = &body[..rest];
        }
        Ok(Self {
            count: first & 0x1f,
            packet_type,
            body,
        })
    }
}

/// One RTCP packet.
#[derive(Clone, Copy, Debug)]
pub enum Packet<'a> {
    /// What a source has sent, and how it receives others.
    SenderReport(SenderReport<'a>),
    /// How someone receives sources.
    ReceiverReport(ReceiverReport<'a>),
    /// Source descriptions.
    Sdes(Sdes<'a>),
    /// Sources that end.
    Bye(Bye<'a>),
    /// Packets that are missing (generic NACK).
    Nack(Nack<'a>),
    /// A decoder needs a keyframe.
    Pli(Pli),
    /// Decoders need keyframes.
    Fir(Fir<'a>),
    /// When each packet of a transport arrived.
    TransportFeedback(TransportFeedback<'a>),
    /// A receiver's estimate of what it can receive.
    Remb(Remb<'a>),
    /// A well-formed packet of another kind.
    Unknown {
        /// The packet type.
        packet_type: u8,
        /// The five bits of count, subtype or feedback format.
        count: u8,
    },
}

impl<'a> Packet<'a> {
    fn parse(raw: &Raw<'a>) -> Result<Self, Error> {
        match (raw.packet_type, raw.count) {
            (kind::SENDER_REPORT, count) => {
                SenderReport::parse(count, raw.body).map(Self::SenderReport)
            }
            (kind::RECEIVER_REPORT, count) => {
                ReceiverReport::parse(count, raw.body).map(Self::ReceiverReport)
            }
            (kind::SDES, count) => Sdes::parse(count, raw.body).map(Self::Sdes),
            (kind::BYE, count) => Bye::parse(count, raw.body).map(Self::Bye),
            (kind::TRANSPORT_FEEDBACK, kind::FORMAT_NACK) => Nack::parse(raw.body).map(Self::Nack),
            (kind::TRANSPORT_FEEDBACK, kind::FORMAT_TRANSPORT_WIDE) => {
                TransportFeedback::parse(raw.body).map(Self::TransportFeedback)
            }
            (kind::PAYLOAD_FEEDBACK, kind::FORMAT_PLI) => Pli::parse(raw.body).map(Self::Pli),
            (kind::PAYLOAD_FEEDBACK, kind::FORMAT_FIR) => Fir::parse(raw.body).map(Self::Fir),
            (kind::PAYLOAD_FEEDBACK, kind::FORMAT_APPLICATION) => match Remb::parse(raw.body)? {
                Some(remb) => Ok(Self::Remb(remb)),
                None => Ok(Self::Unknown {
                    packet_type: raw.packet_type,
                    count: raw.count,
                }),
            },
            (packet_type, count) => Ok(Self::Unknown { packet_type, count }),
        }
    }
}

/// Splits `count` records of `size` bytes off the front.
fn records(body: &[u8], count: u8, size: usize) -> Result<&[u8], Error> {
    body.get(..usize::from(count) * size).ok_or(Error::BadCount)
}

/// SSRCs that lie one after another.
fn ssrcs(list: &[u8]) -> impl Iterator<Item = u32> + use<'_> {
    let mut reader = Reader::new(list);
    std::iter::from_fn(move || reader.u32())
}
