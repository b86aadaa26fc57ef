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
        let mut before: Option<std::ops::Range<u64>> = None;
        while at != 0 {
            // A chain that comes back to itself ends here too.
            if pass.raw.len() >= limits.buckets || frames >= limits.frames {
                pass.cut = true;
                break;
            }
            let (raw, next) = bucket(&mut chunks, layout, ProcAddr(at))?;
            // Buckets of one processor lie one behind the other (runtime/malloc.go, persistentalloc): records that are taken to
            // be longer than they are reach into the next.
            let here = at..raw.record.0.saturating_add(u64::from(layout.mem_record_size));
            if before.is_some_and(|b| b.start != here.start && b.start < here.end && here.start < b.end) {
                return Err(wrong(layout, "buckets do not overlap", format!("{at:#x}")));
            }
            before = Some(here);
            frames += raw.stack.len();
            pass.raw.push(raw);
            at = next;
        }
        Ok(pass)
    }

    /// The counts of the same buckets, read again.
    fn counts(&self, memory: &dyn ReadAt<ProcAddr>, layout: &Layout) -> Result<Vec<Counts>, StateError> {
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
        let profile = Profile { rate, cycle: cycle.number(), buckets: Vec::new(), cut: self.cut };
        let mut found = Found { profile, addresses: Vec::new() };
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
fn bucket(chunks: &mut Chunks<'_>, layout: &Layout, at: ProcAddr) -> Result<(Raw, u64), StateError> {
    let mut header = vec![0; layout.bucket_header as usize];
    chunks.read(at, &mut header).map_err(StateError::reading(WHAT))?;
    let word = |offset: u32| {
        Block(&header)
            .u64(offset)
            .ok_or_else(|| wrong(layout, "a bucket has its header", "fewer bytes".into()))
    };
    let (kind, depth, size) =
        (word(layout.bucket_typ)?, word(layout.bucket_nstk)?, word(layout.bucket_size)?);
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::memory::Flat;

    const BASE: u64 = 0x10_0000;
    /// Where the variables lie in the memory below; buckets follow.
    const VARS: ProfileVars =
        ProfileVars { mbuckets: ProcAddr(BASE), cycle: ProcAddr(BASE + 8), rate: ProcAddr(BASE + 16) };

    /// Writes buckets as a runtime of that version would, newest first, and the variables.
    fn memory(minor: u32, cycle: u32, buckets: &[(u64, &[u64], [Sampled; 4])]) -> Vec<u8> {
        let layout = Layout::for_minor(minor).unwrap();
        let mut bytes = vec![0; 24];
        let mut starts = Vec::new();
        for (size, stack, cycles) in buckets {
            let start = bytes.len();
            starts.push(BASE + start as u64);
            let record = start + layout.bucket_header as usize + 8 * stack.len();
            bytes.resize(record + layout.mem_record_size as usize, 0);
            let mut put = |at: usize, word: u64| bytes[at..at + 8].copy_from_slice(&word.to_le_bytes());
            put(start + layout.bucket_typ as usize, MEM_PROFILE);
            put(start + layout.bucket_size as usize, *size);
            put(start + layout.bucket_nstk as usize, stack.len() as u64);
            for (i, pc) in stack.iter().enumerate() {
                put(start + layout.bucket_header as usize + 8 * i, *pc);
            }
            for (i, counts) in cycles.iter().enumerate() {
                let at = record + i * layout.mem_cycle_size as usize;
                put(at + layout.mem_cycle_allocs as usize, counts.allocs);
                put(at + layout.mem_cycle_frees as usize, counts.frees);
            }
        }
        let mut put = |at: usize, word: u64| bytes[at..at + 8].copy_from_slice(&word.to_le_bytes());
        put(0, starts.first().copied().unwrap_or(0));
        put(8, u64::from(cycle));
        put(16, 4096);
        for pair in starts.windows(2) {
            put((pair[0] - BASE) as usize + layout.bucket_allnext as usize, pair[1]);
        }
        // Pages are read whole.
        bytes.resize(bytes.len().next_multiple_of(4096), 0);
        bytes
    }

    fn decoded(minor: u32, bytes: &[u8], limits: Limits) -> Result<Found, StateError> {
        let layout = Layout::for_minor(minor).unwrap();
        read(&Flat { base: BASE, bytes }, layout, &VARS, limits)
    }

    fn sampled(allocs: u64, frees: u64) -> Sampled {
        Sampled { allocs, frees }
    }

    #[test]
    fn pending_cycles_are_put_where_they_belong() {
        let cycles = [sampled(10, 4), sampled(1, 2), sampled(3, 0), sampled(100, 0)];
        for minor in [19, 26, 27] {
            // Cycle 7 is published: 8 % 3 is the last GC's, 9 % 3 what came since.
            let bytes =
                memory(minor, 7 << 1 | 1, &[(48, &[5, 6], cycles), (16, &[], [Sampled::default(); 4])]);
            let found = decoded(minor, &bytes, Limits::default()).unwrap();
            let [bucket] = &found.profile.buckets[..] else { panic!("{found:?}") };
            assert_eq!(bucket.published, sampled(10, 4));
            assert_eq!((bucket.last_gc, bucket.since_gc), (sampled(100, 0), sampled(1, 2)));
            assert_eq!((bucket.size, &bucket.stack[..]), (Bytes(48), &[ProcAddr(5), ProcAddr(6)][..]));
            assert_eq!((found.profile.rate, found.profile.cycle), (4096, 7));
            // Not published yet: what is due belongs to the published.
            let bytes = memory(minor, 7 << 1, &[(48, &[5, 6], cycles)]);
            let found = decoded(minor, &bytes, Limits::default()).unwrap();
            assert_eq!(found.profile.buckets[0].published, sampled(13, 4));
        }
    }

    #[test]
    fn limits_and_chains_without_an_end_are_cut_and_told() {
        let one = [sampled(1, 0), Sampled::default(), Sampled::default(), Sampled::default()];
        let bytes = memory(26, 1, &[(8, &[1, 2], one), (16, &[3], one), (32, &[4], one)]);
        let found = decoded(26, &bytes, Limits { buckets: 2, frames: 100 }).unwrap();
        assert!(found.profile.cut && found.profile.buckets.len() == 2);
        let found = decoded(26, &bytes, Limits { buckets: 100, frames: 2 }).unwrap();
        assert!(found.profile.cut && found.profile.buckets.len() == 1);
        let mut ring = bytes;
        let next = Layout::for_minor(26).unwrap().bucket_allnext as usize;
        let head = u64::from_le_bytes(ring[..8].try_into().unwrap());
        ring[24 + next..32 + next].copy_from_slice(&head.to_le_bytes());
        let found = decoded(26, &ring, Limits { buckets: 1000, frames: 10_000 }).unwrap();
        assert!(found.profile.cut && found.profile.buckets.len() == 1000);
    }

    #[test]
    fn records_of_another_versions_length_are_refused() {
        let one = [sampled(1, 0); 4];
        let bytes = memory(27, 1, &[(8, &[1, 2], one), (16, &[3], one)]);
        assert_eq!(decoded(27, &bytes, Limits::default()).unwrap().profile.buckets.len(), 2);
        let refused = decoded(26, &bytes, Limits::default()).unwrap_err().to_string();
        assert!(refused.contains("buckets do not overlap"), "{refused}");
    }

    #[test]
    fn what_is_no_bucket_is_refused_by_name() {
        let one = [sampled(1, 0); 4];
        let layout = Layout::for_minor(26).unwrap();
        for (field, word) in [(layout.bucket_typ, 2), (layout.bucket_nstk, 1025)] {
            let mut bytes = memory(26, 1, &[(8, &[1], one)]);
            let at = 24 + field as usize;
            bytes[at..at + 8].copy_from_slice(&u64::to_le_bytes(word));
            assert!(matches!(decoded(26, &bytes, Limits::default()), Err(StateError::Layout { .. })));
        }
    }

    proptest! {
        #[test]
        fn any_memory_is_read_or_refused(
            mut bytes in proptest::collection::vec(any::<u8>(), 24..20_000),
            head in any::<u16>(),
            next in any::<u16>(),
            minor in 19_u32..=27,
        ) {
            let near = |offset: u16| (BASE + u64::from(offset) % bytes.len() as u64).to_le_bytes();
            let (head, next) = (near(head), near(next));
            let at = (u64::from_le_bytes(head) - BASE) as usize;
            bytes[..8].copy_from_slice(&head);
            for (field, word) in [(8, next), (16, 1_u64.to_le_bytes()), (40, 3_u64.to_le_bytes())] {
                if let Some(place) = bytes.get_mut(at + field..at + field + 8) {
                    place.copy_from_slice(&word);
                }
            }
            let limits = Limits { buckets: 50, frames: 500 };
            if let Ok(found) = decoded(minor, &bytes, limits) {
                prop_assert!(found.profile.buckets.len() <= limits.buckets);
            }
        }
    }
}
