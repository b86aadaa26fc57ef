//! The runtime's own memory profile, read from `mbuckets` without stopping the target.
//!
//! The chain of buckets only ever grows at its head and no bucket moves (runtime/mprof.go, stkbucket). Counts are
//! published in steps: an allocation is added two cycles ahead, a free one ahead, and each GC moves one step into
//! `active`. A move in the midst of our reading would show a count twice or not at all. So everything is read twice
//! and believed only if nothing was moved between: the cycle is the same, no published count changed, and no
//! pending one got smaller, for within a cycle they only grow. Nothing is followed without a bound.

use super::StateError;
use super::block::Block;
use super::chunks::Chunks;
use crate::goruntime::layout::Layout;
use crate::memory::ReadAt;
use crate::record::profile::{Bucket, Profile, Sampled};
use crate::units::{Bytes, ProcAddr};

/// Where the profiler's variables lie in this process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProfileVars {
    /// `runtime.mbuckets`, a pointer
    pub mbuckets: ProcAddr,
    /// `runtime.mProfCycle`, 32 bits
    pub cycle: ProcAddr,
    /// `runtime.MemProfileRate`, a word
    pub rate: ProcAddr,
}

/// How much one reading may read and keep.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Buckets read, the newest.
    pub buckets: usize,
    /// Frames kept over all buckets.
    pub frames: usize,
}

impl Default for Limits {
    /// Large services have some ten thousand buckets of some twenty frames. These are 16 MiB at most.
    fn default() -> Self {
        Self { buckets: 200_000, frames: 2 << 20 }
    }
}

/// A bucket in the target.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct BucketAddr(pub ProcAddr);

/// The profile, and where each bucket was found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Found {
    pub profile: Profile,
    /// One for each of the profile's buckets, in their order.
    pub addresses: Vec<BucketAddr>,
}

const WHAT: &str = "memory profile";
/// A GC cycle ends while one reads, at most every few milliseconds.
const ATTEMPTS: usize = 4;
/// `memProfile` of the kinds of buckets (runtime/mprof.go).
const MEM_PROFILE: u64 = 1;
/// Deepest stack a bucket can hold (runtime/runtime1.go: `debug.profstackdepth` is at most 1024).
const MAX_DEPTH: u64 = 1024;
/// A rate beyond this is not one: it would take a sample every exabyte.
const MAX_RATE: u64 = 1 << 60;

/// The target's own sampling rate, mean bytes between samples; 0 is off.
pub fn rate(memory: &dyn ReadAt<ProcAddr>, layout: &Layout, vars: &ProfileVars) -> Result<u64, StateError> {
    let rate = memory.read_u64(vars.rate).map_err(StateError::reading(WHAT))?;
    // A program may set a negative rate: `rate > 0` is the runtime's own test (runtime/malloc.go).
    if rate.cast_signed() <= 0 {
        return Ok(0);
    }
    if rate > MAX_RATE {
        return Err(wrong(layout, "MemProfileRate is a number of bytes", format!("{rate}")));
    }
    Ok(rate)
}

/// Reads the profile.
pub fn read(
    memory: &dyn ReadAt<ProcAddr>,
    layout: &Layout,
    vars: &ProfileVars,
    limits: Limits,
) -> Result<Found, StateError> {
    let rate = rate(memory, layout, vars)?;
    for _ in 0..ATTEMPTS {
        let before = Cycle::read(memory, vars)?;
        let mut first = Pass::over(memory, layout, vars, limits)?;
        let again = first.counts(memory, layout)?;
        if Cycle::read(memory, vars)? != before || !first.unmoved(&again) {
            continue;
        }
        // The second look is the fresher one.
        for (raw, counts) in first.raw.iter_mut().zip(again) {
            raw.counts = counts;
        }
        return Ok(first.finish(rate, before));
    }
    Err(StateError::Torn { what: WHAT })
}

fn wrong(layout: &Layout, check: &'static str, found: String) -> StateError {
    StateError::Layout { minor: layout.minor, check, found }
}

/// `mProfCycle`: the cycle, and whether its step was published (runtime/mprof.go, mProfCycleHolder).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Cycle(u32);

impl Cycle {
    fn read(memory: &dyn ReadAt<ProcAddr>, vars: &ProfileVars) -> Result<Self, StateError> {
        memory.read_u32(vars.cycle).map(Self).map_err(StateError::reading(WHAT))
    }

    fn number(self) -> u32 {
        self.0 >> 1
    }

    fn published(self) -> bool {
        self.0 & 1 == 1
    }

    /// Which of the three pending records is the cycle `ahead` of this one.
    fn pending(self, ahead: u32) -> usize {
        ((self.number() + ahead) % 3) as usize
    }
}

/// One bucket's `memRecord`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Counts {
    active: Sampled,
    future: [Sampled; 3],
}

impl Counts {
    fn decode(record: &[u8], layout: &Layout) -> Option<Self> {
        let cycle = |at: u32| {
            let word = |field: u32| Block(record).u64(at + field);
            Some(Sampled { allocs: word(layout.mem_cycle_allocs)?, frees: word(layout.mem_cycle_frees)? })
        };
        let future = |n: u32| cycle(layout.mem_record_future + n * layout.mem_cycle_size);
        Some(Self { active: cycle(0)?, future: [future(0)?, future(1)?, future(2)?] })
    }

    /// Whether the runtime only added to what is pending between this and the later `other`.
    fn only_grew_into(&self, other: &Self) -> bool {
        let grew = |a: Sampled, b: Sampled| a.allocs <= b.allocs && a.frees <= b.frees;
        self.active == other.active && self.future.iter().zip(other.future).all(|(a, b)| grew(*a, b))
    }
}

/// A bucket as read.
struct Raw {
    at: BucketAddr,
    record: ProcAddr,
    size: Bytes,
    stack: Vec<ProcAddr>,
    counts: Counts,
}

/// One walk over the chain.
struct Pass {
    raw: Vec<Raw>,
    cut: bool,
}

impl Pass {
    fn over(
        memory: &dyn ReadAt<ProcAddr>,
        layout: &Layout,
        vars: &ProfileVars,
        limits: Limits,
    ) -> Result<Self, StateError> {
        let mut chunks = Chunks::new(memory);
        let mut at = memory.read_u64(vars.mbuckets).map_err(StateError::reading(WHAT))?;
        let mut pass = Self { raw: Vec::new(), cut: false };
        let mut frames = 0;
        while at != 0 {
            // A chain that comes back to itself ends here too.
            if pass.raw.len() >= limits.buckets || frames >= limits.frames {
                pass.cut = true;
                break;
            }
            let (raw, next) = bucket(&mut chunks, layout, ProcAddr(at))?;
            frames += raw.stack.len();
            pass.raw.push(raw);
            at = next;
        }
        Ok(pass)
    }

    /// The counts of the same buckets, read again.
    fn counts(
        &self,
        memory: &dyn ReadAt<ProcAddr>,
        layout: &Layout,
    ) -> Result<Vec<Counts>, StateError> {
        let mut chunks = Chunks::new(memory);
        let mut record = vec![0; layout.mem_record_size as usize];
        let mut all = Vec::with_capacity(self.raw.len());
        for raw in &self.raw {
            chunks.read(raw.record, &mut record).map_err(StateError::reading(WHAT))?;
            let counts = Counts::decode(&record, layout);
            all.push(counts.ok_or_else(|| wrong(layout, "a memRecord holds four cycles", "fewer".into()))?);
        }
        Ok(all)
    }

    fn unmoved(&self, again: &[Counts]) -> bool {
        self.raw.iter().zip(again).all(|(raw, now)| raw.counts.only_grew_into(now))
    }

    fn finish(self, rate: u64, cycle: Cycle) -> Found {
        let mut found = Found::default();
        found.profile =
            Profile { rate, cycle: cycle.number(), buckets: Vec::new(), cut: self.cut };
        for Raw { at, record: _, size, stack, counts: Counts { active, future } } in self.raw {
            // Between the end of a cycle and its publication `runtime.MemProfile` publishes it itself.
            let due = if cycle.published() { Sampled::default() } else { future[cycle.pending(0)] };
            let bucket = Bucket {
                stack,
                size,
                published: active.plus(due),
                last_gc: future[cycle.pending(1)],
                since_gc: future[cycle.pending(2)],
            };
            if bucket.now() != Sampled::default() {
                found.profile.buckets.push(bucket);
                found.addresses.push(at);
            }
        }
        found
    }
}

/// A bucket and the address of the next, or what is wrong with it.
fn bucket(
    chunks: &mut Chunks<'_>,
    layout: &Layout,
    at: ProcAddr,
) -> Result<(Raw, u64), StateError> {
    let mut header = vec![0; layout.bucket_header as usize];
    chunks.read(at, &mut header).map_err(StateError::reading(WHAT))?;
    let word = |offset: u32| {
        Block(&header).u64(offset).ok_or_else(|| wrong(layout, "a bucket has its header", "fewer bytes".into()))
    };
    let (kind, depth, size) = (word(layout.bucket_typ)?, word(layout.bucket_nstk)?, word(layout.bucket_size)?);
    if kind != MEM_PROFILE {
        return Err(wrong(layout, "mbuckets leads to buckets of the memory profile", format!("kind {kind}")));
    }
    if depth > MAX_DEPTH {
        return Err(wrong(layout, "a bucket's stack has at most 1024 frames", depth.to_string()));
    }
    let mut rest = vec![0; 8 * depth as usize + layout.mem_record_size as usize];
    let stack_at = at.plus(u64::from(layout.bucket_header));
    chunks.read(stack_at, &mut rest).map_err(StateError::reading(WHAT))?;
    let (frames, record) = rest.split_at(8 * depth as usize);
    let counts = Counts::decode(record, layout)
        .ok_or_else(|| wrong(layout, "a memRecord holds four cycles", "fewer bytes".into()))?;
    let stack = frames.chunks_exact(8).filter_map(|word| Block(word).u64(0)).map(ProcAddr).collect();
    let raw = Raw { at: BucketAddr(at), record: stack_at.plus(8 * depth), size: Bytes(size), stack, counts };
    Ok((raw, word(layout.bucket_allnext)?))
}
