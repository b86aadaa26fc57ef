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
    units::Bytes,
};

pub(super) struct Placer {
    pub(super) target: Arc<Target>,
    /// Objects of which it could not be read.
    pub(super) unplaced: Arc<AtomicU64>,
}

impl Placer {
    /// Completes a record; `false`: it tells of no allocation, or of one whose size is not known.
    pub(super) fn complete(&self, record: &mut Record) -> bool {
        let Body::Event(Event::Sample(sample)) = &mut record.body else { return true };
        if sample.size > Bytes(0) || sample.pin.is_none() {
            return true;
        }
        match placed(&self.target.memory, &self.target.state, sample.address) {
            Ok(Placed::Object(class, slot)) => {
                (sample.class, sample.size) = (class, slot);
                true
            }
            // The call gave a place on the stack, or a constant.
            Ok(Placed::Elsewhere) => false,
            Ok(Placed::Untold) | Err(_) => {
                self.unplaced.fetch_add(1, Ordering::Relaxed);
                false
            }
        }
    }
}
