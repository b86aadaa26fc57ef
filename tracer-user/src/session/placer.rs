//! The size of objects that pinned calls made without saying how many bytes they ask for: that of the slot they lie in.
//!
//! Asked by the drain, a moment after the object was handed out. It reads, and keeps nothing but a count.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use super::target::Target;
use crate::{
    goruntime::heap::placed::{Placed, placed},
    record::{Body, Event, Record},
    units::{Bytes, ProcAddr},
};

pub(super) struct Placer {
    /// What lies at an address of the target.
    look: Box<dyn Fn(ProcAddr) -> Placed + Send>,
    /// Objects of which it could not be read.
    pub(super) unplaced: Arc<AtomicU64>,
}

impl Placer {
    pub(super) fn new(target: Arc<Target>) -> Self {
        let look = move |at| placed(&target.memory, &target.state, at).unwrap_or(Placed::Untold);
        Self { look: Box::new(look), unplaced: Arc::default() }
    }

    /// The record, complete; `None`: it tells of no allocation, or of one whose size is not known.
    pub(super) fn complete(&self, mut record: Record) -> Option<Record> {
        let Body::Event(Event::Sample(sample)) = &mut record.body else { return Some(record) };
        if sample.size > Bytes(0) || sample.pin.is_none() {
            return Some(record);
        }
        match (self.look)(sample.address) {
            Placed::Object(class, slot) => {
                (sample.class, sample.size) = (class, slot);
                Some(record)
            }
            // The call gave a place on the stack, or a constant.
            Placed::Elsewhere => None,
            Placed::Untold => {
                self.unplaced.fetch_add(1, Ordering::Relaxed);
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        record::{Sample, Slot, reading::AllocClass},
        units::{KTime, StackId},
    };

    #[test]
    fn an_object_without_a_size_is_counted() {
        let look = |at: ProcAddr| match at.0 {
            1 => Placed::Object(AllocClass::Small(5), Bytes(64)),
            2 => Placed::Elsewhere,
            _ => Placed::Untold,
        };
        let placer = Placer { look: Box::new(look), unplaced: Arc::default() };
        let size_of = |address: u64| {
            let sample = Sample {
                address: ProcAddr(address),
                stack: StackId(1),
                type_addr: None,
                class: AllocClass::Large,
                size: Bytes(0),
                g: ProcAddr(1),
                born: None,
                pin: Some(0),
            };
            let body = Body::Event(Event::Sample(sample));
            match placer.complete(Record { slot: Slot(0), time: KTime(1), body })?.body {
                Body::Event(Event::Sample(sample)) => Some(sample.size),
                _ => None,
            }
        };
        let sizes: Vec<Option<Bytes>> = (1..=4).map(size_of).collect();
        assert_eq!(sizes, [Some(Bytes(64)), None, None, None]);
        // What is no object of the heap was not lost.
        assert_eq!(placer.unplaced.load(Ordering::Relaxed), 2);
    }
}
