//! Short names for the keys of a history: the first so many keys that are met are numbered, later ones are counted.
//!
//! Apart because every history whose points hold a row per key uses it: a number costs four bytes where a key costs a
//! stack. Numbers are never given anew.

use std::collections::BTreeMap;

/// Numbers given so far.
#[derive(Clone, PartialEq, Debug)]
pub struct Numbers<K> {
    known: BTreeMap<K, u32>,
    cap: usize,
    cut: u64,
}

impl<K: Ord> Numbers<K> {
    /// None yet; at most `cap` of them.
    pub(super) fn new(cap: usize) -> Self {
        Self { known: BTreeMap::new(), cap, cut: 0 }
    }

    /// The key's number, a new one where it has none and there is room; what finds no room is counted.
    pub(super) fn give(&mut self, key: K) -> Option<u32> {
        let next = self.known.len();
        match self.known.get(&key) {
            Some(number) => Some(*number),
            None if next >= self.cap => {
                self.cut += 1;
                None
            }
            None => Some(*self.known.entry(key).or_insert(next as u32)),
        }
    }

    pub fn known(&self) -> &BTreeMap<K, u32> {
        &self.known
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
        let given = ["a", "b", "a", "c", "c", "b"].map(|key| numbers.give(key));
        assert_eq!(given, [Some(0), Some(1), Some(0), None, None, Some(1)]);
        assert_eq!((numbers.known().len(), numbers.cut()), (2, 2));
    }
}
