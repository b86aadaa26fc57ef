//! The counted spans by their addresses: which one holds an address, and which claim the same page.
//!
//! Apart from `census`, which decides what is counted. Holds at most as many spans as it was given room for, 24 bytes each;
//! beyond that it is empty, since what it would not find could be anywhere.

use super::bits::Amounts;
use super::spans::{self, MAX_PAGES};
use crate::goruntime::layout::{HEADER_ABOVE, HEADER_SIZE, Layout, PAGE};
use crate::units::ProcAddr;

/// A counted span, as much of it as finding objects needs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Known {
    pub(super) start: ProcAddr,
    /// Where its structure is.
    pub(super) at: ProcAddr,
    pub(super) pages: u32,
    pub(super) amounts: Amounts,
    pub(super) spanclass: u8,
}

impl Known {
    /// Bytes of one slot.
    pub(super) fn slot(&self) -> u64 {
        spans::slot(self.spanclass, self.pages)
    }

    /// Where the slot begins that holds an address of the span.
    pub(super) fn slot_of(&self, addr: ProcAddr) -> ProcAddr {
        let slot = self.slot();
        self.start.plus((addr.0 - self.start.0) / slot * slot)
    }

    /// Bytes of a slot before its object, which hold its type: in spans of small objects with pointers above
    /// [`HEADER_ABOVE`] bytes (runtime/mbitmap.go, mallocHeaderSize).
    pub(super) fn header(&self, layout: &Layout) -> u64 {
        let small = self.spanclass >> 1 != 0;
        let pointers = self.spanclass & 1 == 0;
        let has = layout.has_malloc_headers() && pointers && small && self.slot() > HEADER_ABOVE;
        if has { HEADER_SIZE } else { 0 }
    }

    /// Where the type of a slot's object with pointers is, if the runtime keeps one: in the span itself where the object has
    /// one of its own (runtime/mheap.go, mspan.largeType), else in front of the object.
    pub(super) fn type_word(&self, layout: &Layout, slot: ProcAddr) -> Option<ProcAddr> {
        if !layout.has_malloc_headers() {
            // The field for large objects may be there, and is never set.
            return None;
        }
        match self.spanclass >> 1 {
            0 => Some(self.at.plus(u64::from(layout.mspan_large_type?))),
            _ => (self.slot() > HEADER_ABOVE).then_some(slot),
        }
    }
}

/// The same without its start, which is in the order, and its address in two parts: no byte is left over.
#[derive(Clone, Copy)]
struct Stored {
    at_low: u32,
    pages: u32,
    at_high: u16,
    amounts: Amounts,
    spanclass: u8,
}
const _: () = assert!(size_of::<Stored>() == 16);

/// Addresses of programs have 47 bits.
const MAX_ADDRESS: u64 = 1 << 48;

impl Stored {
    fn at(&self) -> ProcAddr {
        ProcAddr(u64::from(self.at_high) << 32 | u64::from(self.at_low))
    }
}

/// Spans by address, once they are in order.
pub(super) struct Index {
    spans: Vec<Stored>,
    /// The page where each span starts, and behind it which of `spans` it is: words, which sort fast.
    order: Vec<u64>,
    room: usize,
    outgrown: bool,
}

/// Bits of an entry of the order that say which span it is.
const NUMBER: u32 = 30;
const _: () = assert!(MAX_PAGES.ilog2() + NUMBER <= u64::BITS);

impl Index {
    /// For at most `expected` spans, and `room` of them at most.
    pub(super) fn new(expected: usize, room: usize) -> Self {
        let room = room.min(1 << NUMBER);
        let expected = expected.min(room);
        Self {
            spans: Vec::with_capacity(expected),
            order: Vec::with_capacity(expected),
            room,
            outgrown: false,
        }
    }

    /// In the order in which they were read.
    pub(super) fn add(&mut self, span: &Known) {
        let page = span.start.0 / PAGE;
        if self.spans.len() == self.room || page >= MAX_PAGES || span.at.0 >= MAX_ADDRESS {
            self.outgrown = true;
            return;
        }
        self.order.push(page << NUMBER | self.spans.len() as u64);
        let Known { at, pages, amounts, spanclass, .. } = *span;
        let (at_low, at_high) = (at.0 as u32, (at.0 >> 32) as u16);
        self.spans.push(Stored { at_low, pages, at_high, amounts, spanclass });
    }

    /// Brings the spans into order. Two that claim one page: the memory went from one to the other while we read. The one
    /// without objects was freed and is dropped, else the one that was read first. Says how many were.
    pub(super) fn sort(&mut self) -> u64 {
        if self.outgrown {
            (self.spans, self.order) = (Vec::new(), Vec::new());
            return 0;
        }
        self.order.sort_unstable();
        let overlaps = |a: u64, b: u64| {
            (b >> NUMBER) < (a >> NUMBER).saturating_add(u64::from(self.stored(a).map_or(0, |s| s.pages)))
        };
        if !self.order.windows(2).any(|pair| overlaps(pair[0], pair[1])) {
            return 0;
        }
        let mut kept: Vec<u64> = Vec::with_capacity(self.order.len());
        let mut dropped = 0;
        'spans: for &span in &self.order {
            while let Some(&last) = kept.last()
                && overlaps(last, span)
            {
                dropped += 1;
                if self.recency(last) > self.recency(span) {
                    continue 'spans;
                }
                kept.pop();
            }
            kept.push(span);
        }
        self.order = kept;
        dropped
    }

    /// No span is known, be it that there are too many.
    pub(super) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// By address.
    pub(super) fn iter(&self) -> impl Iterator<Item = Known> {
        self.order.iter().filter_map(|entry| self.known(*entry))
    }

    /// The span that holds this address.
    pub(super) fn find(&self, addr: u64) -> Option<Known> {
        let page = addr / PAGE;
        let next = self.order.partition_point(|entry| entry >> NUMBER <= page);
        let span = self.known(*self.order.get(next.checked_sub(1)?)?)?;
        (page - span.start.0 / PAGE < u64::from(span.pages)).then_some(span)
    }

    /// What is greater is more likely to be there still.
    fn recency(&self, entry: u64) -> (bool, usize) {
        let objects = |s: &Stored| s.amounts.survived > 0 || s.amounts.since > 0;
        (self.stored(entry).is_some_and(objects), number(entry))
    }

    fn stored(&self, entry: u64) -> Option<&Stored> {
        self.spans.get(number(entry))
    }

    fn known(&self, entry: u64) -> Option<Known> {
        let stored = self.stored(entry)?;
        let Stored { pages, amounts, spanclass, .. } = *stored;
        let start = ProcAddr((entry >> NUMBER) * PAGE);
        Some(Known { start, at: stored.at(), pages, amounts, spanclass })
    }
}

fn number(entry: u64) -> usize {
    (entry & ((1 << NUMBER) - 1)) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Spans of pages `start..start + pages`, read one after the other.
    fn index(spans: &[(u64, u32)], room: usize) -> (Index, u64) {
        let mut index = Index::new(spans.len(), room);
        for (n, &(start, pages)) in spans.iter().enumerate() {
            let amounts = Amounts { survived: 0, since: 0 };
            let at = ProcAddr(n as u64);
            index.add(&Known { start: ProcAddr(start * PAGE), at, pages, amounts, spanclass: 2 });
        }
        let dropped = index.sort();
        (index, dropped)
    }

    fn at(index: &Index, page: u64) -> Option<u64> {
        index.find(page * PAGE + 8).map(|known| known.at.0)
    }

    #[test]
    fn an_address_is_found_in_the_span_that_holds_it() {
        let (index, dropped) = index(&[(900, 1), (20, 4), (24, 1), (100, 2)], 4);
        assert_eq!(dropped, 0);
        let found: Vec<_> = [19, 20, 23, 24, 25, 101, 102, 900, 901].map(|page| at(&index, page)).into();
        assert_eq!(found, [None, Some(1), Some(1), Some(2), None, Some(3), None, Some(0), None]);
        assert_eq!(index.iter().map(|known| known.start.0 / PAGE).collect::<Vec<_>>(), [20, 24, 100, 900]);
    }

    #[test]
    fn of_two_on_one_page_the_one_read_later_stays() {
        let ((lower, one), (upper, two)) = (index(&[(12, 2), (10, 3)], 9), index(&[(10, 3), (12, 2)], 9));
        assert_eq!((one, two), (1, 1));
        assert_eq!((at(&lower, 10), at(&lower, 13)), (Some(1), None));
        assert_eq!((at(&upper, 10), at(&upper, 13)), (None, Some(1)));
        let (index, dropped) = index(&[(10, 1), (10, 1), (11, 1), (10, 8)], 9);
        assert_eq!((dropped, at(&index, 11)), (3, Some(3)));
    }

    #[test]
    fn an_address_of_a_structure_comes_back_whole() {
        let mut index = Index::new(1, 1);
        let at = ProcAddr(0x7fff_8765_4321);
        let amounts = Amounts { survived: 3, since: 1 };
        let span = Known { start: ProcAddr(7 * PAGE), at, pages: 1, amounts, spanclass: 9 };
        index.add(&span);
        index.sort();
        assert_eq!(index.find(7 * PAGE), Some(span));
    }

    #[test]
    fn more_than_there_is_room_for_are_none() {
        let (index, _) = index(&[(1, 1), (2, 1), (3, 1)], 2);
        assert!(index.is_empty() && at(&index, 1).is_none());
    }
}
