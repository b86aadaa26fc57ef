//! The chosen objects with pointers, read with what says their type.
//!
//! Apart from `picks`, which chooses, and from `typing`, which judges what was read. Where this Go keeps the type with the
//! object (since 1.22, in front of it above 512 bytes, in the span above 32 KiB; runtime/mbitmap.go) that is read; for smaller
//! objects, the object itself, which of its words are pointers, and what they point to. Once a cycle has ended meanwhile, the
//! marks are looked at again: an object that did not survive it too is of an unknown type, as is one that cannot be read. It is
//! not left out, for the others would take its share.

use std::collections::BTreeMap;

use super::census::{Counted, HeapShape, give_way};
use super::fits::Fits;
use super::index::Index;
use super::marks::{self, Look};
use super::picks::{Large, Pick};
use super::pointer_bits::PointerBits;
use super::spans;
use crate::goruntime::layout::{CLASS_TO_SIZE, HEADER_ABOVE, Layout, PAGE};
use crate::goruntime::state::{StateError, StateVars};
use crate::memory::ReadAt;
use crate::memory::gather::{Gathered, Request, gather};
use crate::record::census::{Amount, Population};
use crate::units::{Bytes, ProcAddr};

/// Objects looked at in all; a class has its share of the bytes, and [`LEAST`] where it has as many. A share of half the
/// heap is known to 1.6 % of the heap then (one standard error).
const BUDGET: u64 = 1 << 10;
/// A share of one in a hundred is seen this often on average at 2.5 objects.
const LEAST: u64 = 256;
/// Where nothing can say the type: enough for one not to have changed meanwhile.
const UNTOLD: u64 = 8;
/// A cycle may end, or a span be swept, while the marks are looked at again.
const ATTEMPTS: usize = 8;
/// Pointers of one object that are followed one step.
pub(super) const POINTERS: usize = 12;

/// One object, as read, or several with the same answer.
pub(super) struct Object {
    pub(super) class: u8,
    /// What each has at least.
    pub(super) slot: Bytes,
    pub(super) hits: u64,
    pub(super) bytes: Bytes,
    pub(super) found: Found,
}

/// What says its type.
pub(super) enum Found {
    /// The runtime's own word for it: a type descriptor's address.
    Typed(ProcAddr),
    /// Nothing: this Go keeps no types and the object is too large for its pointers to tell, or it is not there any more.
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
        /// The two words there, where a type has an opinion of them.
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

pub(super) fn read(
    memory: &dyn ReadAt<ProcAddr>,
    vars: &StateVars,
    shape: HeapShape,
    counted: &mut Counted,
    fits: &mut Fits<'_>,
) -> Result<Sample, StateError> {
    let layout = fits.layout;
    let (census, population) = (&counted.census, counted.population);
    let pointer_bits =
        PointerBits::new(memory, layout, vars, shape, counted.spans.iter().map(|span| span.start))?;
    let reader = Reader { memory, layout, vars, shape, index: &counted.spans, pointer_bits };
    let scanned: Vec<(u8, Amount)> = census
        .classes
        .iter()
        .filter(|c| !c.noscan)
        .map(|c| match population {
            Population::Survived => (c.class, c.survived),
            Population::Allocated => (c.class, c.since),
        })
        .collect();
    let total: u64 = scanned.iter().map(|(_, of)| of.bytes.0).sum();
    let mut classes = Vec::new();
    for (class, of) in scanned {
        let share = (BUDGET as f64 * of.bytes.0 as f64 / total.max(1) as f64) as u64;
        let wanted = match class {
            _ if reader.tells(class) => share.max(LEAST),
            _ => UNTOLD,
        };
        let mut picks = counted.picks.take(class, usize::try_from(wanted).unwrap_or(usize::MAX));
        // Of a span that was dropped nothing is known.
        picks.retain(|pick| reader.index.find(pick.start.0).is_some_and(|known| known.at == pick.at));
        let objects = if class == 0 {
            counted.picks.large().map(|large| reader.large(large)).collect()
        } else {
            reader.objects(class, &picks, fits)?
        };
        classes.push(Sampled { of, objects });
    }
    Ok(Sample { population, classes })
}

/// Given objects, in their order. Those without pointers are read as untold.
pub(super) fn of_picks(
    memory: &dyn ReadAt<ProcAddr>,
    vars: &StateVars,
    shape: HeapShape,
    counted: &Counted,
    picks: &[Pick],
    fits: &mut Fits<'_>,
) -> Result<Vec<Object>, StateError> {
    let layout = fits.layout;
    let pointer_bits =
        PointerBits::new(memory, layout, vars, shape, counted.spans.iter().map(|span| span.start))?;
    let reader = Reader { memory, layout, vars, shape, index: &counted.spans, pointer_bits };
    let mut of_class: BTreeMap<u8, Vec<usize>> = BTreeMap::new();
    let untold = |pick: &Pick| {
        let slot = Bytes(pick.slot());
        Object { class: pick.spanclass >> 1, slot, hits: 1, bytes: slot, found: Found::Untold }
    };
    for (n, pick) in picks.iter().enumerate().filter(|(_, pick)| pick.spanclass & 1 == 0) {
        of_class.entry(pick.spanclass >> 1).or_default().push(n);
    }
    let mut all: Vec<Object> = picks.iter().map(untold).collect();
    for (class, of) in of_class {
        let here: Vec<Pick> = of.iter().map(|n| picks[*n]).collect();
        let read = if class == 0 { reader.single(&here)? } else { reader.objects(class, &here, fits)? };
        for (n, object) in of.into_iter().zip(read) {
            all[n] = object;
        }
    }
    Ok(all)
}

/// Objects whose words are read together.
const TOGETHER: usize = 128;

/// A word of an object that points somewhere.
struct Target {
    /// Which of the objects, and which of its words.
    object: usize,
    word: u8,
    to: u64,
    /// What lies there matters.
    head: bool,
}

/// What is read of some objects; its room is used again for the next ones.
#[derive(Default)]
struct Room {
    objects: Gathered,
    pointees: Gathered,
}

struct Reader<'a> {
    memory: &'a dyn ReadAt<ProcAddr>,
    layout: &'a Layout,
    vars: &'a StateVars,
    shape: HeapShape,
    index: &'a Index,
    pointer_bits: PointerBits,
}

impl Reader<'_> {
    /// Whether types of a class's objects can be known.
    fn tells(&self, class: u8) -> bool {
        let slot = CLASS_TO_SIZE.get(usize::from(class)).map_or(0, |s| u64::from(*s));
        self.layout.has_malloc_headers() || (1..=HEADER_ABOVE).contains(&slot)
    }

    fn large(&self, large: Large) -> Object {
        let found = large.named.filter(|_| self.tells(0)).map_or(Found::Untold, Found::Typed);
        Object { class: 0, slot: large.slot, hits: large.objects, bytes: large.bytes, found }
    }

    /// Objects that have a span each.
    fn single(&self, picks: &[Pick]) -> Result<Vec<Object>, StateError> {
        let word_of = |pick: &Pick| self.index.find(pick.start.0)?.type_word(self.layout, pick.addr);
        // What nobody has does not lie at address 0.
        let requests: Vec<Request> =
            picks.iter().map(|pick| (word_of(pick).unwrap_or(ProcAddr(0)), 8)).collect();
        let words = gather(self.memory, &requests).map_err(StateError::reading("large objects' types"))?;
        let still = self.still(picks)?;
        let named = |n: usize| word(words.get(n).ok()?, 0).filter(|at| still[n] && *at != 0).map(ProcAddr);
        let object = |(n, pick): (usize, &Pick)| {
            let slot = Bytes(pick.slot());
            let found = named(n).map_or(Found::Untold, Found::Typed);
            Object { class: 0, slot, hits: 1, bytes: slot, found }
        };
        Ok(picks.iter().enumerate().map(object).collect())
    }

    fn objects(&self, class: u8, picks: &[Pick], fits: &mut Fits<'_>) -> Result<Vec<Object>, StateError> {
        let slot = CLASS_TO_SIZE.get(usize::from(class)).map_or(0, |s| u64::from(*s));
        let found: Vec<Option<Found>> = if !self.tells(class) {
            picks.iter().map(|_| None).collect()
        } else if slot > HEADER_ABOVE {
            let requests: Vec<Request> = picks.iter().map(|pick| (pick.addr, 8)).collect();
            let headers = gather(self.memory, &requests).map_err(StateError::reading("malloc headers"))?;
            (0..picks.len()).map(|n| Some(Found::Typed(ProcAddr(word(headers.get(n).ok()?, 0)?)))).collect()
        } else {
            self.words(class, picks, fits)?
        };
        let still = self.still(picks)?;
        let objects = picks.iter().zip(found).zip(still).map(|((pick, found), still)| {
            let found = found.filter(|_| still).unwrap_or(Found::Untold);
            let slot = Bytes(pick.slot());
            Object { class, slot, hits: 1, bytes: slot, found }
        });
        Ok(objects.collect())
    }

    /// Whether the objects that were read are those that were chosen: no cycle has ended since, or they survived it too. A slot is
    /// used again only where they did not. What cannot be told after all attempts is not.
    fn still(&self, picks: &[Pick]) -> Result<Vec<bool>, StateError> {
        let mut still: Vec<Option<bool>> = vec![None; picks.len()];
        for attempt in 0..ATTEMPTS {
            let open: Vec<usize> = (0..picks.len()).filter(|n| still[*n].is_none()).collect();
            if open.is_empty() {
                break;
            }
            if attempt > 0 {
                give_way(attempt);
            }
            let some: Vec<Pick> = open.iter().map(|n| picks[*n]).collect();
            let told = self.survived(&some)?;
            open.into_iter().zip(told).for_each(|(n, told)| still[n] = told);
        }
        Ok(still.into_iter().map(|told| told.unwrap_or(false)).collect())
    }

    /// The same of one moment; none where the span is being swept or was while its bits were read, or cannot be read. A span
    /// that is the same before and after has the marks of the cycle it is of, whatever began meanwhile: all are swept before
    /// the next marks.
    fn survived(&self, picks: &[Pick]) -> Result<Vec<Option<bool>>, StateError> {
        let now = spans::sweepgen(self.memory, self.layout, self.vars)?;
        let doubtful: Vec<&Pick> = picks.iter().filter(|pick| pick.sweepgen != now).collect();
        let addresses: Vec<ProcAddr> = doubtful.iter().map(|pick| pick.addr).collect();
        let spans: Vec<Option<ProcAddr>> = doubtful.iter().map(|pick| Some(pick.at)).collect();
        let mut looks =
            marks::look_in(self.memory, self.layout, self.shape, now, &addresses, &spans)?.into_iter();
        let told = picks.iter().map(|pick| match pick {
            // The marks that chose it.
            pick if pick.sweepgen == now => Some(true),
            pick => match looks.next()? {
                Look::Marked(span) => Some((span.start, span.spanclass) == (pick.start, pick.spanclass)),
                Look::Free | Look::Elsewhere(_) => Some(false),
                Look::Untold => None,
            },
        });
        Ok(told.collect())
    }

    /// The words of small objects with what their pointers point to. Some at a time, into the same room: what lies between an
    /// object and its bits is read with them, and memory that is touched for the first time costs more than to read into it.
    fn words(
        &self,
        class: u8,
        picks: &[Pick],
        fits: &mut Fits<'_>,
    ) -> Result<Vec<Option<Found>>, StateError> {
        let mut room = Room::default();
        let mut found = Vec::with_capacity(picks.len());
        for some in picks.chunks(TOGETHER) {
            found.extend(self.words_of(class, some, fits, &mut room)?);
        }
        Ok(found)
    }

    fn words_of(
        &self,
        class: u8,
        picks: &[Pick],
        fits: &mut Fits<'_>,
        room: &mut Room,
    ) -> Result<Vec<Option<Found>>, StateError> {
        let mut requests: Vec<Request> = Vec::with_capacity(2 * picks.len());
        for pick in picks {
            requests.push((pick.addr, pick.slot() as u32));
            let bits = self.pointer_bits.request(pick.start, u64::from(pick.pages), pick.slot(), pick.addr);
            // What nobody has does not lie at address 0.
            requests.push(bits.unwrap_or((ProcAddr(0), 8)));
        }
        let read = &mut room.objects;
        read.read(self.memory, &requests).map_err(StateError::reading("objects"))?;
        let mut objects: Vec<Option<(Vec<u64>, u64)>> = Vec::with_capacity(picks.len());
        let mut targets: Vec<Target> = Vec::new();
        for (n, pick) in picks.iter().enumerate() {
            let object = (|| {
                let words: Vec<u64> = (0..pick.slot() / 8)
                    .map(|i| word(read.get(2 * n).ok()?, 8 * i as usize))
                    .collect::<Option<_>>()?;
                let bits = read.get(2 * n + 1).ok()?;
                let pointers = self.pointer_bits.decode(bits, pick.addr, words.len());
                Some((words, pointers))
            })();
            if let Some((words, pointers)) = &object {
                // Interfaces have their type or table in the word before a pointer, which is none to the collector;
                // closures have code in the first word.
                let follow = pointers | pointers >> 1;
                let followed = (0..words.len()).filter(|i| follow >> i & 1 == 1 && words[*i] >= PAGE);
                let heads = fits.of(class, *pointers).heads;
                let target = |i| Target { object: n, word: i as u8, to: words[i], head: heads >> i & 1 == 1 };
                targets.extend(followed.take(POINTERS).map(target));
            }
            objects.push(object);
        }
        let mut pointees = self.pointees(&targets, &mut room.pointees)?.into_iter();
        let mut followed: Vec<Vec<(u8, Pointee)>> = vec![Vec::new(); picks.len()];
        for target in &targets {
            if let Some(pointee) = pointees.next() {
                followed[target.object].push((target.word, pointee));
            }
        }
        let found = objects.into_iter().zip(followed).map(|(object, pointees)| {
            object.map(|(words, pointers)| Found::Words { words, pointers, pointees })
        });
        Ok(found.collect())
    }

    fn pointees(&self, targets: &[Target], read: &mut Gathered) -> Result<Vec<Pointee>, StateError> {
        let mut requests: Vec<Request> = Vec::with_capacity(2 * targets.len());
        // Which requests are whose.
        let mut asked: Vec<(Option<usize>, Option<usize>)> = Vec::with_capacity(targets.len());
        let mut ask = |request: Request| {
            requests.push(request);
            requests.len() - 1
        };
        for Target { to, head, .. } in targets {
            let head = head.then(|| ask((ProcAddr(*to), 16)));
            let mark = self.index.find(*to).filter(|s| s.spanclass & 1 == 0).and_then(|span| {
                let slot = span.slot();
                let addr = span.slot_of(ProcAddr(*to));
                // Past the last slot lie the bitmap and the marks.
                let inside = addr.0.saturating_add(slot) <= span.start.0 + u64::from(span.pages) * PAGE;
                if span.spanclass >> 1 == 0 || slot > HEADER_ABOVE {
                    return span.type_word(self.layout, addr).map(|at| (at, 8));
                }
                inside
                    .then(|| self.pointer_bits.request(span.start, u64::from(span.pages), slot, addr))
                    .flatten()
            });
            asked.push((head, mark.map(&mut ask)));
        }
        read.read(self.memory, &requests).map_err(StateError::reading("objects pointed to"))?;
        let pointees = targets.iter().zip(asked).map(|(Target { to, .. }, (head, mark))| {
            let head = head.and_then(|n| read.get(n).ok()).and_then(|b| Some([word(b, 0)?, word(b, 8)?]));
            let Some(span) = self.index.find(*to) else {
                return Pointee::Outside { head };
            };
            let slot = span.slot();
            let addr = span.slot_of(ProcAddr(*to));
            let noscan = span.spanclass & 1 == 1;
            let mark = match mark.and_then(|n| read.get(n).ok()) {
                Some(bits) if slot > HEADER_ABOVE => {
                    word(bits, 0).map_or(Mark::None, |t| Mark::Typed(ProcAddr(t)))
                }
                Some(bits) => Mark::Bits(self.pointer_bits.decode(bits, addr, (slot / 8) as usize)),
                None => Mark::None,
            };
            // The object begins behind the header.
            let header = span.header(self.layout);
            let into = (to - addr.0).saturating_sub(header);
            Pointee::Heap { into, slot: slot - header, class: span.spanclass >> 1, noscan, mark, head }
        });
        Ok(pointees.collect())
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..at.checked_add(8)?)?.try_into().ok().map(u64::from_le_bytes)
}
