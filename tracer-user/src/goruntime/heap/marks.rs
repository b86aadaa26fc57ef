//! Whether the last completed GC cycle marked what lies at an address.
//!
//! Apart from those who ask: a mark says that something there was reached, and each of them knows something else of what
//! it is. Nothing is held still: a span is looked at twice, and what changed in between is not told. Never follows a
//! pointer that an object holds.

use std::collections::HashMap;

use super::census::{HeapShape, inline_span};
use super::spans::{self, Decoded, Phase, Span, decode};
use crate::goruntime::layout::{Layout, PAGE};
use crate::goruntime::state::block::Block;
use crate::goruntime::state::{RuntimeState, StateError};
use crate::memory::ReadAt;
use crate::memory::gather::{Gathered, Request, gather};
use crate::units::{Bytes, ProcAddr};

/// Bytes of the address space that one arena describes, on linux/amd64 (runtime/malloc.go, logHeapArenaBytes).
const ARENA_BITS: u32 = 26;
/// What is taken off an address before it is looked up (runtime/malloc.go, arenaBaseOffset: 0xffff800000000000).
const ARENA_BASE: u64 = 0x8000_0000_0000;
/// Entries of the table of arenas (arenaL2Bits; arenaL1Bits is 0).
const ARENAS: u64 = 1 << 22;

/// What stays the same of a span while its memory is not given back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Identity {
    pub(super) start: ProcAddr,
    pub(super) slot: Bytes,
    pub(super) spanclass: u8,
}

/// Memory that holds no objects of the collected heap, and of which its marks say nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Elsewhere {
    /// Never the runtime's: a variable of the program, or C's.
    Outside,
    /// Stacks, in the span that starts here.
    Manual(ProcAddr),
    /// A user arena.
    Arena,
}

/// What one look at an address found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Look {
    /// The last cycle marked the object that the address lies in.
    Marked(Identity),
    /// It did not, or no object is there.
    Free,
    /// No objects are there that it could mark.
    Elsewhere(Elsewhere),
    /// Changed while it was read, or could not be read.
    Untold,
}

/// The heap's sweep generation: changes once with each cycle, when its marks are complete.
pub fn generation(memory: &dyn ReadAt<ProcAddr>, state: &RuntimeState) -> Result<u32, StateError> {
    spans::sweepgen(memory, state.layout(), state.vars())
}

/// Looks at each address, as of the cycle that `generation` began; quickly where they are in order. Holds only if the generation is the
/// same afterwards.
pub(super) fn look(
    memory: &dyn ReadAt<ProcAddr>,
    state: &RuntimeState,
    shape: HeapShape,
    generation: u32,
    addresses: &[ProcAddr],
) -> Result<Vec<Look>, StateError> {
    // Neighbours lie in one page, of which the span is asked once.
    let mut pages: Vec<ProcAddr> = Vec::new();
    let mut page_of = Vec::with_capacity(addresses.len());
    for address in addresses {
        let page = ProcAddr(address.0 / PAGE * PAGE);
        if pages.last() != Some(&page) {
            pages.push(page);
        }
        page_of.push(pages.len() - 1);
    }
    let by_page = spans_of(memory, state.layout(), state.vars().mheap, &pages)?;
    let found: Vec<Option<ProcAddr>> = page_of.into_iter().map(|n| by_page[n]).collect();
    look_in(memory, state.layout(), shape, generation, addresses, &found)
}

/// The same where it is known in which span each address is: where that span's structure lies, 0 where there is none, and
/// absent where that could not be read.
pub(super) fn look_in(
    memory: &dyn ReadAt<ProcAddr>,
    layout: &Layout,
    shape: HeapShape,
    generation: u32,
    addresses: &[ProcAddr],
    found: &[Option<ProcAddr>],
) -> Result<Vec<Look>, StateError> {
    let mut at: Vec<ProcAddr> = found.iter().flatten().copied().filter(|at| at.0 != 0).collect();
    at.sort_unstable();
    at.dedup();
    let index: HashMap<ProcAddr, usize> = at.iter().enumerate().map(|(n, at)| (*at, n)).collect();
    let mut first = Gathered::default();
    spans::structures(memory, layout, at.iter().copied(), &mut first)?;
    let spans: Vec<Option<Decoded>> =
        (0..at.len()).map(|n| first.get(n).ok().map(|b| decode(b, layout))).collect();
    // The bits of each span in use; two requests each, the second for marks in its own page.
    let mut requests: Vec<Request> = Vec::new();
    let mut bits: Vec<Option<(usize, Option<usize>)>> = vec![None; at.len()];
    for (n, span) in spans.iter().enumerate() {
        let Some(Decoded::InUse(span)) = span else { continue };
        let (own, inline) = match span.phase(generation) {
            Phase::Swept => (span.alloc_bits, None),
            Phase::Unswept => (span.mark_bits, inline_span(shape, span)),
            Phase::Sweeping | Phase::Other => continue,
        };
        requests.push((own, span.bit_bytes()));
        let own = requests.len() - 1;
        requests.extend(inline);
        bits[n] = Some((own, inline.map(|_| own + 1)));
    }
    let read = gather(memory, &requests).map_err(StateError::reading("span bits"))?;
    let mut second = Gathered::default();
    spans::structures(memory, layout, at.iter().copied(), &mut second)?;
    let mut last = None;
    let mut place = |at: ProcAddr| match last {
        Some((same, n)) if same == at => Some(n),
        _ => {
            let n = *index.get(&at)?;
            last = Some((at, n));
            Some(n)
        }
    };
    let looks = addresses.iter().zip(found).map(|(address, found)| {
        let at = match found {
            None => return Look::Untold,
            Some(at) if at.0 == 0 => return Look::Elsewhere(Elsewhere::Outside),
            Some(at) => *at,
        };
        let Some(n) = place(at) else { return Look::Untold };
        let again = second.get(n).ok().map(|b| decode(b, layout));
        let (span, again) = match (spans[n], again) {
            (Some(Decoded::InUse(span)), Some(Decoded::InUse(again))) => (span, again),
            (Some(a), Some(b)) if a == b => return without_objects(a, *address),
            _ => return Look::Untold,
        };
        if !again.is_same(&span) {
            return Look::Untold;
        }
        let inside = address.0.wrapping_sub(span.start.0);
        if inside >= u64::from(span.pages) * PAGE || span.slot.0 == 0 {
            // An entry that was left behind: no span in use holds the address.
            return Look::Free;
        }
        let object = inside / span.slot.0;
        if object >= u64::from(span.objects) {
            return Look::Free;
        }
        let Some((own, inline)) = bits[n] else { return Look::Untold };
        let set = |bits: &[u8]| bits.get((object / 8) as usize).is_some_and(|b| b >> (object % 8) & 1 == 1);
        let Ok(own) = read.get(own) else { return Look::Untold };
        let marked = match inline.map(|inline| read.get(inline)) {
            None => set(own),
            // The last byte is not marks.
            Some(Ok(marks)) => set(own) || set(&marks[..marks.len().saturating_sub(1)]),
            Some(Err(_)) => return Look::Untold,
        };
        if marked { Look::Marked(identity(&span)) } else { Look::Free }
    });
    Ok(looks.collect())
}

/// What a span without objects says of an address that was once its own.
fn without_objects(span: Decoded, address: ProcAddr) -> Look {
    match span {
        Decoded::Manual { start, pages } if address.0.wrapping_sub(start.0) < pages * PAGE => {
            Look::Elsewhere(Elsewhere::Manual(start))
        }
        // Of the latter, an entry that was left behind.
        Decoded::Dead | Decoded::Manual { .. } => Look::Free,
        Decoded::Arena { .. } => Look::Elsewhere(Elsewhere::Arena),
        Decoded::InUse(_) | Decoded::Broken => Look::Untold,
    }
}

fn identity(span: &Span) -> Identity {
    Identity { start: span.start, slot: span.slot, spanclass: span.spanclass }
}

/// Where the structure of the span at each address is; 0 where there never was one, absent where it cannot be read
/// (runtime/mheap.go, spanOf).
pub(super) fn spans_of(
    memory: &dyn ReadAt<ProcAddr>,
    layout: &Layout,
    mheap: ProcAddr,
    addresses: &[ProcAddr],
) -> Result<Vec<Option<ProcAddr>>, StateError> {
    let table = memory
        .read_u64(mheap.plus(u64::from(layout.mheap_arenas)))
        .map_err(StateError::reading("mheap.arenas"))?;
    let arena = |address: &ProcAddr| (address.0.wrapping_add(ARENA_BASE)) >> ARENA_BITS;
    let mut numbers: Vec<u64> = addresses.iter().map(arena).filter(|n| *n < ARENAS).collect();
    numbers.sort_unstable();
    numbers.dedup();
    let requests: Vec<Request> = numbers.iter().map(|n| (ProcAddr(table).plus(8 * n), 8)).collect();
    let arenas = gather(memory, &requests).map_err(StateError::reading("mheap.arenas"))?;
    let known: HashMap<u64, Option<u64>> =
        numbers.iter().enumerate().map(|(i, n)| (*n, word(&arenas, i))).collect();
    let entry = |address: &ProcAddr| {
        let arena = known.get(&arena(address)).copied().flatten().filter(|at| *at != 0)?;
        let page = (address.0 / PAGE) % ((1 << ARENA_BITS) / PAGE);
        Some(ProcAddr(arena).plus(u64::from(layout.heap_arena_spans) + 8 * page))
    };
    let entries: Vec<Option<ProcAddr>> = addresses.iter().map(entry).collect();
    // Objects of one span share a few entries, and neighbouring entries one read.
    let mut wanted: Vec<ProcAddr> = entries.iter().flatten().copied().collect();
    wanted.sort_unstable();
    wanted.dedup();
    let requests: Vec<Request> = wanted.iter().map(|at| (*at, 8)).collect();
    let spans = gather(memory, &requests).map_err(StateError::reading("heapArena.spans"))?;
    let found = addresses.iter().zip(&entries).map(|(address, entry)| match entry {
        Some(entry) => wanted.binary_search(entry).ok().and_then(|i| word(&spans, i)).map(ProcAddr),
        // No arena was ever there, or it could not be read.
        None => match known.get(&arena(address)) {
            Some(Some(0)) => Some(ProcAddr(0)),
            _ => None,
        },
    });
    Ok(found.collect())
}

fn word(read: &Gathered, n: usize) -> Option<u64> {
    read.get(n).ok().and_then(|bytes| Block(bytes).u64(0))
}
