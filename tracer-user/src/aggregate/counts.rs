//! What the kernel side counted since attach: allocations, calls on maps, goroutines born and ended.
//!
//! Every reading of the counting tables is cumulative, so a reading replaces what was believed and nothing is
//! ever added up over readings. A figure that would fall keeps its highest value: a table entry can be
//! read before its last increment, never after. This file names no frame and no type.

use std::collections::BTreeMap;

use crate::record::reading::{AllocClass, AllocCount, Counts, GoroutineCount, MapCall, MapCallCount};
use crate::units::{KTime, ProcAddr, StackId};

/// Allocation keys kept; the kernel's own table is smaller, so only a replayed or damaged stream reaches this.
pub const MAX_ALLOC_KEYS: usize = 65_536;
/// Keys of calls on maps kept.
pub const MAX_MAP_KEYS: usize = 16_384;
/// Goroutine creation sites kept.
pub const MAX_GOROUTINE_KEYS: usize = 16_384;

/// One row of allocations.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct AllocKey {
    pub stack: StackId,
    pub type_addr: Option<ProcAddr>,
    pub class: AllocClass,
}

/// What was counted under one key since attach, and when the count was first and last seen to move.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct AllocTotal {
    pub objects: u64,
    pub requested: u64,
    pub rounded: u64,
    pub first: KTime,
    pub last: KTime,
}

/// One row of calls on maps.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct MapCallKey {
    pub stack: StackId,
    pub type_addr: ProcAddr,
    pub map: ProcAddr,
    pub call: MapCall,
}

/// Calls on one map by one stack.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct MapCallTotal {
    pub calls: u64,
    pub first: KTime,
    pub last: KTime,
}

/// Goroutines one site created and how many of those created there have ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct BirthTotal {
    pub created: u64,
    pub ended: u64,
    pub first: KTime,
    pub last: KTime,
}

/// Everything that was counted.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Tallies {
    pub(super) allocs: BTreeMap<AllocKey, AllocTotal>,
    /// Allocations whose key found no room here: in the totals, without a site.
    pub(super) allocs_unlisted: AllocTotal,
    pub(super) map_calls: BTreeMap<MapCallKey, MapCallTotal>,
    pub(super) map_calls_unlisted: u64,
    pub(super) births: BTreeMap<ProcAddr, BirthTotal>,
    pub(super) births_unlisted: BirthTotal,
    pub(super) hits: Vec<u64>,
    /// When the tables were last read; absent until then.
    pub(super) read_at: Option<KTime>,
}

impl Tallies {
    pub(super) fn apply(&mut self, time: KTime, counts: &Counts) {
        self.read_at = Some(time);
        self.apply_allocs(time, &counts.allocs);
        self.apply_map_calls(time, &counts.map_calls);
        self.apply_births(time, &counts.goroutines);
        if counts.hits.len() > self.hits.len() {
            self.hits.resize(counts.hits.len(), 0);
        }
        for (held, now) in self.hits.iter_mut().zip(&counts.hits) {
            *held = (*held).max(*now);
        }
    }

    fn apply_allocs(&mut self, time: KTime, rows: &[AllocCount]) {
        // Two rows of one key in one reading are parts of one figure.
        let mut now: BTreeMap<AllocKey, AllocTotal> = BTreeMap::new();
        for row in rows {
            let AllocCount { stack, type_addr, class, objects, requested, rounded } = *row;
            let sum = now.entry(AllocKey { stack, type_addr, class }).or_default();
            sum.objects = sum.objects.saturating_add(objects);
            sum.requested = sum.requested.saturating_add(requested.0);
            sum.rounded = sum.rounded.saturating_add(rounded.0);
        }
        let mut unlisted = AllocTotal::default();
        for (key, sum) in now {
            if self.allocs.len() >= MAX_ALLOC_KEYS && !self.allocs.contains_key(&key) {
                unlisted.objects = unlisted.objects.saturating_add(sum.objects);
                unlisted.requested = unlisted.requested.saturating_add(sum.requested);
                unlisted.rounded = unlisted.rounded.saturating_add(sum.rounded);
                continue;
            }
            let held = self.allocs.entry(key).or_insert(AllocTotal { first: time, ..AllocTotal::default() });
            raise_alloc(held, sum, time);
        }
        raise_alloc(&mut self.allocs_unlisted, unlisted, time);
    }

    fn apply_map_calls(&mut self, time: KTime, rows: &[MapCallCount]) {
        let mut now: BTreeMap<MapCallKey, u64> = BTreeMap::new();
        for row in rows {
            let MapCallCount { stack, type_addr, map, call, calls } = *row;
            let sum = now.entry(MapCallKey { stack, type_addr, map, call }).or_default();
            *sum = sum.saturating_add(calls);
        }
        let mut unlisted = 0_u64;
        for (key, calls) in now {
            if self.map_calls.len() >= MAX_MAP_KEYS && !self.map_calls.contains_key(&key) {
                unlisted = unlisted.saturating_add(calls);
                continue;
            }
            let held =
                self.map_calls.entry(key).or_insert(MapCallTotal { first: time, ..MapCallTotal::default() });
            if calls > held.calls {
                held.calls = calls;
                held.last = time;
            }
        }
        self.map_calls_unlisted = self.map_calls_unlisted.max(unlisted);
    }

    fn apply_births(&mut self, time: KTime, rows: &[GoroutineCount]) {
        let mut now: BTreeMap<ProcAddr, (u64, u64)> = BTreeMap::new();
        for row in rows {
            let GoroutineCount { created_at, created, ended } = *row;
            let sum = now.entry(created_at).or_default();
            sum.0 = sum.0.saturating_add(created);
            sum.1 = sum.1.saturating_add(ended);
        }
        let mut unlisted = (0_u64, 0_u64);
        for (site, (created, ended)) in now {
            if self.births.len() >= MAX_GOROUTINE_KEYS && !self.births.contains_key(&site) {
                unlisted.0 = unlisted.0.saturating_add(created);
                unlisted.1 = unlisted.1.saturating_add(ended);
                continue;
            }
            let held = self.births.entry(site).or_insert(BirthTotal { first: time, ..BirthTotal::default() });
            raise_births(held, created, ended, time);
        }
        raise_births(&mut self.births_unlisted, unlisted.0, unlisted.1, time);
    }

    pub fn allocs(&self) -> &BTreeMap<AllocKey, AllocTotal> {
        &self.allocs
    }
    pub fn allocs_unlisted(&self) -> AllocTotal {
        self.allocs_unlisted
    }
    pub fn map_calls(&self) -> &BTreeMap<MapCallKey, MapCallTotal> {
        &self.map_calls
    }
    pub fn map_calls_unlisted(&self) -> u64 {
        self.map_calls_unlisted
    }
    pub fn births(&self) -> &BTreeMap<ProcAddr, BirthTotal> {
        &self.births
    }
    pub fn births_unlisted(&self) -> BirthTotal {
        self.births_unlisted
    }
    /// Hits per probe, in the order of the list the session attached.
    pub fn hits(&self) -> &[u64] {
        &self.hits
    }
    /// When the counting tables were last read; absent where they never were.
    pub fn read_at(&self) -> Option<KTime> {
        self.read_at
    }
}

fn raise_alloc(held: &mut AllocTotal, now: AllocTotal, time: KTime) {
    if now.objects > held.objects {
        held.last = time;
    }
    held.objects = held.objects.max(now.objects);
    held.requested = held.requested.max(now.requested);
    held.rounded = held.rounded.max(now.rounded);
}

fn raise_births(held: &mut BirthTotal, created: u64, ended: u64, time: KTime) {
    if created > held.created || ended > held.ended {
        held.last = time;
    }
    held.created = held.created.max(created);
    held.ended = held.ended.max(ended);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Bytes;

    fn row(stack: u64, objects: u64) -> AllocCount {
        AllocCount {
            stack: StackId(stack),
            type_addr: None,
            class: AllocClass::Small(5),
            objects,
            requested: Bytes(objects * 40),
            rounded: Bytes(objects * 48),
        }
    }

    fn counts(allocs: Vec<AllocCount>) -> Counts {
        Counts { allocs, ..Counts::default() }
    }

    #[test]
    fn readings_are_cumulative_and_replace_each_other() {
        let mut t = Tallies::default();
        t.apply(KTime(1), &counts(vec![row(1, 10), row(2, 5)]));
        t.apply(KTime(2), &counts(vec![row(1, 30)]));
        let held: Vec<(u64, u64)> = t.allocs().values().map(|v| (v.objects, v.last.0)).collect();
        assert_eq!(held, [(30, 2), (5, 1)]);
    }

    #[test]
    fn keys_past_the_cap_stay_in_the_totals() {
        let mut t = Tallies::default();
        let rows: Vec<AllocCount> = (0..MAX_ALLOC_KEYS as u64 + 10).map(|i| row(i, 2)).collect();
        t.apply(KTime(1), &counts(rows.clone()));
        t.apply(KTime(2), &counts(rows));
        assert_eq!(t.allocs().len(), MAX_ALLOC_KEYS);
        assert_eq!(t.allocs_unlisted().objects, 20);
    }
}
