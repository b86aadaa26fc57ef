//! THE WAIST: what touches a target makes records, what thinks reads them. Plain data, no I/O.
//!
//! A record is a fact with the time at which it was true. Nothing behind this room may look at the target
//! again, so that a recording of records replays to the same report. Serde's derives give recordings their form
//! (`capture/`): variants are known by their place and fields by their order, so a field is never added to what
//! exists; a new fact is a new variant at the end of its enum. docs/design/0003 says why.

pub mod call_sites;
pub mod census;
pub mod decode;
pub mod event;
pub mod facts;
pub mod image;
mod losses;
pub mod maps;
pub mod note;
pub mod profile;
pub mod reading;
pub mod samples;
pub mod waits;

pub use census::Census;
pub use event::Event;
pub use note::Note;
pub use reading::{Reading, Readout};
pub use samples::Sample;

/// Ways to lose something, as the kernel side names them; rooms behind the waist get the word from here.
pub use tracer_common::counter::Counter;

use serde::{Deserialize, Serialize};

use crate::units::{KTime, ProcAddr};

/// Which of the session's targets a record is about. A session of one target has slot 0 only.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Slot(pub u16);

/// One fact about one target.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Record {
    pub slot: Slot,
    pub time: KTime,
    pub body: Body,
}

/// What a record says.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum Body {
    /// Came through the ring buffer.
    Event(Event),
    /// Was read from memory (the target's, or the kernel's counters).
    Reading(Reading),
    /// Was said by the session itself.
    Note(Note),
}

impl Record {
    /// The type descriptors it names: what a recording must be able to name later.
    pub fn each_type(&self, see: &mut dyn FnMut(ProcAddr)) {
        let reading = match &self.body {
            Body::Reading(reading) => reading,
            Body::Event(Event::Sample(sample)) => return sample.type_addr.into_iter().for_each(see),
            Body::Event(Event::Stack { .. }) | Body::Note(_) => return,
        };
        match &reading.readout {
            Readout::Counts(counts) => {
                counts.allocs.iter().filter_map(|row| row.type_addr).for_each(&mut *see);
                counts.map_calls.iter().map(|row| row.type_addr).for_each(&mut *see);
            }
            Readout::Census(census) => {
                let candidates = census.types.iter().flatten().flat_map(|share| &share.candidates);
                candidates.map(|candidate| candidate.type_addr).for_each(&mut *see);
            }
            Readout::LiveSampled(live) => {
                let candidates = live.rows.iter().flat_map(|row| &row.candidates);
                candidates.map(|candidate| candidate.type_addr).for_each(&mut *see);
            }
            Readout::Maps(maps) => maps.maps.iter().map(|map| map.type_addr).for_each(&mut *see),
            Readout::MapSearch(search) => {
                search.shared.iter().flat_map(|shared| shared.types.iter().copied()).for_each(&mut *see);
            }
            Readout::CallSites(sites) => sites.types.iter().map(|of| of.type_addr).for_each(&mut *see),
            Readout::Gc(_)
            | Readout::SizeClasses(_)
            | Readout::Goroutines(_)
            | Readout::Process(_)
            | Readout::Profile(_)
            | Readout::Waits(_)
            | Readout::Fates(_) => {}
        }
    }
}
