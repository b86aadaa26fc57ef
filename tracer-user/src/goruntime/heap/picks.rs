//! Some objects of each size class, chosen while the spans are counted: one at a random place in each of as many equal
//! stretches of the class.
//!
//! Apart from `census`, which says what counts, and from `sample`, which reads what was chosen. How many objects there are is
//! known only behind the last span: the stretches begin short, and double in length when there are too many. A regular
//! pattern of types over the slots (two made in turn) is no trouble, since the place within a stretch is random. Bounded:
//! at most [`MOST`] of each class are held.

use super::spans::{self, SPAN_CLASSES, Span};
use crate::units::ProcAddr;

/// Most objects held of one class. Of a class with more, at least half as many are.
const MOST: usize = 4 << 10;

/// A chosen object and the span it is in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Pick {
    /// The slot.
    pub(super) addr: ProcAddr,
    /// Where the span's structure is.
    pub(super) at: ProcAddr,
    pub(super) start: ProcAddr,
    pub(super) pages: u32,
    /// What the span says of its one large object.
    pub(super) large_type: Option<ProcAddr>,
    pub(super) spanclass: u8,
}

impl Pick {
    /// The object of this number in a span.
    pub(super) fn of(at: ProcAddr, span: &Span, object: u64) -> Self {
        Self {
            addr: span.start.plus(object * span.slot.0),
            at,
            start: span.start,
            pages: u32::try_from(span.pages).unwrap_or(u32::MAX),
            large_type: span.large_type,
            spanclass: span.spanclass,
        }
    }

    /// Bytes of the slot.
    pub(super) fn slot(&self) -> u64 {
        spans::slot(self.spanclass, self.pages)
    }
}

/// The picks of one class.
#[derive(Clone, Debug)]
struct Class {
    /// Length of a stretch, in objects. As many stretches are behind us as there are picks.
    stretch: u64,
    seen: u64,
    /// Which object of the present stretch is the chosen one, counted from the first object of all.
    next: u64,
    picks: Vec<Pick>,
}

/// The picks of all classes with pointers.
pub(super) struct Picks {
    classes: Vec<Class>,
    random: u64,
}

impl Picks {
    /// The same seed chooses the same objects of the same heap.
    pub(super) fn new(seed: u64) -> Self {
        let none = Class { stretch: 1, seen: 0, next: 0, picks: Vec::new() };
        Self { classes: vec![none; SPAN_CLASSES / 2], random: seed }
    }

    /// Chooses of the next `count` objects of a class; `choose` is given the number of one among them.
    pub(super) fn see(&mut self, class: u8, count: u64, mut choose: impl FnMut(u64) -> Option<Pick>) {
        let Some(of) = self.classes.get_mut(usize::from(class)) else { return };
        while of.next < of.seen + count {
            let Some(pick) = choose(of.next - of.seen) else { break };
            of.picks.push(pick);
            if of.picks.len() == MOST {
                // Two stretches become one: one of their picks remains, by chance.
                for n in 0..MOST / 2 {
                    of.picks[n] = of.picks[2 * n + (split_mix(&mut self.random) % 2) as usize];
                }
                of.picks.truncate(MOST / 2);
                of.stretch *= 2;
            }
            of.next = of.picks.len() as u64 * of.stretch + split_mix(&mut self.random) % of.stretch;
        }
        of.seen += count;
    }

    /// `wanted` of the class's picks, or as many as there are, evenly over them.
    pub(super) fn take(&mut self, class: u8, wanted: usize) -> Vec<Pick> {
        let Some(of) = self.classes.get_mut(usize::from(class)) else { return Vec::new() };
        let picks = std::mem::take(&mut of.picks);
        if picks.len() <= wanted {
            return picks;
        }
        let chosen = (0..wanted).map(|n| {
            let (from, to) = (picks.len() * n / wanted, picks.len() * (n + 1) / wanted);
            picks[from + split_mix(&mut self.random) as usize % (to - from)]
        });
        chosen.collect()
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
                Some(Pick { addr, at: of, start: of, pages: 1, large_type: None, spanclass: 10 })
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

    /// Chi-square of which tenth of the class a pick is in, and of odd against even, over many seeds.
    #[test]
    fn each_object_is_as_likely_as_any_other() {
        let (objects, mut tenths, mut odd, mut all) = (30_011_u64, [0_u64; 10], 0_u64, 0_u64);
        for seed in 0..200 {
            for x in picked(objects, 64, 300, seed) {
                tenths[(x * 10 / objects) as usize] += 1;
                odd += x % 2;
                all += 1;
            }
        }
        // Stretches make the tenths more even than chance would.
        let expected = all as f64 / 10.0;
        assert!(tenths.iter().all(|n| (*n as f64 - expected).abs() < 4.0 * expected.sqrt()), "{tenths:?}");
        let half = all as f64 / 2.0;
        assert!((odd as f64 - half).abs() < 4.0 * (half / 2.0).sqrt(), "{odd} of {all}");
    }
}
