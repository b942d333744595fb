//! RTP packets (RFC 3550 §5.1) with their header extension block (RFC 8285).
//!
//! [`Header`] is all that can be read before a packet is decrypted; [`Packet`] also knows where the padding begins, which only
//! the plain text says.

use crate::cursor::{NoRoom, Reader, Writer};
use crate::extension::{self, Element};
use crate::seq::{RtpTime, Seq};

/// Bytes of the header without CSRCs and extensions.
pub const FIXED_HEADER_BYTES: usize = 12;

/// Which check of an RTP packet failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Error {
    /// Shorter than the fixed header.
    #[error("shorter than an RTP header")]
    TooShort,
    /// Not version 2.
    #[error("RTP version is not 2")]
    BadVersion,
    /// The CSRC list goes past the end.
    #[error("CSRC list goes past the end")]
    CsrcsTooLong,
    /// The extension block goes past the end.
    #[error("header extension goes past the end")]
    ExtensionTooLong,
    /// The padding count is zero or more than the payload.
    #[error("padding is zero or longer than the payload")]
    BadPadding,
}

/// What an RTP header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The marker bit: for video the last packet of a picture, for audio the first after silence.
    pub marker: bool,
    /// The payload type, 0 to 127.
    pub payload_type: u8,
    /// The sequence number.
    pub sequence_number: Seq,
    /// The media time.
    pub timestamp: RtpTime,
    /// The source.
    pub ssrc: u32,
    /// The padding bit: the last byte of the plain packet counts the padding.
    pub has_padding: bool,
    /// Bytes of the whole header: fixed part, CSRCs and extension block.
    pub len: usize,
    /// The "defined by profile" number of the extension block, if there is a block.
    pub extension_profile: Option<u16>,
    /// Bytes of the extension block's data, which ends where the header ends.
    pub extension_len: usize,
}

impl Header {
    /// Reads the header of a packet, protected or not.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(bytes);
        let first = reader.u8().ok_or(Error::TooShort)?;
        if first >> 6 != 2 {
            return Err(Error::BadVersion);
        }
        let second = reader.u8().ok_or(Error::TooShort)?;
        let mut header = Self {
            marker: second & 0x80 != 0,
            payload_type: second & 0x7f,
            sequence_number: Seq(reader.u16().ok_or(Error::TooShort)?),
            timestamp: RtpTime(reader.u32().ok_or(Error::TooShort)?),
            ssrc: reader.u32().ok_or(Error::TooShort)?,
            has_padding: first & 0x20 != 0,
            len: 0,
            extension_profile: None,
            extension_len: 0,
        };
        reader
            .take(usize::from(first & 0x0f) * 4)
            .ok_or(Error::CsrcsTooLong)?;
        if first & 0x10 != 0 {
            header.extension_profile = Some(reader.u16().ok_or(Error::ExtensionTooLong)?);
            header.extension_len = usize::from(reader.u16().ok_or(Error::ExtensionTooLong)?) * 4;
            reader
                .take(header.extension_len)
                .ok_or(Error::ExtensionTooLong)?;
        }
        header.len = bytes.len() - reader.rest().len();
        Ok(header)
    }
}

/// A plain RTP packet whose every length has been checked.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    bytes: &'a [u8],
    header: Header,
    padding_len: usize,
}

impl<'a> Packet<'a> {
    /// Reads a plain packet.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Error> {
        let header = Header::parse(bytes)?;
        let body = bytes.get(header.len..).ok_or(Error::TooShort)?;
        let padding_len = match (header.has_padding, body.last()) {
            (false, _) => 0,
            (true, None | Some(0)) => return Err(Error::BadPadding),
            (true, Some(&count)) => usize::from(count),
        };
        if padding_len > body.len() {
            return Err(Error::BadPadding);
        }
        Ok(Self {
            bytes,
            header,
            padding_len,
        })
    }

    /// What the header says.
    pub const fn header(&self) -> &Header {
        &self.header
    }

    /// The payload without padding; empty in a padding-only packet.
    pub fn payload(&self) -> &'a [u8] {
        &self.bytes[self.payload_range()]
    }

    /// Where in the packet the payload is, without padding.
    pub fn payload_range(&self) -> std::ops::Range<usize> {
        self.header.len..self.bytes.len() - self.padding_len
    }

    /// Where in the packet `part` lies, which was got from it; `None` if it was not.
    pub fn range_of(&self, part: &[u8]) -> Option<std::ops::Range<usize>> {
        let start = part
            .as_ptr()
            .addr()
            .checked_sub(self.bytes.as_ptr().addr())?;
        let end = start.checked_add(part.len())?;
        (end <= self.bytes.len()).then_some(start..end)
    }

    /// Bytes of padding at the end, the count included.
    pub const fn padding_len(&self) -> usize {
        self.padding_len
    }

    /// The contributing sources.
    pub fn csrcs(&self) -> impl Iterator<Item = u32> + use<'a> {
        let count = usize::from(self.bytes[0] & 0x0f);
        let list = &self.bytes[FIXED_HEADER_BYTES..FIXED_HEADER_BYTES + count * 4];
        list.chunks_exact(4)
            .map(|csrc| u32::from_be_bytes([csrc[0], csrc[1], csrc[2], csrc[3]]))
    }

    /// The header extension's elements; none when there is no block or it is of another profile than RFC 8285's two.
    pub fn extensions(&self) -> extension::Elements<'a> {
        let block = &self.bytes[self.header.len - self.header.extension_len..self.header.len];
        extension::Elements::new(self.header.extension_profile.unwrap_or(0), block)
    }

    /// The data of the first element with this id.
    pub fn extension(&self, id: u8) -> Option<&'a [u8]> {
        self.extensions()
            .find(|element| element.id == id)
            .map(|element| element.data)
    }
}

/// What is decided anew for an outgoing packet; the extension elements are given beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// The marker bit.
    pub marker: bool,
    /// The payload type, 0 to 127.
    pub payload_type: u8,
    /// The sequence number.
    pub sequence_number: Seq,
    /// The media time.
    pub timestamp: RtpTime,
    /// The source.
    pub ssrc: u32,
    /// Whether the payload that follows ends with padding.
    pub has_padding: bool,
}

impl Outgoing {
    /// Writes the header, without CSRCs, and says how many bytes it has.
    ///
    /// Elements are written in the one-byte form of RFC 8285 where all ids and lengths allow it, else in the two-byte form. No
    /// elements, no block.
    ///
    /// # Panics
    /// In debug builds, when the payload type is over 127, an id is 0, or an element has more than 255 bytes: both numbers are
    /// our own and were negotiated within these bounds. Release builds leave such an element out.
    pub fn emit(&self, elements: &[Element<'_>], out: &mut [u8]) -> Result<usize, NoRoom> {
        debug_assert!(self.payload_type < 128, "payload types have seven bits");
        let mut writer = Writer::new(out);
        let has_extension = !elements.is_empty();
        writer.u8(0x80 | u8::from(self.has_padding) << 5 | u8::from(has_extension) << 4)?;
        writer.u8(u8::from(self.marker) << 7 | self.payload_type & 0x7f)?;
        writer.u16(self.sequence_number.0)?;
        writer.u32(self.timestamp.0)?;
        writer.u32(self.ssrc)?;
        if has_extension {
            extension::emit_block(elements, &mut writer)?;
        }
        Ok(writer.len())
    }
}
