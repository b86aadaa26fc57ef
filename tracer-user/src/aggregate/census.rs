//! The heap census over time: the newest one whole, and a point per GC cycle for each size class and each type.
//!
//! Apart from the size classes of `heap`, whose counts hold garbage: a census knows what survived a cycle. Counts of
//! types come from samples and are scaled here, with the error that sampling makes; counts of classes are exact.

use std::collections::BTreeMap;

use super::series::Series;
use crate::record::census::{Amount, Candidate, Census, TypeShare};
use crate::units::{Bytes, KTime};

/// Points kept per class and per type.
pub const MAX_POINTS: usize = 256;
/// Types followed: 1 024 series of 256 points of 40 bytes are 10 MiB at worst.
pub const MAX_TYPES: usize = 1_024;

/// One class or type as one GC cycle left it.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct CensusPoint {
    pub time: KTime,
    pub cycle: u32,
    pub survived: Amount,
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

/// Everything known from censuses.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct CensusHistory {
    newest: Option<(KTime, Census)>,
    classes: BTreeMap<(u8, bool), Series<CensusPoint>>,
    types: BTreeMap<Vec<Candidate>, Series<CensusPoint>>,
    types_cut: u64,
}

impl CensusHistory {
    pub(super) fn apply(&mut self, time: KTime, census: &Census) {
        // Two censuses of one cycle say the same of what survived it; the first of them is the point.
        let repeated = self.newest.as_ref().is_some_and(|(_, last)| last.cycle_end >= census.cycle_end);
        if !repeated {
            self.points(time, census);
        }
        self.newest = Some((time, census.clone()));
    }

    fn points(&mut self, time: KTime, census: &Census) {
        let cycle = census.cycle_end;
        let point = |survived| CensusPoint { time, cycle, survived };
        let mut now: BTreeMap<(u8, bool), Amount> =
            census.classes.iter().map(|c| ((c.class, c.noscan), c.survived)).collect();
        for key in self.classes.keys() {
            now.entry(*key).or_default();
        }
        for (key, survived) in now {
            self.classes.entry(key).or_insert_with(|| Series::new(MAX_POINTS)).push(point(survived));
        }
        let Some(shares) = &census.types else { return };
        let mut now: Vec<(Vec<Candidate>, TypeTotal)> = totals(shares).into_iter().collect();
        now.sort_by_key(|(_, total)| std::cmp::Reverse(total.amount.bytes));
        for (candidates, total) in now {
            if !self.types.contains_key(&candidates) && self.types.len() >= MAX_TYPES {
                self.types_cut += 1;
                continue;
            }
            self.types.entry(candidates).or_insert_with(|| Series::new(MAX_POINTS)).push(point(total.amount));
        }
    }

    pub fn newest(&self) -> Option<&(KTime, Census)> {
        self.newest.as_ref()
    }
    /// What survived, per size class and "holds no pointers", a point per cycle that a census saw.
    pub fn classes(&self) -> &BTreeMap<(u8, bool), Series<CensusPoint>> {
        &self.classes
    }
    /// The same per type, or per set of types that cannot be told apart. No point where none was met.
    pub fn types(&self) -> &BTreeMap<Vec<Candidate>, Series<CensusPoint>> {
        &self.types
    }
    /// Types that found no room, over all censuses.
    pub fn types_cut(&self) -> u64 {
        self.types_cut
    }
}

/// The shares of all classes, scaled to all objects and summed per type.
pub fn totals(shares: &[TypeShare]) -> BTreeMap<Vec<Candidate>, TypeTotal> {
    use crate::record::census::Population;
    let mut sums: BTreeMap<Vec<Candidate>, TypeTotal> = BTreeMap::new();
    let mut variances: BTreeMap<Vec<Candidate>, (f64, f64)> = BTreeMap::new();
    for share in shares {
        let TypeShare { class: _, candidates, hits, bytes, looked_at, of, population } = share;
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
        let total = sums.entry(candidates.clone()).or_default();
        total.amount.add(Amount { objects, bytes: Bytes(bytes) });
        total.hits += hits;
        total.looked_at = total.looked_at.saturating_add(*looked_at);
        total.unproven |= *population == Population::Allocated;
        // A share drawn without replacement (Cochran, Sampling Techniques, 3rd edition, 3.2).
        let rest = ((all - n) / (all - 1.0).max(1.0)).max(0.0);
        let stderr = all * (part * (1.0 - part) / n * rest).sqrt();
        let size = of.bytes.0 as f64 / all.max(1.0);
        let sum = variances.entry(candidates.clone()).or_default();
        sum.0 += stderr.powi(2);
        sum.1 += (stderr * size).powi(2);
    }
    for (candidates, (objects, bytes)) in variances {
        if let Some(total) = sums.get_mut(&candidates) {
            (total.objects_stderr, total.bytes_stderr) = (objects.sqrt(), bytes.sqrt());
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::census::{CensusClass, Population};
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

    #[test]
    fn a_sample_is_scaled_with_its_error_and_a_whole_class_has_none() {
        let all = totals(&[share(1, 250, 1_000, 100_000), share(2, 750, 1_000, 100_000)]);
        let one = &all[&share(1, 0, 0, 0).candidates];
        assert_eq!(one.amount, Amount { objects: 25_000, bytes: Bytes(2_400_000) });
        // sqrt(0.25 * 0.75 / 1000) of 100 000, less one per cent looked at.
        assert!((one.objects_stderr - 1_362.4).abs() < 1.0, "{}", one.objects_stderr);
        assert!((one.bytes_stderr - 1_362.4 * 96.0).abs() < 96.0);
        let whole = totals(&[share(1, 30, 40, 40)]);
        let one = &whole[&share(1, 0, 0, 0).candidates];
        assert_eq!((one.amount.objects, one.objects_stderr), (30, 0.0));
    }

    #[test]
    fn one_point_per_cycle_and_a_class_that_emptied_has_a_zero() {
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
            h.apply(KTime(t as u64), &census(*cycle, *objects));
        }
        let points: Vec<(u32, u64)> =
            h.classes()[&(8, false)].iter().map(|p| (p.cycle, p.survived.objects)).collect();
        assert_eq!(points, [(5, 10), (6, 20), (7, 0), (9, 4)]);
    }

    #[test]
    fn types_are_capped_the_largest_stay_and_the_cut_is_counted() {
        let shares = (0..MAX_TYPES as u64 + 9).map(|i| share(i, i + 1, 10_000, 10_000)).collect();
        let mut h = CensusHistory::default();
        h.apply(KTime(1), &Census { cycle: 1, cycle_end: 1, types: Some(shares), ..Census::default() });
        assert_eq!((h.types().len(), h.types_cut()), (MAX_TYPES, 9));
        assert!(!h.types().contains_key(&share(0, 0, 0, 0).candidates));
    }
}
