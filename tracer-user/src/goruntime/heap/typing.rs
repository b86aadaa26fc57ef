//! What type a sampled object is of: the runtime's own word where there is one, else every type of the image whose
//! values can look like this object.
//!
//! Apart from `sample`, which reads. A type is possible when its pointers are where the object's bitmap has them and
//! nothing in the object contradicts it: lengths fit behind what strings and slices point to, pointees are as large
//! as their type and hold pointers where it does, interfaces name themselves, closures begin with code. Each agreement
//! that chance would not bring counts for it; the types with most agreement are the candidates. Several are reported
//! as several: nothing here decides by taste.

use std::collections::{BTreeMap, BTreeSet};

use super::fits::{Fit, Fits, ones};
use super::sample::{Found, Mark, Object, Pointee, Sample};
use crate::goruntime::layout::Layout;
use crate::goruntime::moduledata::Range;
use crate::goruntime::names::type_table::{Part, TypeEntry, TypeId, TypeTable};
use crate::record::census::{Candidate, MAX_CANDIDATES, TypeShare};
use crate::units::{Bytes, ImageAddr, LoadBias, ProcAddr};

/// Sets of candidates kept per class; objects of further ones are of an unknown type.
const MAX_SETS: usize = 128;
/// Longer than any string or slice that fits in memory.
const MAX_LEN: u64 = 1 << 40;
/// Smallest channel, and the size of every map's header (runtime/chan.go; runtime/map.go, internal/runtime/maps).
const CHANNEL: u64 = 96;
const MAP: u64 = 48;

/// The image's side of typing.
pub struct Types {
    pub table: TypeTable,
    pub bias: LoadBias,
    /// Go's code: the program's and that of plugins.
    pub texts: Vec<Range>,
}

pub(super) fn shares(sample: &Sample, fits: &mut Fits<'_>) -> Vec<TypeShare> {
    let mut shares = Vec::new();
    for sampled in &sample.classes {
        let mut sets: BTreeMap<Vec<Candidate>, (u64, u64)> = BTreeMap::new();
        for object in &sampled.objects {
            let mut candidates = of_object(object, fits);
            if !sets.contains_key(&candidates) && sets.len() >= MAX_SETS {
                candidates = Vec::new();
            }
            let (hits, bytes) = sets.entry(candidates).or_default();
            *hits += object.hits;
            *bytes = bytes.saturating_add(object.bytes.0);
        }
        let Some(first) = sampled.objects.first() else { continue };
        let looked_at = sampled.objects.iter().map(|object| object.hits).sum();
        shares.extend(sets.into_iter().map(|(candidates, (hits, bytes))| TypeShare {
            class: first.class,
            candidates,
            hits,
            bytes: Bytes(bytes),
            looked_at,
            of: sampled.of,
            population: sample.population,
        }));
    }
    shares
}

/// What each object may be of; none that is known is an empty list.
pub(super) fn candidates(objects: &[Object], fits: &mut Fits<'_>) -> Vec<Vec<Candidate>> {
    objects.iter().map(|object| of_object(object, fits)).collect()
}

/// None that is known is an empty list.
fn of_object(object: &Object, fits: &mut Fits<'_>) -> Vec<Candidate> {
    let judge = Judge { types: fits.types, layout: fits.layout };
    match &object.found {
        Found::Untold => Vec::new(),
        Found::Typed(at) => judge.named(*at, object.slot.0).into_iter().collect(),
        Found::Words { words, pointers, pointees } => {
            Seen::new(judge, words, pointees).best(&fits.of(object.class, *pointers).fits)
        }
    }
}

#[derive(Clone, Copy)]
struct Judge<'a> {
    types: &'a Types,
    layout: &'a Layout,
}

impl Judge<'_> {
    /// The type that the heap itself names, if it is one of the image's.
    fn named(&self, at: ProcAddr, slot: u64) -> Option<Candidate> {
        let id = self.types.table.at(self.types.bias.to_image(at))?;
        let entry = self.types.table.get(id);
        let one = self.layout.placement(entry.size, true).bytes;
        (entry.pointers && one <= slot).then_some(Candidate { type_addr: at, array: one < slot })
    }
}

/// One object against types.
struct Seen<'a> {
    judge: Judge<'a>,
    words: &'a [u64],
    pointees: &'a [(u8, Pointee)],
    /// Which of the pointees each word points to, behind by one; 0 is none.
    of_word: [u8; 64],
}

/// A contradiction is none; else how much speaks for it.
type Agreement = Option<u32>;

impl<'a> Seen<'a> {
    fn new(judge: Judge<'a>, words: &'a [u64], pointees: &'a [(u8, Pointee)]) -> Self {
        let mut of_word = [0; 64];
        for (n, (word, _)) in pointees.iter().enumerate().take(usize::from(u8::MAX)) {
            if let Some(behind) = of_word.get_mut(usize::from(*word)) {
                *behind = n as u8 + 1;
            }
        }
        Self { judge, words, pointees, of_word }
    }

    fn best(&self, fits: &[Fit<'_>]) -> Vec<Candidate> {
        // Only the heap's own word for what is pointed to tells kin apart.
        let named = |p: &Pointee| matches!(p, Pointee::Heap { mark: Mark::Typed(_), .. });
        let apart = self.pointees.iter().any(|(_, pointee)| named(pointee));
        let fits = fits.iter().flat_map(|fit| {
            let step = if apart { 1 } else { fit.kin.len() };
            fit.kin.chunks(step).map(|kin| Fit { kin, count: fit.count })
        });
        let judged: Vec<(u32, Fit<'_>)> =
            fits.filter_map(|fit| Some((self.agreement(fit.kin[0], fit.count)?, fit))).collect();
        let Some(most) = judged.iter().map(|(score, _)| *score).max() else {
            return Vec::new();
        };
        let best = judged.into_iter().filter(|(score, _)| *score == most);
        let best = best.flat_map(|(_, fit)| fit.kin.iter().map(move |id| (*id, fit.count)));
        // What nothing refers to is not allocated by name: it is a field's or an element's type.
        let referenced = best.clone().filter(|(id, _)| self.judge.types.table.get(*id).referenced);
        let mut candidates = self.candidates(referenced);
        if candidates.is_empty() {
            candidates = self.candidates(best);
        }
        if candidates.len() > MAX_CANDIDATES { Vec::new() } else { candidates.into_iter().collect() }
    }

    /// Those of the types that are not the same to whoever reads them; one too many where there are too many.
    fn candidates(&self, of: impl Iterator<Item = (TypeId, u64)>) -> BTreeSet<Candidate> {
        let table = &self.judge.types.table;
        let mut candidates = BTreeSet::new();
        for (id, count) in of {
            let entry = table.get(id);
            // A slice's literal is allocated as the array it is: the same to whoever reads it.
            let (entry, array) = match entry.element {
                Some(element) => (table.get(element), true),
                None => (entry, count > 1),
            };
            candidates.insert(Candidate { type_addr: self.judge.types.bias.to_proc(entry.at), array });
            if candidates.len() > MAX_CANDIDATES {
                break;
            }
        }
        candidates
    }

    fn agreement(&self, id: TypeId, count: u64) -> Agreement {
        let entry = self.judge.types.table.get(id);
        let used = (count * entry.size).div_ceil(8) as usize;
        let rest = self.words.get(used..)?;
        if self.judge.layout.clears_whole_slots() && rest.iter().any(|w| *w != 0) {
            return None;
        }
        let mut score = 0;
        for n in 0..count {
            for (at, part) in &entry.parts {
                score += self.part(n * entry.size + u64::from(*at), *part)?;
            }
        }
        Some(score)
    }

    fn word(&self, at: u64) -> Option<u64> {
        self.words.get((at / 8) as usize).copied()
    }

    fn pointee(&self, at: u64) -> Option<Pointee> {
        let behind = self.of_word.get((at / 8) as usize)?;
        self.pointees.get(usize::from(*behind).checked_sub(1)?).map(|(_, pointee)| *pointee)
    }

    fn is_code(&self, word: u64) -> bool {
        let at = self.judge.types.bias.to_image(ProcAddr(word));
        self.judge.types.texts.iter().any(|text| text.contains(at))
    }

    fn part(&self, at: u64, part: Part) -> Agreement {
        let word = self.word(at)?;
        match part {
            Part::Bool => ((word >> (8 * (at % 8))) & 0xff <= 1).then_some(0),
            Part::Code => self.is_code(word).then_some(3),
            // A nil pointer speaks for nothing.
            Part::Unsafe => Some(0),
            Part::Pointer(_) | Part::Map | Part::Chan | Part::Func if word == 0 => Some(0),
            Part::Pointer(to) => self.pointer(at, to),
            Part::Map => match self.pointee(at) {
                Some(Pointee::Heap { into, slot, noscan, .. }) => {
                    (into == 0 && slot == MAP && !noscan).then_some(1)
                }
                _ => Some(0),
            },
            Part::Chan => match self.pointee(at) {
                Some(Pointee::Heap { into, slot, .. }) => (into == 0 && slot >= CHANNEL).then_some(1),
                _ => Some(0),
            },
            Part::Func => match self.pointee(at) {
                Some(
                    Pointee::Heap { head: Some([code, _]), .. } | Pointee::Outside { head: Some([code, _]) },
                ) => self.is_code(code).then_some(2),
                _ => Some(0),
            },
            Part::String => self.string(at, word),
            Part::Slice(of) => self.slice(at, word, of),
            Part::Empty => self.empty_interface(at, word),
            Part::Interface(ty) => self.interface(at, word, ty),
        }
    }

    fn pointer(&self, at: u64, to: Option<TypeId>) -> Agreement {
        let Some(entry) = to.map(|id| self.judge.types.table.get(id)) else {
            return Some(0);
        };
        let Some(Pointee::Heap { into, slot, noscan, mark, .. }) = self.pointee(at) else {
            return Some(0);
        };
        // Beyond what it points to, or pointers where the collector looks for none.
        if into.saturating_add(entry.size) > slot || (entry.pointers && noscan) {
            return None;
        }
        let placed = self.judge.layout.placement(entry.size, entry.pointers);
        let header = if self.judge.layout.placement(slot, false).bytes > slot { 8 } else { 0 };
        let exact = into == 0 && entry.size > 0 && entry.pointers != noscan && placed.bytes == slot + header;
        let known = self.marked(mark, into, entry)?;
        Some(u32::from(exact) + known)
    }

    /// What the heap says of a pointee against the type it should be of.
    fn marked(&self, mark: Mark, into: u64, entry: &TypeEntry) -> Agreement {
        match mark {
            Mark::Bits(bits) if !entry.parts.is_empty() && into.is_multiple_of(8) => {
                let here = bits.checked_shr((into / 8) as u32).unwrap_or(0);
                (here & ones(entry.size / 8) == entry.mask).then_some(1)
            }
            Mark::Typed(ty) if into == 0 => {
                Some(if self.judge.types.bias.to_image(ty) == entry.at { 3 } else { 0 })
            }
            Mark::Bits(_) | Mark::Typed(_) | Mark::None => Some(0),
        }
    }

    fn string(&self, at: u64, to: u64) -> Agreement {
        let len = self.word(at + 8)?;
        if to == 0 || len == 0 {
            return (to != 0 || len == 0).then_some(0);
        }
        match self.pointee(at) {
            _ if len > MAX_LEN => None,
            Some(Pointee::Heap { into, slot, noscan, .. }) => {
                (into.saturating_add(len) <= slot).then_some(u32::from(noscan))
            }
            Some(Pointee::Outside { .. }) | None => Some(1),
        }
    }

    fn slice(&self, at: u64, to: u64, of: Option<TypeId>) -> Agreement {
        let (len, cap) = (self.word(at + 8)?, self.word(at + 16)?);
        if len > cap || cap > MAX_LEN || (to == 0 && cap > 0) {
            return None;
        }
        let entry = of.map(|id| self.judge.types.table.get(id));
        let (Some(entry), Some(Pointee::Heap { into, slot, noscan, mark, .. })) = (entry, self.pointee(at))
        else {
            return Some(0);
        };
        if cap == 0 {
            return Some(0);
        }
        let fits = into.saturating_add(cap.saturating_mul(entry.size)) <= slot;
        if !fits || (entry.pointers && noscan) {
            return None;
        }
        let known = if entry.pointers { self.marked(mark, into, entry)? } else { 0 };
        Some(u32::from(entry.pointers != noscan) + known)
    }

    fn empty_interface(&self, at: u64, ty: u64) -> Agreement {
        if ty == 0 {
            return (self.word(at + 8)? == 0).then_some(0);
        }
        let image = self.judge.types.bias.to_image(ProcAddr(ty));
        let table = &self.judge.types.table;
        match table.at(image) {
            Some(id) => self.boxed(at + 8, table.get(id)),
            // Types made while the program runs lie in the heap.
            None if !table.is_inside(image) && matches!(self.pointee(at), Some(Pointee::Heap { .. })) => {
                Some(0)
            }
            None => None,
        }
    }

    fn interface(&self, at: u64, table: u64, ty: ImageAddr) -> Agreement {
        if table == 0 {
            return (self.word(at + 8)? == 0).then_some(0);
        }
        let head = match self.pointee(at) {
            Some(Pointee::Outside { head } | Pointee::Heap { head, .. }) => head,
            None => None,
        };
        // abi.ITab begins with the interface's type and the value's.
        let Some([interface, value]) = head else { return Some(0) };
        let image = |word| self.judge.types.bias.to_image(ProcAddr(word));
        if image(interface) != ty {
            return None;
        }
        let value = self.judge.types.table.at(image(value)).map(|id| self.judge.types.table.get(id));
        value.map_or(Some(3), |entry| self.boxed(at + 8, entry).map(|n| n + 1))
    }

    /// The data word of an interface that holds a value of this type.
    fn boxed(&self, at: u64, entry: &TypeEntry) -> Agreement {
        use crate::goruntime::names::types::Kind;
        let direct =
            matches!(entry.kind, Kind::Pointer | Kind::Map | Kind::Chan | Kind::Func | Kind::UnsafePointer);
        match self.pointee(at) {
            Some(Pointee::Heap { into, slot, .. }) if !direct && entry.kind != Kind::Struct => {
                (into.saturating_add(entry.size) <= slot).then_some(2)
            }
            _ => Some(2),
        }
    }
}

#[cfg(test)]
mod tests;
