//! [`Evidence`]: named rows as of one moment, the only thing rules and reports read.
//!
//! Immutable plain data: no addresses to resolve, no process, no clock. Times are seconds since the session's
//! start. What was not measured is absent.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

pub use super::profile::HeapProfile;
pub use crate::goruntime::names::cause::Cause;
pub use crate::record::note::EndedBy;
use crate::record::reading::gc_is_off;

/// One frame of a stack, innermost first within a stack. A session has many stacks of few frames: they are shared.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Frame(Arc<Line>);

impl Ord for Frame {
    fn cmp(&self, other: &Self) -> Ordering {
        if Arc::ptr_eq(&self.0, &other.0) { Ordering::Equal } else { self.0.cmp(&other.0) }
    }
}

impl PartialOrd for Frame {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl From<Line> for Frame {
    fn from(line: Line) -> Self {
        Self(Arc::new(line))
    }
}

impl std::ops::Deref for Frame {
    type Target = Line;

    fn deref(&self) -> &Line {
        &self.0
    }
}

/// What a frame says.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Line {
    pub function: String,
    /// Empty where unknown.
    pub file: String,
    /// 0 where unknown.
    pub line: u32,
    pub inlined: bool,
    /// Made by the compiler (method wrappers, `deferwrap`, `gowrap`): the runtime hides it from tracebacks too.
    pub wrapper: bool,
}

/// "cache.go:42": the file's own name is enough beside the function's full one. What is unknown is left out.
pub fn file_line(file: &str, line: u32) -> String {
    let file = file.rsplit('/').next().unwrap_or("");
    if file.is_empty() || line == 0 { file.to_owned() } else { format!("{file}:{line}") }
}

/// All that is known at one moment.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Evidence {
    /// Seconds from the session's start to the newest record.
    pub at_s: f64,
    /// The target's main module path.
    pub module: Option<String>,
    pub allocations: Option<Allocations>,
    /// The runtime's own memory profile, or what was sampled here, where there is either.
    pub profile: Option<HeapProfile>,
    /// The ones with most entries first.
    pub maps: Vec<MapRow>,
    /// The newest look through the heap for maps, where there was one.
    pub map_search: Option<MapSearch>,
    pub goroutines: Option<Goroutines>,
    /// Calls in the program's code that were probed under way.
    pub pins: Vec<PinRow>,
    /// Who allocates, as moments showed in which the allocator was probed; absent where there was none.
    pub windows: Option<Windows>,
    pub gc: Option<GcState>,
    pub size_classes: Vec<SizeClass>,
    pub census: Option<Census>,
    /// How much of the program's code says what it allocates; absent before it was looked through.
    pub code: Option<Code>,
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
    NewerGo { how: String },
    ReadingFailed { what: String, why: String },
    Unpinned { functions: Vec<String>, why: String },
    Throttled { what: String },
    Replaced { why: String },
    Recording { why: String },
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

/// One map: what it holds, and who writes to it.
#[derive(Clone, PartialEq, Debug)]
pub struct MapRow {
    /// Stable id of the map: by its type and the site that grew it most, or by its variable.
    pub id: String,
    /// Several names with `|` between them: it is one of `may_be`.
    pub type_name: Option<String>,
    /// Types that share its storage, where nothing tells which of them it is.
    pub may_be: Vec<String>,
    /// The header's address.
    pub address: u64,
    /// The package variable that holds it, where it was found by one.
    pub variable: Option<u64>,
    /// Absent where its memory was not read, or holds another map by now.
    pub held: Option<MapHeld>,
    /// Entries at each reading.
    pub points: Vec<MapPoint>,
    /// Calls since attach; absent where they are not counted. Updates are writes too.
    pub writes: Option<u64>,
    pub deletes: Option<u64>,
    pub grows: Option<u64>,
    /// Who called, most calls first.
    pub sites: Vec<MapSite>,
    /// Where the program's code makes such maps or writes to them, whoever did.
    pub places: Option<Places>,
}

/// What a look through the heap for large maps left out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MapSearch {
    pub span_bytes: u64,
    pub waiting_bytes: u64,
    pub unread_spans: u64,
    pub beyond_cap: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MapHeld {
    pub entries: u64,
    /// Slots; absent where they were not counted.
    pub capacity: Option<u64>,
    pub tombstones: Option<u64>,
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub struct MapPoint {
    pub t: f64,
    pub entries: u64,
}

/// Calls on one map by one site.
#[derive(Clone, PartialEq, Debug)]
pub struct MapSite {
    pub id: String,
    pub stack: Vec<Frame>,
    pub writes: u64,
    pub deletes: u64,
    pub grows: u64,
}

/// A call in the program's code that is probed.
#[derive(Clone, PartialEq, Debug)]
pub struct PinRow {
    /// Where the call returns to.
    pub returns_to: u64,
    pub type_name: Option<String>,
    pub place: Place,
    pub since_s: f64,
    /// Absent while it is probed.
    pub until_s: Option<f64>,
    /// Counted, each of them; absent before the counters were read again.
    pub calls: Option<u64>,
    /// Seconds in which they were counted.
    pub counted_s: f64,
    /// Mean calls between two whose objects are followed; 0: none is. 1: each is.
    pub mean: u64,
}

/// Moments in which the allocator was probed, and what its callers keep. Shares are what they tell, not amounts.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Windows {
    pub opened: u64,
    pub open_s: f64,
    pub rows: Vec<WindowRow>,
}

/// Sampled objects of one size class that one call in the program's own code led to.
#[derive(Clone, PartialEq, Debug)]
pub struct WindowRow {
    /// The runtime's number; 0: large objects.
    pub class: u8,
    /// Without pointers.
    pub noscan: bool,
    /// Where the call returns to.
    pub returns_to: u64,
    /// Stable id of the stack.
    pub id: String,
    /// The stack that led to it most often, of those objects that were kept.
    pub stack: Vec<Frame>,
    pub cause: Cause,
    pub taken: u64,
    /// Found alive by two cycles at least.
    pub kept: u64,
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
    /// They were not for a while: there were more.
    pub uncounted: bool,
    /// Most goroutines first.
    pub sites: Vec<GoroutineSite>,
}

/// Goroutines that were started at one place.
#[derive(Clone, PartialEq, Debug)]
pub struct GoroutineSite {
    pub id: String,
    /// Where the `go` statement is; absent for the first goroutine.
    pub created_by: Option<Frame>,
    /// Where its calls return to: several copies of it where it was inlined.
    pub created_at: Vec<u64>,
    /// The function most of them run.
    pub entry: String,
    /// Started by the runtime for itself.
    pub internal: bool,
    pub count: u64,
    pub points: Vec<GoroutinePoint>,
    pub created: Option<u64>,
    pub ended: Option<u64>,
    /// For how many seconds at least its goroutines have waited, and how many of them; those that no GC has seen
    /// waiting are left out.
    pub waits: Vec<(f64, u64)>,
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
    /// What the runtime has mapped for neither heap nor stacks; absent where the figures contradict each other.
    pub other_bytes: Option<u64>,
    pub gogc: i32,
    pub memory_limit: Option<u64>,
    pub cpu_fraction: Option<f64>,
    /// One point per cycle seen since the first reading.
    pub points: Vec<GcPoint>,
    pub pause: Option<Pauses>,
}

impl GcState {
    /// Whether nothing but the program itself starts a cycle.
    pub fn is_off(&self) -> bool {
        gc_is_off(self.gogc, self.memory_limit.is_some())
    }
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

/// Every object of the heap, as a GC cycle left it.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Census {
    pub at_s: f64,
    /// The last completed cycle when the census began and when it ended.
    pub cycle: u32,
    pub cycle_end: u32,
    pub classes: Vec<CensusClass>,
    /// Spans of goroutine stacks and of the collector's work buffers.
    pub manual_spans: u64,
    pub manual_bytes: u64,
    pub arena_bytes: u64,
    /// Spans in no class: those that changed each time they were read, are swapped out, or could not be read.
    pub torn: u64,
    pub swapped: u64,
    pub unread: u64,
    /// Of objects with pointers, most bytes first; absent where they cannot be known.
    pub types: Option<Vec<TypeRow>>,
    /// All objects that survived each cycle of which a census counted everything.
    pub points: Vec<ClassPoint>,
}

/// Objects of one size class, with pointers or without.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct CensusClass {
    pub class: u8,
    /// Bytes per object; absent for class 0.
    pub size: Option<u64>,
    pub noscan: bool,
    pub spans: u64,
    /// Survived the last completed cycle.
    pub objects: u64,
    pub bytes: u64,
    /// Allocated since its mark phase, garbage included.
    pub since_objects: u64,
    pub since_bytes: u64,
    /// What survived each cycle that a census saw.
    pub points: Vec<ClassPoint>,
}

/// Objects of one type, or of one of several that cannot be told apart.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct TypeRow {
    /// None: the type is not known. Several: it is one of these.
    pub candidates: Vec<String>,
    pub objects: u64,
    pub bytes: u64,
    /// One standard error of sampling; 0 where every object was looked at.
    pub objects_stderr: f64,
    pub bytes_stderr: f64,
    /// Objects that were looked at and found to be of it.
    pub hits: u64,
    /// No cycle has completed: allocated, not proven to live.
    pub unproven: bool,
    /// The same over time, each size class apart.
    pub classes: Vec<TypeInClass>,
    /// Where the program's code allocates them. Absent where nobody looked.
    pub places: Option<Places>,
}

/// How much of the program's code says what it allocates.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Code {
    /// Calls that allocate something of a type, the runtime's own left out.
    pub calls: u64,
    /// Those that name the type.
    pub typed: u64,
    /// Those that pass none.
    pub without_type: u64,
    pub undecoded: u64,
}

/// Where the program's code names a type as it allocates. What is made by generic code or by reflection is named nowhere.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Places {
    /// Sorted by their frames.
    pub places: Vec<Place>,
    /// How many more there are.
    pub more: u64,
}

/// One place in the code.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Place {
    /// The function, and before it those that the compiler inlined into it there.
    pub stack: Vec<Frame>,
    pub cause: Cause,
}

/// Objects of one type in one size class.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct TypeInClass {
    pub class: u8,
    /// What survived each cycle that a census saw. All rows have points at the same moments.
    pub points: Vec<TypePoint>,
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub struct TypePoint {
    pub t: f64,
    pub cycle: u32,
    pub objects: u64,
    pub bytes: u64,
    /// One standard error of sampling; 0 where every object was looked at.
    pub objects_stderr: f64,
}

/// The process as /proc shows it.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct ProcessState {
    pub rss: u64,
    pub rss_anon: Option<u64>,
    pub rss_shmem: Option<u64>,
    /// Anonymous and shared memory beyond all that Go's runtime had mapped at that moment: at least this much is not
    /// Go's. Absent where it is not known, and where Go has mapped more than is resident.
    pub outside_go: Option<u64>,
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
    pub instruction: Cow<'static, str>,
    /// Absent before the counters were first read.
    pub hits: Option<u64>,
}
