//! Room for what will come, in memory that is there already (prefaulted).
//!
//! The kernel gives a page of memory only when it is first touched. Left to itself that is in the middle of a call, again and again
//! for hours: each costs a fault where every microsecond counts, and looks from outside as if the shard leaked.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, Hash};
use std::hint::black_box;
use std::mem::MaybeUninit;

/// An empty list with room for `count`.
pub(crate) fn list<T>(count: usize) -> Vec<T> {
    // What the compiler knows to be fresh memory it would have zeroed by the allocator, which knows that fresh pages are zero.
    let mut room = black_box(Vec::with_capacity(count));
    room.spare_capacity_mut().fill_with(MaybeUninit::zeroed);
    black_box(room)
}

/// An empty queue with room for `count`.
pub(crate) fn queue<T>(count: usize) -> VecDeque<T> {
    VecDeque::from(list(count))
}

/// An empty map with room for `count`; `entry` makes that many entries with keys of their own.
pub(crate) fn map<K: Eq + Hash, V, S: BuildHasher>(
    count: usize,
    hasher: S,
    entry: impl Fn(usize) -> (K, V),
) -> HashMap<K, V, S> {
    let mut map = HashMap::with_capacity_and_hasher(count, hasher);
    map.extend((0..count).map(entry));
    map.clear();
    map
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::SeededHash;

    const COUNT: usize = 1 << 20;

    /// Pages of this thread that were not there when it touched them (proc(5): the tenth field of `stat` is `minflt`).
    fn faults() -> u64 {
        let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
        // The name may contain spaces; what follows it does not.
        let (_, fields) = stat.rsplit_once(')').unwrap();
        fields.split_whitespace().nth(7).unwrap().parse().unwrap()
    }

    /// How many pages `fill` touches for the first time.
    fn touched(fill: impl FnOnce()) -> u64 {
        let before = faults();
        fill();
        faults() - before
    }

    #[test]
    fn filling_it_touches_no_new_page() {
        let mut list = list::<usize>(COUNT);
        let mut queue = queue::<usize>(COUNT);
        let mut map = map(COUNT, SeededHash(1), |n| (n, n));
        assert!(list.is_empty() && queue.is_empty() && map.is_empty());
        let pages = touched(|| {
            list.extend(0..COUNT);
            queue.extend(0..COUNT);
            // Other keys than those that were there before.
            map.extend((COUNT..2 * COUNT).map(|n| (n, n)));
        });
        // Each has more than 2000 pages of its own.
        assert!(pages < 64, "{pages}");
        assert_eq!((list.len(), queue.len(), map.len()), (COUNT, COUNT, COUNT));
    }
}
