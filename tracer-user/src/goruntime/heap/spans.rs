//! The list of all spans, and what one span's structure says.
//!
//! Apart from the census, which decides what to believe: this decodes bytes and refuses what no span in use can say
//! (runtime/mheap.go, type mspan and its life in allocSpan, initSpan and mgcsweep.go). Never follows a pointer.

use crate::goruntime::layout::{CLASS_TO_SIZE, Layout, PAGE};
use crate::goruntime::state::block::Block;
use crate::goruntime::state::{StateError, StateVars};
use crate::memory::gather::{Gathered, Request};
use crate::memory::{FaultKind, ReadAt};
use crate::units::{Bytes, ProcAddr};

/// Entries of the list read at once: 64 KiB.
const ENTRIES: usize = 8 << 10;
/// The list is copied into a larger one when it is full; three times between two reads does not happen.
const ATTEMPTS: usize = 4;
/// `mspan.state` (runtime/mheap.go, mSpanInUse and mSpanManual).
const IN_USE: u8 = 1;
const MANUAL: u8 = 2;
/// Objects in a span of the smallest class, 8 bytes in a page of 8 KiB.
pub(super) const MAX_OBJECTS: u64 = PAGE / 8;
/// Span classes: each size class with pointers and without.
pub(super) const SPAN_CLASSES: usize = 2 * CLASS_TO_SIZE.len();
/// Pages of the 47-bit address space.
pub(super) const MAX_PAGES: u64 = 1 << 34;

/// Where the span structures are. They are never freed, only used again for other spans.
pub(super) struct AllSpans {
    pub(super) addresses: Vec<ProcAddr>,
    /// Entries beyond the limit.
    pub(super) beyond: u64,
    /// Entries in pages of the list that are swapped out.
    pub(super) swapped: u64,
}

impl AllSpans {
    pub(super) fn read(
        memory: &dyn ReadAt<ProcAddr>,
        layout: &Layout,
        vars: &StateVars,
        limit: usize,
    ) -> Result<Self, StateError> {
        const WHAT: &str = "mheap.allspans";
        let failed = StateError::reading(WHAT);
        let slice = vars.mheap.plus(u64::from(layout.mheap_allspans));
        for _ in 0..ATTEMPTS {
            let mut header = [0; 24];
            memory.read(slice, &mut header).map_err(&failed)?;
            let (Some(array), Some(len), Some(cap)) =
                (Block(&header).u64(0), Block(&header).u64(8), Block(&header).u64(16))
            else {
                continue;
            };
            if array == 0 || len == 0 {
                return Err(StateError::NotStarted);
            }
            if len > cap {
                // Pointer, length and capacity are stored one after the other.
                continue;
            }
            let taken = usize::try_from(len).unwrap_or(usize::MAX).min(limit);
            let (mut addresses, mut swapped) = (Vec::with_capacity(taken), 0);
            let mut fault = None;
            let mut piece = vec![0; 8 * ENTRIES.min(taken)];
            for from in (0..taken).step_by(ENTRIES) {
                let count = ENTRIES.min(taken - from);
                let part = &mut piece[..8 * count];
                match memory.read(ProcAddr(array).plus(8 * from as u64), part) {
                    Ok(()) => {
                        addresses.extend(part.chunks_exact(8).filter_map(|w| Block(w).u64(0)).map(ProcAddr));
                    }
                    Err(f) if f.kind == FaultKind::Swapped => swapped += count as u64,
                    Err(f) => fault = Some(f),
                }
            }
            // The old list is unmapped or used for something else once a larger one has its place.
            if memory.read_u64(slice).map_err(&failed)? != array {
                continue;
            }
            if let Some(fault) = fault {
                return Err(failed(fault));
            }
            return Ok(Self { addresses, beyond: len.saturating_sub(taken as u64), swapped });
        }
        Err(StateError::Torn { what: WHAT })
    }
}

/// One span's structure, decoded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Span {
    pub(super) start: ProcAddr,
    pub(super) alloc_bits: ProcAddr,
    pub(super) mark_bits: ProcAddr,
    pub(super) sweepgen: u32,
    pub(super) pages: u32,
    pub(super) freeindex: u16,
    /// Slots.
    pub(super) objects: u16,
    pub(super) allocated: u16,
    /// Size class twice, plus 1 where the objects hold no pointers.
    pub(super) spanclass: u8,
    pub(super) slot: Bytes,
    /// Type of the one object of a large span with pointers; 0 where this Go keeps none.
    large_type: u64,
}

/// What a span's structure is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Decoded {
    /// Not in use.
    Dead,
    /// Stacks and work buffers.
    Manual {
        start: ProcAddr,
        pages: u64,
    },
    /// A chunk of a user arena.
    Arena {
        pages: u64,
    },
    InUse(Span),
    /// Says what no span can say: read while it changed, or no span.
    Broken,
}

/// Where the bits that decide are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    /// Swept in this cycle, or made since: `allocBits` are the last cycle's marks.
    Swept,
    /// Not swept yet: the last cycle's marks are in `gcmarkBits` and in the span's own page.
    Unswept,
    /// Being swept.
    Sweeping,
    /// Of another time.
    Other,
}

impl Span {
    /// `mspan.sweepgen` against the heap's (runtime/mheap.go, "sweep generation").
    pub(super) fn phase(&self, heap_sweepgen: u32) -> Phase {
        match self.sweepgen.wrapping_sub(heap_sweepgen).cast_signed() {
            0 | 3 => Phase::Swept,
            -2 | 1 => Phase::Unswept,
            -1 => Phase::Sweeping,
            _ => Phase::Other,
        }
    }

    /// A processor allocates from it.
    pub(super) fn is_cached(&self, heap_sweepgen: u32) -> bool {
        matches!(self.sweepgen.wrapping_sub(heap_sweepgen), 1 | 3)
    }

    /// Type of the one object of a large span with pointers; absent where this Go keeps none.
    pub(super) fn large_type(&self) -> Option<ProcAddr> {
        (self.large_type != 0).then_some(ProcAddr(self.large_type))
    }

    /// Whether an address lies in one of its slots.
    pub(super) fn holds(&self, address: ProcAddr) -> bool {
        let inside = address.0.wrapping_sub(self.start.0);
        self.slot.0 > 0 && inside / self.slot.0 < u64::from(self.objects)
    }

    pub(super) fn class(&self) -> u8 {
        self.spanclass >> 1
    }

    /// Bytes of its bits: whole words, as the runtime sets them aside (newMarkBits).
    pub(super) fn bit_bytes(&self) -> u32 {
        u32::from(self.objects.div_ceil(64)) * 8
    }

    /// Whether it is the same span with the same bits as `other`; what it allocated may have grown.
    pub(super) fn is_same(&self, other: &Span) -> bool {
        let still = |s: &Span| Span { freeindex: 0, allocated: 0, ..*s };
        still(self) == still(other)
    }
}

/// First byte of a span's structure that is read.
fn block_start(layout: &Layout) -> u32 {
    layout.mspan_start_addr
}

/// How many bytes are read of a span's structure.
fn block_len(layout: &Layout) -> u32 {
    layout.mspan_large_type.unwrap_or(layout.mspan_elemsize) + 8 - block_start(layout)
}

/// Reads the structures of these spans into `room`, as [`decode`] takes them.
pub(super) fn structures(
    memory: &dyn ReadAt<ProcAddr>,
    layout: &Layout,
    spans: impl Iterator<Item = ProcAddr>,
    room: &mut Gathered,
) -> Result<(), StateError> {
    let (from, len) = (u64::from(block_start(layout)), block_len(layout));
    let requests: Vec<Request> = spans.map(|at| (at.plus(from), len)).collect();
    room.read(memory, &requests).map_err(StateError::reading("spans"))
}

/// What the sweep generation grows by with each completed mark phase, from 0 (runtime/mgc.go, gcSweep).
pub(super) const PER_CYCLE: u32 = 2;

/// The heap's sweep generation as it is now.
pub(super) fn sweepgen(
    memory: &dyn ReadAt<ProcAddr>,
    layout: &Layout,
    vars: &StateVars,
) -> Result<u32, StateError> {
    memory
        .read_u32(vars.mheap.plus(u64::from(layout.mheap_sweepgen)))
        .map_err(StateError::reading("mheap.sweepgen"))
}

/// Decodes a block of [`block_len`] bytes.
#[inline]
pub(super) fn decode(block: &[u8], layout: &Layout) -> Decoded {
    fields(block, layout).unwrap_or(Decoded::Broken)
}

#[inline]
fn fields(block: &[u8], l: &Layout) -> Option<Decoded> {
    let b = Block(block);
    let from = block_start(l);
    let word = |offset: u32| b.u64(offset.checked_sub(from)?);
    let pages = word(l.mspan_npages)?;
    let state = b.u8(l.mspan_state - from)?;
    let start = word(l.mspan_start_addr)?;
    let placed = start.is_multiple_of(PAGE)
        && (1..MAX_PAGES).contains(&(start / PAGE))
        && (1..=u64::from(u32::MAX)).contains(&pages);
    match state {
        0 => return Some(Decoded::Dead),
        IN_USE | MANUAL if !placed => return Some(Decoded::Broken),
        MANUAL => return Some(Decoded::Manual { start: ProcAddr(start), pages }),
        IN_USE => {}
        _ => return Some(Decoded::Broken),
    }
    // 16 bits wide since Go 1.22, words before.
    let (freeindex, objects) = if l.mspan_nelems == l.mspan_freeindex + 2 {
        (b.u16(l.mspan_freeindex - from)?, b.u16(l.mspan_nelems - from)?)
    } else {
        let few = |word: u64| u16::try_from(word).ok();
        (few(word(l.mspan_freeindex)?)?, few(word(l.mspan_nelems)?)?)
    };
    let span = Span {
        start: ProcAddr(start),
        pages: pages as u32,
        freeindex,
        objects,
        alloc_bits: ProcAddr(word(l.mspan_alloc_bits)?),
        mark_bits: ProcAddr(word(l.mspan_gcmark_bits)?),
        sweepgen: b.u32(l.mspan_sweepgen - from)?,
        allocated: b.u16(l.mspan_alloc_count - from)?,
        spanclass: b.u8(l.mspan_spanclass - from)?,
        slot: Bytes(word(l.mspan_elemsize)?),
        large_type: l.mspan_large_type.and_then(word).unwrap_or(0),
    };
    Some(checked(span))
}

/// A span in use, if its fields agree with each other.
#[inline]
fn checked(span: Span) -> Decoded {
    let Some(&size) = CLASS_TO_SIZE.get(usize::from(span.class())) else {
        return Decoded::Broken;
    };
    let (slot, bytes) = (span.slot.0, u64::from(span.pages) * PAGE);
    let fits = if size == 0 {
        // Large: one object of all its pages; a user arena keeps some of them (userArenaChunkReserveBytes).
        if span.objects == 1 && slot < bytes && slot > 0 {
            return Decoded::Arena { pages: u64::from(span.pages) };
        }
        span.objects == 1 && slot == bytes
    } else {
        slot == u64::from(size) && span.objects > 0 && u64::from(span.objects) * slot <= bytes
    };
    let bits = |a: ProcAddr| a.0 != 0 && a.0.is_multiple_of(8);
    let sound = fits
        && u64::from(span.objects) <= MAX_OBJECTS
        && span.allocated <= span.objects
        && span.freeindex <= span.objects
        && bits(span.alloc_bits)
        && bits(span.mark_bits);
    if sound { Decoded::InUse(span) } else { Decoded::Broken }
}

/// Bytes of one slot of a span: what its class says, or all of its pages.
pub(super) fn slot(spanclass: u8, pages: u32) -> u64 {
    match CLASS_TO_SIZE.get(usize::from(spanclass >> 1)) {
        Some(0) | None => u64::from(pages) * PAGE,
        Some(size) => u64::from(*size),
    }
}

/// How many of the first `objects` bits are set.
#[inline]
pub(super) fn count_bits(bits: &[u8], objects: u16) -> u16 {
    let (words, rest) = bits.as_chunks();
    let mut left = u64::from(objects);
    let mut set = 0;
    for word in words {
        set += first_bits(u64::from_le_bytes(*word), left);
        left = left.saturating_sub(64);
    }
    if !rest.is_empty() {
        let mut word = [0; 8];
        word[..rest.len()].copy_from_slice(rest);
        set += first_bits(u64::from_le_bytes(word), left);
    }
    // Not more than `objects`.
    set as u16
}

fn first_bits(word: u64, n: u64) -> u32 {
    (if n < 64 { word & ((1 << n) - 1) } else { word }).count_ones()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn bits_are_counted_to_the_last_object() {
        assert_eq!(count_bits(&[0xff, 0xff], 16), 16);
        assert_eq!(count_bits(&[0xff, 0xff], 11), 11);
        assert_eq!(count_bits(&[0b101, 0x80], 15), 2);
        assert_eq!(count_bits(&[0xff], 0), 0);
        assert_eq!(count_bits(&[], 9), 0);
    }

    #[test]
    fn sweep_generations_are_the_runtimes() {
        let span = |sweepgen| Span {
            start: ProcAddr(PAGE),
            pages: 1,
            freeindex: 0,
            objects: 1,
            alloc_bits: ProcAddr(8),
            mark_bits: ProcAddr(8),
            sweepgen,
            allocated: 0,
            spanclass: 0,
            slot: Bytes(PAGE),
            large_type: 0,
        };
        let phases = [(6, Phase::Unswept), (7, Phase::Sweeping), (8, Phase::Swept), (9, Phase::Unswept)];
        for (sweepgen, phase) in phases {
            assert_eq!(span(sweepgen).phase(8), phase, "{sweepgen}");
        }
        assert_eq!((span(11).phase(8), span(10).phase(8)), (Phase::Swept, Phase::Other));
        // The generation wraps.
        assert_eq!(span(u32::MAX - 1).phase(0), Phase::Unswept);
    }

    proptest! {
        #[test]
        fn any_bytes_decode_or_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200), minor in 19_u32..=27) {
            let layout = Layout::for_minor(minor).unwrap();
            if let Decoded::InUse(span) = decode(&bytes, layout) {
                prop_assert!(span.allocated <= span.objects && u64::from(span.objects) <= MAX_OBJECTS);
                prop_assert!(span.bit_bytes() * 8 >= u32::from(span.objects));
            }
        }

        #[test]
        fn every_bit_counts_once(bits in proptest::collection::vec(any::<u8>(), 0..40), objects in 0_u16..320) {
            let slow = (0..objects).filter(|i| bits.get((i / 8) as usize).is_some_and(|b| b >> (i % 8) & 1 == 1));
            prop_assert_eq!(usize::from(count_bits(&bits, objects)), slow.count());
        }
    }
}
