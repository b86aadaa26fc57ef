//! What a Go process holds now, read from its runtime's variables: GC, size classes, goroutines.
//!
//! Apart from `names` and `code`, which read what never changes. Everything here changes while it is read:
//! each part reads, checks and reads again, and says so when it could not get a consistent answer. A failed or
//! torn read is an error or a counted omission, never a zero. Knows addresses only as given in [`StateVars`].

pub mod block;
mod chunks;
mod g;
pub mod gc;
pub mod goroutines;
pub mod heap_stats;
pub mod maps;
pub mod profile;
pub mod selfcheck;
pub mod size_classes;
pub mod specials;
pub mod wait_reasons;
mod waits;

use crate::goruntime::layout::Layout;
use crate::memory::{ReadAt, ReadFault};
use crate::record::reading;
use crate::units::ProcAddr;

/// Where the runtime's variables lie in this process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StateVars {
    /// `runtime.memstats`
    pub memstats: ProcAddr,
    /// `runtime.gcController`
    pub gc_controller: ProcAddr,
    /// `runtime.work`
    pub work: ProcAddr,
    /// `runtime.allgs`, a slice
    pub allgs: ProcAddr,
    /// `runtime.allglen`
    pub allglen: ProcAddr,
    /// `runtime.allgptr`
    pub allgptr: ProcAddr,
    /// `runtime.mheap_`
    pub mheap: ProcAddr,
    /// `runtime.waitReasonStrings`; without it goroutines carry no wait reason.
    pub wait_reason_strings: Option<ProcAddr>,
}

/// Why the runtime's state could not be told.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum StateError {
    #[error("cannot read the Go runtime's {what}: {fault}")]
    Read {
        what: &'static str,
        #[source]
        fault: ReadFault,
    },
    #[error("the Go runtime's {what} changed each time it was read; try again")]
    Torn { what: &'static str },
    #[error("the Go runtime has not started yet; try again in a moment")]
    NotStarted,
    /// A structure does not look as this Go version's layout says.
    #[error("go1.{minor}'s layout does not fit this process: {check} ({found}); refusing to guess")]
    Layout { minor: u32, check: &'static str, found: String },
}

impl StateError {
    /// For `map_err` on a read of `what`.
    pub(in crate::goruntime) fn reading(what: &'static str) -> impl Fn(ReadFault) -> StateError {
        move |fault| StateError::Read { what, fault }
    }
}

/// The runtime state of one process, its layout checked.
#[derive(Clone, Debug)]
pub struct RuntimeState {
    layout: &'static Layout,
    vars: StateVars,
    /// Absent where the variable was not found or does not hold the table.
    wait_reasons: Option<wait_reasons::WaitReasons>,
}

impl RuntimeState {
    /// Checks that the layout and the addresses fit this process, or says which check failed.
    /// `now_unix_ns` is the wall clock, against which the time of the last GC is held.
    pub fn open(
        memory: &dyn ReadAt<ProcAddr>,
        layout: &'static Layout,
        vars: StateVars,
        now_unix_ns: u64,
    ) -> Result<Self, StateError> {
        selfcheck::run(memory, layout, &vars, now_unix_ns)?;
        let mut opened = Self { layout, vars, wait_reasons: None };
        opened.wait_reasons = opened.read_wait_reasons(memory);
        Ok(opened)
    }

    /// Proves more, for a layout that is not the version's own: that goroutines' code addresses are code, and what
    /// they wait on is theirs. `text` is the program's Go code.
    pub fn prove(
        &self,
        memory: &dyn ReadAt<ProcAddr>,
        text: std::ops::Range<ProcAddr>,
    ) -> Result<(), StateError> {
        selfcheck::prove(memory, self.layout, &self.vars, &text)
    }

    pub fn layout(&self) -> &'static Layout {
        self.layout
    }

    /// Where the runtime's variables are.
    pub fn vars(&self) -> &StateVars {
        &self.vars
    }

    /// Whether wait reasons can be told in words.
    pub fn knows_wait_reasons(&self) -> bool {
        self.wait_reasons.is_some()
    }

    /// GC and heap figures; pauses of the cycles after `previous_cycle`, or all that are kept.
    pub fn gc(
        &self,
        memory: &dyn ReadAt<ProcAddr>,
        previous_cycle: Option<u32>,
    ) -> Result<reading::Gc, StateError> {
        gc::read(memory, self.layout, &self.vars, previous_cycle)
    }

    /// Allocations and frees per size class.
    pub fn size_classes(&self, memory: &dyn ReadAt<ProcAddr>) -> Result<reading::SizeClasses, StateError> {
        size_classes::read(memory, self.layout, &self.vars)
    }

    /// Every goroutine, grouped.
    pub fn goroutines(
        &self,
        memory: &dyn ReadAt<ProcAddr>,
        limits: goroutines::Limits,
    ) -> Result<reading::Goroutines, StateError> {
        self.goroutines_and_waits(memory, limits).map(|(goroutines, _)| goroutines)
    }

    /// The same, and since when each waits.
    pub fn goroutines_and_waits(
        &self,
        memory: &dyn ReadAt<ProcAddr>,
        limits: goroutines::Limits,
    ) -> Result<(reading::Goroutines, reading::Waits), StateError> {
        // Swapped out when the process was opened: perhaps it is back.
        let late = if self.wait_reasons.is_some() { None } else { self.read_wait_reasons(memory) };
        let wait_reasons = self.wait_reasons.as_ref().or(late.as_ref());
        goroutines::read(memory, self.layout, &self.vars, wait_reasons, limits)
    }

    /// The maps among `known`, which may have gone since.
    pub fn maps(
        &self,
        memory: &dyn ReadAt<ProcAddr>,
        kind: crate::goruntime::code::hooks::MapKind,
        known: &[maps::Known],
    ) -> reading::Maps {
        maps::read(memory, kind, known)
    }

    /// Every live object that the memory profiler has sampled.
    pub fn sampled_objects(
        &self,
        memory: &dyn ReadAt<ProcAddr>,
        limits: specials::Limits,
    ) -> Result<specials::Found, StateError> {
        specials::read(memory, self.layout, &self.vars, limits)
    }

    fn read_wait_reasons(&self, memory: &dyn ReadAt<ProcAddr>) -> Option<wait_reasons::WaitReasons> {
        let table = self.vars.wait_reason_strings?;
        wait_reasons::WaitReasons::read(memory, self.layout, table).ok()
    }
}
