//! THE WAIST: what touches a target makes records, what thinks reads them. Plain data, no I/O.
//!
//! A record is a fact with the time at which it was true. Nothing behind this room may look at the target
//! again, so that a recording of records replays to the same report.

pub mod decode;
pub mod event;
pub mod note;
pub mod profile;
pub mod reading;

pub use event::Event;
pub use note::Note;
pub use reading::{Reading, Readout};

/// Ways to lose something, as the kernel side names them; rooms behind the waist get the word from here.
pub use tracer_common::counter::Counter;

use crate::units::KTime;

/// Which of the session's targets a record is about. A session of one target has slot 0 only.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Slot(pub u16);

/// One fact about one target.
#[derive(Clone, PartialEq, Debug)]
pub struct Record {
    pub slot: Slot,
    pub time: KTime,
    pub body: Body,
}

/// What a record says.
#[derive(Clone, PartialEq, Debug)]
pub enum Body {
    /// Came through the ring buffer.
    Event(Event),
    /// Was read from memory (the target's, or the kernel's counters).
    Reading(Reading),
    /// Was said by the session itself.
    Note(Note),
}
