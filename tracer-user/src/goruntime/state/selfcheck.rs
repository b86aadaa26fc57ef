//! Proves once, when a process is opened, that layout and addresses fit it.
//!
//! A wrong offset reads plausible garbage; so before any figure is believed, structures are held against what
//! the runtime guarantees about them. Says which check failed; never repairs and never guesses. A goroutine or
//! span that is swapped out is left alone and proves nothing; where all of them are, that is the answer.

use super::block::Block;
use super::g::Goroutine;
use super::{StateError, StateVars, g, gc, goroutines, heap_stats, wait_reasons};
use crate::goruntime::layout::{Layout, PAGE};
use crate::memory::gather::{Request, gather};
use crate::memory::{FaultKind, ReadAt, ReadFault};
use crate::units::ProcAddr;

/// Goroutines looked at: enough for a wrong offset to meet an impossible value.
const GOROUTINES: usize = 256;
/// Spans looked at.
const SPANS: u64 = 256;
/// Clocks may differ a little between the reading of ours and the runtime's.
const CLOCK_SLACK_NS: u64 = 60_000_000_000;
/// A span of another class than these does not exist: two for each size class.
const SPAN_CLASSES: u8 = 136;
/// Values change while they are read: a check must fail this often to count.
const ATTEMPTS: usize = 5;
/// Bytes by which two counts of the heap may be apart while threads are between two steps.
const NEAR: u64 = 1 << 20;

/// Runs every check, or names the first that fails.
pub fn run(
    memory: &dyn ReadAt<ProcAddr>,
    layout: &Layout,
    vars: &StateVars,
    now_unix_ns: u64,
) -> Result<(), StateError> {
    let target = Target { memory, layout, vars };
    retry(|| target.allgs())?;
    retry(|| target.goroutines())?;
    retry(|| target.gc(now_unix_ns)).map_err(torn_is_wrong(layout.minor))?;
    retry(|| target.heap()).map_err(torn_is_wrong(layout.minor))?;
    retry(|| target.spans())?;
    retry(|| target.wait_reasons())
}

/// What [`run`] need not look at where the layout is known: fields that only mislead if they are wrong.
pub fn prove(
    memory: &dyn ReadAt<ProcAddr>,
    layout: &Layout,
    vars: &StateVars,
    text: &std::ops::Range<ProcAddr>,
) -> Result<(), StateError> {
    let target = Target { memory, layout, vars };
    retry(|| target.code(text))
}

/// A process in mid-change may fail a check once; a wrong layout fails it each time. A list that moved was given back to
/// the system where it had been (runtime/mheap.go, recordspan).
fn retry(check: impl Fn() -> Result<(), StateError>) -> Result<(), StateError> {
    let mut last = check();
    for _ in 1..ATTEMPTS {
        match last {
            Err(StateError::Layout { .. } | StateError::Torn { .. }) => last = check(),
            Err(StateError::Read { fault, .. }) if fault.kind == FaultKind::Unmapped => last = check(),
            Ok(()) | Err(_) => break,
        }
    }
    last
}

/// What disagrees each time is not torn: the words are not where they are looked for.
fn torn_is_wrong(minor: u32) -> impl Fn(StateError) -> StateError {
    move |error| match error {
        StateError::Torn { what } => StateError::Layout {
            minor,
            check: "the heap statistics add up to the GC controller's totals",
            found: format!("{what} never did"),
        },
        other => other,
    }
}

struct Target<'a> {
    memory: &'a dyn ReadAt<ProcAddr>,
    layout: &'a Layout,
    vars: &'a StateVars,
}

impl Target<'_> {
    fn require(
        &self,
        holds: bool,
        check: &'static str,
        found: impl FnOnce() -> String,
    ) -> Result<(), StateError> {
        if holds {
            return Ok(());
        }
        Err(StateError::Layout { minor: self.layout.minor, check, found: found() })
    }

    fn u64(&self, addr: ProcAddr, what: &'static str) -> Result<u64, StateError> {
        self.memory.read_u64(addr).map_err(StateError::reading(what))
    }

    /// Each of many structures, or why it was not read: in few reads, for each takes the lock of the target's memory.
    fn each(
        &self,
        requests: &[Request],
        what: &'static str,
    ) -> Result<Vec<Result<Vec<u8>, ReadFault>>, StateError> {
        let read = gather(self.memory, requests).map_err(StateError::reading(what))?;
        let each = requests.iter().enumerate().map(|(n, (addr, len))| {
            let fault = |kind| ReadFault { addr: addr.0, len: *len as usize, kind };
            read.get(n).map(<[u8]>::to_vec).map_err(fault)
        });
        Ok(each.collect())
    }

    /// The slice and the two words that mirror it agree (runtime/proc.go, allgadd).
    fn allgs(&self) -> Result<(), StateError> {
        let word = |i: u64| self.u64(self.vars.allgs.plus(8 * i), "allgs");
        let (ptr, len, cap) = (word(0)?, word(1)?, word(2)?);
        let mirror_len = self.u64(self.vars.allglen, "allglen")?;
        let mirror_ptr = self.u64(self.vars.allgptr, "allgptr")?;
        if (ptr, len, mirror_len, mirror_ptr) == (0, 0, 0, 0) {
            return Err(StateError::NotStarted);
        }
        self.require(
            ptr == mirror_ptr && len == mirror_len && 0 < len && len <= cap,
            "allgs, allglen and allgptr agree",
            || format!("{ptr:#x}[{len}:{cap}], {mirror_ptr:#x}[{mirror_len}]"),
        )
    }

    fn goroutines(&self) -> Result<(), StateError> {
        let list = goroutines::AllGs::read(self.memory, self.vars, GOROUTINES)?;
        let size = g::block_size(self.layout) as u32;
        let requests: Vec<Request> = list.addresses.iter().map(|&address| (address, size)).collect();
        let mut seen = Seen::default();
        for (i, (&address, block)) in
            list.addresses.iter().zip(self.each(&requests, "goroutines")?).enumerate()
        {
            self.require(address.0 != 0 && address.0 % 8 == 0, "allgs holds aligned pointers", || {
                format!("entry {i} is {address}")
            })?;
            let Some(block) = seen.take(block, "goroutines")? else { continue };
            let decoded = Goroutine::decode(&block, self.layout);
            let Some(goroutine) = decoded else {
                return self.require(false, "goroutines have a legal status and stack", || {
                    let status = Block(&block).u32(self.layout.g_atomicstatus);
                    format!("entry {i} at {address} has status {status:?}")
                });
            };
            // The first goroutine runs runtime.main; ids grow from it (runtime/proc.go, newproc1).
            self.require(
                i > 0 || list.swapped > 0 || goroutine.goid <= 1,
                "the first goroutine's id is 1",
                || goroutine.goid.to_string(),
            )?;
            self.require(goroutine.goid < 1 << 48, "goroutine ids are small numbers", || {
                format!("entry {i} has {:#x}", goroutine.goid)
            })?;
            // Stacks come in powers of two (runtime/stack.go, stackalloc).
            let size = goroutine.hi.wrapping_sub(goroutine.lo);
            self.require(
                !goroutine.is_alive() || (size.is_power_of_two() && size >= 2048),
                "stacks are powers of two",
                || format!("entry {i} has {size} bytes"),
            )?;
        }
        seen.enough("goroutines")
    }

    /// Goroutines were created and begin at code; one that waits on a channel is the one its sudog names.
    fn code(&self, text: &std::ops::Range<ProcAddr>) -> Result<(), StateError> {
        let l = self.layout;
        let list = goroutines::AllGs::read(self.memory, self.vars, GOROUTINES)?;
        let mut block = vec![0; l.g_size as usize];
        let mut seen = Seen::default();
        let is_code = |addr: u64| text.contains(&ProcAddr(addr));
        for &address in &list.addresses {
            if seen.take(self.memory.read(address, &mut block), "goroutines")?.is_none() {
                continue;
            }
            let Some(goroutine) = Goroutine::decode(&block, l).filter(Goroutine::is_alive) else { continue };
            // A thread that C started has a goroutine that nothing created (runtime/proc.go, oneNewExtraM).
            let holds = |addr: u64| addr == 0 || is_code(addr);
            self.require(
                holds(goroutine.created_at) && holds(goroutine.entry),
                "goroutines begin and were created at code",
                || format!("{:#x}, {:#x}", goroutine.entry, goroutine.created_at),
            )?;
            let waiting = Block(&block).u64(l.g_waiting).unwrap_or(0);
            if waiting == 0 || goroutine.wait_reason().is_none() {
                continue;
            }
            // Torn while it wakes up: then another attempt finds it right.
            let named = self.u64(ProcAddr(waiting).plus(u64::from(l.sudog_g)), "sudog")?;
            self.require(named == address.0, "a goroutine's sudog names it", || {
                format!("{named:#x} for {address}")
            })?;
        }
        seen.enough("goroutines")
    }

    fn gc(&self, now_unix_ns: u64) -> Result<(), StateError> {
        let blocks = gc::read_blocks(self.memory, self.layout, self.vars)?;
        let stats = heap_stats::read(self.memory, self.layout, self.vars)?;
        let gc = gc::decode(&blocks, self.layout, stats.in_stacks, None)?;
        self.require(
            gc.last_gc_unix_ns.is_none_or(|t| t <= now_unix_ns.saturating_add(CLOCK_SLACK_NS)),
            "the last GC was not in the future",
            || format!("{:?} at {now_unix_ns}", gc.last_gc_unix_ns),
        )?;
        self.require(gc.in_use.0 % PAGE == 0 && gc.free.0 % PAGE == 0, "the heap is whole pages", || {
            format!("{} in use, {} free", gc.in_use.0, gc.free.0)
        })?;
        self.require(gc.in_use <= gc.mapped_ready, "the heap in use is mapped", || {
            format!("{} of {}", gc.in_use.0, gc.mapped_ready.0)
        })?;
        self.require(
            gc.memory_limit.is_none_or(|l| i64::try_from(l.0).is_ok()),
            "the memory limit is positive",
            || format!("{:?}", gc.memory_limit),
        )
    }

    /// The sum of the per-P slots and the controller's count of the heap are kept by different code and agree at rest
    /// (runtime/mstats.go, readmemstats_m). A thread that loses its processor between the two steps of taking a span
    /// (runtime/mheap.go, allocSpan) leaves them apart by that span for a time slice: near is enough, a wrong place is far.
    fn heap(&self) -> Result<(), StateError> {
        let at = self.vars.gc_controller.plus(u64::from(self.layout.gc_heap_in_use));
        let before = self.u64(at, "gcController.heapInUse")?;
        let stats = heap_stats::read(self.memory, self.layout, self.vars)?;
        let after = self.u64(at, "gcController.heapInUse")?;
        let (low, high) = (before.min(after), before.max(after));
        let apart = NEAR.max(high / 64);
        let near = low.saturating_sub(apart)..=high.saturating_add(apart);
        self.require(near.contains(&stats.in_heap.0), "heapStats.inHeap equals heapInUse", || {
            format!("{} and {low} to {high}", stats.in_heap.0)
        })
    }

    fn spans(&self) -> Result<(), StateError> {
        let l = self.layout;
        let heap = |offset: u32| self.vars.mheap.plus(u64::from(offset));
        let sweepgen = self.memory.read_u32(heap(l.mheap_sweepgen)).map_err(StateError::reading("mheap"))?;
        self.require(sweepgen % 2 == 0, "mheap_.sweepgen is even", || sweepgen.to_string())?;
        let word = |i: u64| self.u64(heap(l.mheap_allspans).plus(8 * i), "mheap.allspans");
        let (ptr, len, cap) = (word(0)?, word(1)?, word(2)?);
        self.require(ptr != 0 && 0 < len && len <= cap, "mheap_.allspans is a slice", || {
            format!("{ptr:#x}[{len}:{cap}]")
        })?;
        let mut seen = Seen::default();
        let entries: Vec<Request> = (0..len.min(SPANS)).map(|i| (ProcAddr(ptr).plus(8 * i), 8)).collect();
        let fields = [l.mspan_start_addr, l.mspan_npages, l.mspan_state, l.mspan_spanclass];
        let first = fields.into_iter().min().unwrap_or_default();
        let size = fields.into_iter().max().unwrap_or_default() - first + 8;
        let mut structures: Vec<Request> = Vec::with_capacity(entries.len());
        for entry in self.each(&entries, "mheap.allspans")? {
            let Some(word) = seen.take(entry, "spans")? else { continue };
            let at = ProcAddr(Block(&word).u64(0).unwrap_or_default());
            structures.push((at.plus(u64::from(first)), size));
        }
        let mut seen = Seen { read: 0, ..seen };
        for (i, span) in self.each(&structures, "spans")?.into_iter().enumerate() {
            let Some(span) = seen.take(span, "spans")? else { continue };
            let word = |offset: u32| Block(&span).u64(offset - first).unwrap_or_default();
            let byte = |offset: u32| Block(&span).u8(offset - first).unwrap_or_default();
            let (start, pages) = (word(l.mspan_start_addr), word(l.mspan_npages));
            let (state, class) = (byte(l.mspan_state), byte(l.mspan_spanclass));
            // Only spans in use have an address and a size that mean something.
            self.require(
                state <= 2 && (state != 1 || (start % PAGE == 0 && pages > 0 && class < SPAN_CLASSES)),
                "spans have a legal state, class and address",
                || format!("span {i} at {start:#x}: state {state}, class {class}, {pages} pages"),
            )?;
        }
        seen.enough("spans")
    }

    fn wait_reasons(&self) -> Result<(), StateError> {
        let Some(table) = self.vars.wait_reason_strings else {
            return Ok(());
        };
        match wait_reasons::WaitReasons::read(self.memory, self.layout, table) {
            // Words only; they are asked for again with each reading.
            Err(StateError::Read { fault, .. }) if fault.kind == FaultKind::Swapped => Ok(()),
            read => read.map(drop),
        }
    }
}

/// How many of a kind were looked at and left alone.
#[derive(Default)]
struct Seen {
    read: usize,
    swapped: Option<ReadFault>,
}

impl Seen {
    /// What was read; absent where it is swapped out.
    fn take<T>(&mut self, read: Result<T, ReadFault>, what: &'static str) -> Result<Option<T>, StateError> {
        match read {
            Ok(read) => {
                self.read += 1;
                Ok(Some(read))
            }
            Err(fault) if fault.kind == FaultKind::Swapped => {
                self.swapped = Some(fault);
                Ok(None)
            }
            Err(fault) => Err(StateError::Read { what, fault }),
        }
    }

    /// What is swapped out whole was not checked at all.
    fn enough(self, what: &'static str) -> Result<(), StateError> {
        match self.swapped {
            Some(fault) if self.read == 0 => Err(StateError::Read { what, fault }),
            _ => Ok(()),
        }
    }
}
