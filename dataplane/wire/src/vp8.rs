//! The VP8 payload descriptor (RFC 7741 §4.2), and as much of the frame header as says "keyframe" and its size.
//!
//! The descriptor is all that forwarding needs, and it stays readable when the frame is encrypted. What lies behind it is
//! asked for separately, and may be missing.

use crate::cursor::{NoRoom, Reader, Writer};

/// Bytes of the longest descriptor.
pub const DESCRIPTOR_BYTES_MAX: usize = 6;

/// Which check of a descriptor failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Error {
    /// The payload ends within the descriptor.
    #[error("payload ends within the VP8 descriptor")]
    TooShort,
}

/// A picture id, in the width that it was sent in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PictureId {
    /// M = 0: wraps after 127.
    Seven(u8),
    /// M = 1: wraps after 32767.
    Fifteen(u16),
}

impl PictureId {
    /// The number, whatever its width.
    pub const fn value(self) -> u16 {
        match self {
            Self::Seven(id) => id as u16,
            Self::Fifteen(id) => id,
        }
    }

    /// The id `n` pictures later, in the same width.
    pub const fn add(self, n: u16) -> Self {
        match self {
            Self::Seven(id) => Self::Seven((id as u16).wrapping_add(n) as u8 & 0x7f),
            Self::Fifteen(id) => Self::Fifteen(id.wrapping_add(n) & 0x7fff),
        }
    }

    /// How many pictures `self` is after `other` on the shorter way round, at the width of `self`; negative when it is before.
    pub const fn distance_from(self, other: Self) -> i16 {
        let difference = self.value().wrapping_sub(other.value());
        match self {
            // Shifting the sign bit of the narrow number to that of the i16 and back extends it.
            Self::Seven(_) => ((difference << 9) as i16) >> 9,
            Self::Fifteen(_) => ((difference << 1) as i16) >> 1,
        }
    }
}

/// The temporal layer of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Temporal {
    /// TID: 0 is the base, at most 3.
    pub id: u8,
    /// Y: depends only on base-layer pictures, so that one may switch up here.
    pub layer_sync: bool,
}

/// What a VP8 payload descriptor says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Descriptor {
    /// N: no other picture refers to this one.
    pub non_reference: bool,
    /// S: a partition starts with this packet.
    pub start_of_partition: bool,
    /// PID: the partition's number, 0 to 7 (RFC 7741 has three bits).
    pub partition_index: u8,
    /// The picture id.
    pub picture_id: Option<PictureId>,
    /// TL0PICIDX: counts base-layer pictures, wraps after 255.
    pub tl0_picture_index: Option<u8>,
    /// TID and Y. Sent in one byte with KEYIDX.
    pub temporal: Option<Temporal>,
    /// KEYIDX: counts keyframes, wraps after 31.
    pub key_index: Option<u8>,
}

impl Descriptor {
    /// Reads the descriptor at the start of an RTP payload, and says how many bytes it has.
    pub fn parse(payload: &[u8]) -> Result<(Self, usize), Error> {
        let mut reader = Reader::new(payload);
        let descriptor = Self::read(&mut reader).ok_or(Error::TooShort)?;
        Ok((descriptor, payload.len() - reader.rest().len()))
    }

    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let first = reader.u8()?;
        let mut descriptor = Self {
            non_reference: first & 0x20 != 0,
            start_of_partition: first & 0x10 != 0,
            partition_index: first & 0x07,
            ..Self::default()
        };
        if first & 0x80 == 0 {
            return Some(descriptor);
        }
        let present = reader.u8()?;
        let (has_id, has_tl0) = (present & 0x80 != 0, present & 0x40 != 0);
        let (has_temporal, has_key_index) = (present & 0x20 != 0, present & 0x10 != 0);
        if has_id {
            let high = reader.u8()?;
            descriptor.picture_id = Some(if high & 0x80 == 0 {
                PictureId::Seven(high)
            } else {
                PictureId::Fifteen(u16::from_be_bytes([high & 0x7f, reader.u8()?]))
            });
        }
        if has_tl0 {
            descriptor.tl0_picture_index = Some(reader.u8()?);
        }
        if has_temporal || has_key_index {
            let byte = reader.u8()?;
            descriptor.temporal = has_temporal.then_some(Temporal {
                id: byte >> 6,
                layer_sync: byte & 0x20 != 0,
            });
            descriptor.key_index = has_key_index.then_some(byte & 0x1f);
        }
        Some(descriptor)
    }

    /// Bytes that [`Self::emit`] writes, at least one.
    #[expect(clippy::len_without_is_empty, reason = "a descriptor is never empty")]
    pub const fn len(&self) -> usize {
        let id = match self.picture_id {
            None => 0,
            Some(PictureId::Seven(_)) => 1,
            Some(PictureId::Fifteen(_)) => 2,
        };
        let tl0 = self.tl0_picture_index.is_some() as usize;
        let last = (self.temporal.is_some() || self.key_index.is_some()) as usize;
        let any = id + tl0 + last;
        if any == 0 { 1 } else { 2 + any }
    }

    /// Writes the descriptor, and says how many bytes it has.
    pub fn emit(&self, out: &mut [u8]) -> Result<usize, NoRoom> {
        let mut writer = Writer::new(out);
        let present = u8::from(self.picture_id.is_some()) << 7
            | u8::from(self.tl0_picture_index.is_some()) << 6
            | u8::from(self.temporal.is_some()) << 5
            | u8::from(self.key_index.is_some()) << 4;
        writer.u8(u8::from(present != 0) << 7
            | u8::from(self.non_reference) << 5
            | u8::from(self.start_of_partition) << 4
            | self.partition_index & 0x07)?;
        if present != 0 {
            writer.u8(present)?;
        }
        match self.picture_id {
            None => {}
            Some(PictureId::Seven(id)) => writer.u8(id & 0x7f)?,
            Some(PictureId::Fifteen(id)) => writer.u16(id | 0x8000)?,
        }
        if let Some(index) = self.tl0_picture_index {
            writer.u8(index)?;
        }
        if self.temporal.is_some() || self.key_index.is_some() {
            let temporal = self
                .temporal
                .map_or(0, |t| (t.id & 3) << 6 | u8::from(t.layer_sync) << 5);
            writer.u8(temporal | self.key_index.unwrap_or(0) & 0x1f)?;
        }
        Ok(writer.len())
    }

    /// Whether this is the first packet of a picture: the start of its partition 0.
    pub const fn starts_picture(&self) -> bool {
        self.start_of_partition && self.partition_index == 0
    }
}

/// Whether a packet is the first of a keyframe. `frame` is what follows the descriptor; only its first byte is read.
pub fn starts_keyframe(descriptor: &Descriptor, frame: &[u8]) -> bool {
    // The P bit of the frame tag is 0 in keyframes (RFC 7741 §4.3).
    descriptor.starts_picture() && frame.first().is_some_and(|tag| tag & 0x01 == 0)
}

/// Width and height that a keyframe's first packet declares. `None` when its start code is not there (an interframe, an encrypted
/// frame, a payload that is too short) or a side is 0.
pub fn keyframe_size(frame: &[u8]) -> Option<(u16, u16)> {
    let mut reader = Reader::new(frame);
    let tag = reader.take(3)?;
    let start_code = reader.take(3)?;
    if tag[0] & 0x01 != 0 || start_code != [0x9d, 0x01, 0x2a] {
        return None;
    }
    // Little-endian, with the upscaling hint in the upper two bits (RFC 6386 §9.1).
    let width = reader.u16()?.swap_bytes() & 0x3fff;
    let height = reader.u16()?.swap_bytes() & 0x3fff;
    (width != 0 && height != 0).then_some((width, height))
}
