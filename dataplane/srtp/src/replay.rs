//! Which packets of a source have been accepted (RFC 3711 §3.3.2), for the newest of them.

use crate::Error;

/// The highest index of a source and which of the `64 * WORDS` up to it have come.
///
/// The bits lie in a ring by index, so that moving on clears only what was skipped.
#[derive(Clone, Debug)]
pub(crate) struct Window<const WORDS: usize> {
    highest: u64,
    seen: [u64; WORDS],
}

impl<const WORDS: usize> Window<WORDS> {
    /// A window whose first packet has this index.
    pub(crate) fn starting_with(index: u64) -> Self {
        let mut window = Self {
            highest: index,
            seen: [0; WORDS],
        };
        window.set(index);
        window
    }

    /// The highest index accepted.
    pub(crate) const fn highest(&self) -> u64 {
        self.highest
    }

    /// Whether a packet with this index may still come.
    pub(crate) fn check(&self, index: u64) -> Result<(), Error> {
        let Some(age) = self.highest.checked_sub(index) else {
            return Ok(());
        };
        if age >= Self::width() {
            Err(Error::TooOld)
        } else if self.is_set(index) {
            Err(Error::Replayed)
        } else {
            Ok(())
        }
    }

    /// Marks the index of an authentic packet that [`Self::check`] let pass.
    pub(crate) fn accept(&mut self, index: u64) {
        if index > self.highest {
            if index - self.highest >= Self::width() {
                self.seen = [0; WORDS];
            } else {
                (self.highest + 1..index).for_each(|skipped| self.clear(skipped));
            }
            self.highest = index;
        }
        self.set(index);
    }

    const fn width() -> u64 {
        64 * WORDS as u64
    }

    const fn place(index: u64) -> (usize, u64) {
        ((index / 64 % WORDS as u64) as usize, 1 << (index % 64))
    }

    fn is_set(&self, index: u64) -> bool {
        let (word, bit) = Self::place(index);
        self.seen[word] & bit != 0
    }

    fn set(&mut self, index: u64) {
        let (word, bit) = Self::place(index);
        self.seen[word] |= bit;
    }

    fn clear(&mut self, index: u64) {
        let (word, bit) = Self::place(index);
        self.seen[word] &= !bit;
    }
}

/// The windows of the sources seen so far, sorted by SSRC. It has its full size from the start, and grows only when told to.
pub(crate) struct Sources<const WORDS: usize> {
    list: Vec<(u32, Window<WORDS>)>,
    sources_max: usize,
}

impl<const WORDS: usize> Sources<WORDS> {
    pub(crate) fn new(sources_max: usize) -> Self {
        Self {
            list: Vec::with_capacity(sources_max),
            sources_max,
        }
    }

    /// Makes room for more.
    pub(crate) fn raise(&mut self, sources_max: usize) {
        self.sources_max = self.sources_max.max(sources_max);
        self.list.reserve_exact(self.sources_max - self.list.len());
    }

    /// The window of a source; `None` before its first authentic packet.
    pub(crate) fn get(&self, ssrc: u32) -> Option<&Window<WORDS>> {
        self.position(ssrc).ok().map(|at| &self.list[at].1)
    }

    /// Marks an authentic packet, and makes the state of a source with the first one.
    pub(crate) fn accept(&mut self, ssrc: u32, index: u64) -> Result<(), Error> {
        match self.position(ssrc) {
            Ok(at) => self.list[at].1.accept(index),
            Err(_) if self.list.len() >= self.sources_max => return Err(Error::TooManySources),
            Err(at) => self.list.insert(at, (ssrc, Window::starting_with(index))),
        }
        Ok(())
    }

    pub(crate) fn forget(&mut self, ssrc: u32) {
        if let Ok(at) = self.position(ssrc) {
            self.list.remove(at);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }

    fn position(&self, ssrc: u32) -> Result<usize, usize> {
        self.list.binary_search_by_key(&ssrc, |(ssrc, _)| *ssrc)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    type Small = Window<2>;

    #[test]
    fn a_full_table_refuses_new_sources_until_it_is_raised() {
        let mut sources = Sources::<2>::new(1);
        assert_eq!(sources.accept(7, 1), Ok(()));
        assert_eq!(sources.accept(8, 1), Err(Error::TooManySources));
        sources.raise(0);
        assert_eq!(sources.accept(8, 1), Err(Error::TooManySources));
        sources.raise(2);
        assert_eq!(sources.accept(8, 1), Ok(()));
        assert_eq!(sources.accept(9, 1), Err(Error::TooManySources));
        assert_eq!((sources.len(), sources.get(7).is_some()), (2, true));
    }

    #[test]
    fn refuses_what_came_and_what_is_too_old() {
        let mut window = Small::starting_with(200);
        assert_eq!(window.check(200), Err(Error::Replayed));
        assert_eq!(window.check(199), Ok(()));
        assert_eq!(window.check(73), Ok(()));
        assert_eq!(window.check(72), Err(Error::TooOld));
        window.accept(199);
        assert_eq!(window.check(199), Err(Error::Replayed));
        window.accept(300);
        assert_eq!(window.check(200), Err(Error::Replayed));
        assert_eq!(window.check(201), Ok(()));
        assert_eq!(window.check(172), Err(Error::TooOld));
        assert_eq!(window.highest(), 300);
    }

    #[test]
    fn agrees_with_a_set_of_all_indexes() {
        let mut random = 0x1234_5678_u64;
        let mut window = Small::starting_with(1000);
        let mut seen = BTreeSet::from([1000_u64]);
        for step in 0..50_000 {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let highest = *seen.last().unwrap();
            let jump = if step % 1000 == 999 { 400 } else { 4 };
            let index = highest + jump - (random >> 33) % 140;
            let expected = if index + 128 <= highest {
                Err(Error::TooOld)
            } else if seen.contains(&index) {
                Err(Error::Replayed)
            } else {
                Ok(())
            };
            assert_eq!(
                window.check(index),
                expected,
                "step {step}, index {index}, highest {highest}"
            );
            if expected.is_ok() {
                window.accept(index);
                seen.insert(index);
            }
        }
    }

    #[test]
    fn holds_no_more_sources_than_it_may() {
        let mut sources = Sources::<2>::new(2);
        assert_eq!(sources.accept(7, 1), Ok(()));
        assert_eq!(sources.accept(5, 1), Ok(()));
        assert_eq!(sources.accept(6, 1), Err(Error::TooManySources));
        assert_eq!(sources.accept(7, 2), Ok(()));
        sources.forget(7);
        assert_eq!(sources.accept(6, 1), Ok(()));
        assert_eq!(sources.len(), 2);
        assert!(sources.get(7).is_none());
    }
}
