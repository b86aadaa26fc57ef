//! Arrival order becomes THE order: a reading is released once a drain that began after it ended was applied.
//!
//! So a count read from the kernel's tables never comes before the stacks it names.

use std::collections::VecDeque;

use crate::{record::Record, units::KTime};

/// Readings waiting for the drain behind them.
#[derive(Default)]
pub(super) struct Fence {
    waiting: VecDeque<Record>,
}

/// Readings come a few times a second and a drain every few milliseconds; more than this means that the drain
/// stopped, and then readings pass rather than pile up.
const CAP: usize = 4096;

impl Fence {
    /// Holds readings back; returns what can wait no longer.
    pub(super) fn hold(&mut self, records: Vec<Record>) -> Vec<Record> {
        self.waiting.extend(records);
        let over = self.waiting.len().saturating_sub(CAP);
        self.waiting.drain(..over).collect()
    }

    /// What a drain that began at `began` releases, in order.
    pub(super) fn release(&mut self, began: KTime) -> Vec<Record> {
        let ready = self.waiting.iter().take_while(|r| r.time < began).count();
        self.waiting.drain(..ready).collect()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Everything, when no drain will follow.
    pub(super) fn flush(&mut self) -> Vec<Record> {
        self.waiting.drain(..).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Body, Note, Slot, note::EndedBy};

    fn at(ns: u64) -> Record {
        Record { slot: Slot(0), time: KTime(ns), body: Body::Note(Note::End(EndedBy::Signal)) }
    }

    #[test]
    fn a_reading_waits_for_a_drain_that_began_after_it() {
        let mut fence = Fence::default();
        assert!(fence.hold(vec![at(10), at(20)]).is_empty());
        assert!(fence.release(KTime(10)).is_empty());
        assert_eq!(fence.release(KTime(11)), [at(10)]);
        assert_eq!(fence.flush(), [at(20)]);
    }

    #[test]
    fn what_waits_is_bounded() {
        let mut fence = Fence::default();
        let passed = fence.hold((0..5000).map(at).collect());
        assert_eq!(passed.len(), 5000 - CAP);
    }
}
