//! Some objects of each size class, chosen while the spans are counted: one at a random place in each of as many equal
//! stretches of the class. Of large objects, which have their type in their span, all, by type.
//!
//! Apart from `census`, which says what counts, and from `sample`, which reads what was chosen. How many objects there are is
//! known only behind the last span: the stretches begin short, and double in length when there are too many. A regular
//! pattern of types over the slots (two made in turn) is no trouble, since the place within a stretch is random. Bounded:
//! at most [`MOST`] objects of each class and [`MOST_TYPES`] types of large ones are held.

use std::collections::BTreeMap;

use super::spans::{self, SPAN_CLASSES, Span};
use crate::goruntime::layout::PAGE;
use crate::units::{Bytes, ProcAddr};

/// Most objects held of one class. Of a class with more, at least half as many are.
const MOST: usize = 4 << 10;
/// Most types of large objects told apart; what is of others is of none.
const MOST_TYPES: usize = 4 << 10;

/// A chosen object and the span it is in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Pick {
    /// The slot.
    pub(super) addr: ProcAddr,
    /// Where the span's structure is.
    pub(super) at: ProcAddr,
    pub(super) start: ProcAddr,
    pub(super) pages: u32,
    /// The generation in which it was seen.
    pub(super) sweepgen: u32,
    pub(super) spanclass: u8,
}

impl Pick {
    /// The object of this number in a span.
    pub(super) fn of(at: ProcAddr, span: &Span, object: u64, sweepgen: u32) -> Self {
        Self {
            addr: span.start.plus(object * span.slot.0),
            at,
            start: span.start,
            pages: span.pages,
            sweepgen,
            spanclass: span.spanclass,
        }
    }

    /// Bytes of the slot.
    pub(super) fn slot(&self) -> u64 {
        spans::slot(self.spanclass, self.pages)
    }
}

/// The picks of one class.
#[derive(Debug)]
struct Class {
    /// Length of a stretch, in objects. As many stretches are behind us as there are picks.
    stretch: u64,
    seen: u64,
    /// Which object of the present stretch is the chosen one, counted from the first object of all.
    next: u64,
    picks: Vec<Pick>,
    random: u64,
}

/// Large objects of one type.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Large {
    /// The type's descriptor; none where the span names none, or types beyond [`MOST_TYPES`].
    pub(super) named: Option<ProcAddr>,
    /// At most the size of each.
    pub(super) slot: Bytes,
    pub(super) objects: u64,
    pub(super) bytes: Bytes,
}

/// Of one type: those of the least size, and the others. Where a type's size is the least, the others are several of it.
#[derive(Clone, Copy, Default)]
struct Sizes {
    least: u64,
    of_least: u64,
    others: u64,
    bytes_of_others: u64,
}

/// The picks of all classes with pointers.
pub(super) struct Picks {
    classes: Vec<Class>,
    large: BTreeMap<Option<ProcAddr>, Sizes>,
}

impl Picks {
    /// The same seed chooses the same objects of the same heap.
    pub(super) fn new(seed: u64) -> Self {
        let class = |n| Class { stretch: 1, seen: 0, next: 0, picks: Vec::new(), random: seed ^ n << 32 };
        Self { classes: (0..SPAN_CLASSES as u64 / 2).map(class).collect(), large: BTreeMap::new() }
    }

    /// Chooses of the next `count` objects of a class; `choose` is given the number of one among them.
    pub(super) fn see(&mut self, class: u8, count: u64, mut choose: impl FnMut(u64) -> Pick) {
        let Some(of) = self.classes.get_mut(usize::from(class)) else { return };
        while of.next < of.seen + count {
            of.picks.push(choose(of.next - of.seen));
            if of.picks.len() == MOST {
                // Two stretches become one: one of their picks remains, by chance.
                for n in 0..MOST / 2 {
                    of.picks[n] = of.picks[2 * n + (split_mix(&mut of.random) % 2) as usize];
                }
                of.picks.truncate(MOST / 2);
                of.stretch *= 2;
            }
            of.next = of.picks.len() as u64 * of.stretch + split_mix(&mut of.random) % of.stretch;
        }
        of.seen += count;
    }

    /// A large object, and what its span says of it.
    pub(super) fn see_large(&mut self, named: Option<ProcAddr>, slot: Bytes) {
        let known = self.large.len() < MOST_TYPES || self.large.contains_key(&named);
        let of = self.large.entry(named.filter(|_| known)).or_default();
        if of.of_least == 0 || slot.0 < of.least {
            of.others += of.of_least;
            of.bytes_of_others = of.bytes_of_others.saturating_add(of.of_least * of.least);
            (of.least, of.of_least) = (slot.0, 0);
        }
        if slot.0 == of.least {
            of.of_least += 1;
        } else {
            of.others += 1;
            of.bytes_of_others = of.bytes_of_others.saturating_add(slot.0);
        }
    }

    /// `wanted` of the class's picks, or as many as there are; each as likely as any other.
    pub(super) fn take(&mut self, class: u8, wanted: usize) -> Vec<Pick> {
        let Some(of) = self.classes.get_mut(usize::from(class)) else { return Vec::new() };
        let mut picks = std::mem::take(&mut of.picks);
        // Knuth, The Art of Computer Programming, volume 2, 3.4.2, algorithm S.
        let (mut left, mut wanted) = (picks.len(), wanted.min(picks.len()));
        picks.retain(|_| {
            let taken = split_mix(&mut of.random) % (left as u64) < wanted as u64;
            left -= 1;
            wanted -= usize::from(taken);
            taken
        });
        picks
    }

    /// All large objects.
    pub(super) fn large(&self) -> impl Iterator<Item = Large> {
        self.large.iter().flat_map(|(&named, of)| {
            let least = Large {
                named,
                slot: Bytes(of.least),
                objects: of.of_least,
                bytes: Bytes(of.of_least.saturating_mul(of.least)),
            };
            let others = Large {
                named,
                slot: Bytes(of.least.saturating_add(PAGE)),
                objects: of.others,
                bytes: Bytes(of.bytes_of_others),
            };
            [least, others].into_iter().filter(|of| of.objects > 0)
        })
    }
}

/// Vigna's splitmix64 (public domain).
fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Objects of class 5, numbered by their addresses, in spans of `per`.
    fn picked(objects: u64, per: u64, wanted: usize, seed: u64) -> Vec<u64> {
        let mut picks = Picks::new(seed);
        for from in (0..objects).step_by(per as usize) {
            picks.see(5, per.min(objects - from), |n| {
                let of = ProcAddr(0);
                let addr = ProcAddr(from + n);
                Pick { addr, at: of, start: of, pages: 1, sweepgen: 2, spanclass: 10 }
            });
        }
        picks.take(5, wanted).into_iter().map(|p| p.addr.0).collect()
    }

    #[test]
    fn few_are_all_taken_and_of_many_each_stretch_has_one() {
        assert_eq!(picked(100, 7, 256, 1), (0..100).collect::<Vec<_>>());
        assert!(picked(0, 7, 256, 1).is_empty());
        let many = picked(1 << 20, 100, MOST, 2);
        assert_eq!(many.len(), MOST / 2);
        assert!(many.is_sorted());
        let stretch = (1 << 20) / (MOST / 2) as u64;
        assert!(many.iter().enumerate().all(|(n, x)| x / stretch == n as u64), "{many:?}");
    }

    /// Over many seeds: which tenth of the class a pick is in, and its place modulo 2 and 3.
    #[test]
    fn each_object_is_as_likely_as_any_other() {
        for (objects, wanted) in [(30_011, 300), (384, 256), (5000, 4000), (4097, 4096)] {
            let (mut tenths, mut rests, mut all) = ([0_u64; 10], [[0_u64; 3]; 2], 0_u64);
            for seed in 0..400 {
                for x in picked(objects, 64, wanted, seed) {
                    tenths[(x * 10 / objects) as usize] += 1;
                    rests[0][(x % 2) as usize] += 1;
                    rests[1][(x % 3) as usize] += 1;
                    all += 1;
                }
            }
            // Stretches make them more even than chance would.
            let even = |of: &[u64]| {
                let expected = all as f64 / of.len() as f64;
                of.iter().all(|n| (*n as f64 - expected).abs() < 4.0 * expected.sqrt())
            };
            assert!(even(&tenths), "{objects} {wanted}: {tenths:?}");
            assert!(even(&rests[0][..2]) && even(&rests[1]), "{objects} {wanted}: {rests:?}");
        }
    }

    #[test]
    fn large_objects_are_all_counted_by_type_and_least_size() {
        let mut picks = Picks::new(0);
        let (a, b) = (Some(ProcAddr(8)), Some(ProcAddr(16)));
        for (named, pages) in [(a, 9), (a, 5), (b, 5), (a, 5), (a, 7), (None, 6)] {
            picks.see_large(named, Bytes(pages * PAGE));
        }
        let found: Vec<_> = picks.large().map(|of| (of.named, of.objects, of.bytes.0 / PAGE)).collect();
        assert_eq!(found, [(None, 1, 6), (a, 2, 10), (a, 2, 16), (b, 1, 5)]);
        for n in 0..2 * MOST_TYPES as u64 {
            picks.see_large(Some(ProcAddr(100 + n)), Bytes(5 * PAGE));
        }
        assert!(picks.large.len() <= MOST_TYPES);
        assert_eq!(picks.large().map(|of| of.objects).sum::<u64>(), 6 + 2 * MOST_TYPES as u64);
    }
}
