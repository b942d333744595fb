//! Header extension elements (RFC 8285) and the ones that are read here.

use crate::cursor::{NoRoom, Reader, Writer};

/// The "defined by profile" number of the one-byte form (RFC 8285 §4.2).
pub const ONE_BYTE_PROFILE: u16 = 0xbede;
/// The "defined by profile" number of the two-byte form, its four application bits zero (RFC 8285 §4.3).
pub const TWO_BYTE_PROFILE: u16 = 0x1000;

/// The id of the one-byte form that ends the block.
const ONE_BYTE_STOP: u8 = 15;

/// One element: the id that SDP gave it, and its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Element<'a> {
    /// The negotiated id: 1 to 14 in the one-byte form, 1 to 255 in the two-byte form.
    pub id: u8,
    /// 1 to 16 bytes in the one-byte form, 0 to 255 in the two-byte form.
    pub data: &'a [u8],
}

#[derive(Clone, Copy, Debug)]
enum Form {
    OneByte,
    TwoByte,
}

/// The elements of an extension block, in order.
///
/// Padding is skipped. An element that goes past the end of the block ends the iteration, as do id 15 and an id 0 that claims
/// a length in the one-byte form: what came before it is good (RFC 8285 §4.2).
#[derive(Clone, Copy, Debug)]
pub struct Elements<'a> {
    form: Form,
    reader: Reader<'a>,
}

impl<'a> Elements<'a> {
    /// The elements of the block with this "defined by profile" number; none when it is not of RFC 8285.
    pub fn new(profile: u16, block: &'a [u8]) -> Self {
        match profile {
            ONE_BYTE_PROFILE => Self {
                form: Form::OneByte,
                reader: Reader::new(block),
            },
            _ if profile & 0xfff0 == TWO_BYTE_PROFILE => Self {
                form: Form::TwoByte,
                reader: Reader::new(block),
            },
            _ => Self {
                form: Form::OneByte,
                reader: Reader::new(&[]),
            },
        }
    }

    fn next_one_byte(&mut self) -> Option<Element<'a>> {
        loop {
            let head = self.reader.u8()?;
            let (id, len) = (head >> 4, usize::from(head & 0x0f) + 1);
            match id {
                0 if head == 0 => {}
                0 | ONE_BYTE_STOP => return None,
                _ => return self.reader.take(len).map(|data| Element { id, data }),
            }
        }
    }

    fn next_two_byte(&mut self) -> Option<Element<'a>> {
        loop {
            let id = self.reader.u8()?;
            if id != 0 {
                let len = usize::from(self.reader.u8()?);
                return self.reader.take(len).map(|data| Element { id, data });
            }
        }
    }
}

impl<'a> Iterator for Elements<'a> {
    type Item = Element<'a>;

    fn next(&mut self) -> Option<Element<'a>> {
        let next = match self.form {
            Form::OneByte => self.next_one_byte(),
            Form::TwoByte => self.next_two_byte(),
        };
        if next.is_none() {
            self.reader = Reader::new(&[]);
        }
        next
    }
}

/// Bytes of an extension block with these elements, the four bytes before it included; 0 without elements.
pub fn block_len(elements: &[Element<'_>]) -> usize {
    if elements.is_empty() {
        return 0;
    }
    let head = if fits_one_byte(elements) { 1 } else { 2 };
    let data: usize = usable(elements)
        .map(|element| head + element.data.len())
        .sum();
    4 + data.next_multiple_of(4)
}

/// Writes the block: profile, length, elements, padding.
pub(crate) fn emit_block(elements: &[Element<'_>], writer: &mut Writer<'_>) -> Result<(), NoRoom> {
    let one_byte = fits_one_byte(elements);
    let start = writer.len();
    writer.u16(if one_byte {
        ONE_BYTE_PROFILE
    } else {
        TWO_BYTE_PROFILE
    })?;
    writer.u16(0)?;
    for element in usable(elements) {
        let len = element.data.len() as u8;
        if one_byte {
            writer.u8(element.id << 4 | (len - 1))?;
        } else {
            writer.put(&[element.id, len])?;
        }
        writer.put(element.data)?;
    }
    let data_len = writer.len() - start - 4;
    writer.zeros(data_len.next_multiple_of(4) - data_len)?;
    let words = (writer.len() - start - 4) / 4;
    writer.patch(
        start + 2,
        &u16::try_from(words).map_err(|_| NoRoom)?.to_be_bytes(),
    );
    Ok(())
}

/// The elements that can be written. Ids and lengths are our own, so another one is a mistake in this program.
fn usable<'a, 'b>(elements: &'b [Element<'a>]) -> impl Iterator<Item = &'b Element<'a>> {
    elements.iter().filter(|element| {
        let usable = element.id != 0 && element.data.len() <= 255;
        debug_assert!(usable, "an element has an id and at most 255 bytes");
        usable
    })
}

fn fits_one_byte(elements: &[Element<'_>]) -> bool {
    elements.iter().all(|element| {
        (1..ONE_BYTE_STOP).contains(&element.id) && (1..=16).contains(&element.data.len())
    })
}

/// How loud an audio packet is (RFC 6464).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AudioLevel {
    /// The sender's encoder takes it for speech.
    pub voice: bool,
    /// Level in -dBov: 0 is the loudest, 127 is silence.
    pub level: u8,
}

impl AudioLevel {
    /// Reads the element's data; `None` when it is empty. More than one byte is accepted: the two-byte form may pad.
    pub fn parse(data: &[u8]) -> Option<Self> {
        let byte = *data.first()?;
        Some(Self {
            voice: byte & 0x80 != 0,
            level: byte & 0x7f,
        })
    }

    /// The element's data.
    pub const fn emit(self) -> [u8; 1] {
        [(self.voice as u8) << 7 | self.level & 0x7f]
    }
}

/// The transport-wide sequence number (draft-holmer-rmcat-transport-wide-cc-extensions-01 §2).
pub fn transport_sequence(data: &[u8]) -> Option<crate::Seq> {
    Reader::new(data).u16().map(crate::Seq)
}

/// The absolute send time: seconds in 6.18 fixed point, wrapping every 64 s. `None` unless there are three bytes.
pub fn absolute_send_time(data: &[u8]) -> Option<u32> {
    Reader::new(data).u24()
}

/// A mid or rid (RFC 8852, RFC 9143), without the zero bytes that some senders pad with. `None` unless it is a token of RFC 8866
/// (printable ASCII without separators), so that it can be logged and compared without care.
pub fn stream_name(data: &[u8]) -> Option<&str> {
    let end = data
        .iter()
        .position(|&byte| byte == 0)
        .unwrap_or(data.len());
    let name = &data[..end];
    let is_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`{|}~".contains(byte);
    if name.is_empty() || !name.iter().all(is_token) {
        return None;
    }
    std::str::from_utf8(name).ok()
}
