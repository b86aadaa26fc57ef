//! Objects with pointers, chosen evenly over each size class, read with what says their type.
//!
//! Apart from `typing`, which judges what was read. Where this Go keeps the type with the object (since 1.22, in front
//! of it above 512 bytes, in the span above 32 KiB; runtime/mbitmap.go) that is read; for smaller objects, the object
//! itself, which of its words are pointers, and what they point to. A span is looked at again afterwards: what changed
//! is dropped.

use super::census::{Counted, HeapShape, Known, inline_span};
use super::pointer_bits::PointerBits;
use super::spans::{self, Decoded, Phase, Span, decode};
use crate::goruntime::layout::{CLASS_TO_SIZE, HEADER_ABOVE, Layout, PAGE};
use crate::goruntime::state::{StateError, StateVars};
use crate::memory::ReadAt;
use crate::memory::gather::{Gathered, Request, gather};
use crate::record::census::{Amount, Population};
use crate::units::{Bytes, ProcAddr};

/// Objects looked at in all; a class has its share of the bytes, and [`LEAST`] where it has as many.
const BUDGET: u64 = 12 << 10;
/// A share of one in a hundred is seen this often on average at 2.5 objects.
const LEAST: u64 = 256;
/// Large objects looked at: as good as all.
const LARGE: u64 = 64 << 10;
/// The same where nothing can say their type: enough for one not to have changed meanwhile.
const UNTOLD: u64 = 8;
/// Pointers of one object that are followed one step.
pub(super) const POINTERS: usize = 12;

/// One object, as read.
pub(super) struct Object {
    pub(super) class: u8,
    pub(super) slot: Bytes,
    pub(super) found: Found,
}

/// What says its type.
pub(super) enum Found {
    /// The runtime's own word for it: a type descriptor's address.
    Typed(ProcAddr),
    /// Nothing: this Go keeps no types, and the object is too large for its pointers to tell.
    Untold,
    /// The object's words, and which of them are pointers.
    Words { words: Vec<u64>, pointers: u64, pointees: Vec<(u8, Pointee)> },
}

/// What lies where a word points.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Pointee {
    /// An object of the heap.
    Heap {
        /// How far into the object.
        into: u64,
        slot: u64,
        class: u8,
        noscan: bool,
        mark: Mark,
        /// The two words there.
        head: Option<[u64; 2]>,
    },
    /// Not in the heap: static data, text, or memory of the runtime.
    Outside { head: Option<[u64; 2]> },
}

/// What the heap says of a pointee.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Mark {
    None,
    /// Its words that are pointers.
    Bits(u64),
    Typed(ProcAddr),
}

/// A class whose objects were sampled.
pub(super) struct Sampled {
    pub(super) of: Amount,
    pub(super) objects: Vec<Object>,
}

/// All that was read for typing.
pub(super) struct Sample {
    pub(super) population: Population,
    /// By size class.
    pub(super) classes: Vec<Sampled>,
}

/// Finds spans by address.
pub(super) struct Index<'a>(&'a [Known]);

impl Index<'_> {
    fn find(&self, addr: u64) -> Option<&Known> {
        let next = self.0.partition_point(|s| s.start.0 <= addr);
        let span = self.0.get(next.checked_sub(1)?)?;
        (addr < span.start.0.saturating_add(u64::from(span.pages) * PAGE)).then_some(span)
    }
}

fn slot_of(span: &Known) -> u64 {
    match CLASS_TO_SIZE.get(usize::from(span.spanclass >> 1)) {
        Some(0) | None => u64::from(span.pages) * PAGE,
        Some(size) => u64::from(*size),
    }
}

/// One chosen object.
#[derive(Clone, Copy)]
struct Pick {
    known: Known,
    /// Which of the span's objects that count.
    rank: u64,
}

/// A chosen object whose slot is known.
struct Place {
    known: Known,
    span: Span,
    addr: ProcAddr,
}

pub(super) fn read(
    memory: &dyn ReadAt<ProcAddr>,
    layout: &Layout,
    vars: &StateVars,
    shape: HeapShape,
    counted: &Counted,
) -> Result<Sample, StateError> {
    let census = &counted.census;
    let population = if census.cycle_end == 0 { Population::Allocated } else { Population::Survived };
    let pointer_bits =
        PointerBits::new(memory, layout, vars, shape, counted.spans.iter().map(|span| span.start))?;
    let index = Index(&counted.spans);
    let reader = Reader { memory, layout, vars, shape, index, population, pointer_bits };
    let amount = |survived: Amount, since| match population {
        Population::Survived => survived,
        Population::Allocated => since,
    };
    let scanned: Vec<(u8, Amount)> =
        census.classes.iter().filter(|c| !c.noscan).map(|c| (c.class, amount(c.survived, c.since))).collect();
    let total: u64 = scanned.iter().map(|(_, of)| of.bytes.0).sum();
    let mut classes = Vec::new();
    for (class, of) in scanned {
        let share = (BUDGET as f64 * of.bytes.0 as f64 / total.max(1) as f64) as u64;
        // The type of a large object is in its span, which is read anyway.
        let wanted = of.objects.min(match class {
            _ if !reader.tells(class) => UNTOLD,
            0 => LARGE,
            _ => share.max(LEAST),
        });
        let picks = reader.pick(class, of.objects, wanted, u64::from(census.cycle_end));
        let objects = reader.objects(class, &picks)?;
        classes.push(Sampled { of, objects });
    }
    Ok(Sample { population, classes })
}

struct Reader<'a> {
    memory: &'a dyn ReadAt<ProcAddr>,
    layout: &'a Layout,
    vars: &'a StateVars,
    shape: HeapShape,
    index: Index<'a>,
    population: Population,
    pointer_bits: PointerBits,
}

impl Reader<'_> {
    /// Whether types of a class's objects can be known.
    fn tells(&self, class: u8) -> bool {
        let slot = CLASS_TO_SIZE.get(usize::from(class)).map_or(0, |s| u64::from(*s));
        self.layout.has_malloc_headers() || (1..=HEADER_ABOVE).contains(&slot)
    }

    fn count(&self, span: &Known) -> u64 {
        u64::from(match self.population {
            Population::Survived => span.survived,
            Population::Allocated => span.since,
        })
    }

    /// `wanted` of the class's objects in address order: one at a random place in each of as many equal stretches.
    fn pick(&self, class: u8, all: u64, wanted: u64, seed: u64) -> Vec<Pick> {
        let mut random = seed ^ u64::from(class) << 32;
        let mut target = |n: u64| {
            let from = (u128::from(all) * u128::from(n) / u128::from(wanted.max(1))) as u64;
            let to = (u128::from(all) * u128::from(n + 1) / u128::from(wanted.max(1))) as u64;
            from + split_mix(&mut random) % (to - from).max(1)
        };
        let mut picks = Vec::with_capacity(wanted as usize);
        let (mut seen, mut n) = (0, 0);
        let mut next = if wanted > 0 { target(0) } else { u64::MAX };
        for span in self.index.0.iter().filter(|s| s.spanclass == class << 1) {
            let count = self.count(span);
            while n < wanted && next < seen + count {
                picks.push(Pick { known: *span, rank: next - seen });
                n += 1;
                next = if n < wanted { target(n) } else { u64::MAX };
            }
            seen += count;
        }
        picks
    }

    fn structures(&self, spans: impl Iterator<Item = ProcAddr>) -> Result<Gathered, StateError> {
        spans::structures(self.memory, self.layout, spans)
    }

    fn sweepgen(&self) -> Result<u32, StateError> {
        spans::sweepgen(self.memory, self.layout, self.vars)
    }

    /// The slots of the chosen objects, by the bits of their spans as they are now.
    fn places(&self, class: u8, picks: &[Pick]) -> Result<Vec<Place>, StateError> {
        let sweepgen = self.sweepgen()?;
        let blocks = self.structures(picks.iter().map(|p| p.known.at))?;
        let mut spans = Vec::with_capacity(picks.len());
        let mut requests: Vec<Request> = Vec::with_capacity(2 * picks.len());
        for (n, pick) in picks.iter().enumerate() {
            let Ok(Decoded::InUse(span)) = blocks.get(n).map(|b| decode(b, self.layout)) else { continue };
            if span.start != pick.known.start || span.spanclass != class << 1 {
                continue;
            }
            let bits = match span.phase(sweepgen) {
                Phase::Unswept => span.mark_bits,
                Phase::Swept => span.alloc_bits,
                Phase::Sweeping | Phase::Other => continue,
            };
            requests.push((bits, span.bit_bytes()));
            let inline =
                (span.phase(sweepgen) == Phase::Unswept).then(|| inline_span(self.shape, &span)).flatten();
            requests.push(inline.unwrap_or((bits, 0)));
            spans.push((*pick, span));
        }
        let bits = gather(self.memory, &requests).map_err(StateError::reading("span bits"))?;
        let mut places = Vec::with_capacity(spans.len());
        for (n, (pick, span)) in spans.into_iter().enumerate() {
            let (Ok(own), Ok(inline)) = (bits.get(2 * n), bits.get(2 * n + 1)) else { continue };
            let set = |i: u64| {
                let byte = (i / 8) as usize;
                let marked = own.get(byte).copied().unwrap_or(0)
                    | inline.get(byte).filter(|_| byte + 1 < inline.len()).copied().unwrap_or(0);
                let marked = marked >> (i % 8) & 1 == 1;
                marked || self.population == Population::Allocated && i < span.freeindex
            };
            let live: Vec<u64> = (0..span.objects).filter(|i| set(*i)).collect();
            // The span may hold fewer by now.
            let Some(slot) = live.get(pick.rank as usize % live.len().max(1)) else { continue };
            places.push(Place { known: pick.known, span, addr: span.start.plus(slot * span.slot.0) });
        }
        Ok(places)
    }

    fn objects(&self, class: u8, picks: &[Pick]) -> Result<Vec<Object>, StateError> {
        let places = self.places(class, picks)?;
        let slot = CLASS_TO_SIZE.get(usize::from(class)).map_or(0, |s| u64::from(*s));
        let found: Vec<Option<Found>> = if !self.tells(class) {
            places.iter().map(|_| Some(Found::Untold)).collect()
        } else if slot == 0 {
            places.iter().map(|p| p.span.large_type.map(Found::Typed)).collect()
        } else if slot > HEADER_ABOVE {
            let requests: Vec<Request> = places.iter().map(|p| (p.addr, 8)).collect();
            let headers = gather(self.memory, &requests).map_err(StateError::reading("malloc headers"))?;
            (0..places.len()).map(|n| Some(Found::Typed(ProcAddr(word(headers.get(n).ok()?, 0)?)))).collect()
        } else {
            self.words(&places)?
        };
        // What was read of a span that has become another one is of nobody.
        let later = self.structures(places.iter().map(|p| p.known.at))?;
        let objects = places.iter().zip(found).enumerate().filter_map(|(n, (place, found))| {
            let Ok(Decoded::InUse(now)) = later.get(n).map(|b| decode(b, self.layout)) else { return None };
            let same = now.start == place.span.start && now.spanclass == place.span.spanclass;
            same.then_some(())?;
            Some(Object { class, slot: place.span.slot, found: found? })
        });
        Ok(objects.collect())
    }

    /// The words of small objects with what their pointers point to.
    fn words(&self, places: &[Place]) -> Result<Vec<Option<Found>>, StateError> {
        let mut requests: Vec<Request> = Vec::with_capacity(2 * places.len());
        for place in places {
            requests.push((place.addr, place.span.slot.0 as u32));
            let Span { start, pages, slot, .. } = place.span;
            let bits = self.pointer_bits.request(start, pages, slot.0, place.addr);
            // What nobody has does not lie at address 0.
            requests.push(bits.unwrap_or((ProcAddr(0), 8)));
        }
        let read = gather(self.memory, &requests).map_err(StateError::reading("objects"))?;
        let mut objects: Vec<Option<(Vec<u64>, u64)>> = Vec::with_capacity(places.len());
        let mut targets: Vec<(usize, u8, u64)> = Vec::new();
        for (n, place) in places.iter().enumerate() {
            let object = (|| {
                let words: Vec<u64> = (0..place.span.slot.0 / 8)
                    .map(|i| word(read.get(2 * n).ok()?, 8 * i as usize))
                    .collect::<Option<_>>()?;
                let bits = read.get(2 * n + 1).ok()?;
                let pointers = self.pointer_bits.decode(bits, place.addr, words.len());
                Some((words, pointers))
            })();
            if let Some((words, pointers)) = &object {
                // Interfaces have their type or table in the word before a pointer, which is none to the collector;
                // closures have code in the first word.
                let follow = pointers | pointers >> 1;
                let followed = (0..words.len()).filter(|i| follow >> i & 1 == 1 && words[*i] >= PAGE);
                targets.extend(followed.take(POINTERS).map(|i| (n, i as u8, words[i])));
            }
            objects.push(object);
        }
        let mut pointees = self.pointees(&targets)?.into_iter();
        let mut followed: Vec<Vec<(u8, Pointee)>> = vec![Vec::new(); places.len()];
        for (n, i, _) in &targets {
            if let Some(pointee) = pointees.next() {
                followed[*n].push((*i, pointee));
            }
        }
        let found = objects.into_iter().zip(followed).map(|(object, pointees)| {
            object.map(|(words, pointers)| Found::Words { words, pointers, pointees })
        });
        Ok(found.collect())
    }

    fn pointees(&self, targets: &[(usize, u8, u64)]) -> Result<Vec<Pointee>, StateError> {
        let headers = self.layout.has_malloc_headers();
        let mut requests: Vec<Request> = Vec::with_capacity(2 * targets.len());
        for (_, _, to) in targets {
            requests.push((ProcAddr(*to), 16));
            let mark = self.index.find(*to).filter(|s| s.spanclass & 1 == 0).and_then(|span| {
                let slot = slot_of(span);
                let addr = span.start.plus((to - span.start.0) / slot * slot);
                // Past the last slot lie the bitmap and the marks.
                let inside = addr.0.saturating_add(slot) <= span.start.0 + u64::from(span.pages) * PAGE;
                match span.spanclass >> 1 {
                    0 => Some((span.at.plus(u64::from(self.layout.mspan_large_type?)), 8)),
                    _ if slot > HEADER_ABOVE => headers.then_some((addr, 8)),
                    _ if !inside => None,
                    _ => self.pointer_bits.request(span.start, u64::from(span.pages), slot, addr),
                }
            });
            requests.push(mark.unwrap_or((ProcAddr(*to), 0)));
        }
        let read = gather(self.memory, &requests).map_err(StateError::reading("objects pointed to"))?;
        let pointees = targets.iter().enumerate().map(|(n, (_, _, to))| {
            let head = read.get(2 * n).ok().and_then(|b| Some([word(b, 0)?, word(b, 8)?]));
            let Some(span) = self.index.find(*to) else {
                return Pointee::Outside { head };
            };
            let slot = slot_of(span);
            let addr = span.start.plus((to - span.start.0) / slot * slot);
            let noscan = span.spanclass & 1 == 1;
            let mark = match read.get(2 * n + 1) {
                Ok(bits) if !noscan && !bits.is_empty() => {
                    if slot > HEADER_ABOVE {
                        word(bits, 0).map_or(Mark::None, |t| Mark::Typed(ProcAddr(t)))
                    } else {
                        Mark::Bits(self.pointer_bits.decode(bits, addr, (slot / 8) as usize))
                    }
                }
                _ => Mark::None,
            };
            // The object begins behind the header.
            let small = span.spanclass >> 1 != 0;
            let header = if headers && !noscan && small && slot > HEADER_ABOVE { 8 } else { 0 };
            let into = (to - addr.0).saturating_sub(header);
            Pointee::Heap { into, slot: slot - header, class: span.spanclass >> 1, noscan, mark, head }
        });
        Ok(pointees.collect())
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..at.checked_add(8)?)?.try_into().ok().map(u64::from_le_bytes)
}

/// Vigna's splitmix64 (public domain): the sample of one cycle is the same each time it is drawn.
fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
