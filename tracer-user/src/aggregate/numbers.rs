//! Short names for the keys of a history: the first so many keys that are met are numbered, later ones are counted.
//!
//! Apart because every history whose points hold a row per key uses it: a number costs four bytes where a key costs a
//! stack. Numbers are never given anew.

use std::hash::Hash;

use foldhash::quality::RandomState;
use indexmap::{Equivalent, IndexSet};

/// Numbers given so far.
#[derive(Clone, PartialEq, Debug)]
pub struct Numbers<K: Eq + Hash> {
    known: IndexSet<K, RandomState>,
    cap: usize,
    cut: u64,
}

impl<K: Eq + Hash> Numbers<K> {
    /// None yet; at most `cap` of them.
    pub(super) fn new(cap: usize) -> Self {
        Self { known: IndexSet::default(), cap, cut: 0 }
    }

    /// The key's number, a new one where it has none and there is room; what finds no room is counted.
    pub(super) fn give<Q>(&mut self, key: &Q, own: impl FnOnce(&Q) -> K) -> Option<u32>
    where
        Q: Equivalent<K> + Hash,
    {
        match self.known.get_index_of(key) {
            Some(number) => Some(number as u32),
            None if self.known.len() >= self.cap => {
                self.cut += 1;
                None
            }
            None => Some(self.known.insert_full(own(key)).0 as u32),
        }
    }

    /// The number of a key that has one.
    pub fn of(&self, key: &K) -> Option<u32> {
        self.known.get_index_of(key).map(|number| number as u32)
    }

    /// Every key that has a number, by its number.
    pub fn known(&self) -> impl ExactSizeIterator<Item = (&K, u32)> {
        self.known.iter().enumerate().map(|(number, key)| (key, number as u32))
    }

    /// How often a key found no room.
    pub fn cut(&self) -> u64 {
        self.cut
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_keep_their_numbers_and_what_finds_no_room_is_counted() {
        let mut numbers = Numbers::new(2);
        let given = ["a", "b", "a", "c", "c", "b"].map(|key| numbers.give(&key, |key| *key));
        assert_eq!(given, [Some(0), Some(1), Some(0), None, None, Some(1)]);
        assert_eq!((numbers.known().len(), numbers.cut()), (2, 2));
    }
}
