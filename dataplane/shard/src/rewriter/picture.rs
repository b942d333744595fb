//! The numbers of pictures that a decoder sees.

/// The fields of payload and dependency descriptors that must be continuous. Zero where there are none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Picture {
    /// 15 bits; a source's 7-bit ids are extended before they get here.
    pub(crate) id: u16,
    pub(crate) tl0: u8,
    /// 5 bits.
    pub(crate) key: u8,
    /// The frame number of the dependency descriptor.
    pub(crate) frame: u16,
}

impl Picture {
    pub(super) fn next(self) -> Self {
        self.plus(Self {
            id: 1,
            tl0: 1,
            key: 1,
            frame: 1,
        })
    }

    pub(super) fn plus(self, other: Self) -> Self {
        Self {
            id: self.id.wrapping_add(other.id) & 0x7fff,
            tl0: self.tl0.wrapping_add(other.tl0),
            key: self.key.wrapping_add(other.key) & 0x1f,
            frame: self.frame.wrapping_add(other.frame),
        }
    }

    pub(super) fn minus(self, other: Self) -> Self {
        Self {
            id: self.id.wrapping_sub(other.id) & 0x7fff,
            tl0: self.tl0.wrapping_sub(other.tl0),
            key: self.key.wrapping_sub(other.key) & 0x1f,
            frame: self.frame.wrapping_sub(other.frame),
        }
    }
}
