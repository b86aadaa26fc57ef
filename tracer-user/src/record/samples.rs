//! Sampled objects and what became of them, as collections of the target told.
//!
//! Apart from the runtime's own profile: these are our samples, each followed by its address. An object is known to live
//! only as of a cycle that found it; what no cycle has told yet is neither live nor dead, and what could be another
//! object by now is unknown for good, unless its place turns out to be free.

use serde::{Deserialize, Serialize};

use super::reading::AllocClass;
use crate::units::{Bytes, KTime, ProcAddr, StackId};

/// Objects followed at once; further ones are unknown from the start. 64 bytes each. So many fill a table of 2^17 places.
pub const MAX_FOLLOWED: usize = 114_688;

/// One sampled object: an address is given out once at a time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct SampleKey {
    pub address: ProcAddr,
    /// The time of its event.
    pub at: KTime,
}

/// A sampled allocation.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Sample {
    pub address: ProcAddr,
    pub stack: StackId,
    /// The type descriptor passed to the allocator; absent where it passed none.
    pub type_addr: Option<ProcAddr>,
    pub class: AllocClass,
    /// What the program asked for, by which it was sampled where no pinned call chose it; of a call that does not say what it asks
    /// for, the slot that its object has.
    pub size: Bytes,
    /// The goroutine's structure.
    pub g: ProcAddr,
    /// The collector's state when the object had its address; absent where it could not be read.
    pub born: Option<Born>,
    /// Which pinned call chose it, and by which of its means (`tracer_common::event::chooser`); absent where the allocator's own
    /// functions did.
    pub pin: Option<u32>,
}

/// The probe of the pinned call, and which of its means it was, from 0.
pub fn chosen_by(pin: u32) -> (u32, usize) {
    let (probe, era) = tracer_common::event::chosen_by(pin);
    (u32::from(probe), usize::from(era))
}

/// Where in the collector's cycles an object came to be.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Born {
    /// The heap's sweep generation.
    pub generation: u32,
    /// The collector was marking: what is allocated meanwhile counts as reached, so that cycle tells nothing of it.
    pub marking: bool,
}

/// What one GC cycle told of the followed objects.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Fates {
    /// The cycle, by the sweep generation it began.
    pub cycle: u32,
    /// Found alive for the first time. Those found before and named nowhere below live on.
    pub survived: Vec<SampleKey>,
    /// Gone: their place is free, or holds something younger.
    pub died: Vec<SampleKey>,
    /// A cycle was missed in which they may have died and another object taken their place; or nothing is known of when
    /// they were allocated, or too many are followed.
    pub unknown: Vec<SampleKey>,
    /// Could not be looked at; asked again.
    pub untold: u64,
}
