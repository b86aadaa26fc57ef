//! The versioned model of a report, schema `tracer.report/1`: the only thing a face or exporter sees, and the
//! only place of this side that knows serde.
//!
//! Absent means not measured. Fields are added freely; none is renamed or removed under this number. Bytes are
//! bytes, times seconds, moments RFC 3339, `t` seconds since the session's start.

mod finding;
mod lines;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use crate::symbolize::profile::{Place, Sample};

pub use finding::{
    ClassSite, CodePlace, Finding, GrowingClass, Pinned, Subject, Undecided, WindowCall, Windows,
};
pub use lines::{LINES_SCHEMA, Line};

pub const SCHEMA: &str = "tracer.report/1";

#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Report {
    pub schema: &'static str,
    pub tracer_version: String,
    pub kernel: String,
    pub target: Target,
    pub session: Session,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub process: Option<Process>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heap: Option<Heap>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gc: Option<Gc>,
    /// Absent where allocations were not counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allocations: Option<Vec<Allocation>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allocated_total: Option<Allocated>,
    /// Present where `allocations` are estimates from samples.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heap_profile: Option<HeapProfile>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub goroutines: Option<Goroutines>,
    /// Calls in the program's code that were probed under way.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pins: Vec<Pinned>,
    /// Present where the allocator was probed for moments.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub windows: Option<Windows>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub maps: Vec<MapRow>,
    /// Present where maps were looked for in the heap.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub map_search: Option<MapSearch>,
    pub findings: Vec<Finding>,
    pub undecided: Vec<Undecided>,
}

#[expect(clippy::struct_excessive_bools, reason = "independent facts of a binary, as the schema has them")]
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub struct Target {
    pub pid: u32,
    pub exe: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub module: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub build_id: Option<String>,
    pub go_version: String,
    pub arch: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<String>,
    /// Seconds from the process's start to the report.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uptime_s: Option<f64>,
    pub stripped: bool,
    pub pie: bool,
    pub cgo: bool,
    pub race: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<Limit>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<Container>,
    /// Where its code lies, for exporters that name addresses; no part of the schema.
    #[serde(skip)]
    pub code: Option<CodeMapping>,
}

/// The program's code as it is mapped.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct CodeMapping {
    pub start: u64,
    pub limit: u64,
    pub file_offset: u64,
    /// In hex, from the file's `.note.gnu.build-id`.
    pub gnu_build_id: Option<String>,
}

#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Limit {
    pub bytes: u64,
    /// cgroup, gomemlimit or host.
    pub source: String,
    /// When it is reached at the rate of what was found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eta_s: Option<f64>,
}

#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Container {
    pub id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Session {
    pub started_at: String,
    pub duration_s: f64,
    pub sampler: String,
    pub sampler_reason: String,
    pub attach: String,
    pub probes: Vec<Probe>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub events: Option<Events>,
    /// How much of the program's code says what it allocates; absent before it was looked through.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<Code>,
    /// What was lost, by name; zeros left out.
    pub counters: BTreeMap<String, u64>,
    /// False where something that belongs into a figure was lost.
    pub complete: bool,
    /// True where totals are lower bounds.
    pub lower_bounds: bool,
    pub remarks: Vec<String>,
    pub cost: Cost,
    /// Absent while the session runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_by: Option<String>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Probe {
    pub symbol: String,
    pub offset: u64,
    pub site: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hits: Option<u64>,
}

/// Calls in all of the program's code that allocate something of a type, the runtime's own left out.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Code {
    pub calls: u64,
    /// Those that name the type; what they make is found by it.
    pub typed: u64,
    /// Those that pass none: several variables in one object, bytes. The others learn the type while the program runs.
    pub without_type: u64,
    /// Functions whose code could not be read.
    pub undecoded: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Events {
    pub received: u64,
    pub lost: u64,
    pub undecodable: u64,
}

/// Shares are of one core.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub struct Cost {
    /// Absent where probes are not bounded by one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget: Option<f64>,
    /// What tracing took from the target: hits by what they cost on this host, and readings. Absent where the cost of a hit is not
    /// known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub estimated: Option<f64>,
    /// Of that, what readings of its memory took.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub readings: Option<f64>,
    /// For how long some probes were taken away to stay within the budget.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub throttled_s: Option<f64>,
    /// What a hit costs on this host before its program does anything, by the kind of probed instruction.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub per_hit_s: BTreeMap<String, f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tracer_cpu_s: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tracer_rss_bytes: Option<u64>,
    /// Copies of code pages that the probes made in the target, charged to its cgroup until they are removed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_pages_bytes: Option<u64>,
}

#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Process {
    pub rss_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rss_anon_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub go_heap_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub go_stack_bytes: Option<u64>,
    /// What the runtime has mapped for itself, for neither heap nor stacks; not all of it need be resident.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub go_other_bytes: Option<u64>,
    /// Anonymous and shared memory that is not Go's: at least this much. docs/report.md says what it is made of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outside_go_bytes: Option<u64>,
    pub series: Vec<ProcessPoint>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peak: Option<ProcessPoint>,
}

#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct ProcessPoint {
    pub t: f64,
    pub rss_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rss_anon_bytes: Option<u64>,
}

#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Heap {
    /// Live after the newest GC; absent before the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub live_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub goal_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_use_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mapped_bytes: Option<u64>,
    /// In free spans, not returned to the system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub released_bytes: Option<u64>,
    /// With a census: what survived the last completed GC, with pointers and without apart. Without one: as of the
    /// newest reading, what is garbage since the last GC included.
    pub size_classes: Vec<SizeClass>,
    /// What survived the last completed GC, by type, for objects with pointers; most bytes first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub types: Option<Vec<HeapType>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub census: Option<HeapCensus>,
    pub series: Vec<HeapPoint>,
}

/// How the objects of the heap were counted.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct HeapCensus {
    pub t: f64,
    /// The last completed GC cycle when the count began; 0: none had completed.
    pub gc_cycle: u32,
    /// The same when it ended, where a cycle completed meanwhile: each span is as of its own cycle.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gc_cycle_end: Option<u32>,
    pub objects: u64,
    pub bytes: u64,
    /// Allocated since that cycle's mark phase: part of it is garbage already.
    pub new_objects: u64,
    pub new_bytes: u64,
    pub spans: u64,
    /// Spans of goroutine stacks and of the collector's own buffers.
    pub stack_spans: u64,
    pub stack_bytes: u64,
    /// Memory of user arenas, whose objects cannot be told apart.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arena_bytes: Option<u64>,
    /// Spans in no figure: they changed each time they were read.
    pub torn_spans: u64,
    /// Spans in no figure: swapped out, and left alone.
    pub swapped_spans: u64,
    /// Spans in no figure: they could not be read, or are beyond the census's cap.
    pub unread_spans: u64,
}

#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct HeapType {
    /// Absent where no type is known. Several names with `|` between them: it is one of these.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub type_name: Option<String>,
    /// Types that cannot be told apart by what the objects hold.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub candidates: Vec<String>,
    pub objects: u64,
    pub bytes: u64,
    /// One standard error, where not every object was looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub objects_stderr: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_stderr: Option<f64>,
    /// Objects looked at that are of it.
    pub samples: u64,
    /// No GC has completed yet: these were allocated, and nothing says that they live.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub unproven: bool,
    /// Over the cycles that were counted; absent where they are too few.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub growth: Option<Growth>,
}

#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct SizeClass {
    /// The runtime's number; 0 is everything larger than the classes.
    pub class: u8,
    /// Bytes per object; absent for class 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Whether these objects hold no pointers; absent where both kinds are in the row.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub noscan: Option<bool>,
    pub objects: u64,
    pub total_bytes: u64,
    /// Allocated since the last completed GC, garbage included; not in `objects`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new_objects: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spans: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allocs_per_s: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub growth: Option<Growth>,
}

#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct HeapPoint {
    pub t: f64,
    pub gc_cycle: u32,
    pub live_bytes: u64,
    /// That survived the cycle; absent where no census counted all that it left.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub objects: Option<u64>,
}

#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Growth {
    pub bytes_per_s: f64,
    /// The 95 % interval of the rate.
    pub low: f64,
    pub high: f64,
    /// Two-sided, of the Mann-Kendall test for a trend.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p_value: Option<f64>,
    /// Cycles that were looked at, after warm-up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gc_cycles: Option<u32>,
}

#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct GoroutineGrowth {
    pub goroutines_per_s: f64,
    /// The 95 % interval of the rate.
    pub low: f64,
    pub high: f64,
    pub p_value: f64,
}

#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Gc {
    /// Absent where the count went backwards: then it is not one program's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cycles: Option<u32>,
    pub since: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_second: Option<f64>,
    pub gogc: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_limit: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pause_s: Option<Pauses>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_fraction: Option<f64>,
}

#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Pauses {
    pub p50: f64,
    pub p99: f64,
    pub max: f64,
}

#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Frame {
    pub function: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub file: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub line: u32,
    pub inlined: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(line: &u32) -> bool {
    *line == 0
}

/// Counted where there is no error beside the figures, else estimated.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize)]
pub struct Allocated {
    /// What the allocator set aside.
    pub bytes: u64,
    /// One standard error. With few samples the interval is not even about the figure: use its ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_stderr: Option<f64>,
    /// The 95 % interval; its upper end is there too where no sample is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_low: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_high: Option<u64>,
    pub objects: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub objects_stderr: Option<f64>,
    /// The 95 % interval, of objects of the sizes that were sampled: smaller ones may be there that never were. Absent
    /// for a total of which nothing was sampled: then no size is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub objects_low: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub objects_high: Option<u64>,
    /// Absent where it is not known what the program asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requested_bytes: Option<u64>,
}

/// What samples say of the whole heap.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct HeapProfile {
    /// Who took the samples: `runtime`, Go's own profiler, or `samples`, this session since it attached.
    pub source: &'static str,
    /// Mean bytes between two samples, as the target has it. Absent where calls were chosen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sample_bytes: Option<u64>,
    /// Mean calls between two whose objects are followed, at the call where it is largest; 1: each is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sample_calls: Option<u64>,
    /// The same at the session's first reading, where it was another: older samples are scaled wrongly.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub former_sample_bytes: Option<u64>,
    /// When it was read.
    pub t: f64,
    /// What `live` is as of: `last-gc`; or `now` before the first GC, or the first that told of our samples: then it is all
    /// that was allocated.
    pub as_of: &'static str,
    pub live: Allocated,
    pub allocated: Allocated,
    pub freed: Allocated,
    /// Of the allocated, beside what is live, freed or unknown; none where `live` is as of now.
    pub allocated_since_gc: Allocated,
    /// Of the allocated: live or freed, which is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unknown: Option<Allocated>,
    /// Where the runtime's own profile was read: its sampled objects in the heap, whose types `live_types` of the rows tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub live_objects: Option<LiveObjects>,
    /// For exporters that scale themselves; no part of the schema.
    #[serde(skip)]
    pub samples: HeapSamples,
}

/// The live objects that the runtime's profiler has sampled.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct LiveObjects {
    /// Seconds since the session's start at which they were read: the profile may be newer.
    pub t: f64,
    pub found: u64,
    /// Of them, those whose type was looked for.
    pub looked_at: u64,
    /// Spans left out because they changed while they were read.
    pub spans_torn: u64,
    /// Spans left out because they are swapped out.
    pub spans_swapped: u64,
    /// There were more than one reading takes.
    pub cut: bool,
}

/// Sampled live objects of one site that may be of the same types.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct LiveType {
    /// Several cannot be told apart; none is not known.
    pub types: Vec<String>,
    /// They hold no pointers: nothing says their type.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub no_pointers: bool,
    /// Of those looked at.
    pub objects: u64,
    /// The address of one of them.
    pub example: String,
}

/// The sampled objects as found, unscaled, and what their stacks are made of.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct HeapSamples {
    pub samples: Arc<Vec<Sample>>,
    pub places: Arc<Vec<Place>>,
}

#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Allocation {
    pub site: String,
    /// Innermost first; empty where the stack is unknown.
    pub stack: Vec<Frame>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub type_name: Option<String>,
    /// The one type that all its sampled live objects which were looked at may be of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub live_type: Option<String>,
    pub cause: String,
    pub since: &'static str,
    /// As of the last GC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub live: Option<Allocated>,
    pub allocated: Allocated,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub freed: Option<Allocated>,
    /// Of the allocated, since the last GC: with `live` it is `allocated` less `freed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allocated_since_gc: Option<Allocated>,
    /// Of the allocated: live or freed, which is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unknown: Option<Allocated>,
    /// What its sampled live objects were seen to be, most first; where the runtime's own profile was read.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub live_types: Vec<LiveType>,
    /// Allocations in the sample that the row is estimated from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub samples: Option<u64>,
    /// Bytes per object, of all that was allocated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sizes: Option<Sizes>,
    /// Of what lives, where single objects are followed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ages: Option<Ages>,
    /// Of what lives, over the cycles watched; absent where they are too few.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub growth: Option<Growth>,
    /// Where the allocator put them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub size_classes: Vec<AllocatedClass>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub truncated: bool,
}

/// Quantiles of waiting times in seconds, within 0.1 %. The runtime notes a wait at the first GC that sees it: each is a
/// lower bound.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct WaitTimes {
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub max: f64,
    /// How many goroutines these are of.
    pub goroutines: u64,
}

/// Quantiles of the ages of living objects in seconds, within 0.1 %, weighed by what each sample stands for.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Ages {
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub max: f64,
    /// Objects these are of.
    pub samples: u64,
}

/// Quantiles of sizes, within 0.1 %.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Sizes {
    pub p50: u64,
    pub p90: u64,
    pub p99: u64,
    /// Absent where the largest is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<u64>,
    /// `samples`: what objects take, weighed by what each sample stands for. `size-classes`: what the allocator set
    /// aside; objects larger than the classes all count with the mean of their sizes.
    pub of: &'static str,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct AllocatedClass {
    /// Bytes per object; absent for objects larger than any class.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    pub objects: u64,
}

#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Goroutines {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub live: Option<u64>,
    /// Of these, how many could not be read and are in no row.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skipped: Option<u64>,
    /// Of the skipped, those left alone because they are swapped out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub swapped: Option<u64>,
    /// In a row without a stack, because it is swapped out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stackless: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended: Option<u64>,
    /// What `created` and `ended` count from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<&'static str>,
    pub sites: Vec<GoroutineSite>,
}

#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct GoroutineSite {
    pub site: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_by: Option<Frame>,
    pub entry: String,
    /// Started by the runtime for itself.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub internal: bool,
    pub count: u64,
    /// Of the largest group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wait: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oldest_wait_s: Option<f64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub blocked_at: Vec<Frame>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub example_goids: Vec<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended: Option<u64>,
    /// How long its goroutines have waited at least; absent where no GC has seen one wait.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wait_s: Option<WaitTimes>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub growth: Option<GoroutineGrowth>,
    pub groups: Vec<GoroutineGroup>,
}

#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct GoroutineGroup {
    pub entry: String,
    /// The runtime's wait reason, or running, runnable, syscall, ...
    pub state: String,
    pub count: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oldest_wait_s: Option<f64>,
    pub stack: Vec<Frame>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub example_goids: Vec<u64>,
}

/// What the newest look through the heap for large maps left out.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct MapSearch {
    /// Memory in which headers of maps may lie.
    pub span_bytes: u64,
    /// How much of it waits for a later cycle.
    pub waiting_bytes: u64,
    /// Spans that could not be read.
    pub unread_spans: u64,
    /// Maps that were found and not kept.
    pub beyond_cap: u64,
}

/// A map that grew, was written to while that was counted, or is large.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct MapRow {
    /// The same in every session of this program, where it was grown from one site or is a package variable.
    pub id: String,
    /// Several names with `|` between them: it is one of these.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub type_name: Option<String>,
    /// Types that share the storage of a map of which the heap alone tells.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub candidates: Vec<String>,
    pub address: String,
    /// The address of the package variable that holds it, where it was found by one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variable: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entries: Option<u64>,
    /// Slots, used or not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capacity: Option<u64>,
    /// Deleted slots that still take room.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tombstones: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entries_per_s: Option<f64>,
    /// The 95 % interval of the rate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub low: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub high: Option<f64>,
    /// Two-sided, of the Mann-Kendall test for a trend.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p_value: Option<f64>,
    /// Calls since `since`, updates of existing keys included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub writes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deletes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grows: Option<u64>,
    pub since: &'static str,
    pub sites: Vec<MapSite>,
}

#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct MapSite {
    pub site: String,
    pub stack: Vec<Frame>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub writes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deletes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grows: Option<u64>,
}
