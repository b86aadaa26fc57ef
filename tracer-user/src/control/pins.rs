//! Which type's allocations to follow, one call after the other in the program's code.
//!
//! A type is worth a probe when ever more of it lives and the code says in which few places it is made: then the probes cost what
//! that one type is allocated, and nothing else the program does.

use std::collections::BTreeSet;

use crate::symbolize::evidence::{Evidence, PinRow, TypeInClass, TypeRow};
use crate::units::ProcAddr;

/// A type to pin, by its name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Wanted {
    pub type_name: String,
    /// Mean calls between two whose objects are followed; 1: each is.
    pub mean: u64,
}

/// A call in the program's code to probe, by where it returns to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Call {
    pub returns_to: ProcAddr,
    /// Mean calls between two whose objects are followed; 0: none is, 1: each is.
    pub mean: u64,
}

/// Types pinned in one session.
pub const MAX_TYPES: usize = 4;
/// A type that is made in more places says little about any of them.
const MAX_PLACES: usize = 8;
/// Censuses that must show it grow, one after the other.
const RISES: usize = 4;
/// What it must have gained by then, of the least that a finding is made of (heap-growth).
const MIN_GAIN: u64 = 64 * 1024;
/// Objects of its size made in a second beyond which nothing of it is probed: two probes at each are then four or five
/// thousandths of a processor.
pub(super) const MAX_RATE: f64 = 2_000.0;
/// Calls of which so many in a second are followed: each costs a microsecond or two. A round thousand a second is below it, however unevenly
/// it comes.
const PER_S: f64 = 1_200.0;
/// Beyond it nothing is seen any more.
const SELDOM: f64 = 1e9;
/// Of what is left of the table of followed objects, the part that is used until fewer are followed once more.
const PART: usize = 8;
/// It lasts as long again as the session did, and for so long.
const LASTS_S: f64 = 300.0;

/// The type to pin next; `pinned` are those that were.
pub fn wanted(evidence: &Evidence, pinned: &BTreeSet<String>) -> Option<Wanted> {
    if pinned.len() >= MAX_TYPES {
        return None;
    }
    let rows = evidence.census.iter().flat_map(|census| census.types.iter().flatten());
    let new = rows.filter(|row| row.candidates.first().is_some_and(|name| !pinned.contains(name)));
    let (row, class, _) = new
        .filter(|row| is_pinnable(row))
        .flat_map(|row| {
            row.classes
                .iter()
                .filter_map(move |class| Some((row, class, gain(&class.points, |p| (p.objects, p.bytes))?)))
        })
        .max_by_key(|(_, _, gain)| *gain)?;
    let mean = mean(evidence, class)?;
    Some(Wanted { type_name: row.candidates.first()?.clone(), mean })
}

/// One type for sure, made in a few places that are all known.
pub(super) fn is_pinnable(row: &TypeRow) -> bool {
    let places = |row: &TypeRow| row.places.as_ref().map(|p| (p.places.len(), p.more));
    row.candidates.len() == 1 && matches!(places(row), Some((1..=MAX_PLACES, 0)))
}

/// The bytes gained since the censuses before, where each of the last ones shows more objects than the one before it; `of` says both of a
/// census.
pub(super) fn gain<P>(points: &[P], of: impl Fn(&P) -> (u64, u64)) -> Option<u64> {
    let last = points.get(points.len().checked_sub(RISES + 1)?..)?;
    let rises = last.windows(2).all(|pair| of(&pair[1]).0 > of(&pair[0]).0);
    let gain = of(last.last()?).1.saturating_sub(of(last.first()?).1);
    (rises && gain >= MIN_GAIN).then_some(gain)
}

/// Such that no more than [`PER_S`] are followed, if all allocations of the class were of this type. `None`: there are too many for
/// any probe, or how many is not known.
fn mean(evidence: &Evidence, class: &TypeInClass) -> Option<u64> {
    let of = evidence.size_classes.iter().find(|of| of.class == class.class);
    let rate = of.and_then(|of| of.allocs_per_s).filter(|rate| *rate <= MAX_RATE)?;
    Some(calls_between(rate))
}

/// Keeps the table of followed objects from filling with those that stay: each object is followed until half of it is used, then ever
/// fewer, so that what is left is used ever more slowly.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Thinning {
    /// Where there is room for so many, or fewer, it is time.
    due: usize,
}

impl Thinning {
    /// `room`: objects that the table has room for.
    pub fn new(room: usize) -> Self {
        Self { due: room / 2 }
    }

    /// The calls that get another mean, where there is still room for so many after `seconds` of the session.
    pub fn step(&mut self, pins: &[PinRow], room: usize, seconds: f64) -> Vec<Call> {
        if room > self.due {
            return Vec::new();
        }
        self.due = room - room / PART;
        let followed: Vec<&PinRow> =
            pins.iter().filter(|pin| pin.mean > 0 && pin.until_s.is_none()).collect();
        let each = (room / PART) as f64 / seconds.max(LASTS_S) / followed.len().max(1) as f64;
        let call = |pin: &&PinRow| {
            let rate = pin.calls? as f64 / pin.counted_s;
            let mean = (rate / each).ceil().min(SELDOM) as u64;
            (mean > pin.mean).then_some(Call { returns_to: ProcAddr(pin.returns_to), mean })
        };
        followed.iter().filter_map(call).collect()
    }
}

/// Mean calls between two whose objects are followed, of calls that run so often a second.
pub(super) fn calls_between(rate: f64) -> u64 {
    (rate / PER_S).ceil().max(1.0) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::symbolize::evidence::{Cause, Census, Frame, Line, Place, Places, SizeClass, TypePoint};

    fn row(name: &str, places: usize, objects: &[u64]) -> TypeRow {
        let place = |n: usize| Place {
            stack: vec![Frame::from(Line { function: format!("main.f{n}"), ..Line::default() })],
            cause: Cause::New,
        };
        let point = |(n, objects): (usize, &u64)| TypePoint {
            t: n as f64,
            cycle: n as u32,
            objects: *objects,
            bytes: 320 * objects,
            objects_stderr: 0.0,
        };
        TypeRow {
            candidates: vec![name.into()],
            classes: vec![TypeInClass { class: 9, points: objects.iter().enumerate().map(point).collect() }],
            places: Some(Places { places: (0..places).map(place).collect(), more: 0 }),
            ..TypeRow::default()
        }
    }

    fn evidence(rows: Vec<TypeRow>, allocs_per_s: f64) -> Evidence {
        let class = SizeClass {
            class: 9,
            size: Some(320),
            objects: 0,
            bytes: 0,
            allocs_per_s: Some(allocs_per_s),
            points: Vec::new(),
        };
        Evidence {
            census: Some(Census { types: Some(rows), ..Census::default() }),
            size_classes: vec![class],
            ..Evidence::default()
        }
    }

    const RISING: [u64; 6] = [100, 400, 800, 1200, 1600, 2000];

    #[test]
    fn the_type_that_gained_most_is_next() {
        let e = evidence(vec![row("main.A", 1, &RISING), row("main.B", 2, &RISING.map(|n| 2 * n))], 150.0);
        let next = |pinned: &[&str]| {
            wanted(&e, &pinned.iter().map(|n| (*n).to_owned()).collect()).map(|w| (w.type_name, w.mean))
        };
        assert_eq!(next(&[]), Some(("main.B".into(), 1)));
        assert_eq!(next(&["main.B"]), Some(("main.A".into(), 1)));
        assert_eq!(next(&["main.A", "main.B"]), None);
        assert_eq!(next(&["a", "b", "c", "d"]), None);
    }

    #[test]
    fn what_does_not_rise_or_is_made_everywhere_is_left_alone() {
        let none = |row: TypeRow| assert_eq!(wanted(&evidence(vec![row], 0.0), &BTreeSet::new()), None);
        none(row("main.A", 1, &[100, 400, 800, 700, 1600, 2000]));
        none(row("main.A", 1, &RISING[..4]));
        none(row("main.A", 1, &[1, 2, 3, 4, 5, 6]));
        none(row("main.A", 0, &RISING));
        none(row("main.A", 9, &RISING));
        none(TypeRow { places: None, ..row("main.A", 1, &RISING) });
        none(TypeRow { candidates: vec!["main.A".into(), "main.B".into()], ..row("main.A", 1, &RISING) });
    }

    #[test]
    fn a_hot_type_is_sampled() {
        let mean = |allocs_per_s| {
            let e = evidence(vec![row("main.A", 1, &RISING)], allocs_per_s);
            wanted(&e, &BTreeSet::new()).map(|w| w.mean)
        };
        assert_eq!((mean(1_000.0), mean(2_000.0), mean(20_000.0)), (Some(1), Some(2), None));
    }

    #[test]
    fn what_stays_is_followed_for_days() {
        const ROOM: usize = 100_000;
        let pin = |n, rate: u64, seconds: u64, mean| PinRow {
            returns_to: n,
            type_name: None,
            place: Place { stack: Vec::new(), cause: Cause::New },
            since_s: 0.0,
            until_s: None,
            calls: Some(rate * seconds),
            counted_s: seconds as f64,
            mean,
        };
        let (mut thinning, mut held, mut means) = (Thinning::new(ROOM), 0.0, [1, 1, 0]);
        let mut exact_s = 0;
        for second in 1..=3 * 86_400_u64 {
            held += 1_000.0 / means[0] as f64;
            let pins = [pin(1, 1_000, second, means[0]), pin(2, 1, second, means[1]), pin(3, 9, second, 0)];
            let room = ROOM.saturating_sub(held as usize);
            for Call { returns_to, mean } in thinning.step(&pins, room, second as f64) {
                let before = std::mem::replace(&mut means[returns_to.0 as usize - 1], mean);
                assert!(before > 0 && mean > before);
            }
            if second < 600 {
                assert_eq!(means[1], 1, "one a second does not fill it");
            }
            exact_s += u64::from(means[0] == 1);
        }
        assert_eq!(exact_s, 49);
        assert!((0.6..0.95).contains(&(held / ROOM as f64)), "{held}");
        // Some hundred a day, in the end.
        assert!(means[0] < 200_000, "{means:?}");
    }
}
