//! Counts every object of the heap by size class, as the last completed GC cycle left it, without stopping anybody.
//!
//! Apart from `spans`, which decodes one span: this is the order of reads and what is believed. A batch of spans is
//! read, then the bits that say what survived, then the spans again; a span counts only if both looks agree and its
//! counts agree with its bits. What changed is read again a few times and is counted as torn in the end, never
//! guessed. Which bits decide depends on how far the sweeper is: `allocBits` once a span is swept, before that
//! `gcmarkBits` and, where the collector keeps marks in the page itself, those (runtime/mgcsweep.go,
//! mgcmark_greenteagc.go, moveInlineMarks). Everything is bounded by [`Limits`].

use super::sample;
use super::spans::{self, AllSpans, Decoded, PER_CYCLE, Phase, SPAN_CLASSES, Span, count_bits, decode};
use super::typing::{self, Types};
use crate::goruntime::image::GoImage;
use crate::goruntime::layout::{CLASS_TO_SIZE, GREEN_TEA, HEADER_ABOVE, Layout, PAGE};
use crate::goruntime::state::{RuntimeState, StateError, StateVars};
use crate::memory::gather::{Gathered, Request, gather};
use crate::memory::{FaultKind, ReadAt};
use crate::record::census::{Amount, Census, CensusClass, Spans};
use crate::units::{Bytes, ProcAddr};

/// How much one pass may look at and keep.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Span structures looked at; those beyond are counted as unread. Their addresses take 8 bytes each.
    pub spans: usize,
    /// Spans in use that are remembered for finding objects; 32 bytes each. Beyond it there are no types.
    pub index: usize,
}

impl Default for Limits {
    /// Four million spans are a heap of at least 32 GiB: 32 MiB of addresses. A million of them remembered is as much again.
    fn default() -> Self {
        Self { spans: 4 << 20, index: 1 << 20 }
    }
}

/// What of the image decides how its heap is read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HeapShape {
    /// Spans of small objects keep their marks in the page ("Green Tea").
    pub inline_marks: bool,
}

impl HeapShape {
    /// The collector that keeps marks inline is linked, or not: it is an experiment in some releases.
    pub fn of(image: &GoImage) -> Self {
        Self { inline_marks: image.has_of("runtime.(*spanInlineMarkBits).tryAcquire", GREEN_TEA) }
    }
}

/// Spans looked at together: some 700 KiB of structures.
const BATCH: usize = 4096;
/// The same for what is read again.
const LEAST: usize = 64;
/// Spans that changed while they were read are tried this often.
const ATTEMPTS: usize = 4;
/// A pass during which a cycle ended is repeated this often; then spans of several cycles stand side by side.
const PASSES: usize = 2;
/// The smallest slot of a span with inline marks (gcUsesSpanInlineMarkBits); the largest is [`HEADER_ABOVE`].
const INLINE_FROM: u64 = 16;
/// `spanInlineMarkBits` lies at the end of the page: 63 bytes of scans and an owner, then 63 bytes of marks.
const INLINE_SIZE: u64 = 128;
const INLINE_MARKS: u64 = 64;

/// A counted span, as much of it as finding objects needs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Known {
    pub(super) start: ProcAddr,
    /// Where its structure is.
    pub(super) at: ProcAddr,
    pub(super) pages: u32,
    pub(super) survived: u16,
    pub(super) since: u16,
    pub(super) spanclass: u8,
}

/// A census and the spans behind it.
pub(super) struct Counted {
    pub(super) census: Census,
    /// By start address; empty where there are more than the limit.
    pub(super) spans: Vec<Known>,
}

/// One reading; with types where they are given. Before 1.22 those of objects above 512 bytes are not known.
pub fn read(
    memory: &dyn ReadAt<ProcAddr>,
    state: &RuntimeState,
    shape: HeapShape,
    types: Option<&Types>,
    limits: Limits,
) -> Result<Census, StateError> {
    let (layout, vars) = (state.layout(), state.vars());
    let mut counted = count(memory, layout, vars, shape, limits)?;
    if let Some(types) = types.filter(|_| !counted.spans.is_empty()) {
        let sample = sample::read(memory, layout, vars, shape, &counted)?;
        counted.census.types = Some(typing::shares(&sample, types, layout));
    }
    Ok(counted.census)
}

pub(super) fn count(
    memory: &dyn ReadAt<ProcAddr>,
    layout: &Layout,
    vars: &StateVars,
    shape: HeapShape,
    limits: Limits,
) -> Result<Counted, StateError> {
    let mut passes = 1;
    loop {
        let counted = Pass::new(memory, layout, vars, shape, limits).run()?;
        if counted.census.cycle == counted.census.cycle_end || passes == PASSES {
            return Ok(counted);
        }
        passes += 1;
    }
}

/// One walk over all spans.
struct Pass<'a> {
    memory: &'a dyn ReadAt<ProcAddr>,
    layout: &'a Layout,
    vars: &'a StateVars,
    shape: HeapShape,
    limits: Limits,
    tally: Tally,
    known: Vec<Known>,
    /// The index has outgrown its limit.
    forgotten: bool,
}

/// What was counted so far.
struct Tally {
    classes: [CensusClass; SPAN_CLASSES],
    manual: Spans,
    user_arenas: Spans,
    torn: u64,
    swapped: u64,
    unread: u64,
}

impl Tally {
    fn new() -> Self {
        let mut classes = [CensusClass::default(); SPAN_CLASSES];
        for (spanclass, class) in classes.iter_mut().enumerate() {
            let size = CLASS_TO_SIZE[spanclass / 2];
            *class = CensusClass {
                class: (spanclass / 2) as u8,
                noscan: spanclass % 2 == 1,
                size: (size > 0).then_some(Bytes(u64::from(size))),
                ..CensusClass::default()
            };
        }
        let none = Spans::default();
        Self { classes, manual: none, user_arenas: none, torn: 0, swapped: 0, unread: 0 }
    }

    fn count(&mut self, span: &Known) {
        let Some(class) = self.classes.get_mut(usize::from(span.spanclass)) else { return };
        let slot = class.size.map_or(u64::from(span.pages) * PAGE, |size| size.0);
        let amount =
            |n: u16| Amount { objects: u64::from(n), bytes: Bytes(u64::from(n).saturating_mul(slot)) };
        class.spans += 1;
        class.survived.add(amount(span.survived));
        class.since.add(amount(span.since));
    }
}

fn add(to: &mut Spans, pages: u64) {
    to.spans += 1;
    to.bytes = Bytes(to.bytes.0.saturating_add(pages.saturating_mul(PAGE)));
}

/// What was read of the bits of a batch of spans.
struct Bits {
    read: Gathered,
    /// For spans with marks in their page, in order: the span, and which request reads them.
    inline: Vec<(usize, usize)>,
}

impl Bits {
    fn own(&self, span: usize) -> Result<&[u8], FaultKind> {
        self.read.get(span)
    }

    /// Empty where a span has no marks in its page.
    fn inline(&self, span: usize) -> Result<&[u8], FaultKind> {
        match self.inline.binary_search_by_key(&span, |(n, _)| *n) {
            Ok(found) => self.read.get(self.inline[found].1),
            Err(_) => Ok(&[]),
        }
    }
}

impl<'a> Pass<'a> {
    fn new(
        memory: &'a dyn ReadAt<ProcAddr>,
        layout: &'a Layout,
        vars: &'a StateVars,
        shape: HeapShape,
        limits: Limits,
    ) -> Self {
        Self { memory, layout, vars, shape, limits, tally: Tally::new(), known: Vec::new(), forgotten: false }
    }

    fn run(mut self) -> Result<Counted, StateError> {
        let begin = self.sweepgen()?;
        let list = AllSpans::read(self.memory, self.layout, self.vars, self.limits.spans)?;
        self.tally.unread += list.beyond;
        self.tally.swapped += list.swapped;
        let mut torn = Vec::new();
        for batch in list.addresses.chunks(BATCH) {
            self.batch(batch, &mut torn)?;
        }
        drop(list);
        for attempt in 1..ATTEMPTS {
            if torn.is_empty() {
                break;
            }
            // A sweeper or an allocating thread may have lost its processor in the middle of a change.
            std::thread::sleep(std::time::Duration::from_millis(attempt as u64));
            let again = std::mem::take(&mut torn);
            // A smaller batch is more likely to be done before the next cycle ends.
            for batch in again.chunks((BATCH >> (3 * attempt)).max(LEAST)) {
                self.batch(batch, &mut torn)?;
            }
        }
        self.tally.torn += torn.len() as u64;
        self.without_overlaps();
        let end = self.sweepgen()?;
        let Tally { classes, manual, user_arenas, torn, swapped, unread } = self.tally;
        let census = Census {
            cycle: cycle(begin),
            cycle_end: cycle(end),
            classes: classes.into_iter().filter(|c| c.spans > 0).collect(),
            manual,
            user_arenas,
            torn,
            swapped,
            unread,
            types: None,
        };
        Ok(Counted { census, spans: self.known })
    }

    fn sweepgen(&self) -> Result<u32, StateError> {
        spans::sweepgen(self.memory, self.layout, self.vars)
    }

    fn spans(&self, addresses: impl Iterator<Item = ProcAddr>) -> Result<Gathered, StateError> {
        spans::structures(self.memory, self.layout, addresses)
    }

    /// Counts what settles of a batch; the others go to `torn`.
    fn batch(&mut self, addresses: &[ProcAddr], torn: &mut Vec<ProcAddr>) -> Result<(), StateError> {
        let sweepgen = self.sweepgen()?;
        let first = self.spans(addresses.iter().copied())?;
        let mut live: Vec<(ProcAddr, Span)> = Vec::with_capacity(addresses.len());
        let mut others = Vec::new();
        for (n, at) in addresses.iter().enumerate() {
            match first.get(n).map(|block| decode(block, self.layout)) {
                Ok(Decoded::InUse(span)) => match span.phase(sweepgen) {
                    Phase::Swept | Phase::Unswept => live.push((*at, span)),
                    Phase::Sweeping | Phase::Other => torn.push(*at),
                },
                Ok(Decoded::Broken) => torn.push(*at),
                Ok(other) => others.push(other),
                Err(FaultKind::Swapped) => self.tally.swapped += 1,
                Err(_) => self.tally.unread += 1,
            }
        }
        drop(first);
        let bits = self.bits(&live, sweepgen)?;
        let second = self.spans(live.iter().map(|(at, _)| *at))?;
        if self.sweepgen()? != sweepgen {
            // What these spans say is of another cycle than what decided how to read them.
            torn.extend(live.iter().map(|(at, _)| *at));
            live.clear();
        }
        for other in others {
            match other {
                Decoded::Manual { pages, .. } => add(&mut self.tally.manual, pages),
                Decoded::Arena { pages } => add(&mut self.tally.user_arenas, pages),
                Decoded::Dead | Decoded::Broken | Decoded::InUse(_) => {}
            }
        }
        for (n, (at, span)) in live.iter().enumerate() {
            let later = match second.get(n).map(|block| decode(block, self.layout)) {
                Ok(Decoded::InUse(later)) if later.is_same(span) => later,
                _ => {
                    torn.push(*at);
                    continue;
                }
            };
            match settle(span, &later, sweepgen, &bits, n) {
                Ok(Some((survived, since))) => self.keep(*at, span, survived, since),
                Err(FaultKind::Swapped) => self.tally.swapped += 1,
                Ok(None) | Err(_) => torn.push(*at),
            }
        }
        Ok(())
    }

    /// The bits that decide for each span.
    fn bits(&self, spans: &[(ProcAddr, Span)], sweepgen: u32) -> Result<Bits, StateError> {
        let mut requests: Vec<Request> = Vec::with_capacity(spans.len());
        let mut inline = Vec::new();
        for (n, (_, span)) in spans.iter().enumerate() {
            let unswept = span.phase(sweepgen) == Phase::Unswept;
            let bits = if unswept { span.mark_bits } else { span.alloc_bits };
            requests.push((bits, span.bit_bytes()));
            inline.extend(unswept.then(|| inline_span(self.shape, span)).flatten().map(|marks| (n, marks)));
        }
        let behind = requests.len();
        requests.extend(inline.iter().map(|(_, marks)| *marks));
        let inline = inline.iter().enumerate().map(|(i, (n, _))| (*n, behind + i)).collect();
        Ok(Bits { read: gather(self.memory, &requests).map_err(StateError::reading("span bits"))?, inline })
    }

    fn keep(&mut self, at: ProcAddr, span: &Span, survived: u16, since: u16) {
        let known = Known {
            start: span.start,
            at,
            pages: u32::try_from(span.pages).unwrap_or(u32::MAX),
            survived,
            since,
            spanclass: span.spanclass,
        };
        self.tally.count(&known);
        if self.known.len() < self.limits.index {
            self.known.push(known);
        } else {
            self.forgotten = true;
        }
    }

    /// Two spans that claim one page: the memory went from one to the other while we read. The one read first is the
    /// older; what it held is in no class.
    fn without_overlaps(&mut self) {
        if self.forgotten {
            self.known = Vec::new();
            return;
        }
        // Stable: where two start at the same address, the one read later stays behind.
        self.known.sort_by_key(|s| s.start);
        let overlap = |a: &Known, b: &Known| b.start.0 < a.start.0.saturating_add(u64::from(a.pages) * PAGE);
        if !self.known.windows(2).any(|w| overlap(&w[0], &w[1])) {
            return;
        }
        let mut kept: Vec<Known> = Vec::with_capacity(self.known.len());
        for span in std::mem::take(&mut self.known) {
            while let Some(last) = kept.last()
                && overlap(last, &span)
            {
                kept.pop();
                self.tally.torn += 1;
            }
            kept.push(span);
        }
        let mut tally = Tally::new();
        for span in &kept {
            tally.count(span);
        }
        self.tally.classes = tally.classes;
        self.known = kept;
    }
}

/// What survived in a span and what was allocated since; none where its words contradict each other.
fn settle(
    first: &Span,
    later: &Span,
    sweepgen: u32,
    bits: &Bits,
    n: usize,
) -> Result<Option<(u16, u16)>, FaultKind> {
    let own = bits.own(n)?;
    if first.phase(sweepgen) == Phase::Unswept {
        let marks = bits.inline(n)?;
        let survived = if marks.is_empty() {
            count_bits(own, first.objects)
        } else {
            // The last byte is not marks but the span's class.
            let both: Vec<u8> = own
                .iter()
                .enumerate()
                .map(|(i, b)| b | marks.get(i).filter(|_| i < marks.len() - 1).copied().unwrap_or(0))
                .collect();
            count_bits(&both, first.objects)
        };
        // Nothing is allocated from a span that is not swept.
        return Ok((survived <= first.allocated).then_some((survived as u16, 0)));
    }
    let survived = count_bits(own, first.objects);
    let still = first.freeindex == later.freeindex && first.allocated == later.allocated;
    let consistent = if still && !first.is_cached(sweepgen) {
        in_use(own, first) == first.allocated
    } else {
        survived <= later.allocated
    };
    Ok(consistent.then(|| (survived as u16, (later.allocated - survived) as u16)))
}

/// Where a span keeps marks in its page, behind its objects and their bitmap; the last byte is not marks.
pub(super) fn inline_span(shape: HeapShape, span: &Span) -> Option<Request> {
    let marks = span.start.plus(PAGE - INLINE_SIZE + INLINE_MARKS);
    (span.class() != 0 && inline_bytes(shape, span.slot.0) > 0)
        .then_some((marks, (INLINE_SIZE - INLINE_MARKS) as u32))
}

/// Bytes at the end of a span of these objects that are marks.
pub(super) fn inline_bytes(shape: HeapShape, slot: u64) -> u64 {
    if shape.inline_marks && (INLINE_FROM..=HEADER_ABOVE).contains(&slot) { INLINE_SIZE } else { 0 }
}

/// The last completed cycle of a sweep generation.
fn cycle(sweepgen: u32) -> u32 {
    sweepgen / PER_CYCLE
}

/// Slots in use: those before `freeindex`, and of the others those whose bit is set.
fn in_use(bits: &[u8], span: &Span) -> u64 {
    let before = count_bits(bits, span.freeindex);
    span.freeindex + count_bits(bits, span.objects) - before
}

#[cfg(test)]
mod tests;
