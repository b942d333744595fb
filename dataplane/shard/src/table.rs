//! A table with a limit and stable indices, and the seeded hash and numbers that keep runs repeatable.

use std::hash::{BuildHasher, Hasher};

/// Entries at indices that stay while they live. Iterates in index order, so that the same input gives the same output.
#[derive(Debug)]
pub(crate) struct Table<T> {
    entries: Vec<Option<T>>,
    free: Vec<u32>,
    limit: usize,
}

impl<T> Table<T> {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            entries: Vec::new(),
            free: Vec::new(),
            limit,
        }
    }

    pub(crate) fn is_full(&self) -> bool {
        self.len() >= self.limit
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    /// The index of the new entry; `None` when the table is full.
    pub(crate) fn insert(&mut self, entry: T) -> Option<u32> {
        if self.is_full() {
            return None;
        }
        if let Some(index) = self.free.pop() {
            self.entries[index as usize] = Some(entry);
            return Some(index);
        }
        self.entries.push(Some(entry));
        Some(self.entries.len() as u32 - 1)
    }

    pub(crate) fn remove(&mut self, index: u32) -> Option<T> {
        let entry = self.entries.get_mut(index as usize)?.take();
        if entry.is_some() {
            self.free.push(index);
        }
        entry
    }

    pub(crate) fn get(&self, index: u32) -> Option<&T> {
        self.entries.get(index as usize)?.as_ref()
    }

    pub(crate) fn get_mut(&mut self, index: u32) -> Option<&mut T> {
        self.entries.get_mut(index as usize)?.as_mut()
    }

    /// One past the highest index in use, for loops that must not borrow the table.
    pub(crate) fn end(&self) -> u32 {
        self.entries.len() as u32
    }
}

/// A hash that an attacker cannot aim at without the seed, and that is the same in every run with it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SeededHash(pub(crate) u64);

impl BuildHasher for SeededHash {
    type Hasher = Folded;

    fn build_hasher(&self) -> Folded {
        Folded {
            seed: self.0 | 1,
            state: self.0.rotate_left(32),
        }
    }
}

/// Multiplies and folds, eight bytes at a time.
#[derive(Debug)]
pub(crate) struct Folded {
    seed: u64,
    state: u64,
}

impl Folded {
    fn fold(&mut self, word: u64) {
        let product = u128::from(self.state ^ word ^ 0x9e37_79b9_7f4a_7c15)
            * u128::from(self.seed ^ 0xd6e8_feb8_6659_fd93);
        self.state = (product as u64) ^ ((product >> 64) as u64) ^ self.seed;
    }
}

impl Hasher for Folded {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.fold(u64::from_le_bytes(word) ^ ((chunk.len() as u64) << 56));
        }
    }

    fn write_u8(&mut self, word: u8) {
        self.fold(word.into());
    }

    fn write_u16(&mut self, word: u16) {
        self.fold(word.into());
    }

    fn write_u32(&mut self, word: u32) {
        self.fold(word.into());
    }

    fn finish(&self) -> u64 {
        let mut last = Folded {
            seed: self.seed,
            state: self.state,
        };
        last.fold(0);
        last.state
    }
}

/// Repeatable numbers from a seed (SplitMix64), for SSRCs of reports and first sequence numbers. Not for secrets.
#[derive(Debug)]
pub(crate) struct Numbers(u64);

impl Numbers {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_table_takes_nothing_and_never_grows() {
        let mut table = Table::new(2);
        assert_eq!(table.insert('a'), Some(0));
        assert_eq!(table.insert('b'), Some(1));
        assert_eq!(table.insert('c'), None);
        assert_eq!(table.remove(0), Some('a'));
        assert_eq!(table.remove(0), None);
        assert_eq!(table.insert('c'), Some(0));
        assert_eq!((table.len(), table.end()), (2, 2));
    }

    #[test]
    fn the_seed_decides_the_hash() {
        let of = |seed, address: &str| {
            SeededHash(seed).hash_one(address.parse::<std::net::SocketAddr>().unwrap())
        };
        assert_eq!(of(1, "192.0.2.1:7"), of(1, "192.0.2.1:7"));
        assert_ne!(of(1, "192.0.2.1:7"), of(2, "192.0.2.1:7"));
        assert_ne!(of(1, "192.0.2.1:7"), of(1, "192.0.2.1:8"));
        assert_ne!(of(1, "192.0.2.1:7"), of(1, "192.0.2.2:7"));
    }
}
