//! The runtime's memory profile as named rows: what lives per site, estimated from what was sampled, with its error.
//!
//! Apart from the rows of counted allocations because nothing here was counted: each number of sampled objects is
//! scaled with the exact size of its bucket and the target's own rate. Samples are kept beside the rows as they were
//! found, for those who scale themselves.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::Clock;
use super::census::names;
use super::evidence::{Cause, Frame};
use super::memo::Named;
use super::stack::{UserStack, allocation_part, site_id};
use crate::aggregate::Ledger;
use crate::aggregate::profile::ProfilePoint;
use crate::aggregate::series::Series;
use crate::goruntime::names::cause::{self, hidden_in_profiles, is_allocator, is_bottom};
use crate::record::profile::{Bucket, LiveRow, Profile, Sampled};
use crate::sampling::{ByBytes, Estimate, Interval, Total};
use crate::units::ProcAddr;

/// Who took the samples.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ProfileSource {
    /// The runtime's own profiler, since the process started.
    #[default]
    Runtime,
    /// This session, since it attached.
    Samples,
    /// This session, of what single calls in the program's code allocated since they were probed.
    Pins,
}

/// An account of the heap by samples.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct HeapProfile {
    pub source: ProfileSource,
    /// Mean bytes between two samples.
    pub rate: u64,
    /// The rate at the session's first reading, where it was another one.
    pub former_rate: Option<u64>,
    /// Seconds since the session's start.
    pub read_at_s: f64,
    /// False before the first GC, for our samples the first that told of any: then everything allocated so far counts as
    /// live.
    pub collected: bool,
    /// Buckets were left out.
    pub cut: bool,
    /// Most live bytes first.
    pub sites: Vec<ProfileSite>,
    pub total: SiteAmounts,
    /// Absent where no reading of the runtime's profile found the objects themselves.
    pub live_look: Option<LiveLook>,
    pub samples: Arc<Vec<Sample>>,
    /// What the samples' stacks are made of.
    pub places: Arc<Vec<Place>>,
}

/// Sampled allocations that read the same.
#[derive(Clone, PartialEq, Debug)]
pub struct ProfileSite {
    pub id: String,
    /// User frames, innermost first.
    pub stack: Vec<Frame>,
    /// The runtime's own profile knows no types.
    pub type_name: Option<String>,
    /// The one type that all its live objects may be of, where those of the runtime's profile were looked at. What is seen
    /// of objects may be another type the next time: no two rows are told apart by it.
    pub live_type: Option<String>,
    pub cause: Cause,
    pub amounts: SiteAmounts,
    /// What its live objects were seen to be, where the runtime's profile was read; most objects first.
    pub live_types: Vec<LiveType>,
    /// Allocations in the sample.
    pub samples: u64,
    /// Bytes per object, and about how many of that size were allocated; a size may come several times.
    pub sizes: Vec<(u64, u64)>,
    /// Milliseconds since the living objects were allocated, and how many one of them stands for; empty where that is
    /// not known.
    pub ages: Vec<(u64, u64)>,
    /// What lived after each GC cycle that was seen; empty where none of it was seen to live, or it found no room in
    /// the history. All others have points at the same moments.
    pub points: Vec<SitePoint>,
}

/// Sampled live objects that may be of the same types.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LiveType {
    /// In order; several cannot be told apart, none is not known.
    pub candidates: Vec<String>,
    /// They hold no pointers: nothing says their type.
    pub noscan: bool,
    pub objects: u64,
    /// The address of one.
    pub example: u64,
}

/// How the types of live objects were looked for.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct LiveLook {
    /// Seconds since the session's start: the profile may be newer.
    pub read_at_s: f64,
    pub found: u64,
    pub looked_at: u64,
    pub spans_torn: u64,
    pub spans_swapped: u64,
    pub cut: bool,
}

/// What lived of one site after one GC cycle.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct SitePoint {
    /// Seconds since the session's start at which it was read.
    pub t: f64,
    pub live: Level,
}

/// Objects and their bytes at one moment, without what their intervals are made of: there may be many moments.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Level {
    pub objects: Estimate,
    pub bytes: Estimate,
}

/// The figures of one site, or of all.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct SiteAmounts {
    /// As of the last GC; garbage that its sweep has not reached yet included.
    pub live: Amounts,
    /// Up to the reading.
    pub allocated: Amounts,
    pub freed: Amounts,
    /// Of the allocated: since the last GC. Live and garbage are not told apart there.
    pub since_gc: Amounts,
    /// Of the allocated: live or freed, which is not known. Only our own samples have any.
    pub unknown: Amounts,
}

/// Objects and their bytes.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Amounts {
    /// Of several sizes, its interval is of those sizes that were sampled: smaller objects that never were may be many.
    pub objects: Total,
    pub bytes: Total,
}

/// One bucket, unscaled.
#[derive(Clone, PartialEq, Debug)]
pub struct Sample {
    /// Indices of places, innermost first; without the runtime's own frames in front.
    pub stack: Arc<[u32]>,
    /// The runtime's own profile knows no types.
    pub type_name: Option<String>,
    pub cause: Cause,
    /// Bytes per object.
    pub size: u64,
    /// Bytes by which it was sampled.
    pub chosen_by: u64,
    /// Mean bytes between two samples of its kind.
    pub mean: u64,
    /// As of the last GC, or up to the reading before the first one.
    pub counts: Sampled,
}

/// One frame and the address it was found at.
#[derive(Clone, PartialEq, Debug)]
pub struct Place {
    pub address: u64,
    pub frame: Frame,
}

impl Amounts {
    /// Of so many sampled objects that were chosen by one size and take another.
    pub(super) fn of(design: ByBytes, sampled: u64, chosen_by: u64, bytes: u64) -> Self {
        let objects = design.objects(sampled, chosen_by);
        Self { objects, bytes: objects.times(bytes as f64) }
    }

    fn add(&mut self, other: Self) {
        self.objects.add(other.objects);
        self.bytes.add(other.bytes);
    }

    /// The 95 % intervals of objects and of bytes: where all are of one size, it is one interval.
    pub fn intervals(self) -> (Interval, Interval) {
        let of_bytes = self.bytes.interval();
        let of_objects = match self.bytes.size() {
            Some(size) => of_bytes.times(1.0 / size),
            None => self.objects.interval(),
        };
        (of_objects, of_bytes)
    }

    /// Without what the intervals are made of.
    pub fn level(self) -> Level {
        Level { objects: self.objects.estimate(), bytes: self.bytes.estimate() }
    }
}

impl Level {
    fn add(&mut self, other: Self) {
        self.objects.add(other.objects);
        self.bytes.add(other.bytes);
    }
}

impl SiteAmounts {
    /// Of all sites, before any is added: what was never sampled may be there.
    pub(super) fn of_none(design: ByBytes) -> Self {
        let none = Amounts { objects: Total::default(), bytes: design.unseen_bytes() };
        Self { live: none, allocated: none, freed: none, since_gc: none, unknown: Amounts::default() }
    }

    fn of(design: ByBytes, bucket: &Bucket, collected: bool) -> Self {
        let amounts = |sampled| Amounts::of(design, sampled, bucket.size.0, bucket.size.0);
        let now = bucket.now();
        Self {
            live: amounts(view(bucket, collected).live()),
            allocated: amounts(now.allocs),
            freed: amounts(now.frees),
            since_gc: amounts(if collected { bucket.since_gc.allocs } else { 0 }),
            unknown: Amounts::default(),
        }
    }

    pub(super) fn add(&mut self, other: Self) {
        let Self { live, allocated, freed, since_gc, unknown } = other;
        self.live.add(live);
        self.allocated.add(allocated);
        self.freed.add(freed);
        self.since_gc.add(since_gc);
        self.unknown.add(unknown);
    }
}

/// As of the last GC. Before the first one nothing is published, and all is shown, as `runtime.MemProfile` does.
fn view(bucket: &Bucket, collected: bool) -> Sampled {
    if collected { bucket.as_of_gc() } else { bucket.now() }
}

/// A row while buckets are added to it.
#[derive(Default)]
pub(super) struct SiteUnderWay {
    amounts: SiteAmounts,
    samples: u64,
    /// By whether they hold no pointers and what they may be: how many, and the address of one.
    live_types: BTreeMap<(bool, Vec<String>), (u64, u64)>,
    sizes: Vec<(u64, u64)>,
    ages: Vec<(u64, u64)>,
    points: Vec<SitePoint>,
}

/// Sampled objects of one size, with their history.
pub(super) struct Sampling<'a> {
    pub(super) amounts: SiteAmounts,
    pub(super) samples: u64,
    /// Bytes per object.
    pub(super) bytes: u64,
    pub(super) points: &'a Series<ProfilePoint>,
    /// What points call them.
    pub(super) number: Option<u32>,
    /// Milliseconds since those that live were allocated; empty where that is not known.
    pub(super) ages: &'a [u64],
}

impl SiteUnderWay {
    /// Adds objects; `live` scales a number of sampled ones.
    pub(super) fn add(&mut self, sampling: &Sampling<'_>, clock: Clock, live: impl Fn(u64) -> Amounts) {
        let Sampling { amounts, samples, bytes, points, number, ages } = sampling;
        self.amounts.add(*amounts);
        self.samples = self.samples.saturating_add(*samples);
        self.sizes.push((*bytes, amounts.allocated.objects.value.round() as u64));
        let stands_for = live(1).objects.value.round() as u64;
        self.ages.extend(ages.iter().map(|age| (*age, stands_for)));
        let Some(number) = *number else { return };
        if self.points.is_empty() {
            let none = |p: &ProfilePoint| SitePoint { t: clock.at(p.time), live: Level::default() };
            self.points = points.iter().map(none).collect();
        }
        for (sum, point) in self.points.iter_mut().zip(points.iter()) {
            sum.live.add(live(point.of(number)).level());
        }
    }

    pub(super) fn finish(self, stack: Vec<Frame>, type_name: Option<String>, cause: Cause) -> ProfileSite {
        let Self { amounts, samples, live_types, sizes, ages, points } = self;
        let told = live_types.into_iter().map(|((noscan, candidates), (objects, example))| LiveType {
            candidates,
            noscan,
            objects,
            example,
        });
        let mut live_types: Vec<LiveType> = told.collect();
        let id = if stack.is_empty() { "unknown".to_owned() } else { site_id(&stack) };
        live_types.sort_by(|a, b| b.objects.cmp(&a.objects).then_with(|| a.candidates.cmp(&b.candidates)));
        let live_type = only_type(&live_types);
        ProfileSite {
            id,
            stack,
            type_name,
            live_type,
            cause,
            amounts,
            live_types,
            samples,
            sizes,
            ages,
            points,
        }
    }

    /// Adds what the live objects of one bucket were seen to be.
    fn add_live(&mut self, rows: &[LiveRow], named: &mut Named<'_>) {
        for row in rows {
            let candidates: Vec<String> = names(&row.candidates, named).into_iter().collect();
            let known = self.live_types.entry((row.noscan, candidates)).or_insert((0, row.example.0));
            known.0 = known.0.saturating_add(row.objects);
        }
    }
}

/// Objects that must have been looked at before they name their site's type.
const LEAST_SEEN: u64 = 8;

/// The one type that all live objects that were looked at may be of. An object of zeros may be of many.
fn only_type(of: &[LiveType]) -> Option<String> {
    let (first, others) = of.split_first()?;
    let seen = of.iter().fold(0_u64, |sum, of| sum.saturating_add(of.objects));
    let mut left: Vec<&String> = first.candidates.iter().collect();
    left.retain(|name| others.iter().all(|of| of.candidates.contains(name)));
    let [one] = left[..] else { return None };
    (seen >= LEAST_SEEN).then(|| one.clone())
}

pub(super) fn heap_profile(ledger: &Ledger, clock: Clock, named: &mut Named<'_>) -> Option<HeapProfile> {
    let (read_at, profile) = ledger.profile().newest()?;
    let collected = profile.buckets.iter().any(|b| b.as_of_gc() != Sampled::default());
    let design = ByBytes { mean: profile.rate };
    let mut out = HeapProfile {
        rate: profile.rate,
        former_rate: ledger.profile().former_rate(),
        read_at_s: clock.at(read_at),
        collected,
        cut: profile.cut,
        total: SiteAmounts::of_none(design),
        ..HeapProfile::default()
    };
    let history = ledger.profile();
    let mut live = history.live().cloned();
    let mut rows: BTreeMap<(Vec<Frame>, Cause), SiteUnderWay> = BTreeMap::new();
    let (mut samples, mut places) = (Vec::with_capacity(profile.buckets.len()), Places::default());
    let keeps = keeps_allocator(profile, named);
    for bucket in &profile.buckets {
        let frames: Vec<Frame> = bucket.stack.iter().map(|pc| frame(named, *pc)).collect();
        let stack = places.stack(&bucket.stack, &frames);
        let UserStack { frames, runtime } = allocation_part(frames);
        let runtime: Vec<&str> = runtime.iter().map(String::as_str).collect();
        // Where the runtime leaves its own frames out, what they were is not known.
        let cause = if runtime.is_empty() && !keeps { Cause::Other } else { cause::of(&runtime, None) };
        let amounts = SiteAmounts::of(design, bucket, collected);
        out.total.add(amounts);
        let row = rows.entry((frames, cause)).or_default();
        let sampling = Sampling {
            amounts,
            samples: bucket.now().allocs,
            bytes: bucket.size.0,
            points: history.points(),
            number: history.followed(bucket),
            ages: &[],
        };
        row.add(&sampling, clock, |sampled| Amounts::of(design, sampled, bucket.size.0, bucket.size.0));
        if let Some(live) = &mut live {
            row.add_live(&live.take(bucket), named);
        }
        samples.push(Sample {
            stack,
            type_name: None,
            cause,
            size: bucket.size.0,
            chosen_by: bucket.size.0,
            mean: design.mean,
            counts: view(bucket, collected),
        });
    }
    (out.samples, out.places) = (Arc::new(samples), Arc::new(places.all));
    out.live_look = history.live().map(|live| LiveLook {
        read_at_s: clock.at(live.time),
        found: live.found.sampled,
        looked_at: live.found.looked_at,
        spans_torn: live.found.torn,
        spans_swapped: live.found.swapped,
        cut: live.found.cut,
    });
    out.sites = rows.into_iter().map(|((stack, cause), row)| row.finish(stack, None, cause)).collect();
    live_first(&mut out.sites);
    Some(out)
}

/// Most live bytes first, by name where they have as many. In place: there may be tens of thousands.
pub(super) fn live_first(sites: &mut [ProfileSite]) {
    sites.sort_unstable_by(|a, b| {
        let bytes = |s: &ProfileSite| (s.amounts.live.bytes.value, s.amounts.allocated.bytes.value);
        let more = bytes(b).partial_cmp(&bytes(a)).unwrap_or(std::cmp::Ordering::Equal);
        more.then_with(|| (&a.stack, &a.type_name, a.cause).cmp(&(&b.stack, &b.type_name, b.cause)))
    });
}

/// Whether buckets begin at the allocator; runtimes of before leave its frames out.
fn keeps_allocator(profile: &Profile, named: &mut Named<'_>) -> bool {
    let first = |b: &Bucket| b.stack.first().copied();
    profile.buckets.iter().filter_map(first).any(|pc| is_allocator(&frame(named, pc).function))
}

/// The profiler writes one address per frame: where functions were inlined, the next address is the caller's frame in
/// the same function (runtime/traceback.go, tracebackPCs). So the first of an address's frames is meant.
fn frame(named: &mut Named<'_>, pc: ProcAddr) -> Frame {
    named.frames(pc, super::PcKind::Return).into_iter().next().unwrap_or_default()
}

/// Places by address, each once.
#[derive(Default)]
pub(super) struct Places {
    pub(super) all: Vec<Place>,
    by_address: HashMap<(ProcAddr, Frame), u32>,
}

impl Places {
    /// The stack as runtime/pprof shows it (protomem.go): without the runtime's frames in front, unless there are no
    /// others, and without the bottom of every goroutine.
    pub(super) fn stack(&mut self, addresses: &[ProcAddr], frames: &[Frame]) -> Arc<[u32]> {
        let lead = frames.iter().take_while(|f| hidden_in_profiles(&f.function)).count();
        let lead = if lead == frames.len() { 0 } else { lead };
        let shown = addresses.iter().zip(frames).skip(lead).filter(|(_, f)| !is_bottom(&f.function));
        shown.map(|(address, frame)| self.place(*address, frame)).collect()
    }

    fn place(&mut self, address: ProcAddr, frame: &Frame) -> u32 {
        *self.by_address.entry((address, frame.clone())).or_insert_with(|| {
            // A return address: the call is before it.
            let address = address.0.saturating_sub(1);
            self.all.push(Place { address, frame: frame.clone() });
            self.all.len() as u32 - 1
        })
    }
}
