//! What was read from memory: the target's (GC, size classes, goroutines), the host's (/proc) and the kernel's
//! counting maps. Each field is what was found; what could not be read is absent, never 0.

use serde::{Deserialize, Serialize};
use tracer_common::key::{CLASS_BELOW_TINY, CLASS_LARGE};

use super::call_sites::CallSites;
use super::census::Census;
use super::losses;
pub use super::maps::{MapSearch, MapState, Maps, SharedStorage};
use super::profile::{LiveSampled, Profile};
use super::samples::Fates;
pub use super::waits::{SiteWaits, Waits};
use crate::units::{Bytes, Goid, KTime, ProcAddr, StackId};

/// One reading: when it was taken and what it found.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Reading {
    /// When the reading began; the record's own time is when it ended.
    pub from: KTime,
    /// `memstats.numgc` when the reading began, where it was known.
    pub gc_cycle: Option<u32>,
    pub readout: Readout,
}

/// What a reading found. Recordings know the variants by their place: a new one goes to the end.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum Readout {
    Gc(Gc),
    SizeClasses(SizeClasses),
    Goroutines(Goroutines),
    Process(Process),
    Counts(Counts),
    Maps(Maps),
    Census(Census),
    Profile(Profile),
    Fates(Fates),
    Waits(Waits),
    LiveSampled(LiveSampled),
    MapSearch(MapSearch),
    CallSites(CallSites),
}

/// The GC controller's and memstats' figures.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Gc {
    /// Completed GC cycles since the process started.
    pub cycles: u32,
    /// How many of them the program forced (`runtime.GC`, `debug.FreeOSMemory`).
    pub forced: u32,
    /// Live bytes as the last completed GC marked them: the leak signal. 0 only before the first GC.
    pub heap_marked: Bytes,
    /// Upper bound of bytes in use now (whole spans are counted when a P takes them).
    pub heap_live: Bytes,
    /// Heap size at which the next GC is meant to end. Absent where the layout does not give it.
    pub goal: Option<Bytes>,
    /// Heap spans in use, free and returned to the system, from the GC controller.
    pub in_use: Bytes,
    pub free: Bytes,
    pub released: Bytes,
    /// Memory mapped and ready, all kinds.
    pub mapped_ready: Bytes,
    /// Bytes in goroutine stacks (heapStats.inStacks).
    pub in_stacks: Bytes,
    /// GOGC as a percentage; -1 is off.
    pub gogc: i32,
    /// GOMEMLIMIT; absent where none is set (the runtime stores `MaxInt64`).
    pub memory_limit: Option<Bytes>,
    /// Wall-clock time of the end of the last cycle, Unix nanoseconds; absent before the first GC.
    pub last_gc_unix_ns: Option<u64>,
    /// Stop-the-world pauses of the cycles since the previous reading (at most 256), oldest first, nanoseconds.
    pub new_pauses_ns: Vec<u64>,
    /// Share of CPU the GC used since the process started.
    pub cpu_fraction: Option<f64>,
}

/// Whether nothing but the program itself starts a GC cycle: GOGC is off, and no memory limit makes it collect
/// (runtime/mgc.go, gcTrigger.test).
pub fn gc_is_off(gogc: i32, limited: bool) -> bool {
    gogc < 0 && !limited
}

/// Allocation and free counts per size class (`memstats.heapStats`), since the process started.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SizeClasses {
    /// Small classes in class order, class 0 (large objects) left out.
    pub small: Vec<SizeClass>,
    pub large_allocs: u64,
    pub large_frees: u64,
    pub large_alloc_bytes: Bytes,
    pub large_free_bytes: Bytes,
    /// Objects the tiny allocator placed inside existing 16-byte blocks.
    pub tiny_allocs: u64,
}

/// One size class. Counts lag by what the Ps hold in their caches and by what is not yet swept.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SizeClass {
    /// The runtime's number of the class, 1..=67.
    pub class: u8,
    /// Bytes an object of this class takes.
    pub size: Bytes,
    pub allocs: u64,
    pub frees: u64,
}

/// All goroutines, grouped by where they were created, what they run and where they wait.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Goroutines {
    pub groups: Vec<GoroutineGroup>,
    /// Goroutines alive when read, the runtime's own included; a lower bound when `skipped` is not 0.
    pub total: u64,
    /// Goroutines that changed while they were read, or were swapped out, and are in no group.
    pub skipped: u64,
    /// Of the skipped, those that are swapped out; some of them may have ended.
    pub swapped: u64,
    /// Goroutines in a group without their stack, because it is swapped out.
    pub stackless: u64,
}

/// Goroutines that share creation site, entry function, state, wait reason and stack.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct GoroutineGroup {
    /// Return address of the `go` statement (`g.gopc`); absent for the first goroutine.
    pub created_at: Option<ProcAddr>,
    /// First instruction of the function it runs (`g.startpc`).
    pub entry: ProcAddr,
    pub state: GoState,
    /// The runtime's own words ("chan receive"), for waiting goroutines.
    pub wait: Option<String>,
    /// Innermost first: the parked pc, then return addresses. Empty where the stack cannot be known
    /// from outside (running).
    pub stack: Vec<ProcAddr>,
    pub count: u64,
    /// The earliest time since when one of them is known to wait (set by the first GC that sees it parked).
    pub oldest_wait: Option<KTime>,
    /// A few ids, lowest first.
    pub examples: Vec<Goid>,
}

/// A goroutine's state, `g.atomicstatus` without the scan bit.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum GoState {
    Idle,
    Runnable,
    Running,
    Syscall,
    Waiting,
    CopyStack,
    Preempted,
    /// Proven unreachable by the runtime's own goroutine-leak GC.
    Leaked,
}

/// The process as /proc shows it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Process {
    pub rss: Bytes,
    pub rss_anon: Option<Bytes>,
    pub rss_shmem: Option<Bytes>,
    /// User and system CPU time of the process so far, in seconds.
    pub cpu_s: f64,
    pub threads: u64,
}

/// The kernel side's counters, all since attach.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Counts {
    pub allocs: Vec<AllocCount>,
    pub map_calls: Vec<MapCallCount>,
    pub goroutines: Vec<GoroutineCount>,
    /// Hits per probe, in the order of the session's probe list.
    pub hits: Vec<u64>,
    /// Losses by name, zeros left out.
    #[serde(with = "losses::all")]
    pub losses: Vec<(tracer_common::counter::Counter, u64)>,
}

/// Allocations by one stack, of one type, in one size class.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AllocCount {
    pub stack: StackId,
    /// The type descriptor passed to the allocator; absent where it passed none.
    pub type_addr: Option<ProcAddr>,
    /// The runtime's size class; [`AllocClass::Large`] has none.
    pub class: AllocClass,
    pub objects: u64,
    /// What the program asked for.
    pub requested: Bytes,
    /// What the allocator set aside: size class with the malloc header, or whole pages.
    pub rounded: Bytes,
}

/// Where the allocator puts an object of the requested size.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum AllocClass {
    /// Requested fewer bytes than the tiny allocator's block: in a tiny block if the type holds no pointers,
    /// else in this class.
    BelowTiny(u8),
    Small(u8),
    Large,
}

impl AllocClass {
    /// From the kernel side's code.
    pub fn of_code(code: u32) -> Self {
        let number = (code & 0xff) as u8;
        match code {
            CLASS_LARGE => Self::Large,
            code if code & CLASS_BELOW_TINY == 0 => Self::Small(number),
            _ => Self::BelowTiny(number),
        }
    }
}

/// What a call did to a map.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum MapCall {
    /// `m[k] = v`, updates of existing keys included.
    Write,
    /// `delete(m, k)`, of absent keys too.
    Delete,
    /// More room was made.
    Grow,
}

/// Calls by one stack on one map.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MapCallCount {
    pub stack: StackId,
    pub type_addr: ProcAddr,
    pub map: ProcAddr,
    pub call: MapCall,
    pub calls: u64,
}

/// Goroutines created and ended since attach, by creation site.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct GoroutineCount {
    /// Return address of the `go` statement.
    pub created_at: ProcAddr,
    pub created: u64,
    pub ended: u64,
}
