//! A reader of numbers that are not whole bytes.

/// Reads numbers of some bits from the front; `None` when there are not enough.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bits<'a> {
    data: &'a [u8],
    /// In bits.
    at: usize,
}

impl<'a> Bits<'a> {
    pub(crate) const fn new(data: &'a [u8]) -> Self {
        Self { data, at: 0 }
    }

    pub(crate) fn flag(&mut self) -> Option<bool> {
        Some(self.take(1)? == 1)
    }

    /// At most 32 bits.
    pub(crate) fn take(&mut self, count: u32) -> Option<u32> {
        (0..count).try_fold(0u32, |value, _| {
            let byte = self.data.get(self.at / 8)?;
            let bit = byte >> (7 - self.at % 8) & 1;
            self.at += 1;
            Some(value << 1 | u32::from(bit))
        })
    }

    pub(crate) fn skip(&mut self, count: usize) -> Option<()> {
        self.at = self.at.checked_add(count)?;
        (self.at <= 8 * self.data.len()).then_some(())
    }

    /// A number below `end`, in as few bits as its value allows (AV1 specification §4.10.7).
    pub(crate) fn non_symmetric(&mut self, end: u32) -> Option<u32> {
        let width = u32::BITS - end.leading_zeros();
        let short = (1u32 << width) - end;
        let value = self.take(width.saturating_sub(1))?;
        if value < short {
            return Some(value);
        }
        Some((value << 1) - short + self.take(1)?)
    }

    /// An Exp-Golomb number, `ue(v)` (H.264 §9.1); `None` when it is larger than any that is meant.
    pub(crate) fn golomb(&mut self) -> Option<u32> {
        let mut zeros = 0;
        while !self.flag()? {
            zeros += 1;
            if zeros > 20 {
                return None;
            }
        }
        Some((1 << zeros) - 1 + self.take(zeros)?)
    }

    /// The same with a sign, `se(v)`.
    pub(crate) fn signed_golomb(&mut self) -> Option<i32> {
        let number = self.golomb()? as i32;
        Some(if number % 2 == 0 {
            -(number / 2)
        } else {
            (number + 1) / 2
        })
    }
}
