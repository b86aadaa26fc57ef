//! Calls in the program's code that were probed under way, and since when. This file judges nothing.

use crate::record::note::PinnedCall;
use crate::units::KTime;

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
}

impl Pins {
    pub(super) fn add(&mut self, since: KTime, calls: &[PinnedCall]) {
        let room = MAX_CALLS.saturating_sub(self.pins.len());
        self.pins.extend(calls.iter().take(room).map(|call| Pin { since, until: None, call: *call }));
    }

    pub(super) fn end(&mut self, at: KTime, probes: &[u32]) {
        for pin in self.pins.iter_mut().filter(|pin| probes.contains(&pin.call.probe)) {
            pin.until.get_or_insert(at);
        }
    }

    pub fn all(&self) -> &[Pin] {
        &self.pins
    }

    /// Mean calls between two whose objects are followed, by the call's probe; absent where none is.
    pub fn mean(&self, probe: u32) -> Option<u64> {
        self.pins.iter().find(|pin| pin.call.probe == probe).map(|pin| pin.call.mean).filter(|mean| *mean > 0)
    }

    /// The largest mean; absent where nothing is followed.
    pub fn largest_mean(&self) -> Option<u64> {
        self.pins.iter().map(|pin| pin.call.mean).filter(|mean| *mean > 0).max()
    }
}
