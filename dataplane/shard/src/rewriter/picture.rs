//! The numbers of pictures that a decoder sees.

/// The VP8 fields that must be continuous. Zero where the descriptor has none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Picture {
    /// 15 bits; a source's 7-bit ids are extended before they get here.
    pub(crate) id: u16,
    pub(crate) tl0: u8,
    /// 5 bits.
    pub(crate) key: u8,
}

impl Picture {
    pub(super) fn next(self) -> Self {
        self.plus(Self {
            id: 1,
            tl0: 1,
            key: 1,
        })
    }

    pub(super) fn plus(self, other: Self) -> Self {
        Self {
            id: self.id.wrapping_add(other.id) & 0x7fff,
            tl0: self.tl0.wrapping_add(other.tl0),
            key: self.key.wrapping_add(other.key) & 0x1f,
        }
    }

    pub(super) fn minus(self, other: Self) -> Self {
        Self {
            id: self.id.wrapping_sub(other.id) & 0x7fff,
            tl0: self.tl0.wrapping_sub(other.tl0),
            key: self.key.wrapping_sub(other.key) & 0x1f,
        }
    }
}
