//! What survived in each span of a batch: the bits that decide, read and counted.
//!
//! Apart from `census`, which walks the spans: this knows which bits decide and when they are proof. A span is believed as it
//! was first seen where nothing that counts can have changed while its bits were read: no processor allocates from it, it has no
//! marks in its page, which the sweeper takes away, its own count agrees with its bits, and nothing around it is being swept.
//! Within one sweep generation its bits stay where they are then, and with survivors it cannot be freed and used again
//! (runtime/mgcsweep.go, sweep; mbitmap.go, newMarkBits and nextMarkBitArenaEpoch). Any other span is looked at again.

use super::census::{HeapShape, inline_span};
use super::spans::{MAX_OBJECTS, Phase, Span, count_bits};
use crate::memory::gather::{Gathered, Request};
use crate::memory::{FaultKind, ReadAt, ReadFault};
use crate::units::ProcAddr;

/// Objects of one span.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Amounts {
    pub(super) survived: u16,
    /// Allocated since the cycle that the bits are of.
    pub(super) since: u16,
}

/// The bits of a batch of spans; its room is used again for the next batch.
#[derive(Default)]
pub(super) struct Bits {
    requests: Vec<Request>,
    read: Gathered,
    /// For spans with marks in their page, in order: the span, and which request reads them.
    inline: Vec<(usize, usize)>,
}

impl Bits {
    /// Reads the bits that decide for each span.
    pub(super) fn read(
        &mut self,
        memory: &dyn ReadAt<ProcAddr>,
        shape: HeapShape,
        spans: &[(ProcAddr, Span)],
        sweepgen: u32,
    ) -> Result<(), ReadFault> {
        self.requests.clear();
        self.inline.clear();
        self.requests.extend(spans.iter().map(|(_, span)| {
            let unswept = span.phase(sweepgen) == Phase::Unswept;
            (if unswept { span.mark_bits } else { span.alloc_bits }, span.bit_bytes())
        }));
        for (n, (_, span)) in spans.iter().enumerate() {
            if span.phase(sweepgen) == Phase::Unswept
                && let Some(marks) = inline_span(shape, span)
            {
                self.inline.push((n, self.requests.len()));
                self.requests.push(marks);
            }
        }
        self.read.read(memory, &self.requests)
    }

    /// The marks of the n-th span's own page; none where it has none there.
    fn inline(&self, n: usize) -> Result<Option<&[u8]>, FaultKind> {
        match self.inline.binary_search_by_key(&n, |(n, _)| *n) {
            Ok(found) => self.read.get(self.inline[found].1).map(Some),
            Err(_) => Ok(None),
        }
    }

    /// What the first look at the n-th span says with its bits; none where a second one has to decide. For a batch in which all
    /// are swept: one that is being swept may look as if it were, with bits that are not its own any more.
    pub(super) fn first(&self, n: usize, span: &Span, sweepgen: u32) -> Result<Option<Amounts>, FaultKind> {
        let own = self.read.get(n)?;
        if span.is_cached(sweepgen) || span.phase(sweepgen) != Phase::Swept {
            return Ok(None);
        }
        let survived = count_bits(own, span.objects);
        let agree = in_use(own, span, survived) == span.allocated;
        Ok(agree.then(|| Amounts::of(survived, span.allocated)))
    }

    /// The same for a span that was looked at twice and was the same span; none where its words contradict each other.
    pub(super) fn second(
        &self,
        n: usize,
        first: &Span,
        later: &Span,
        sweepgen: u32,
    ) -> Result<Option<Amounts>, FaultKind> {
        let own = self.read.get(n)?;
        if first.phase(sweepgen) == Phase::Unswept {
            let survived = match self.inline(n)? {
                None => count_bits(own, first.objects),
                Some(marks) => count_bits(&joined(own, marks), first.objects),
            };
            return Ok(unswept(survived, first));
        }
        let survived = count_bits(own, first.objects);
        let still = first.freeindex == later.freeindex && first.allocated == later.allocated;
        let consistent = if still && !first.is_cached(sweepgen) {
            in_use(own, first, survived) == first.allocated
        } else {
            survived <= later.allocated
        };
        Ok(consistent.then(|| Amounts::of(survived, later.allocated)))
    }

    /// The slots of the n-th span that are set, or lie before `below`.
    pub(super) fn slots(&self, n: usize, span: &Span, below: u16) -> Slots {
        let mut slots = Slots::default();
        let Ok(own) = self.read.get(n) else { return slots };
        slots.add(own);
        if let Ok(Some(marks)) = self.inline(n) {
            slots.add(marks.split_last().map_or(&[], |(_, marks)| marks));
        }
        slots.cut(u64::from(span.objects), u64::from(below));
        slots
    }
}

/// Some slots of one span, a bit for each.
#[derive(Default)]
pub(super) struct Slots([u64; (MAX_OBJECTS / 64) as usize]);

impl Slots {
    fn add(&mut self, bits: &[u8]) {
        for (word, bytes) in self.0.iter_mut().zip(bits.chunks(8)) {
            let mut whole = [0; 8];
            whole[..bytes.len()].copy_from_slice(bytes);
            *word |= u64::from_le_bytes(whole);
        }
    }

    /// Only the first `objects` slots are there; of these all before `below`.
    fn cut(&mut self, objects: u64, below: u64) {
        let first = |n: u64, word: usize| match n.saturating_sub(64 * word as u64) {
            0 => 0,
            n if n < 64 => (1 << n) - 1,
            _ => u64::MAX,
        };
        for (n, word) in self.0.iter_mut().enumerate() {
            *word = (*word | first(below, n)) & first(objects, n);
        }
    }

    pub(super) fn count(&self) -> u64 {
        self.0.iter().map(|word| u64::from(word.count_ones())).sum()
    }

    /// The slot that has `rank` of them before it.
    pub(super) fn nth(&self, mut rank: u64) -> Option<u64> {
        for (n, word) in self.0.iter().enumerate() {
            let here = u64::from(word.count_ones());
            if rank < here {
                let mut left = *word;
                for _ in 0..rank {
                    left &= left - 1;
                }
                return Some(64 * n as u64 + u64::from(left.trailing_zeros()));
            }
            rank -= here;
        }
        None
    }
}

impl Amounts {
    /// Of a span that has `allocated` objects in all.
    fn of(survived: u16, allocated: u16) -> Self {
        Self { survived, since: allocated.saturating_sub(survived) }
    }
}

/// Nothing is allocated from a span that is not swept, so that what its marks say was allocated before them.
fn unswept(survived: u16, span: &Span) -> Option<Amounts> {
    (survived <= span.allocated).then(|| Amounts::of(survived, survived))
}

/// The last byte of those in the page is not marks but the span's class.
fn joined(own: &[u8], marks: &[u8]) -> Vec<u8> {
    let mark = |i: usize| marks.get(i).filter(|_| i + 1 < marks.len()).copied().unwrap_or(0);
    own.iter().enumerate().map(|(i, b)| b | mark(i)).collect()
}

/// Slots in use: those before `freeindex`, and of the others those whose bit is set; `survived` bits are.
fn in_use(bits: &[u8], span: &Span, survived: u16) -> u16 {
    let before = match span.freeindex {
        0 => 0,
        all if all == span.objects => survived,
        some => count_bits(bits, some),
    };
    span.freeindex + survived - before
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_slots_of_a_span_are_its_bits(
            own in proptest::collection::vec(any::<u8>(), 0..140), marks in proptest::collection::vec(any::<u8>(), 0..70),
            objects in 0_u64..=MAX_OBJECTS, below in 0_u64..1100,
        ) {
            let mut slots = Slots::default();
            slots.add(&own);
            slots.add(&marks);
            slots.cut(objects, below);
            let bit = |bytes: &[u8], i: u64| bytes.get((i / 8) as usize).is_some_and(|b| b >> (i % 8) & 1 == 1);
            let set: Vec<u64> =
                (0..objects).filter(|i| *i < below || bit(&own, *i) || bit(&marks, *i)).collect();
            prop_assert_eq!(slots.count(), set.len() as u64);
            for (rank, slot) in set.iter().enumerate() {
                prop_assert_eq!(slots.nth(rank as u64), Some(*slot));
            }
            prop_assert_eq!(slots.nth(set.len() as u64), None);
        }
    }
}
