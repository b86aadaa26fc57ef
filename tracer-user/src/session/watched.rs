//! The few figures that the loop itself decides by: whether the target goes on, collects, and is heard at all.
//!
//! Apart from the ledger, which believes a reading only behind the drain that it waits for: this looks at each record as it
//! comes, and reports nothing.

use std::time::Instant;

use super::setup::Until;
use crate::analyze::figures::counted;
use crate::record::reading::gc_is_off;
use crate::record::{Body, Note, Reading, Readout, Record};

/// Fewer allocations than the processors' caches may still publish from before the attach say nothing.
const CACHED: u64 = 100_000;

/// The few figures the loop itself decides by.
#[derive(Default)]
pub(super) struct Watched {
    pub(super) first_cycle: Option<u32>,
    pub(super) last_cycle: Option<u32>,
    /// Nothing but the program itself starts a cycle.
    gc_is_off: bool,
    told_gc_is_off: bool,
    /// The target's own count of allocations, at the first and the latest reading.
    first_mallocs: Option<u64>,
    last_mallocs: Option<u64>,
    /// Empty without probes.
    counts_allocations: Vec<bool>,
    /// Of those probes.
    hits: u64,
    pub(super) judged_at: Option<Instant>,
    /// Why the process cannot be followed any further, though it goes on.
    pub(super) lost: Option<String>,
}

impl Watched {
    /// For each probe whether it counts allocations.
    pub(super) fn listening_to(counts_allocations: Vec<bool>) -> Self {
        Self { counts_allocations, ..Self::default() }
    }

    /// What the target allocated by its own count while no probe for it fired; absent where that proves nothing.
    pub(super) fn unheard(&self) -> Option<u64> {
        let made = self.last_mallocs?.saturating_sub(self.first_mallocs?);
        let listened = self.counts_allocations.contains(&true);
        (listened && self.hits == 0 && made > CACHED).then_some(made)
    }

    /// Said once: the session's end is a number of cycles, and none may come.
    pub(super) fn waits_in_vain(&mut self, until: Until) -> Option<String> {
        let Until::GcCycles(wanted) = until else { return None };
        if !self.gc_is_off || std::mem::replace(&mut self.told_gc_is_off, true) {
            return None;
        }
        let cycles = counted(u64::from(wanted), "GC cycle");
        Some(format!(
            "the GC of the program is off (GOGC=off, no memory limit): {cycles} will pass only if the program itself \
             collects; Ctrl-C ends the session with its report"
        ))
    }

    pub(super) fn see(&mut self, record: &Record) {
        let readout = match &record.body {
            Body::Reading(Reading { readout, .. }) => readout,
            Body::Note(Note::Replaced { why }) => {
                self.lost = Some(why.clone());
                return;
            }
            _ => return,
        };
        match readout {
            Readout::Gc(gc) => {
                self.first_cycle.get_or_insert(gc.cycles);
                self.last_cycle = Some(gc.cycles);
                self.gc_is_off = gc_is_off(gc.gogc, gc.memory_limit.is_some());
            }
            Readout::SizeClasses(sizes) => {
                let small: u64 = sizes.small.iter().map(|c| c.allocs).sum();
                let mallocs = small.saturating_add(sizes.large_allocs).saturating_add(sizes.tiny_allocs);
                self.first_mallocs.get_or_insert(mallocs);
                self.last_mallocs = Some(mallocs);
            }
            Readout::Counts(counts) => {
                let probes = counts.hits.iter().zip(&self.counts_allocations);
                self.hits = probes.filter_map(|(hits, counted)| counted.then_some(*hits)).sum();
            }
            Readout::Goroutines(_)
            | Readout::Maps(_)
            | Readout::Process(_)
            | Readout::Census(_)
            | Readout::Profile(_)
            | Readout::Waits(_)
            | Readout::Fates(_)
            | Readout::LiveSampled(_)
            | Readout::MapSearch(_)
            | Readout::CallSites(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Slot;
    use crate::session::clock;

    #[test]
    fn zero_hits_while_the_targets_own_count_moves_is_an_error() {
        let watched = |counts_allocations: &[bool], made, hits| Watched {
            first_mallocs: Some(1000),
            last_mallocs: Some(1000 + made),
            counts_allocations: counts_allocations.to_vec(),
            hits,
            ..Watched::default()
        };
        assert_eq!(watched(&[true, false], CACHED + 1, 0).unheard(), Some(CACHED + 1));
        // It heard something, it did not listen, or the processors' caches may hold that many from before.
        assert_eq!(watched(&[true], CACHED + 1, 1).unheard(), None);
        assert_eq!(watched(&[false], CACHED + 1, 0).unheard(), None);
        assert_eq!(watched(&[], CACHED + 1, 0).unheard(), None);
        assert_eq!(watched(&[true], CACHED, 0).unheard(), None);
        assert_eq!(Watched { counts_allocations: vec![true], ..Watched::default() }.unheard(), None);
    }

    #[test]
    fn cycles_that_may_never_come_are_said_once() {
        let off = || Watched { gc_is_off: true, ..Watched::default() };
        let mut watched = off();
        let said = watched.waits_in_vain(Until::GcCycles(2)).expect("the GC is off");
        assert!(said.contains("is off") && said.contains("2 GC cycles will"), "{said}");
        assert_eq!(watched.waits_in_vain(Until::GcCycles(2)), None);
        assert_eq!(off().waits_in_vain(Until::Interrupted), None);
        assert_eq!(Watched::default().waits_in_vain(Until::GcCycles(2)), None);
    }

    #[test]
    fn only_probes_for_allocations_hear_allocations() {
        let mut watched = Watched { counts_allocations: vec![true, false, true], ..Watched::default() };
        let counts = crate::record::reading::Counts { hits: vec![0, 9, 4], ..Default::default() };
        let reading = Reading { from: clock::now(), gc_cycle: None, readout: Readout::Counts(counts) };
        watched.see(&Record { slot: Slot(0), time: clock::now(), body: Body::Reading(reading) });
        assert_eq!(watched.hits, 4);
    }
}
