//! Ledger -> [`Evidence`]: names for addresses, and one row for what reads the same.
//!
//! [`Names`] is what this room needs to know about the target's binary; `goruntime` implements it. Rows are
//! merged after naming: two addresses on one line of one function are one site to a reader. Nothing is judged
//! here and nothing is dropped: what has no name keeps its figures under an honest "unknown".

mod call_sites;
mod census;
pub mod evidence;
mod goroutines;
mod maps;
mod memo;
mod pins;
pub mod profile;
mod rows;
mod samples;
mod stack;
mod windows;

use crate::aggregate::{Ledger, RECORDING_CUT, Remark as LedgerRemark};
use crate::record::Counter;
use crate::units::{KTime, ProcAddr};

pub use evidence::{Evidence, Frame, Line};
use memo::Memo;
pub use stack::{is_of_the_runtime, outside_the_runtime, user_site};

/// What a code address is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum PcKind {
    /// A return address or the pc of a parked goroutine: the call is the instruction before it, unless it is a
    /// function's first instruction (a goroutine that has not run yet).
    Return,
    /// A function's first instruction.
    Entry,
}

/// What a type descriptor says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TypeInfo {
    pub name: String,
    pub size: u64,
    /// Bytes from the start of an object that can hold pointers; 0: the type holds none.
    pub pointer_bytes: u64,
}

/// The names in the target's binary.
pub trait Names {
    /// The frames of one code address, innermost (inlined) first; empty where the address has no function.
    fn frames(&self, pc: ProcAddr, kind: PcKind) -> Vec<Frame>;
    fn type_info(&self, addr: ProcAddr) -> Option<TypeInfo>;
    /// Grows when there is more to be named than before: a plugin was loaded.
    fn generation(&self) -> usize {
        0
    }
    /// The main module's path.
    fn module(&self) -> Option<String>;
}

/// Turns ledgers of one target into evidence. Remembers names (bounded); remembers no figure.
#[derive(Default)]
pub struct Symbolizer {
    memo: Memo,
}

impl Symbolizer {
    pub fn new() -> Self {
        Self::default()
    }

    /// What is known as of the ledger's newest record.
    pub fn evidence(&mut self, ledger: &Ledger, names: &dyn Names) -> Evidence {
        let clock = Clock(ledger.started());
        self.memo.renew(names.generation());
        let mut named = memo::Named { memo: &mut self.memo, names };
        let (allocations, stacks_unknown) = rows::allocations(ledger, clock, &mut named);
        let (samples, samples_unknown) = samples::heap_profile(ledger, clock, &mut named);
        let (windows, window_stacks_unknown) = windows::windows(ledger, &mut named);
        let unknown = [
            (Counter::StackUnknown, stacks_unknown + samples_unknown),
            (Counter::WindowStackUnknown, window_stacks_unknown),
        ];
        Evidence {
            at_s: clock.at(ledger.now()),
            module: names.module(),
            allocations,
            profile: samples.or_else(|| profile::heap_profile(ledger, clock, &mut named)),
            maps: maps::maps(ledger, clock, &mut named),
            map_search: maps::search(ledger),
            goroutines: goroutines::goroutines(ledger, clock, &mut named),
            pins: pins::pins(ledger, clock, &mut named),
            windows,
            gc: rows::gc(ledger, clock),
            size_classes: rows::size_classes(ledger, clock),
            census: census::census(ledger, clock, &mut named),
            code: call_sites::code(ledger),
            process: rows::process(ledger, clock),
            probes: rows::probes(ledger),
            losses: losses(ledger, unknown),
            remarks: ledger.remarks().iter().map(|said| remark(said, &mut named)).collect(),
            ended: ledger.ended(),
        }
    }
}

/// Kernel time to seconds since the session's start; negative before it.
#[derive(Clone, Copy)]
struct Clock(KTime);

impl Clock {
    fn at(self, t: KTime) -> f64 {
        if t >= self.0 { t.seconds_since(self.0) } else { -self.0.seconds_since(t) }
    }
}

fn remark(remark: &LedgerRemark, named: &mut memo::Named<'_>) -> evidence::Remark {
    match remark {
        LedgerRemark::Unpinned { calls, why } => {
            let mut function =
                |call: &ProcAddr| Some(named.frames(*call, PcKind::Return).pop()?.function.clone());
            let mut functions: Vec<String> = calls.iter().filter_map(&mut function).collect();
            functions.sort_unstable();
            functions.dedup();
            evidence::Remark::Unpinned { functions, why: why.clone() }
        }
        LedgerRemark::Throttled { what } => evidence::Remark::Throttled { what: what.clone().into_owned() },
        LedgerRemark::SiteRefused { function, why } => {
            evidence::Remark::SiteRefused { function: function.clone(), why: why.clone() }
        }
        LedgerRemark::NewerGo { how } => evidence::Remark::NewerGo { how: how.clone() },
        LedgerRemark::Replaced { why } => evidence::Remark::Replaced { why: why.clone() },
        LedgerRemark::ReadingFailed { what, why } => {
            evidence::Remark::ReadingFailed { what: what.clone().into_owned(), why: why.clone() }
        }
        LedgerRemark::Recording { why } => evidence::Remark::Recording { why: why.clone() },
    }
}

fn losses(ledger: &Ledger, unknown: [(Counter, u64); 2]) -> Vec<evidence::Loss> {
    let mut told = ledger.losses();
    for (counter, count) in unknown.into_iter().filter(|(_, count)| *count > 0) {
        let held = told.entry(counter).or_default();
        *held = (*held).max(count);
    }
    let mut all: Vec<evidence::Loss> =
        told.into_iter().map(|(c, count)| evidence::Loss { name: c.name(), count, harm: harm(c) }).collect();
    all.extend(ledger.cuts().into_iter().map(|(name, count)| evidence::Loss {
        name,
        count,
        harm: match name {
            RECORDING_CUT => evidence::Harm::Totals,
            "ledger_goroutine_sites_cut" => evidence::Harm::Attribution,
            _ if name.ends_with("_unlisted") => evidence::Harm::Attribution,
            _ => evidence::Harm::None,
        },
    }));
    all
}

/// What each loss does to the figures; a new counter must be put in one of the three.
fn harm(counter: Counter) -> evidence::Harm {
    use evidence::Harm;
    match counter {
        Counter::AllocTableFull
        | Counter::MapTableFull
        | Counter::GoroutineTableFull
        | Counter::BadCookie
        | Counter::SiteRefused
        | Counter::SiteNotTaken
        | Counter::TargetReplaced
        | Counter::SampleRingFull
        | Counter::SampleTableFull
        | Counter::SampleUnanswered
        | Counter::SampleUnreadable
        | Counter::Throttled => Harm::Totals,
        Counter::RingFull
        | Counter::StackCut
        | Counter::ScratchBusy
        | Counter::CallerUnreadable
        | Counter::TypeUnreadable
        | Counter::GoroutineUnreadable
        | Counter::Undecodable
        | Counter::StackUnknown
        | Counter::StackTableFull
        | Counter::PageSwapped
        | Counter::SampleUnfollowed
        | Counter::SampleUnplaced => Harm::Attribution,
        Counter::StackTruncated
        | Counter::ForeignProcess
        | Counter::ReadingFailed
        | Counter::GoroutineTorn
        | Counter::WindowForgotten
        | Counter::WindowStackUnknown => Harm::None,
    }
}

#[cfg(test)]
mod tests;
