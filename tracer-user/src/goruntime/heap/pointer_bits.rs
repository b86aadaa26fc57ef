//! Which words of a small object are pointers: where the runtime keeps its bits for that, and how they are read.
//!
//! Apart from `sample` because the runtime has had three ways. Since 1.22 a bit for each word lies at the end of the
//! span (runtime/mbitmap.go, spanHeapBitsRange); in 1.20, 1.21 and a 1.22 without malloc headers it lies in the arena's own
//! structure (heapArena.bitmap); in 1.19 that holds two bits for each word, "pointer" in the low half of a byte and "more
//! pointers follow" in the high half. Says where to read and decodes what was read: reads only the list of arenas.

use super::census::{HeapShape, inline_bytes};
use crate::goruntime::layout::{HEADER_ABOVE, Layout, PAGE};
use crate::goruntime::state::{StateError, StateVars};
use crate::memory::ReadAt;
use crate::memory::gather::{Request, gather};
use crate::units::ProcAddr;

/// `heapArenaBytes` on linux/amd64 is 64 MiB (runtime/malloc.go), `arenaBaseOffset` is the upper half's start.
const ARENA_SHIFT: u32 = 26;
const ARENA_BASE: u64 = 0xffff_8000_0000_0000;
/// `arenaL2Bits` (runtime/malloc.go); there is one first-level entry.
const ARENAS: u64 = 1 << 22;
/// Words of memory that one byte of the bitmap of 1.19 describes.
const WORDS_PER_PAIRED_BYTE: u64 = 4;

/// The way one Go version keeps the bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Form {
    /// At the end of the span.
    Span,
    /// In the arena, a bit for each word.
    Arena,
    /// In the arena, two bits for each word.
    ArenaPaired,
}

/// Where the bits of objects are.
pub(super) struct PointerBits {
    form: Form,
    shape: HeapShape,
    /// The bitmaps of the arenas that hold spans, by the arena's number.
    bitmaps: Vec<(u64, ProcAddr)>,
}

impl PointerBits {
    /// For objects in spans that start at `spans`, which are in order.
    pub(super) fn new(
        memory: &dyn ReadAt<ProcAddr>,
        layout: &Layout,
        vars: &StateVars,
        shape: HeapShape,
        spans: impl Iterator<Item = ProcAddr>,
    ) -> Result<Self, StateError> {
        let Some(bitmap) = layout.arena_bitmap() else {
            return Ok(Self { form: Form::Span, shape, bitmaps: Vec::new() });
        };
        let mut arenas: Vec<u64> = spans.map(arena).collect();
        arenas.dedup();
        let table = memory
            .read_u64(vars.mheap.plus(u64::from(layout.mheap_arenas)))
            .map_err(StateError::reading("mheap.arenas"))?;
        let entry = |n: &u64| (ProcAddr(table).plus(8 * n), 8);
        let requests: Vec<Request> = arenas.iter().map(entry).collect();
        let entries = gather(memory, &requests).map_err(StateError::reading("mheap.arenas"))?;
        let found = arenas.iter().enumerate().filter_map(|(n, arena)| {
            let at = u64::from_le_bytes(entries.get(n).ok()?.try_into().ok()?);
            (at != 0).then(|| (*arena, ProcAddr(at).plus(u64::from(bitmap))))
        });
        let bitmaps = found.collect();
        // The pairs ended with 1.20 (runtime/mbitmap.go, "1 bit for each pointer-sized word").
        let form = if layout.minor < 20 { Form::ArenaPaired } else { Form::Arena };
        Ok(Self { form, shape, bitmaps })
    }

    /// Where the bits of one slot are, with whatever else is in their words; absent where nobody knows.
    pub(super) fn request(&self, span: ProcAddr, pages: u64, slot: u64, addr: ProcAddr) -> Option<Request> {
        if !(8..=HEADER_ABOVE).contains(&slot) {
            return None;
        }
        let words = |first: u64, per: u64| {
            let last = first + slot / 8 - 1;
            (first / per, last / per)
        };
        Some(match self.form {
            Form::Span => {
                // Before the marks that are in the page too.
                let bytes = pages.saturating_mul(PAGE);
                let bitmap = span.0.checked_add(bytes)?;
                let bitmap = bitmap.checked_sub(bytes / 64)?.checked_sub(inline_bytes(self.shape, slot))?;
                let (from, to) = words(addr.0.checked_sub(span.0)? / 8, 64);
                (ProcAddr(bitmap).plus(8 * from), (8 * (to - from + 1)) as u32)
            }
            Form::Arena => {
                let (from, to) = words(word_of_arena(addr), 64);
                (self.bitmap(addr)?.plus(8 * from), (8 * (to - from + 1)) as u32)
            }
            Form::ArenaPaired => {
                let (from, to) = words(word_of_arena(addr), WORDS_PER_PAIRED_BYTE);
                (self.bitmap(addr)?.plus(from), (to - from + 1) as u32)
            }
        })
    }

    fn bitmap(&self, addr: ProcAddr) -> Option<ProcAddr> {
        let found = self.bitmaps.binary_search_by_key(&arena(addr), |(n, _)| *n).ok()?;
        Some(self.bitmaps[found].1)
    }

    /// The bits of the slot of `words` words at `addr` out of what the request read.
    pub(super) fn decode(&self, read: &[u8], addr: ProcAddr, words: usize) -> u64 {
        match self.form {
            // Spans and arenas begin with a word of bits.
            Form::Span | Form::Arena => bits(read, addr.0 / 8 % 64, words),
            Form::ArenaPaired => paired(read, addr.0 / 8 % WORDS_PER_PAIRED_BYTE, words),
        }
    }
}

fn arena(addr: ProcAddr) -> u64 {
    (addr.0.wrapping_sub(ARENA_BASE) >> ARENA_SHIFT) % ARENAS
}

fn word_of_arena(addr: ProcAddr) -> u64 {
    addr.0 % (1 << ARENA_SHIFT) / 8
}

fn bits(read: &[u8], first: u64, words: usize) -> u64 {
    let word = |at: usize| read.get(at..at + 8)?.try_into().ok().map(u64::from_le_bytes);
    let low = word(0).unwrap_or(0) >> first;
    let high = word(8).filter(|_| first > 0).map_or(0, |w| w << (64 - first));
    let all = low | high;
    if words < 64 { all & ((1 << words) - 1) } else { all }
}

fn paired(read: &[u8], first: u64, words: usize) -> u64 {
    let mut all = 0;
    for n in 0..words.min(64) as u64 {
        let at = first + n;
        let Some(byte) = read.get((at / WORDS_PER_PAIRED_BYTE) as usize) else { break };
        let pair = byte >> (at % WORDS_PER_PAIRED_BYTE);
        // Behind the last pointer the bits mean nothing.
        if pair & 0x10 == 0 {
            break;
        }
        all |= u64::from(pair & 1) << n;
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bit_per_word_is_cut_out_of_two_words() {
        let read: Vec<u8> = [0xf000_0000_0000_0001_u64, 0x5].iter().flat_map(|w| w.to_le_bytes()).collect();
        assert_eq!(bits(&read, 60, 7), 0b101_1111);
        assert_eq!(bits(&read, 0, 3), 1);
        assert_eq!(bits(&read[..8], 60, 64), 0xf);
        assert_eq!(bits(&[], 3, 8), 0);
    }

    /// runtime/mbitmap.go of 1.19: bitPointer is 1, bitScan is 1 << 4, the next word's bits are one higher.
    #[test]
    fn pairs_end_with_the_last_pointer() {
        // Words 2..: pointer, scalar, then pointer, and nothing that counts.
        let read = [0b1100_0100, 0b0001_1111];
        assert_eq!(paired(&read, 2, 6), 0b101);
        assert_eq!(paired(&read, 2, 2), 0b01);
        assert_eq!(paired(&[0xff; 16], 0, 64), u64::MAX);
        assert_eq!(paired(&[], 1, 64), 0);
    }

    #[test]
    fn arenas_are_numbered_as_the_runtime_does() {
        // runtime/malloc.go, arenaIndex: (p - arenaBaseOffset) / heapArenaBytes.
        assert_eq!(arena(ProcAddr(0xc0_0000_0000)), 0x20_3000);
        assert_eq!(word_of_arena(ProcAddr(0xc0_0000_0018)), 3);
    }
}
