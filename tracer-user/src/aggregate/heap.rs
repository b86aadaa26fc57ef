//! The heap over time, as read from memory: live bytes per GC cycle, live objects per size class per GC cycle.
//!
//! A size class's allocations minus frees lag by what the Ps cache and by what is not swept yet, and between
//! two collections they hold garbage. The lowest reading of one GC cycle is therefore the best upper bound of
//! what lives (mcache.go refill and mgcsweep.go sweep flush the counts). This file judges nothing.

use std::collections::VecDeque;

use super::series::Series;
use crate::record::reading::{Gc, SizeClasses};
use crate::units::{Bytes, KTime};

/// Points kept per GC series and per size class: 68 series of 512 x 40 bytes are 1.4 MiB.
pub const MAX_POINTS: usize = 512;
/// Pauses kept, the newest: enough for a p99.
pub const MAX_PAUSES: usize = 4_096;
/// Go has 67 small size classes (sizeclasses.go); a reading with more is foreign.
pub const MAX_CLASSES: u8 = 67;

/// The heap as one GC cycle left it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GcPoint {
    /// When the cycle was first seen to be complete; up to one reading interval late.
    pub time: KTime,
    pub cycle: u32,
    pub heap_marked: Bytes,
}

/// GC figures: the newest reading and a point per cycle seen.
#[derive(Clone, PartialEq, Debug)]
pub struct GcHistory {
    newest: Option<(KTime, Gc)>,
    /// The cycle that was complete at the first reading: when it ended is not known.
    first_cycle: Option<(KTime, u32)>,
    first_marked: Option<Bytes>,
    points: Series<GcPoint>,
    pauses: VecDeque<u64>,
    pauses_cut: u64,
    longest_pause: Option<u64>,
}

impl Default for GcHistory {
    fn default() -> Self {
        Self {
            newest: None,
            first_cycle: None,
            first_marked: None,
            points: Series::new(MAX_POINTS),
            pauses: VecDeque::new(),
            pauses_cut: 0,
            longest_pause: None,
        }
    }
}

impl GcHistory {
    pub(super) fn apply(&mut self, time: KTime, gc: &Gc) {
        match self.first_cycle {
            None => {
                self.first_cycle = Some((time, gc.cycles));
                self.first_marked = Some(gc.heap_marked);
            }
            Some((_, first)) => {
                let last = self.points.last().map_or(first, |p| p.cycle);
                if gc.cycles > last {
                    self.points.push(GcPoint { time, cycle: gc.cycles, heap_marked: gc.heap_marked });
                }
                for pause in &gc.new_pauses_ns {
                    if self.pauses.len() >= MAX_PAUSES {
                        self.pauses.pop_front();
                        self.pauses_cut += 1;
                    }
                    self.pauses.push_back(*pause);
                    self.longest_pause = self.longest_pause.max(Some(*pause));
                }
            }
        }
        self.newest = Some((time, gc.clone()));
    }

    pub fn newest(&self) -> Option<&(KTime, Gc)> {
        self.newest.as_ref()
    }
    /// When the first reading was taken and how many cycles were complete then.
    pub fn first_cycle(&self) -> Option<(KTime, u32)> {
        self.first_cycle
    }
    /// Live bytes after the last cycle before the first reading.
    pub fn first_marked(&self) -> Option<Bytes> {
        self.first_marked
    }
    /// Cycles that ended after the first reading.
    pub fn points(&self) -> &Series<GcPoint> {
        &self.points
    }
    /// Pauses since the first reading, oldest first.
    pub fn pauses(&self) -> impl Iterator<Item = u64> {
        self.pauses.iter().copied()
    }
    pub fn pauses_cut(&self) -> u64 {
        self.pauses_cut
    }
    pub fn longest_pause(&self) -> Option<u64> {
        self.longest_pause
    }
}

/// A size class in one GC cycle: the lowest reading.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ClassPoint {
    pub time: KTime,
    pub cycle: u32,
    pub objects: u64,
    pub bytes: Bytes,
}

/// One size class over time. Class 0 holds objects larger than any class.
#[derive(Clone, PartialEq, Debug)]
pub struct ClassHistory {
    /// Bytes per object; absent for class 0.
    size: Option<Bytes>,
    /// As of the newest reading, garbage included.
    newest: Option<(u64, Bytes)>,
    /// Allocations since the process started, as of the first and the newest reading.
    allocs: Option<((KTime, u64), (KTime, u64))>,
    /// Cycles seen from their start to their end.
    closed: Series<ClassPoint>,
    open: Option<ClassPoint>,
    first_cycle: Option<u32>,
}

impl ClassHistory {
    fn new(size: Option<Bytes>) -> Self {
        Self {
            size,
            newest: None,
            allocs: None,
            closed: Series::new(MAX_POINTS),
            open: None,
            first_cycle: None,
        }
    }

    fn see(&mut self, time: KTime, cycle: Option<u32>, allocs: u64, objects: u64, bytes: Bytes) {
        self.newest = Some((objects, bytes));
        let now = (time, allocs);
        self.allocs = Some((self.allocs.map_or(now, |(first, _)| first), now));
        let Some(cycle) = cycle else { return };
        let first = *self.first_cycle.get_or_insert(cycle);
        let point = ClassPoint { time, cycle, objects, bytes };
        match &mut self.open {
            Some(open) if open.cycle == cycle => {
                if bytes < open.bytes {
                    *open = point;
                }
            }
            Some(open) if open.cycle > cycle => {}
            open => {
                if let Some(done) = open.replace(point)
                    && done.cycle != first
                {
                    self.closed.push(done);
                }
            }
        }
    }

    pub fn size(&self) -> Option<Bytes> {
        self.size
    }
    /// Objects and bytes as of the newest reading, garbage included.
    pub fn newest(&self) -> Option<(u64, Bytes)> {
        self.newest
    }
    /// Allocations since the process started, as of the first and the newest reading.
    pub fn allocs(&self) -> Option<((KTime, u64), (KTime, u64))> {
        self.allocs
    }
    /// The lowest reading of each GC cycle that was watched from its start to its end.
    pub fn per_cycle(&self) -> &Series<ClassPoint> {
        &self.closed
    }
}

/// All size classes, by the runtime's number; 0 is what is larger than any class.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct SizeHistory {
    classes: std::collections::BTreeMap<u8, ClassHistory>,
    /// Figures left out because they contradicted themselves (more frees than allocations).
    torn: u64,
    read_at: Option<KTime>,
}

impl SizeHistory {
    pub(super) fn apply(&mut self, time: KTime, cycle: Option<u32>, reading: &SizeClasses) {
        self.read_at = Some(time);
        for class in &reading.small {
            if class.class == 0 || class.class > MAX_CLASSES {
                self.torn += 1;
                continue;
            }
            let Some(live) = class.allocs.checked_sub(class.frees) else {
                self.torn += 1;
                continue;
            };
            let bytes = Bytes(live.saturating_mul(class.size.0));
            self.classes.entry(class.class).or_insert_with(|| ClassHistory::new(Some(class.size))).see(
                time,
                cycle,
                class.allocs,
                live,
                bytes,
            );
        }
        let objects = reading.large_allocs.checked_sub(reading.large_frees);
        let bytes = reading.large_alloc_bytes.0.checked_sub(reading.large_free_bytes.0);
        match (objects, bytes) {
            (Some(objects), Some(bytes)) => {
                self.classes.entry(0).or_insert_with(|| ClassHistory::new(None)).see(
                    time,
                    cycle,
                    reading.large_allocs,
                    objects,
                    Bytes(bytes),
                );
            }
            _ => self.torn += 1,
        }
    }

    pub fn classes(&self) -> &std::collections::BTreeMap<u8, ClassHistory> {
        &self.classes
    }
    pub fn torn(&self) -> u64 {
        self.torn
    }
    pub fn read_at(&self) -> Option<KTime> {
        self.read_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::reading::SizeClass;

    fn reading(live: u64) -> SizeClasses {
        SizeClasses {
            small: vec![SizeClass { class: 8, size: Bytes(96), allocs: 1_000 + live, frees: 1_000 }],
            large_allocs: 0,
            large_frees: 0,
            large_alloc_bytes: Bytes(0),
            large_free_bytes: Bytes(0),
            tiny_allocs: 0,
        }
    }

    #[test]
    fn the_lowest_reading_of_a_whole_cycle_counts() {
        let mut h = SizeHistory::default();
        let seen = [(7, 50), (7, 60), (8, 40), (8, 30), (8, 70), (9, 45), (9, 80), (10, 44)];
        for (t, (cycle, live)) in seen.iter().enumerate() {
            h.apply(KTime(t as u64), Some(*cycle), &reading(*live));
        }
        let class = &h.classes()[&8];
        let points: Vec<(u32, u64)> = class.per_cycle().iter().map(|p| (p.cycle, p.objects)).collect();
        // Cycle 7 had begun before the first reading, cycle 10 is not over.
        assert_eq!(points, [(8, 30), (9, 45)]);
        assert_eq!(class.newest(), Some((44, Bytes(44 * 96))));
    }

    #[test]
    fn more_frees_than_allocations_is_a_torn_reading_and_not_a_zero() {
        let mut h = SizeHistory::default();
        let mut torn = reading(1);
        torn.small[0].frees = 5_000;
        h.apply(KTime(1), Some(1), &torn);
        assert!(!h.classes().contains_key(&8));
        assert_eq!(h.torn(), 1);
    }
}
