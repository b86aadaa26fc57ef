//! Maps over time, as read from their headers: how many entries each holds.
//!
//! A map is an address with a type and a hash seed; another seed at the address is another map, or the same one
//! emptied, and begins anew. This file judges nothing.

use std::collections::BTreeMap;

use super::series::Series;
use crate::record::reading::{MapSearch, MapState, Maps, SharedStorage};
use crate::units::{KTime, ProcAddr};

/// Maps followed; those beyond are counted. 1 024 with 128 points of 16 bytes are 2 MiB.
pub const MAX_MAPS: usize = 1_024;
/// Maps of which several types are kept: more than a session looks up.
const MAX_SHARED: usize = 8_192;
/// Points kept per map.
pub const MAX_POINTS: usize = 128;

/// One map over time.
#[derive(Clone, PartialEq, Debug)]
pub struct MapHistory {
    newest: MapState,
    read_at: KTime,
    /// Entries at each reading.
    points: Series<(KTime, u64)>,
}

impl MapHistory {
    fn begin(time: KTime, state: &MapState) -> Self {
        let mut points = Series::new(MAX_POINTS);
        points.push((time, state.entries));
        Self { newest: *state, read_at: time, points }
    }

    fn continues(&self, state: &MapState) -> bool {
        self.newest.seed == state.seed && self.newest.type_addr == state.type_addr
    }

    pub fn newest(&self) -> &MapState {
        &self.newest
    }
    pub fn points(&self) -> &Series<(KTime, u64)> {
        &self.points
    }
}

/// All maps that are known, by address.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct MapHistories {
    maps: BTreeMap<ProcAddr, MapHistory>,
    read_at: Option<KTime>,
    /// Of the newest reading.
    unread: u64,
    cut: u64,
    search: Option<MapSearch>,
    /// The most of any search.
    search_unread: u64,
    search_cut: u64,
}

impl MapHistories {
    pub(super) fn searched(&mut self, mut search: MapSearch) {
        // A recording may say what it likes.
        search.shared.truncate(MAX_SHARED);
        let shared = std::mem::take(&mut search.shared).into_iter();
        search.shared = shared.map(|s| SharedStorage::new(s.map, s.types, s.more)).collect();
        self.search_unread = self.search_unread.max(search.unread);
        self.search_cut = self.search_cut.max(search.beyond_cap);
        self.search = Some(search);
    }

    pub(super) fn apply(&mut self, time: KTime, reading: &Maps) {
        let Maps { maps, skipped, beyond_cap } = reading;
        self.read_at = Some(time);
        self.unread = *skipped;
        let (mut cut, mut followed) = (*beyond_cap, self.maps.len());
        for state in maps {
            match self.maps.get_mut(&state.address) {
                Some(held) if held.continues(state) => {
                    held.points.push((time, state.entries));
                    // What one reading could not tell, the one before did; it is of this map all the same.
                    let variable = state.variable.or(held.newest.variable);
                    held.newest = MapState { variable, ..*state };
                    held.read_at = time;
                }
                Some(held) => *held = MapHistory::begin(time, state),
                None if followed < MAX_MAPS => {
                    self.maps.insert(state.address, MapHistory::begin(time, state));
                    followed += 1;
                }
                None => cut += 1,
            }
        }
        // What is not there any more was freed, or is another map's memory.
        self.maps.retain(|_, held| held.read_at == time);
        self.cut = self.cut.max(cut);
    }

    pub fn maps(&self) -> &BTreeMap<ProcAddr, MapHistory> {
        &self.maps
    }
    /// When maps were last read; absent where they never were.
    pub fn read_at(&self) -> Option<KTime> {
        self.read_at
    }
    /// Maps that the newest reading could not read.
    pub fn unread(&self) -> u64 {
        self.unread
    }
    /// The most maps that a reading had and that are not followed.
    pub fn cut(&self) -> u64 {
        self.cut
    }
    /// The newest look through the heap for maps.
    pub fn search(&self) -> Option<&MapSearch> {
        self.search.as_ref()
    }
    /// The most spans of headers that such a look could not read.
    pub fn search_unread(&self) -> u64 {
        self.search_unread
    }
    /// The most maps that such a look found and left.
    pub fn search_cut(&self) -> u64 {
        self.search_cut
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(address: u64, seed: u64, entries: u64) -> MapState {
        MapState {
            address: ProcAddr(address),
            type_addr: ProcAddr(1),
            variable: None,
            seed,
            entries,
            capacity: None,
            tombstones: None,
        }
    }

    fn reading(maps: Vec<MapState>) -> Maps {
        Maps { maps, ..Maps::default() }
    }

    #[test]
    fn a_new_seed_is_another_map_and_what_is_gone_is_forgotten() {
        let mut all = MapHistories::default();
        all.apply(KTime(1), &reading(vec![map(8, 7, 10), map(16, 7, 5)]));
        all.apply(KTime(2), &reading(vec![map(8, 7, 20), map(16, 9, 1)]));
        let points =
            |all: &MapHistories, at| all.maps()[&ProcAddr(at)].points().iter().copied().collect::<Vec<_>>();
        assert_eq!(points(&all, 8), [(KTime(1), 10), (KTime(2), 20)]);
        assert_eq!(points(&all, 16), [(KTime(2), 1)]);
        all.apply(KTime(3), &reading(vec![map(8, 7, 30)]));
        assert_eq!(all.maps().len(), 1);
    }

    #[test]
    fn maps_past_the_cap_are_counted() {
        let mut all = MapHistories::default();
        let many = (0..MAX_MAPS as u64 + 3).map(|i| map(8 * i, 1, 1)).collect();
        all.apply(KTime(1), &reading(many));
        assert_eq!((all.maps().len(), all.cut()), (MAX_MAPS, 3));
    }
}
