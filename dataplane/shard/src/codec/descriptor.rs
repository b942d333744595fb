//! The part of a payload descriptor that is rewritten for each subscription.

use weir_wire::vp8::PictureId;
use weir_wire::{NoRoom, vp8, vp9};

use crate::publisher::PictureIds;
use crate::rewriter::Picture;

/// What of a payload's descriptor holds numbers that must be continuous.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Descriptor {
    /// There is none; the payload goes out as it came.
    #[default]
    None,
    /// All of it (RFC 7741 §4.2).
    Vp8(vp8::Descriptor),
    /// Its head (RFC 9628 §4.2).
    Vp9(vp9::Head),
}

impl Descriptor {
    /// The numbers in it, the picture's extended by what came before.
    pub(crate) fn picture(&self, ids: &mut PictureIds) -> Picture {
        match self {
            Self::None => Picture::default(),
            Self::Vp8(of) => Picture {
                id: of.picture_id.map_or(0, |id| ids.extend(id)),
                tl0: of.tl0_picture_index.unwrap_or(0),
                key: of.key_index.unwrap_or(0),
                frame: 0,
            },
            Self::Vp9(of) => Picture {
                id: of.picture_id.map_or(0, |id| ids.extend(id)),
                tl0: of.tl0_picture_index.unwrap_or(0),
                ..Picture::default()
            },
        }
    }

    /// As it goes out: picture ids always have 15 bits.
    pub(crate) fn outgoing(&self, picture: &Picture) -> Self {
        let wide = |_| PictureId::Fifteen(picture.id);
        match self {
            Self::None => Self::None,
            Self::Vp8(of) => Self::Vp8(vp8::Descriptor {
                picture_id: of.picture_id.map(wide),
                tl0_picture_index: of.tl0_picture_index.map(|_| picture.tl0),
                key_index: of.key_index.map(|_| picture.key),
                ..*of
            }),
            Self::Vp9(of) => Self::Vp9(vp9::Head {
                picture_id: of.picture_id.map(wide),
                tl0_picture_index: of.tl0_picture_index.map(|_| picture.tl0),
                ..*of
            }),
        }
    }

    /// Bytes that [`Self::emit`] writes.
    pub(crate) const fn len(&self) -> usize {
        match self {
            Self::None => 0,
            Self::Vp8(of) => of.len(),
            Self::Vp9(of) => of.len(),
        }
    }

    pub(crate) fn emit(&self, out: &mut [u8]) -> Result<usize, NoRoom> {
        match self {
            Self::None => Ok(0),
            Self::Vp8(of) => of.emit(out),
            Self::Vp9(of) => of.emit(out),
        }
    }

    /// Whether a decoder takes a gap in the picture ids for a loss. In VP9 the ids of a stream with layers say where in its
    /// pattern a picture stands, and keep their gaps.
    pub(crate) const fn is_counted(&self) -> bool {
        matches!(self, Self::Vp8(_))
    }
}
