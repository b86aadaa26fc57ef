//! Calls in the program's code that were probed under way, and since when. This file judges nothing.

use std::collections::BTreeMap;

use crate::record::note::PinnedCall;
use crate::units::{KTime, ProcAddr};

/// Calls that are kept: each has a probe.
const MAX_CALLS: usize = 256;

/// A call, and since when it is probed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pin {
    pub since: KTime,
    /// Absent while it is probed.
    pub until: Option<KTime>,
    pub call: PinnedCall,
}

/// All that were pinned.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Pins {
    pins: Vec<Pin>,
    /// Mean bytes between two followed objects, by type: all calls of a type have one.
    means: BTreeMap<ProcAddr, u64>,
}

impl Pins {
    pub(super) fn add(&mut self, since: KTime, calls: &[PinnedCall]) {
        let room = MAX_CALLS.saturating_sub(self.pins.len());
        for call in calls.iter().take(room) {
            if call.mean > 0 {
                self.means.entry(call.type_addr).or_insert(call.mean);
            }
            self.pins.push(Pin { since, until: None, call: *call });
        }
    }

    pub(super) fn end(&mut self, at: KTime, type_addr: ProcAddr) {
        for pin in self.pins.iter_mut().filter(|pin| pin.call.type_addr == type_addr) {
            pin.until.get_or_insert(at);
        }
    }

    pub fn all(&self) -> &[Pin] {
        &self.pins
    }

    /// Mean bytes between two followed objects of a type; absent where none is followed.
    pub fn mean(&self, type_addr: ProcAddr) -> Option<u64> {
        self.means.get(&type_addr).copied()
    }

    /// The largest mean; absent where nothing is followed.
    pub fn largest_mean(&self) -> Option<u64> {
        self.means.values().copied().max()
    }
}
