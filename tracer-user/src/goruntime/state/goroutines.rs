//! Every goroutine of the process, grouped by creation site, state, wait reason and stack, without stopping it.
//!
//! Apart from `g`, which decodes one goroutine: this is the order of reads. Each goroutine's block is read,
//! then its stack, then the block again; it counts only if the two blocks agree, is tried again otherwise, and
//! is counted as skipped in the end. A goroutine whose stack is swapped out is counted without one. Nothing is
//! unbounded: see [`Limits`]. Never follows a pointer it did not check against the goroutine's own stack bounds.

use std::collections::HashMap;

use super::block::Block;
use super::g::{self, Goroutine, Stack};
use super::wait_reasons::WaitReasons;
use super::waits::WaitCounts;
use super::{StateError, StateVars};
use crate::goruntime::layout::Layout;
use crate::memory::gather::{Request, gather};
use crate::memory::{FaultKind, ReadAt, ReadFault};
use crate::record::reading::{GoState, GoroutineGroup, Goroutines, Waits};
use crate::units::{Bytes, Goid, KTime, ProcAddr};

/// How much one pass may read and keep.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Entries of `allgs` looked at; those beyond are counted as skipped.
    pub goroutines: usize,
    /// Groups kept; goroutines that would need another are counted as skipped.
    pub groups: usize,
}

impl Default for Limits {
    /// A million goroutines take about 2 GiB of stacks; who has more has found the leak. 20 000 groups of
    /// some 20 frames are about 4 MiB.
    fn default() -> Self {
        Self { goroutines: 1_000_000, groups: 20_000 }
    }
}

/// Goroutines read together: at most 8 MiB of stack windows, and what lies between them.
const BATCH: usize = 1024;
/// What is read of a stack at once. Parked stacks use a few hundred bytes to a few KiB.
const WINDOW: u64 = 8 << 10;
/// Goroutines that changed while they were read are tried this often.
const ATTEMPTS: usize = 3;
/// The array of goroutines moves when it is full, and gains a quarter at least then (runtime/slice.go, growslice): from nothing
/// to a million it moves fewer times than this, however slowly it is read.
const MOVES: usize = 48;
/// Goroutine ids kept per group.
const EXAMPLES: usize = 4;
const POINTER: usize = 8;

pub fn read(
    memory: &dyn ReadAt<ProcAddr>,
    layout: &Layout,
    vars: &StateVars,
    reasons: Option<&WaitReasons>,
    limits: Limits,
) -> Result<(Goroutines, Waits), StateError> {
    let list = AllGs::read(memory, vars, limits.goroutines)?;
    let mut pass = Pass {
        memory,
        layout,
        groups: Groups::new(limits.groups),
        torn: 0,
        unreadable: 0,
        swapped: list.swapped,
        stackless: 0,
    };
    for batch in list.addresses.chunks(BATCH) {
        pass.batch(batch)?;
    }
    let waits = std::mem::take(&mut pass.groups.waits).finish();
    Ok((pass.finish(list.beyond, reasons), waits))
}

/// The addresses of all goroutines ever made; ended ones stay and are used again.
pub(super) struct AllGs {
    pub(super) addresses: Vec<ProcAddr>,
    /// Entries beyond the limit, not looked at.
    beyond: u64,
    /// Entries in pages of the array that are swapped out.
    pub(super) swapped: u64,
}

impl AllGs {
    /// In the runtime's own order for readers without a lock: the length first, then the pointer
    /// (runtime/proc.go, atomicAllG and allgadd), so that the array is at least that long.
    pub(super) fn read(
        memory: &dyn ReadAt<ProcAddr>,
        vars: &StateVars,
        limit: usize,
    ) -> Result<Self, StateError> {
        const WHAT: &str = "allgs";
        let failed = StateError::reading(WHAT);
        for _ in 0..MOVES {
            let len = memory.read_u64(vars.allglen).map_err(&failed)?;
            let array = ProcAddr(memory.read_u64(vars.allgptr).map_err(&failed)?);
            if array.0 == 0 {
                return Err(StateError::NotStarted);
            }
            let taken = usize::try_from(len).unwrap_or(usize::MAX).min(limit);
            let bytes = read_array(memory, array, taken, limit);
            // When the array grows, the old one becomes garbage and its bytes may be anything.
            if memory.read_u64(vars.allgptr).map_err(&failed)? != array.0 {
                continue;
            }
            let (bytes, swapped) = bytes.map_err(&failed)?;
            let addresses =
                bytes.chunks_exact(POINTER).filter_map(|word| Block(word).u64(0)).map(ProcAddr).collect();
            return Ok(Self { addresses, beyond: len.saturating_sub(taken as u64), swapped });
        }
        Err(StateError::Torn { what: WHAT })
    }
}

/// The first `taken` entries of the array; where pages of it are swapped out, the others and how many are missing.
fn read_array(
    memory: &dyn ReadAt<ProcAddr>,
    array: ProcAddr,
    taken: usize,
    limit: usize,
) -> Result<(Vec<u8>, u64), ReadFault> {
    /// Divides every page, and no entry lies in two.
    const PIECE: usize = 4096;
    let size = taken.saturating_mul(POINTER);
    let fault = match memory.read_vec(array, size, Bytes((limit * POINTER) as u64)) {
        Ok(bytes) => return Ok((bytes, 0)),
        Err(fault) if fault.kind == FaultKind::Swapped => fault,
        Err(fault) => return Err(fault),
    };
    let mut bytes = vec![0; size];
    let first = (PIECE - array.0 as usize % PIECE).min(size);
    let (head, rest) = bytes.split_at_mut(first);
    let mut at = array;
    let mut requests: Vec<(ProcAddr, &mut [u8])> = Vec::new();
    for piece in std::iter::once(head).chain(rest.chunks_mut(PIECE)) {
        let next = at.plus(piece.len() as u64);
        requests.push((at, piece));
        at = next;
    }
    let answers = memory.read_many(&mut requests);
    let (mut kept, mut missing) = (Vec::with_capacity(size), 0);
    for ((_, piece), answer) in requests.iter().zip(answers) {
        match answer {
            Ok(()) => kept.extend_from_slice(piece),
            Err(fault) if fault.kind == FaultKind::Swapped => missing += (piece.len() / POINTER) as u64,
            Err(fault) => return Err(fault),
        }
    }
    if kept.is_empty() { Err(fault) } else { Ok((kept, missing)) }
}

/// One walk over all goroutines.
struct Pass<'a> {
    memory: &'a dyn ReadAt<ProcAddr>,
    layout: &'a Layout,
    groups: Groups,
    /// Alive, but changed each time they were read.
    torn: u64,
    /// Could not be read, or do not look like goroutines.
    unreadable: u64,
    /// Swapped out, not even known to be alive.
    swapped: u64,
    /// In a group without their stack, which is swapped out.
    stackless: u64,
}

/// What was found where a goroutine should be.
enum Found {
    Goroutine(Goroutine),
    /// Nothing, or no goroutine.
    Unreadable,
    Swapped,
}

/// What was found of a goroutine's stack.
enum Walked {
    Frames(Vec<ProcAddr>),
    Unreadable,
    Swapped,
}

impl Pass<'_> {
    fn batch(&mut self, addresses: &[ProcAddr]) -> Result<(), StateError> {
        let mut pending = addresses.to_vec();
        for attempt in 1..=ATTEMPTS {
            pending = self.attempt(&pending, attempt == ATTEMPTS)?;
            if pending.is_empty() {
                break;
            }
        }
        Ok(())
    }

    /// Reads all of `addresses`; returns those that changed meanwhile, or counts them when it was the last time.
    fn attempt(&mut self, addresses: &[ProcAddr], last: bool) -> Result<Vec<ProcAddr>, StateError> {
        let first = self.goroutines(addresses)?;
        let mut alive: Vec<(ProcAddr, Goroutine)> = Vec::with_capacity(addresses.len());
        let mut again = Vec::new();
        for (&address, found) in addresses.iter().zip(&first) {
            match found {
                Found::Goroutine(goroutine) if !goroutine.is_alive() => {}
                Found::Goroutine(goroutine) => alive.push((address, *goroutine)),
                // Not tried again: only the target brings it back.
                Found::Swapped => self.swapped += 1,
                Found::Unreadable if last => self.unreadable += 1,
                Found::Unreadable => again.push(address),
            }
        }
        let stacks = self.stacks(&alive)?;
        let addresses: Vec<ProcAddr> = alive.iter().map(|(address, _)| *address).collect();
        let second = self.goroutines(&addresses)?;
        for (((address, goroutine), stack), now) in alive.iter().zip(stacks).zip(&second) {
            let same = matches!(now, Found::Goroutine(now) if now.is_same_moment(goroutine));
            match stack {
                Walked::Frames(frames) if same => self.groups.add(goroutine, &frames),
                Walked::Swapped if same => {
                    self.stackless += 1;
                    self.groups.add(goroutine, &[]);
                }
                _ if last => self.torn += 1,
                _ => again.push(*address),
            }
        }
        Ok(again)
    }

    /// What is at these addresses.
    fn goroutines(&self, addresses: &[ProcAddr]) -> Result<Vec<Found>, StateError> {
        let size = g::block_size(self.layout) as u32;
        let requests: Vec<Request> = addresses.iter().map(|&address| (address, size)).collect();
        let read = gather(self.memory, &requests).map_err(StateError::reading("goroutines"))?;
        let found = (0..addresses.len()).map(|n| match read.get(n) {
            Ok(block) => Goroutine::decode(block, self.layout).map_or(Found::Unreadable, Found::Goroutine),
            Err(FaultKind::Swapped) => Found::Swapped,
            Err(_) => Found::Unreadable,
        });
        Ok(found.collect())
    }

    /// The frames of each goroutine, innermost first.
    fn stacks(&self, goroutines: &[(ProcAddr, Goroutine)]) -> Result<Vec<Walked>, StateError> {
        let plans: Vec<Option<Stack>> = goroutines.iter().map(|(_, g)| g.stack(self.layout)).collect();
        let windows = plans.iter().flatten().map(|stack| (ProcAddr(stack.from), stack.window(WINDOW) as u32));
        let requests: Vec<Request> = windows.collect();
        let read = gather(self.memory, &requests).map_err(StateError::reading("stacks"))?;
        let mut windows = (0..requests.len()).map(|n| read.get(n));
        let walked = plans.into_iter().map(|plan| {
            let Some((stack, window)) = plan.and_then(|stack| Some((stack, windows.next()?))) else {
                return Walked::Frames(Vec::new());
            };
            match window.and_then(|window| self.walk(stack, window).map_err(|fault| fault.kind)) {
                Ok(frames) => Walked::Frames(frames),
                Err(FaultKind::Swapped) => Walked::Swapped,
                Err(_) => Walked::Unreadable,
            }
        });
        Ok(walked.collect())
    }

    /// Follows the frame pointers, reading on where the first window ends.
    fn walk(&self, stack: Stack, window: &[u8]) -> Result<Vec<ProcAddr>, ReadFault> {
        let mut frames = Vec::with_capacity(16);
        let mut beyond = stack.walk(window, &mut frames);
        while let Some(rest) = beyond {
            let mut window = vec![0; rest.window(WINDOW) as usize];
            self.memory.read(ProcAddr(rest.from), &mut window)?;
            beyond = rest.walk(&window, &mut frames);
        }
        Ok(frames)
    }

    fn finish(self, beyond: u64, reasons: Option<&WaitReasons>) -> Goroutines {
        let Groups { list, counted, over, .. } = self.groups;
        let mut groups: Vec<GoroutineGroup> = list.into_iter().map(|g| g.finish(reasons)).collect();
        groups.sort_by(|a, b| {
            (a.created_at, a.entry, a.state, &a.wait, &a.stack).cmp(&(
                b.created_at,
                b.entry,
                b.state,
                &b.wait,
                &b.stack,
            ))
        });
        Goroutines {
            groups,
            total: counted + over + self.torn,
            skipped: over + self.torn + self.unreadable + self.swapped + beyond,
            swapped: self.swapped,
            stackless: self.stackless,
        }
    }
}

/// Goroutines counted by what they have in common.
struct Groups {
    /// Key words to position in `list`.
    index: HashMap<Vec<u64>, usize>,
    list: Vec<Group>,
    waits: WaitCounts,
    limit: usize,
    counted: u64,
    /// Goroutines that would have needed one group too many.
    over: u64,
    /// The key under construction, kept for its allocation.
    key: Vec<u64>,
}

struct Group {
    like: Goroutine,
    frames: Vec<ProcAddr>,
    count: u64,
    oldest_wait: Option<u64>,
    /// The lowest ids, sorted.
    examples: Vec<u64>,
}

impl Groups {
    fn new(limit: usize) -> Self {
        let (index, waits) = (HashMap::new(), WaitCounts::default());
        Self { index, list: Vec::new(), waits, limit, counted: 0, over: 0, key: Vec::new() }
    }

    fn add(&mut self, goroutine: &Goroutine, frames: &[ProcAddr]) {
        self.key.clear();
        self.key.extend([
            goroutine.created_at,
            goroutine.entry,
            u64::from(goroutine.status),
            // Only waiting goroutines have a reason; the field keeps its last value in others.
            goroutine.wait_reason().map_or(u64::MAX, u64::from),
        ]);
        self.key.extend(frames.iter().map(|f| f.0));
        let at = match self.index.get(self.key.as_slice()) {
            Some(&at) => at,
            None if self.list.len() >= self.limit => {
                self.over += 1;
                return;
            }
            None => {
                self.index.insert(self.key.clone(), self.list.len());
                self.list.push(Group {
                    like: *goroutine,
                    frames: frames.to_vec(),
                    count: 0,
                    oldest_wait: None,
                    examples: Vec::with_capacity(EXAMPLES + 1),
                });
                self.list.len() - 1
            }
        };
        self.counted += 1;
        self.list[at].add(goroutine);
        if let Some(since) = goroutine.wait_since() {
            self.waits.add(goroutine.created_at, since);
        }
    }
}

impl Group {
    fn add(&mut self, goroutine: &Goroutine) {
        self.count += 1;
        self.oldest_wait = match (self.oldest_wait, goroutine.wait_since()) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        let at = self.examples.partition_point(|&id| id < goroutine.goid);
        if at < EXAMPLES {
            self.examples.insert(at, goroutine.goid);
            self.examples.truncate(EXAMPLES);
        }
    }

    fn finish(self, reasons: Option<&WaitReasons>) -> GoroutineGroup {
        let Self { like, frames, count, oldest_wait, examples } = self;
        let wait = like.wait_reason().and_then(|number| reasons?.get(number)).map(str::to_owned);
        GoroutineGroup {
            // 0 stands for the first goroutine, which no `go` statement started.
            created_at: (like.created_at != 0).then_some(ProcAddr(like.created_at)),
            entry: ProcAddr(like.entry),
            state: like.state().unwrap_or(GoState::Idle),
            wait,
            stack: frames,
            count,
            oldest_wait: oldest_wait.map(KTime),
            examples: examples.into_iter().map(Goid).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Flat;

    /// Memory of which one page is swapped out.
    struct Swapping<'a> {
        memory: Flat<'a>,
        page: u64,
    }

    impl ReadAt<ProcAddr> for Swapping<'_> {
        fn read(&self, addr: ProcAddr, buf: &mut [u8]) -> Result<(), ReadFault> {
            let end = addr.0 + buf.len() as u64;
            if addr.0 < self.page + 4096 && self.page < end {
                return Err(ReadFault { addr: addr.0, len: buf.len(), kind: FaultKind::Swapped });
            }
            self.memory.read(addr, buf)
        }
    }

    #[test]
    fn the_list_is_read_around_a_page_that_is_swapped_out() {
        // From the middle of one page over a second into a third: 256 + 512 + 100 entries.
        let array = 0x10_0800_u64;
        let bytes: Vec<u8> = (0..868_u64).flat_map(u64::to_le_bytes).collect();
        let read = |page: u64, taken: usize| {
            let memory = Swapping { memory: Flat { base: array, bytes: &bytes }, page };
            read_array(&memory, ProcAddr(array), taken, 1000)
        };
        let check = |page: u64, taken: usize, missing: std::ops::Range<u64>| {
            let kept: Vec<u64> = (0..taken as u64).filter(|i| !missing.contains(i)).collect();
            let missing = (taken - kept.len()) as u64;
            let bytes = kept.into_iter().flat_map(u64::to_le_bytes).collect();
            assert_eq!(read(page, taken), Ok((bytes, missing)), "{page:#x}");
        };
        check(0x20_0000, 868, 0..0);
        check(0x10_0000, 868, 0..256);
        check(0x10_1000, 868, 256..768);
        check(0x10_2000, 868, 768..868);
        check(0x10_1000, 100, 0..0);
        // Nothing left is a fault, not an empty list; and what is not there is not swapped out.
        assert_eq!(read(0x10_0000, 256).unwrap_err().kind, FaultKind::Swapped);
        assert_eq!(read(0x10_0000, 900).unwrap_err().kind, FaultKind::Unmapped);
    }

    /// Memory of which one byte is another each time it is read.
    struct Changing<'a> {
        memory: Flat<'a>,
        at: u64,
        reads: std::sync::atomic::AtomicU8,
    }

    impl ReadAt<ProcAddr> for Changing<'_> {
        fn read(&self, addr: ProcAddr, buf: &mut [u8]) -> Result<(), ReadFault> {
            self.memory.read(addr, buf)?;
            let place = self.at.checked_sub(addr.0).and_then(|place| usize::try_from(place).ok());
            if let Some(byte) = place.and_then(|place| buf.get_mut(place)) {
                *byte = self.reads.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            }
            Ok(())
        }
    }

    const FIRST: u64 = 0x1000;
    const SECOND: u64 = 0x2000;
    const STACK: u64 = 0x3000;

    /// Two goroutines on a page of their own each, stacks on a third.
    fn two_goroutines(layout: &Layout) -> Vec<u8> {
        let (first, second, stack) = (FIRST, SECOND, STACK);
        let mut bytes = vec![0; 0x3000];
        for (i, at) in [first, second].into_iter().enumerate() {
            let mut put = |offset: u32, value: u64| {
                let at = (at - 0x1000) as usize + offset as usize;
                bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
            };
            put(layout.g_stack_lo, stack);
            put(layout.g_stack_hi, stack + 0x800);
            put(layout.g_goid, i as u64 + 1);
            put(layout.g_gopc, 0x4001);
            put(layout.g_sched_sp, stack + 0x700);
            put(layout.g_sched_pc, 0x6000);
            put(layout.g_sched_bp, stack + 0x740);
            let status = (at - 0x1000) as usize + layout.g_atomicstatus as usize;
            bytes[status] = 4;
        }
        bytes
    }

    /// Total, skipped, swapped, without a stack, and whether any has one.
    fn read_two(layout: &Layout, memory: &dyn ReadAt<ProcAddr>) -> (u64, u64, u64, u64, bool) {
        let mut pass = Pass {
            memory,
            layout,
            groups: Groups::new(10),
            torn: 0,
            unreadable: 0,
            swapped: 0,
            stackless: 0,
        };
        pass.batch(&[ProcAddr(FIRST), ProcAddr(SECOND)]).unwrap();
        let Goroutines { groups, total, skipped, swapped, stackless } = pass.finish(0, None);
        (total, skipped, swapped, stackless, groups.iter().any(|g| !g.stack.is_empty()))
    }

    #[test]
    fn what_is_swapped_out_is_counted_and_not_tried_again() {
        let layout = Layout::for_minor(26).unwrap();
        let bytes = two_goroutines(layout);
        let read =
            |page: u64| read_two(layout, &Swapping { memory: Flat { base: FIRST, bytes: &bytes }, page });
        assert_eq!(read(0x10_0000), (2, 0, 0, 0, true));
        assert_eq!(read(SECOND), (1, 1, 1, 0, true));
        assert_eq!(read(STACK), (2, 0, 0, 2, false));
    }

    #[test]
    fn what_changes_each_time_is_counted_as_torn() {
        let layout = Layout::for_minor(26).unwrap();
        let bytes = two_goroutines(layout);
        let at = SECOND + u64::from(layout.g_sched_pc);
        let memory = Changing { memory: Flat { base: FIRST, bytes: &bytes }, at, reads: 0.into() };
        assert_eq!(read_two(layout, &memory), (2, 1, 0, 0, true));
        assert!(memory.reads.into_inner() >= 2 * ATTEMPTS as u8, "it was tried again");
    }
}
