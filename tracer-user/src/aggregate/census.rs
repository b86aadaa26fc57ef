//! The heap census over time: the newest one whole, and a point per GC cycle with each size class and each type.
//!
//! Apart from the size classes of `heap`, whose counts hold garbage: a census knows what survived a cycle. Counts of
//! types come from samples and are scaled here, with the error that sampling makes; counts of classes are exact. All
//! rows share their points, so that they are thinned together and sums of rows are sums of the same moments.

use std::collections::BTreeMap;

use indexmap::Equivalent;

use super::numbers::Numbers;
use super::series::Series;
use crate::record::census::{Amount, Candidate, Census, Population, TypeShare};
use crate::units::{Bytes, KTime};

/// Points kept: as many as the statistics look at.
pub const MAX_POINTS: usize = 128;
/// Types followed, each size class apart: 128 points of 1 024 rows of 32 bytes are 4 MiB at worst, and what a
/// program has is a tenth of that.
pub const MAX_TYPES: usize = 1_024;

/// Types of objects in one size class.
pub type TypeKey = (u8, Vec<Candidate>);

/// The same where a census holds them. It hashes as its key does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TypesOf<'a> {
    pub class: u8,
    pub candidates: &'a [Candidate],
}

impl TypesOf<'_> {
    fn key(&self) -> TypeKey {
        (self.class, self.candidates.to_vec())
    }
}

impl Equivalent<TypeKey> for TypesOf<'_> {
    fn equivalent(&self, (class, candidates): &TypeKey) -> bool {
        self.class == *class && self.candidates == candidates.as_slice()
    }
}

/// What one GC cycle left. Rows that are not here were not met: there were none.
#[derive(Clone, PartialEq, Debug)]
pub struct CensusPoint {
    pub time: KTime,
    pub cycle: u32,
    /// Every span was counted, as this one cycle left it.
    pub whole: bool,
    /// By size class and "holds no pointers".
    pub classes: Vec<((u8, bool), Amount)>,
    pub types: Vec<TypePoint>,
}

/// One followed type in one cycle.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct TypePoint {
    /// Its place in [`CensusHistory::followed`].
    pub followed: u32,
    pub amount: Amount,
    /// One standard error of sampling.
    pub objects_stderr: f32,
}

/// Objects that may be of the same types.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct TypeTotal {
    pub amount: Amount,
    /// One standard error of sampling; 0 where every object was looked at.
    pub objects_stderr: f64,
    pub bytes_stderr: f64,
    pub looked_at: u64,
    pub hits: u64,
    /// They were allocated, and nothing says yet whether they live: no cycle has completed.
    pub unproven: bool,
}

impl TypeTotal {
    /// The same type in another class.
    pub fn add(&mut self, other: &Self) {
        let Self { amount, objects_stderr, bytes_stderr, looked_at, hits, unproven } = other;
        self.amount.add(*amount);
        self.objects_stderr = self.objects_stderr.hypot(*objects_stderr);
        self.bytes_stderr = self.bytes_stderr.hypot(*bytes_stderr);
        self.looked_at = self.looked_at.saturating_add(*looked_at);
        self.hits = self.hits.saturating_add(*hits);
        self.unproven |= unproven;
    }
}

/// Everything known from censuses.
#[derive(Clone, PartialEq, Debug)]
pub struct CensusHistory {
    newest: Option<(KTime, Census)>,
    points: Series<CensusPoint>,
    followed: Numbers<TypeKey>,
}

impl Default for CensusHistory {
    fn default() -> Self {
        let points = Series::new(MAX_POINTS);
        Self { newest: None, points, followed: Numbers::new(MAX_TYPES) }
    }
}

impl CensusHistory {
    pub(super) fn apply(&mut self, time: KTime, census: Census) {
        // Two censuses of one cycle say the same of what survived it; the first of them is the point. Before the
        // first cycle nothing is known to live.
        let repeated = self.newest.as_ref().is_some_and(|(_, last)| last.cycle_end >= census.cycle_end);
        if !repeated && census.cycle_end > 0 {
            self.point(time, &census);
        }
        self.newest = Some((time, census));
    }

    fn point(&mut self, time: KTime, census: &Census) {
        let classes = census.classes.iter().map(|c| ((c.class, c.noscan), c.survived)).collect();
        let mut now: Vec<(TypesOf<'_>, TypeTotal)> =
            totals(census.types.as_deref().unwrap_or_default()).into_iter().collect();
        now.sort_by_key(|(_, total)| std::cmp::Reverse(total.amount.bytes));
        let mut types = Vec::with_capacity(now.len());
        for (key, total) in now {
            let Some(followed) = self.followed.give(&key, TypesOf::key) else { continue };
            let objects_stderr = total.objects_stderr as f32;
            types.push(TypePoint { followed, amount: total.amount, objects_stderr });
        }
        types.sort_unstable_by_key(|point| point.followed);
        let Census { cycle, cycle_end, torn, swapped, unread, .. } = *census;
        let whole = cycle == cycle_end && (torn, swapped, unread) == (0, 0, 0);
        self.points.push(CensusPoint { time, cycle: cycle_end, whole, classes, types });
    }

    pub fn newest(&self) -> Option<&(KTime, Census)> {
        self.newest.as_ref()
    }
    /// What survived each cycle that a census saw.
    pub fn points(&self) -> &Series<CensusPoint> {
        &self.points
    }
    /// The types followed and what points call them.
    pub fn followed(&self) -> impl ExactSizeIterator<Item = (&TypeKey, u32)> {
        self.followed.known()
    }
    /// Types that found no room, over all censuses.
    pub fn types_cut(&self) -> u64 {
        self.followed.cut()
    }
}

impl CensusPoint {
    /// What there was of a followed type, and one standard error of the number of objects.
    pub fn of_type(&self, followed: u32) -> (Amount, f64) {
        match self.types.binary_search_by_key(&followed, |point| point.followed) {
            Ok(found) => (self.types[found].amount, f64::from(self.types[found].objects_stderr)),
            Err(_) => (Amount::default(), 0.0),
        }
    }
}

/// The shares scaled to all objects of their class, per type and class.
pub fn totals(shares: &[TypeShare]) -> BTreeMap<TypesOf<'_>, TypeTotal> {
    let mut sums: BTreeMap<TypesOf<'_>, TypeTotal> = BTreeMap::new();
    for share in shares {
        let TypeShare { class, candidates, hits, bytes, looked_at, of, population } = share;
        if *hits == 0 || looked_at < hits {
            continue;
        }
        let (n, all) = (*looked_at as f64, of.objects as f64);
        let part = *hits as f64 / n;
        let (objects, bytes) = if looked_at >= &of.objects {
            (*hits, bytes.0)
        } else {
            // All objects of a class but the large have one size.
            ((all * part).round() as u64, (of.bytes.0 as f64 * part).round() as u64)
        };
        // A share drawn without replacement (Cochran, Sampling Techniques, 3rd edition, 3.2).
        let rest = ((all - n) / (all - 1.0).max(1.0)).max(0.0);
        let stderr = all * (part * (1.0 - part) / n * rest).sqrt();
        let size = of.bytes.0 as f64 / all.max(1.0);
        sums.entry(TypesOf { class: *class, candidates }).or_default().add(&TypeTotal {
            amount: Amount { objects, bytes: Bytes(bytes) },
            objects_stderr: stderr,
            bytes_stderr: stderr * size,
            looked_at: *looked_at,
            hits: *hits,
            unproven: *population == Population::Allocated,
        });
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::census::CensusClass;
    use crate::units::ProcAddr;

    fn share(addr: u64, hits: u64, looked_at: u64, objects: u64) -> TypeShare {
        TypeShare {
            class: 8,
            candidates: vec![Candidate { type_addr: ProcAddr(addr), array: false }],
            hits,
            bytes: Bytes(hits * 96),
            looked_at,
            of: Amount { objects, bytes: Bytes(objects * 96) },
            population: Population::Survived,
        }
    }

    fn key(addr: u64) -> TypeKey {
        (8, share(addr, 0, 0, 0).candidates)
    }

    #[test]
    fn a_sample_is_scaled_with_its_error_and_a_whole_class_has_none() {
        let (shares, first) = ([share(1, 250, 1_000, 100_000), share(2, 750, 1_000, 100_000)], key(1).1);
        let of_first = TypesOf { class: 8, candidates: &first };
        let all = totals(&shares);
        let one = &all[&of_first];
        assert_eq!(one.amount, Amount { objects: 25_000, bytes: Bytes(2_400_000) });
        // sqrt(0.25 * 0.75 / 1000) of 100 000, less one per cent looked at.
        assert!((one.objects_stderr - 1_362.4).abs() < 1.0, "{}", one.objects_stderr);
        assert!((one.bytes_stderr - 1_362.4 * 96.0).abs() < 96.0);
        let shares = [share(1, 30, 40, 40)];
        let whole = totals(&shares);
        let one = &whole[&of_first];
        assert_eq!((one.amount.objects, one.objects_stderr), (30, 0.0));
    }

    #[test]
    fn one_point_per_cycle_and_a_class_that_emptied_has_no_row() {
        let census = |cycle, objects| Census {
            cycle,
            cycle_end: cycle,
            classes: (objects > 0)
                .then(|| CensusClass {
                    class: 8,
                    size: Some(Bytes(96)),
                    survived: Amount { objects, bytes: Bytes(objects * 96) },
                    ..CensusClass::default()
                })
                .into_iter()
                .collect(),
            ..Census::default()
        };
        let mut h = CensusHistory::default();
        for (t, (cycle, objects)) in [(5, 10), (5, 12), (6, 20), (7, 0), (9, 4)].iter().enumerate() {
            h.apply(KTime(t as u64), census(*cycle, *objects));
        }
        let points: Vec<(u32, u64)> = h
            .points()
            .iter()
            .map(|p| (p.cycle, p.classes.iter().map(|(_, amount)| amount.objects).sum()))
            .collect();
        assert_eq!(points, [(5, 10), (6, 20), (7, 0), (9, 4)]);
    }

    #[test]
    fn types_are_capped_the_largest_stay_and_the_cut_is_counted() {
        let shares = (0..MAX_TYPES as u64 + 9).map(|i| share(i, i + 1, 10_000, 10_000)).collect();
        let mut h = CensusHistory::default();
        h.apply(KTime(1), Census { cycle: 1, cycle_end: 1, types: Some(shares), ..Census::default() });
        assert_eq!((h.followed().len(), h.types_cut()), (MAX_TYPES, 9));
        let followed: BTreeMap<&TypeKey, u32> = h.followed().collect();
        assert!(!followed.contains_key(&key(0)));
        let newest = h.points().last().expect("one census is one point");
        let most = followed[&key(MAX_TYPES as u64 + 8)];
        assert_eq!(newest.of_type(most).0.objects, MAX_TYPES as u64 + 9);
    }
}
