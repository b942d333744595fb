//! The VP9 payload descriptor (RFC 9628 §4.2).
//!
//! ```text
//! I P L F B E V Z · [picture id: 1 or 2] · [TID U SID D] · [TL0PICIDX] │ [reference indices] · [scalability structure] │ frame
//! ───────────────────────────── head ─────────────────────────────────┘
//! ```
//! Only the head holds numbers that must be continuous; what lies behind it is relative, and goes on as it is.

use crate::cursor::{NoRoom, Reader, Writer};
use crate::vp8::PictureId;

/// Bytes of the longest head.
pub const HEAD_BYTES_MAX: usize = 5;
/// Spatial layers, at most.
pub const SPATIAL_MAX: usize = 8;
/// Reference indices of one packet, at most.
const REFERENCES_MAX: usize = 3;

/// Which check of a descriptor failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Error {
    /// The payload ends within the descriptor.
    #[error("payload ends within the VP9 descriptor")]
    TooShort,
    /// A fourth reference index.
    #[error("VP9 descriptor with more than three reference indices")]
    TooManyReferences,
}

/// Which layers a packet belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Layers {
    /// TID, 0 to 7.
    pub temporal: u8,
    /// U: pictures of higher temporal layers that follow need none of those from before this picture.
    pub switching_up: bool,
    /// SID, 0 to 7.
    pub spatial: u8,
    /// D: predicted from the spatial layer below in the same picture.
    pub inter_layer: bool,
}

/// The part of a descriptor that is rewritten.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// P: predicted from an earlier picture.
    pub predicted: bool,
    /// F: references are listed packet by packet.
    pub flexible: bool,
    /// B: the first packet of a frame (one spatial layer of a picture).
    pub start_of_frame: bool,
    /// E: the last packet of a frame.
    pub end_of_frame: bool,
    /// V: a scalability structure follows.
    pub has_structure: bool,
    /// Z: no higher spatial layer of the picture is predicted from this one.
    pub not_a_reference: bool,
    /// The picture id, in the width that it was sent in.
    pub picture_id: Option<PictureId>,
    /// The layers; `None` in streams without.
    pub layers: Option<Layers>,
    /// TL0PICIDX, in streams with layers that are not flexible.
    pub tl0_picture_index: Option<u8>,
}

/// What a descriptor says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Descriptor {
    /// What is rewritten.
    pub head: Head,
    /// Bytes of the head as it was read.
    pub head_len: usize,
    /// Bytes of the whole descriptor.
    pub len: usize,
    /// How many spatial layers the scalability structure declares; 0 without one.
    pub spatial_layers: usize,
    /// Their sizes, if it says them.
    pub sizes: [Option<(u16, u16)>; SPATIAL_MAX],
}

impl Descriptor {
    /// Reads the descriptor at the start of an RTP payload.
    pub fn parse(payload: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(payload);
        let head = Head::read(&mut reader).ok_or(Error::TooShort)?;
        let mut descriptor = Self {
            head,
            head_len: payload.len() - reader.rest().len(),
            ..Self::default()
        };
        if head.predicted && head.flexible {
            skip_references(&mut reader)?;
        }
        if head.has_structure {
            descriptor
                .read_structure(&mut reader)
                .ok_or(Error::TooShort)?;
        }
        descriptor.len = payload.len() - reader.rest().len();
        Ok(descriptor)
    }

    fn read_structure(&mut self, reader: &mut Reader<'_>) -> Option<()> {
        let first = reader.u8()?;
        let (has_sizes, has_pictures) = (first & 0x10 != 0, first & 0x08 != 0);
        self.spatial_layers = usize::from(first >> 5) + 1;
        if has_sizes {
            for size in &mut self.sizes[..self.spatial_layers] {
                let (width, height) = (reader.u16()?, reader.u16()?);
                *size = (width != 0 && height != 0).then_some((width, height));
            }
        }
        if has_pictures {
            for _ in 0..reader.u8()? {
                let references = reader.u8()? >> 2 & 3;
                reader.take(references.into())?;
            }
        }
        Some(())
    }

    /// Whether this is the first packet of a keyframe: not predicted, and the start of the lowest spatial layer.
    pub fn starts_keyframe(&self) -> bool {
        let head = &self.head;
        !head.predicted
            && head.start_of_frame
            && head.layers.is_none_or(|layers| layers.spatial == 0)
    }
}

/// Skips P_DIFF, as many as say that another follows.
fn skip_references(reader: &mut Reader<'_>) -> Result<(), Error> {
    for _ in 0..REFERENCES_MAX {
        if reader.u8().ok_or(Error::TooShort)? & 1 == 0 {
            return Ok(());
        }
    }
    Err(Error::TooManyReferences)
}

impl Head {
    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let first = reader.u8()?;
        let mut head = Self {
            predicted: first & 0x40 != 0,
            flexible: first & 0x10 != 0,
            start_of_frame: first & 0x08 != 0,
            end_of_frame: first & 0x04 != 0,
            has_structure: first & 0x02 != 0,
            not_a_reference: first & 0x01 != 0,
            ..Self::default()
        };
        if first & 0x80 != 0 {
            let high = reader.u8()?;
            head.picture_id = Some(if high & 0x80 == 0 {
                PictureId::Seven(high)
            } else {
                PictureId::Fifteen(u16::from_be_bytes([high & 0x7f, reader.u8()?]))
            });
        }
        if first & 0x20 != 0 {
            let byte = reader.u8()?;
            head.layers = Some(Layers {
                temporal: byte >> 5,
                switching_up: byte & 0x10 != 0,
                spatial: byte >> 1 & 0x07,
                inter_layer: byte & 0x01 != 0,
            });
            if !head.flexible {
                head.tl0_picture_index = Some(reader.u8()?);
            }
        }
        Some(head)
    }

    /// Bytes that [`Self::emit`] writes, at least one.
    #[expect(clippy::len_without_is_empty, reason = "a head is never empty")]
    pub const fn len(&self) -> usize {
        let id = match self.picture_id {
            None => 0,
            Some(PictureId::Seven(_)) => 1,
            Some(PictureId::Fifteen(_)) => 2,
        };
        let tl0 = self.has_tl0() as usize;
        1 + id + self.layers.is_some() as usize + tl0
    }

    /// The index is there if and only if the other fields say so, whatever it is.
    const fn has_tl0(&self) -> bool {
        self.layers.is_some() && !self.flexible
    }

    /// Writes the head, and says how many bytes it has. What followed the one that was read may follow this one.
    pub fn emit(&self, out: &mut [u8]) -> Result<usize, NoRoom> {
        let mut writer = Writer::new(out);
        writer.u8(u8::from(self.picture_id.is_some()) << 7
            | u8::from(self.predicted) << 6
            | u8::from(self.layers.is_some()) << 5
            | u8::from(self.flexible) << 4
            | u8::from(self.start_of_frame) << 3
            | u8::from(self.end_of_frame) << 2
            | u8::from(self.has_structure) << 1
            | u8::from(self.not_a_reference))?;
        match self.picture_id {
            None => {}
            Some(PictureId::Seven(id)) => writer.u8(id & 0x7f)?,
            Some(PictureId::Fifteen(id)) => writer.u16(id | 0x8000)?,
        }
        if let Some(layers) = self.layers {
            writer.u8((layers.temporal & 7) << 5
                | u8::from(layers.switching_up) << 4
                | (layers.spatial & 7) << 1
                | u8::from(layers.inter_layer))?;
        }
        if self.has_tl0() {
            writer.u8(self.tl0_picture_index.unwrap_or(0))?;
        }
        Ok(writer.len())
    }
}
