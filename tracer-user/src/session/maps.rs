//! Which maps to read: those that were seen to grow, those that package variables hold, and large ones in the heap.
//!
//! Apart from the reader because a map that was seen to grow is known by its
//! address alone, and freed memory keeps its bytes until it is given out again: so the collector's marks are asked
//! whether it is still there, once it no longer grows.

use std::collections::{BTreeMap, btree_map::Entry};

use super::target::Target;
use crate::{
    goruntime::{
        code::hooks::{MapKind, map_kind},
        heap::{
            census::HeapShape,
            held::{self, Held},
            map_headers::Found,
        },
        state::{
            StateError,
            maps::{Known, MAX_MAPS, Place},
        },
    },
    record::reading::{Counts, MapCall, MapSearch, MapState, Maps, SharedStorage},
    units::ProcAddr,
};

/// The maps that are known so far.
pub(super) struct MapFinder {
    kind: MapKind,
    shape: HeapShape,
    variables: Vec<Known>,
    grown: Grown,
}

/// Maps that were seen to grow, by header.
#[derive(Default)]
struct Grown {
    maps: BTreeMap<ProcAddr, GrownMap>,
    /// By map and type, how many calls had been counted when last looked at: at most the rows of one reading.
    calls: BTreeMap<(ProcAddr, ProcAddr), u64>,
    /// Maps that were called on lately and found no room.
    left: u64,
}

struct GrownMap {
    /// As the last call on it said, or the heap.
    type_addr: ProcAddr,
    /// Where the heap alone tells of it and several types share its storage.
    may_be: Option<SharedStorage>,
    held: Held,
    /// As last read; absent since the last call.
    seed: Option<u64>,
}

impl MapFinder {
    /// Absent where the program has no maps that grow.
    pub(super) fn new(target: &Target) -> Option<Self> {
        let kind = map_kind(&target.image)?;
        let shape = HeapShape::of(&target.image);
        Some(Self { kind, shape, variables: Vec::new(), grown: Grown::default() })
    }

    pub(super) fn kind(&self) -> MapKind {
        self.kind
    }

    /// Takes up the maps that were called on since.
    pub(super) fn learn(&mut self, counts: &Counts) {
        self.grown.learn(counts);
    }

    /// Takes up maps that lie in the heap: nobody was seen to call on them yet. Gives what the search left out and could not decide.
    pub(super) fn came_by(&mut self, found: Found) -> MapSearch {
        self.grown.came_by(found)
    }

    /// Forgets the maps that are gone. Behind `learn`: what was called on is asked for from the next GC cycle on.
    pub(super) fn forget(&mut self, target: &Target) -> Result<(), StateError> {
        let mut all: Vec<(ProcAddr, &mut Held)> =
            self.grown.maps.iter_mut().map(|(at, map)| (*at, &mut map.held)).collect();
        let gone = held::gone(&target.memory, &target.state, self.shape, &mut all)?;
        let mut gone = gone.into_iter();
        self.grown.maps.retain(|_, _| !gone.next().unwrap_or(false));
        Ok(())
    }

    /// Takes up the package variables that hold maps.
    pub(super) fn held_by(&mut self, variables: Vec<Known>) {
        self.variables = variables;
    }

    /// The maps to read.
    pub(super) fn known(&self) -> Vec<Known> {
        let mut known = self.variables.clone();
        let grown = self.grown.maps.iter();
        known.extend(grown.map(|(at, map)| Known { at: Place::Header(*at), type_addr: map.type_addr }));
        known
    }

    /// Takes out of a reading what may be another map than the one whose address was known.
    pub(super) fn check(&mut self, maps: &mut Maps) {
        maps.maps.retain(|map| self.grown.believes(map));
        maps.beyond_cap = maps.beyond_cap.saturating_add(self.grown.left);
    }
}

impl Grown {
    fn learn(&mut self, counts: &Counts) {
        let mut sums: BTreeMap<(ProcAddr, ProcAddr), u64> = BTreeMap::new();
        for count in counts.map_calls.iter().filter(|c| c.call != MapCall::Delete && c.map != ProcAddr(0)) {
            let sum = sums.entry((count.map, count.type_addr)).or_default();
            *sum = sum.saturating_add(count.calls);
        }
        // The counts go on for ever, so that only what rose says that a map was there lately.
        let mut risen: BTreeMap<ProcAddr, Vec<ProcAddr>> = BTreeMap::new();
        for ((at, type_addr), sum) in &sums {
            if self.calls.get(&(*at, *type_addr)).is_none_or(|before| sum > before) {
                risen.entry(*at).or_default().push(*type_addr);
            }
        }
        let mut left = Vec::new();
        for (at, types) in risen {
            let &[type_addr] = &types[..] else {
                // One map after another, and nobody knows which of them came last.
                self.maps.remove(&at);
                continue;
            };
            let map = GrownMap { type_addr, may_be: None, held: Held::default(), seed: None };
            let full = self.maps.len() > MAX_MAPS;
            match self.maps.entry(at) {
                Entry::Occupied(mut known) => drop(known.insert(map)),
                // Beyond what is ever read there is nothing to remember; the reading counts them.
                Entry::Vacant(_) if full => left.push((at, type_addr)),
                Entry::Vacant(new) => drop(new.insert(map)),
            }
        }
        self.calls = sums;
        self.left = left.len() as u64;
        for key in left {
            self.calls.remove(&key);
        }
    }

    fn came_by(&mut self, found: Found) -> MapSearch {
        let Found { maps, mut search, next: _ } = found;
        let mut shared: BTreeMap<ProcAddr, SharedStorage> =
            search.shared.drain(..).map(|shared| (shared.map, shared)).collect();
        for Known { at, type_addr } in maps {
            let Place::Header(at) = at else { continue };
            let full = self.maps.len() > MAX_MAPS;
            match self.maps.entry(at) {
                Entry::Occupied(_) => {}
                Entry::Vacant(_) if full => search.beyond_cap += 1,
                Entry::Vacant(new) => {
                    let may_be = shared.remove(&at);
                    new.insert(GrownMap { type_addr, may_be, held: Held::default(), seed: None });
                }
            }
        }
        // Of all that are known: until a call says which of the types it is, that it was seen once decides nothing.
        search.shared = self.maps.values().filter_map(|map| map.may_be.clone()).collect();
        search
    }

    /// Another seed is another map, or the same one emptied: the same only where it is known to be the same object.
    /// Of another map nothing tells the type, until it grows.
    fn believes(&mut self, map: &MapState) -> bool {
        let Some(known) = self.maps.get_mut(&map.address) else { return true };
        let before = known.seed.replace(map.seed);
        if map.variable.is_some() || known.held.is_same() || before.is_none_or(|seed| seed == map.seed) {
            return true;
        }
        self.maps.remove(&map.address);
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::reading::MapCallCount;
    use crate::units::StackId;

    const AT: ProcAddr = ProcAddr(0xc000_1000);

    fn counts(rows: &[(ProcAddr, u64, MapCall, u64)]) -> Counts {
        let row =
            |(n, (map, type_addr, call, calls)): (usize, &(ProcAddr, u64, MapCall, u64))| MapCallCount {
                stack: StackId(n as u64),
                type_addr: ProcAddr(*type_addr),
                map: *map,
                call: *call,
                calls: *calls,
            };
        Counts { map_calls: rows.iter().enumerate().map(row).collect(), ..Counts::default() }
    }

    fn types(grown: &Grown) -> Vec<u64> {
        grown.maps.values().map(|map| map.type_addr.0).collect()
    }

    fn read(seed: u64, variable: Option<ProcAddr>) -> MapState {
        MapState {
            address: AT,
            type_addr: ProcAddr(1),
            variable,
            seed,
            entries: 1,
            capacity: None,
            tombstones: None,
        }
    }

    /// A map of which a cycle was missed.
    fn grown(seed: u64) -> Grown {
        let mut grown = Grown::default();
        grown.learn(&counts(&[(AT, 1, MapCall::Grow, 1)]));
        assert!(grown.believes(&read(seed, None)));
        grown
    }

    #[test]
    fn a_map_that_is_forgotten_comes_back_with_its_next_call_only() {
        let mut grown = Grown::default();
        let rows =
            [(AT, 1, MapCall::Grow, 2), (AT, 1, MapCall::Write, 3), (ProcAddr(8), 2, MapCall::Delete, 9)];
        grown.learn(&counts(&rows));
        assert_eq!(types(&grown), [1]);
        grown.maps.clear();
        grown.learn(&counts(&rows));
        assert!(grown.maps.is_empty());
        grown.learn(&counts(&[(AT, 1, MapCall::Grow, 2), (AT, 1, MapCall::Write, 4)]));
        assert_eq!(types(&grown), [1]);
    }

    #[test]
    fn the_type_is_that_of_the_newest_call() {
        let mut grown = Grown::default();
        grown.learn(&counts(&[(AT, 7, MapCall::Grow, 5)]));
        grown.learn(&counts(&[(AT, 7, MapCall::Grow, 5), (AT, 3, MapCall::Grow, 1)]));
        assert_eq!(types(&grown), [3]);
        grown.learn(&counts(&[(AT, 7, MapCall::Grow, 6), (AT, 3, MapCall::Grow, 1)]));
        assert_eq!(types(&grown), [7]);
        // Which came last is unknown.
        grown.learn(&counts(&[(AT, 7, MapCall::Grow, 7), (AT, 3, MapCall::Grow, 2)]));
        assert!(grown.maps.is_empty());
    }

    #[test]
    fn maps_past_the_cap_are_taken_when_there_is_room() {
        let many: Vec<(ProcAddr, u64, MapCall, u64)> =
            (1..MAX_MAPS as u64 + 10).map(|n| (ProcAddr(48 * n), 1, MapCall::Grow, 1)).collect();
        let mut grown = Grown::default();
        grown.learn(&counts(&many));
        assert_eq!(grown.maps.len(), MAX_MAPS + 1);
        grown.maps.clear();
        grown.learn(&counts(&many));
        assert_eq!(grown.maps.len(), 8);
    }

    #[test]
    fn what_the_heap_leaves_open_a_call_decides() {
        let found = || Found {
            maps: vec![Known { at: Place::Header(AT), type_addr: ProcAddr(7) }],
            search: MapSearch {
                shared: vec![SharedStorage { map: AT, types: vec![ProcAddr(7), ProcAddr(9)], more: 0 }],
                ..MapSearch::default()
            },
            next: ProcAddr(0),
        };
        let mut grown = Grown::default();
        assert_eq!(grown.came_by(found()).shared.len(), 1);
        assert_eq!(types(&grown), [7]);
        // The next look goes through another part of the heap.
        let elsewhere = Found { maps: vec![], search: MapSearch::default(), next: ProcAddr(0) };
        assert_eq!(grown.came_by(elsewhere).shared, found().search.shared);
        grown.learn(&counts(&[(AT, 9, MapCall::Grow, 1)]));
        assert_eq!((grown.came_by(found()).shared, types(&grown)), (vec![], vec![9]));
    }

    #[test]
    fn maps_that_found_no_room_are_counted() {
        let known = |n: u64| Known { at: Place::Header(ProcAddr(48 * n)), type_addr: ProcAddr(1) };
        let maps: Vec<Known> = (1..MAX_MAPS as u64 + 10).map(known).collect();
        let mut grown = Grown::default();
        assert_eq!(grown.came_by(Found { maps, search: MapSearch::default(), next: AT }).beyond_cap, 8);
        grown.learn(&counts(&[(AT, 1, MapCall::Grow, 1), (ProcAddr(48), 1, MapCall::Grow, 1)]));
        assert_eq!(grown.left, 1, "one of the two has a place");
    }

    #[test]
    fn another_seed_is_the_same_map_only_where_the_object_is() {
        let missed = || {
            let mut grown = grown(7);
            grown.maps.get_mut(&AT).unwrap().held = Held::missed();
            grown
        };
        assert!(missed().believes(&read(7, None)), "nothing changed");
        let mut emptied = grown(7);
        assert!(emptied.believes(&read(8, None)) && emptied.maps.contains_key(&AT));
        let mut another = missed();
        assert!(!another.believes(&read(8, None)) && another.maps.is_empty());
        assert!(missed().believes(&read(8, Some(ProcAddr(16)))), "the variable says what it holds");
        let mut called = missed();
        called.learn(&counts(&[(AT, 1, MapCall::Grow, 2)]));
        assert!(called.believes(&read(8, None)), "the call says what it is");
    }
}
