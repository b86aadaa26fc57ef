//! Counts every object of the heap by size class, as the last completed GC cycle left it, without stopping anybody.
//!
//! Apart from `spans`, which decodes one span: this is the order of reads and what is believed. A batch of spans is
//! read, then the bits that say what survived, then those spans again that can have changed; a span counts only if its
//! looks agree and its counts agree with its bits. What changed is read again a few times and is counted as torn in the
//! end, never guessed. Which bits decide depends on how far the sweeper is: `allocBits` once a span is swept, before that
//! `gcmarkBits` and, where the collector keeps marks in the page itself, those (runtime/mgcsweep.go,
//! mgcmark_greenteagc.go, moveInlineMarks). Everything is bounded by [`Limits`].

use std::time::Duration;

use super::bits::{Amounts, Bits};
use super::fits::Fits;
use super::index::{Index, Known};
use super::map_headers;
use super::picks::{Pick, Picks};
use super::sample;
use super::sampled;
use super::spans::{self, AllSpans, Decoded, PER_CYCLE, Phase, SPAN_CLASSES, Span, decode};
use super::typing::{self, Types};
use crate::goruntime::image::GoImage;
use crate::goruntime::layout::{CLASS_TO_SIZE, GREEN_TEA, HEADER_ABOVE, Layout, PAGE};
use crate::goruntime::state::profile::ProfileVars;
use crate::goruntime::state::{RuntimeState, StateError, StateVars};
use crate::memory::gather::{Gathered, Request};
use crate::memory::{FaultKind, ReadAt};
use crate::record::census::{Amount, Census, CensusClass, Population, Spans};
use crate::record::profile::{LiveSampled, Profile};
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

/// Spans looked at together where all are swept, some two milliseconds: a cycle that ends meanwhile makes them all to be read again.
/// In fewer, more of the calls would be short ones, and each call is a turn at the target's lock.
const SWEPT: usize = 4096;
/// The same where some are not: their marks may lie in their own pages, so that 8 KiB are read for each, and the sweeper changes them
/// meanwhile.
const UNSWEPT: usize = 1024;
/// The same for spans that changed while they were read, at the first further attempt; at each one after it an eighth as many.
const AGAIN: usize = 128;
/// Never fewer than these.
const LEAST: usize = 16;
/// Spans that changed while they were read are tried this often: where cycles end as fast as a batch is read, a few more settle
/// each time.
const ATTEMPTS: usize = 16;
/// As often all spans may be read again in this way.
const REREADS: usize = 3;
/// A pass during which a cycle ended is repeated this often; then spans of several cycles stand side by side.
const PASSES: usize = 2;
/// The smallest slot of a span with inline marks (gcUsesSpanInlineMarkBits); the largest is [`HEADER_ABOVE`].
const INLINE_FROM: u64 = 16;
/// `spanInlineMarkBits` lies at the end of the page: 63 bytes of scans and an owner, then 63 bytes of marks.
const INLINE_SIZE: u64 = 128;
const INLINE_MARKS: u64 = 64;

/// A census and the spans behind it.
pub(super) struct Counted {
    pub(super) census: Census,
    /// Empty where there are more than the limit.
    pub(super) spans: Index,
    /// Objects chosen of them, and which objects they were chosen of.
    pub(super) picks: Picks,
    pub(super) population: Population,
    /// The generation at the end.
    pub(super) generation: u32,
}

/// One reading; with types where they are given. Before 1.22 those of objects above 512 bytes are not known.
pub fn read(
    memory: &dyn ReadAt<ProcAddr>,
    state: &RuntimeState,
    shape: HeapShape,
    types: Option<&Types>,
    limits: Limits,
) -> Result<Census, StateError> {
    read_all(memory, state, shape, types, Also::default(), limits).map(|read| read.census)
}

/// What else is looked for among the objects, where types are given.
#[derive(Clone, Copy, Default, Debug)]
pub struct Also<'a> {
    /// Large maps.
    pub maps: Option<map_headers::Look>,
    /// What the runtime's profiler has sampled.
    pub profile: Option<&'a ProfileVars>,
}

/// A census and what else was found.
#[derive(Debug)]
pub struct Read {
    pub census: Census,
    /// Absent where none were looked for, or a cycle began meanwhile.
    pub maps: Option<map_headers::Found>,
    pub sampled: Option<Result<(Profile, LiveSampled), StateError>>,
}

/// A census, and more of the same walk.
pub fn read_all(
    memory: &dyn ReadAt<ProcAddr>,
    state: &RuntimeState,
    shape: HeapShape,
    types: Option<&Types>,
    also: Also<'_>,
    limits: Limits,
) -> Result<Read, StateError> {
    let (layout, vars) = (state.layout(), state.vars());
    let mut counted = count(memory, layout, vars, shape, limits)?;
    let (mut maps, mut sampled) = (None, None);
    if let Some(types) = types.filter(|_| !counted.spans.is_empty()) {
        let mut fits = Fits::new(types, layout);
        let sample = sample::read(memory, vars, shape, &mut counted, &mut fits)?;
        counted.census.types = Some(typing::shares(&sample, &mut fits));
        if let Some(look) = also.maps {
            maps = map_headers::find(memory, state, shape, look, &counted.spans, types)?;
        }
        let mut read = |profiler| sampled::read(memory, (vars, profiler), shape, &counted, &mut fits);
        sampled = also.profile.map(&mut read);
    }
    Ok(Read { census: counted.census, maps, sampled })
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

/// Before another attempt: a sweeper or an allocating thread may have lost its processor in the middle of a change.
pub(super) fn give_way(attempt: usize) {
    std::thread::sleep(Duration::from_millis(attempt.min(3) as u64));
}

/// One walk over all spans.
struct Pass<'a> {
    memory: &'a dyn ReadAt<ProcAddr>,
    layout: &'a Layout,
    vars: &'a StateVars,
    shape: HeapShape,
    limits: Limits,
    tally: Tally,
    index: Index,
    picks: Picks,
    /// Which objects are picked.
    population: Population,
    /// The sweep generation when it was last looked at: behind each batch, and so in front of the next.
    generation: u32,
    looks: Looks,
}

/// What is read of a batch; its room is used again for the next one.
#[derive(Default)]
struct Looks {
    first: Gathered,
    bits: Bits,
    second: Gathered,
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
        class.survived.add(amount(span.amounts.survived));
        class.since.add(amount(span.amounts.since));
    }
}

fn add(to: &mut Spans, pages: u64) {
    to.spans += 1;
    to.bytes = Bytes(to.bytes.0.saturating_add(pages.saturating_mul(PAGE)));
}

impl<'a> Pass<'a> {
    fn new(
        memory: &'a dyn ReadAt<ProcAddr>,
        layout: &'a Layout,
        vars: &'a StateVars,
        shape: HeapShape,
        limits: Limits,
    ) -> Self {
        Self {
            memory,
            layout,
            vars,
            shape,
            limits,
            tally: Tally::new(),
            index: Index::new(0, 0),
            picks: Picks::new(0),
            population: Population::Survived,
            generation: 0,
            looks: Looks::default(),
        }
    }

    fn run(mut self) -> Result<Counted, StateError> {
        let begin = self.sweepgen()?;
        self.generation = begin;
        // The sample of one cycle is the same each time it is drawn.
        self.picks = Picks::new(u64::from(cycle(begin)));
        if cycle(begin) == 0 {
            self.population = Population::Allocated;
        }
        let list = AllSpans::read(self.memory, self.layout, self.vars, self.limits.spans)?;
        self.tally.unread += list.beyond;
        self.tally.swapped += list.swapped;
        self.index = Index::new(list.addresses.len(), self.limits.index);
        let mut torn = Vec::new();
        let (mut rest, mut size) = (&list.addresses[..], UNSWEPT);
        while !rest.is_empty() {
            let (batch, later) = rest.split_at(size.min(rest.len()));
            let swept = self.batch(batch, &mut torn)?;
            size = if swept { SWEPT } else { UNSWEPT };
            rest = later;
        }
        let mut rereads = REREADS * list.addresses.len();
        drop(list);
        for attempt in 1..ATTEMPTS {
            if torn.is_empty() || torn.len() > rereads {
                break;
            }
            rereads -= torn.len();
            give_way(attempt);
            self.generation = self.sweepgen()?;
            let again = std::mem::take(&mut torn);
            // A smaller batch is more likely to be done before the next cycle ends.
            for batch in again.chunks((AGAIN >> (3 * (attempt - 1)).min(7)).max(LEAST)) {
                self.batch(batch, &mut torn)?;
            }
        }
        self.tally.torn += torn.len() as u64;
        self.without_overlaps();
        let end = self.generation;
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
        let Self { index: spans, picks, population, .. } = self;
        Ok(Counted { census, spans, picks, population, generation: end })
    }

    fn sweepgen(&self) -> Result<u32, StateError> {
        spans::sweepgen(self.memory, self.layout, self.vars)
    }

    /// Counts what settles of a batch; the others go to `torn`. Says whether all of them were swept.
    fn batch(&mut self, addresses: &[ProcAddr], torn: &mut Vec<ProcAddr>) -> Result<bool, StateError> {
        let mut looks = std::mem::take(&mut self.looks);
        let done = self.look(&mut looks, addresses, torn);
        self.looks = looks;
        done
    }

    fn look(
        &mut self,
        looks: &mut Looks,
        addresses: &[ProcAddr],
        torn: &mut Vec<ProcAddr>,
    ) -> Result<bool, StateError> {
        let sweepgen = self.generation;
        spans::structures(self.memory, self.layout, addresses.iter().copied(), &mut looks.first)?;
        let mut live: Vec<(ProcAddr, Span)> = Vec::with_capacity(addresses.len());
        let mut others = Vec::new();
        let mut sweeping = false;
        for (n, at) in addresses.iter().enumerate() {
            match looks.first.get(n).map(|block| decode(block, self.layout)) {
                Ok(Decoded::InUse(span)) => {
                    let phase = span.phase(sweepgen);
                    sweeping |= phase != Phase::Swept;
                    match phase {
                        Phase::Swept | Phase::Unswept => live.push((*at, span)),
                        Phase::Sweeping | Phase::Other => torn.push(*at),
                    }
                }
                Ok(Decoded::Broken) => torn.push(*at),
                Ok(other) => others.push(other),
                Err(FaultKind::Swapped) => self.tally.swapped += 1,
                Err(_) => self.tally.unread += 1,
            }
        }
        looks
            .bits
            .read(self.memory, self.shape, &live, sweepgen)
            .map_err(StateError::reading("span bits"))?;
        let mut settled: Vec<Option<Amounts>> = vec![None; live.len()];
        let mut again = Vec::new();
        for (n, (at, span)) in live.iter().enumerate() {
            let first = if sweeping { Ok(None) } else { looks.bits.first(n, span, sweepgen) };
            match first {
                Ok(Some(amounts)) => settled[n] = Some(amounts),
                Ok(None) => again.push(n),
                Err(FaultKind::Swapped) => self.tally.swapped += 1,
                Err(_) => torn.push(*at),
            }
        }
        spans::structures(self.memory, self.layout, again.iter().map(|n| live[*n].0), &mut looks.second)?;
        for (place, n) in again.into_iter().enumerate() {
            let (at, span) = live[n];
            let later = match looks.second.get(place).map(|block| decode(block, self.layout)) {
                Ok(Decoded::InUse(later)) if later.is_same(&span) => later,
                _ => {
                    torn.push(at);
                    continue;
                }
            };
            match looks.bits.second(n, &span, &later, sweepgen) {
                Ok(Some(amounts)) => settled[n] = Some(amounts),
                Err(FaultKind::Swapped) => self.tally.swapped += 1,
                Ok(None) | Err(_) => torn.push(at),
            }
        }
        self.generation = self.sweepgen()?;
        let same = self.generation == sweepgen;
        for (n, amounts) in settled.into_iter().enumerate() {
            let (Some(amounts), (at, span)) = (amounts, &live[n]) else { continue };
            if same {
                self.keep(*at, span, amounts);
                self.choose(*at, span, amounts, &looks.bits, n, sweepgen);
            } else {
                // What it says is of another cycle than what decided how to read it.
                torn.push(*at);
            }
        }
        for other in others {
            match other {
                Decoded::Manual { pages, .. } => add(&mut self.tally.manual, pages),
                Decoded::Arena { pages } => add(&mut self.tally.user_arenas, pages),
                Decoded::Dead | Decoded::Broken | Decoded::InUse(_) => {}
            }
        }
        Ok(!sweeping)
    }

    /// Some of the span's objects may be chosen for their types.
    fn choose(&mut self, at: ProcAddr, span: &Span, amounts: Amounts, bits: &Bits, n: usize, sweepgen: u32) {
        if span.spanclass & 1 == 1 {
            return;
        }
        if span.class() == 0 {
            let count = match self.population {
                Population::Survived => amounts.survived,
                Population::Allocated => amounts.since,
            };
            // One object is all of the span.
            if count > 0 {
                self.picks.see_large(span.large_type(), span.slot);
            }
            return;
        }
        let mut slots = None;
        let (below, count) = match self.population {
            // Its slots are looked at only where one is chosen.
            Population::Survived => (0, u64::from(amounts.survived)),
            // A processor that allocates meanwhile counts more than is in the bits.
            Population::Allocated => {
                (span.freeindex, slots.insert(bits.slots(n, span, span.freeindex)).count())
            }
        };
        self.picks.see(span.class(), count, |rank| {
            let slots = slots.get_or_insert_with(|| bits.slots(n, span, below));
            // There are `count` of them.
            Pick::of(at, span, slots.nth(rank).unwrap_or_default(), sweepgen)
        });
    }

    fn keep(&mut self, at: ProcAddr, span: &Span, amounts: Amounts) {
        let known = Known { start: span.start, at, pages: span.pages, amounts, spanclass: span.spanclass };
        self.tally.count(&known);
        self.index.add(&known);
    }

    /// What a span held that another one has taken the place of is in no class.
    fn without_overlaps(&mut self) {
        let dropped = self.index.sort();
        if dropped == 0 {
            return;
        }
        self.tally.torn += dropped;
        let mut tally = Tally::new();
        for span in self.index.iter() {
            tally.count(&span);
        }
        self.tally.classes = tally.classes;
    }
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

#[cfg(test)]
mod tests;
