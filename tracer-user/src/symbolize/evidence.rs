//! [`Evidence`]: named rows as of one moment, the only thing rules and reports read.
//!
//! Immutable plain data: no addresses to resolve, no process, no clock. Times are seconds since the session's
//! start. What was not measured is absent.

use std::collections::BTreeMap;

pub use super::profile::HeapProfile;
pub use crate::goruntime::names::cause::Cause;
pub use crate::record::note::EndedBy;

/// One frame of a stack, innermost first within a stack.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Frame {
    pub function: String,
    /// Empty where unknown.
    pub file: String,
    /// 0 where unknown.
    pub line: u32,
    pub inlined: bool,
    /// Made by the compiler (method wrappers, `deferwrap`, `gowrap`): the runtime hides it from tracebacks too.
    pub wrapper: bool,
}

/// All that is known at one moment.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Evidence {
    /// Seconds from the session's start to the newest record.
    pub at_s: f64,
    /// The target's main module path.
    pub module: Option<String>,
    pub allocations: Option<Allocations>,
    /// The runtime's own memory profile, where it was read.
    pub profile: Option<HeapProfile>,
    pub map_writes: Vec<MapWrites>,
    pub goroutines: Option<Goroutines>,
    pub gc: Option<GcState>,
    pub size_classes: Vec<SizeClass>,
    pub process: Option<ProcessState>,
    pub probes: Vec<ProbeRow>,
    /// What was lost, by name; nothing here is 0.
    pub losses: Vec<Loss>,
    pub remarks: Vec<Remark>,
    pub ended: Option<EndedBy>,
}

/// What the session said about itself, in its words.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Remark {
    SiteRefused { function: String, why: String },
    ReadingFailed { what: String, why: String },
    Replaced { why: String },
}

/// A named loss and what it means for the figures.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Loss {
    pub name: &'static str,
    pub count: u64,
    pub harm: Harm,
}

/// What a loss does to the figures.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Harm {
    /// Totals are lower bounds.
    Totals,
    /// Totals are right, but some could not be put down to a site.
    Attribution,
    /// Nothing that is reported is wrong.
    None,
}

/// Allocations counted since attach.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Allocations {
    /// Most bytes first.
    pub sites: Vec<AllocSite>,
    pub total: Amount,
    /// Seconds since the session's start at which the tables were last read.
    pub read_at_s: f64,
    /// Seconds over which was counted.
    pub counted_s: f64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Amount {
    pub objects: u64,
    /// What the program asked for.
    pub requested: u64,
    /// What the allocator set aside.
    pub rounded: u64,
}

impl Amount {
    pub fn add(&mut self, other: Amount) {
        self.objects = self.objects.saturating_add(other.objects);
        self.requested = self.requested.saturating_add(other.requested);
        self.rounded = self.rounded.saturating_add(other.rounded);
    }
}

/// Allocations that read the same: same user frames, type and cause.
#[derive(Clone, PartialEq, Debug)]
pub struct AllocSite {
    /// Stable id of the user frames.
    pub id: String,
    /// User frames, innermost first; empty where the stack is unknown.
    pub stack: Vec<Frame>,
    pub type_name: Option<String>,
    pub cause: Cause,
    pub amount: Amount,
    /// By the runtime's class number as the heap's own counts see it (tiny blocks in theirs; 0 is large).
    pub classes: BTreeMap<u8, Amount>,
    pub first_s: f64,
    pub last_s: f64,
    /// The stack's outermost frames are missing.
    pub truncated: bool,
}

/// Writes to one map by one site.
#[derive(Clone, PartialEq, Debug)]
pub struct MapWrites {
    pub id: String,
    pub stack: Vec<Frame>,
    pub type_name: Option<String>,
    pub map: u64,
    pub writes: u64,
}

/// Goroutines by creation site.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Goroutines {
    /// As of the newest reading; absent before one was made (births alone are known).
    pub total: Option<u64>,
    pub skipped: u64,
    /// Of the skipped, those that are swapped out.
    pub swapped: u64,
    /// Those in a row without their stack, because it is swapped out.
    pub stackless: u64,
    /// Since attach; absent where nothing counts them.
    pub created: Option<u64>,
    pub ended: Option<u64>,
    /// Seconds over which births were counted.
    pub counted_s: Option<f64>,
    /// Most goroutines first.
    pub sites: Vec<GoroutineSite>,
}

/// Goroutines that were started at one place.
#[derive(Clone, PartialEq, Debug)]
pub struct GoroutineSite {
    pub id: String,
    /// Where the `go` statement is; absent for the first goroutine.
    pub created_by: Option<Frame>,
    /// The function most of them run.
    pub entry: String,
    /// Started by the runtime for itself.
    pub internal: bool,
    pub count: u64,
    pub points: Vec<GoroutinePoint>,
    pub created: Option<u64>,
    pub ended: Option<u64>,
    /// Most goroutines first.
    pub groups: Vec<GoroutineGroup>,
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub struct GoroutinePoint {
    pub t: f64,
    pub count: u64,
    pub waiting: u64,
    /// Since when the longest waiting one waits; before the session's start where negative.
    pub oldest_wait_since: Option<f64>,
}

#[derive(Clone, PartialEq, Debug)]
pub struct GoroutineGroup {
    pub entry: String,
    /// "running", "runnable", ... or the runtime's wait reason.
    pub state: String,
    pub waits: bool,
    /// User frames, innermost first.
    pub stack: Vec<Frame>,
    pub count: u64,
    pub oldest_wait_s: Option<f64>,
    pub examples: Vec<u64>,
}

/// The collector's figures.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct GcState {
    /// Cycles that ended since the first reading; absent where the count went backwards.
    pub cycles: Option<u32>,
    /// Seconds over which they were watched.
    pub watched_s: f64,
    /// Live after the newest cycle; absent before the process's first.
    pub live_bytes: Option<u64>,
    pub goal_bytes: Option<u64>,
    pub in_use_bytes: u64,
    pub free_bytes: u64,
    pub released_bytes: u64,
    pub mapped_bytes: u64,
    pub stack_bytes: u64,
    pub gogc: i32,
    pub memory_limit: Option<u64>,
    pub cpu_fraction: Option<f64>,
    /// One point per cycle seen since the first reading.
    pub points: Vec<GcPoint>,
    pub pause: Option<Pauses>,
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub struct GcPoint {
    pub t: f64,
    pub cycle: u32,
    pub live_bytes: u64,
}

/// Stop-the-world pauses since the first reading, seconds.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Pauses {
    pub p50: f64,
    pub p99: f64,
    pub max: f64,
}

/// One size class; class 0 is everything larger.
#[derive(Clone, PartialEq, Debug)]
pub struct SizeClass {
    pub class: u8,
    /// Bytes per object; absent for class 0.
    pub size: Option<u64>,
    /// As of the newest reading, what is garbage since the last GC included.
    pub objects: u64,
    pub bytes: u64,
    /// Objects allocated per second over the session; absent with one reading.
    pub allocs_per_s: Option<f64>,
    /// The lowest reading of each GC cycle watched in full.
    pub points: Vec<ClassPoint>,
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub struct ClassPoint {
    pub t: f64,
    pub cycle: u32,
    pub objects: u64,
    pub bytes: u64,
}

/// The process as /proc shows it.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct ProcessState {
    pub rss: u64,
    pub rss_anon: Option<u64>,
    pub rss_shmem: Option<u64>,
    pub points: Vec<ProcessPoint>,
    pub peak: Option<ProcessPoint>,
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub struct ProcessPoint {
    pub t: f64,
    pub rss: u64,
    pub rss_anon: Option<u64>,
}

/// One attached probe and its hits.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProbeRow {
    pub function: String,
    pub offset: u64,
    pub instruction: &'static str,
    /// Absent before the counters were first read.
    pub hits: Option<u64>,
}
