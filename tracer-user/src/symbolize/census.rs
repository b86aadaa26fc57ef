//! Census rows: classes as they are, types by name. Types that read the same become one row.

use std::collections::{BTreeMap, BTreeSet};

use super::Clock;
use super::call_sites;
use super::evidence::{Census, CensusClass, ClassPoint, TypeInClass, TypePoint, TypeRow};
use super::memo::Named;
use crate::aggregate::Ledger;
use crate::aggregate::census::{CensusHistory, TypesOf, totals};
use crate::record::census::{Amount, Candidate, TypeShare};

pub(super) fn census(ledger: &Ledger, clock: Clock, named: &mut Named<'_>) -> Option<Census> {
    let (time, census) = ledger.census().newest()?;
    let classes = census.classes.iter().map(|c| CensusClass {
        class: c.class,
        size: c.size.map(|s| s.0),
        noscan: c.noscan,
        spans: c.spans,
        objects: c.survived.objects,
        bytes: c.survived.bytes.0,
        since_objects: c.since.objects,
        since_bytes: c.since.bytes.0,
        points: class_points(ledger.census(), clock, (c.class, c.noscan)),
    });
    Some(Census {
        at_s: clock.at(*time),
        cycle: census.cycle,
        cycle_end: census.cycle_end,
        classes: classes.collect(),
        manual_spans: census.manual.spans,
        manual_bytes: census.manual.bytes.0,
        arena_bytes: census.user_arenas.bytes.0,
        torn: census.torn,
        swapped: census.swapped,
        unread: census.unread,
        types: census.types.as_ref().map(|shares| types(shares, ledger, clock, named)),
        points: points(ledger.census(), clock),
    })
}

/// All classes together, where a census counted all of them.
fn points(history: &CensusHistory, clock: Clock) -> Vec<ClassPoint> {
    let points = history.points().iter().filter(|p| p.whole).map(|p| {
        let sum = |of: fn(&Amount) -> u64| p.classes.iter().map(|(_, n)| of(n)).fold(0, u64::saturating_add);
        let (objects, bytes) = (sum(|n| n.objects), sum(|n| n.bytes.0));
        ClassPoint { t: clock.at(p.time), cycle: p.cycle, objects, bytes }
    });
    points.collect()
}

fn class_points(history: &CensusHistory, clock: Clock, key: (u8, bool)) -> Vec<ClassPoint> {
    let points = history.points().iter().map(|p| {
        let amount = p.classes.iter().find(|(class, _)| *class == key).map(|(_, amount)| *amount);
        let amount = amount.unwrap_or_default();
        ClassPoint { t: clock.at(p.time), cycle: p.cycle, objects: amount.objects, bytes: amount.bytes.0 }
    });
    points.collect()
}

/// Most bytes first.
fn types(shares: &[TypeShare], ledger: &Ledger, clock: Clock, named: &mut Named<'_>) -> Vec<TypeRow> {
    let history = ledger.census();
    let mut made: BTreeMap<BTreeSet<String>, BTreeSet<Candidate>> = BTreeMap::new();
    let mut rows: BTreeMap<BTreeSet<String>, TypeRow> = BTreeMap::new();
    for (TypesOf { candidates, .. }, total) in totals(shares) {
        let names = names(candidates, named);
        let row = rows
            .entry(names.clone())
            .or_insert_with(|| TypeRow { candidates: names.iter().cloned().collect(), ..TypeRow::default() });
        row.objects = row.objects.saturating_add(total.amount.objects);
        row.bytes = row.bytes.saturating_add(total.amount.bytes.0);
        row.objects_stderr = row.objects_stderr.hypot(total.objects_stderr);
        row.bytes_stderr = row.bytes_stderr.hypot(total.bytes_stderr);
        row.hits = row.hits.saturating_add(total.hits);
        row.unproven |= total.unproven;
        made.entry(names).or_default().extend(candidates);
    }
    for (names, types) in made {
        if let Some(row) = rows.get_mut(&names).filter(|_| !names.is_empty()) {
            row.places = call_sites::places(ledger, types, named);
        }
    }
    let mut all: Vec<_> = history.followed().collect();
    all.sort_unstable();
    for ((class, candidates), followed) in all {
        let Some(row) = rows.get_mut(&names(candidates, named)) else { continue };
        let points = history.points().iter().map(|p| {
            let (amount, objects_stderr) = p.of_type(followed);
            let (objects, bytes) = (amount.objects, amount.bytes.0);
            TypePoint { t: clock.at(p.time), cycle: p.cycle, objects, bytes, objects_stderr }
        });
        let points: Vec<TypePoint> = points.collect();
        match row.classes.iter_mut().find(|of| of.class == *class) {
            Some(of) => add(&mut of.points, &points),
            None => row.classes.push(TypeInClass { class: *class, points }),
        }
    }
    let mut rows: Vec<TypeRow> = rows.into_values().collect();
    rows.sort_by_key(|r| std::cmp::Reverse(r.bytes));
    rows
}

/// All rows have their points at the same moments.
fn add(sum: &mut [TypePoint], other: &[TypePoint]) {
    for (sum, other) in sum.iter_mut().zip(other) {
        sum.objects = sum.objects.saturating_add(other.objects);
        sum.bytes = sum.bytes.saturating_add(other.bytes);
        sum.objects_stderr = sum.objects_stderr.hypot(other.objects_stderr);
    }
}

/// A candidate without a name (made while the program runs) leaves the row unknown rather than sure.
pub(super) fn names(candidates: &[Candidate], named: &mut Named<'_>) -> BTreeSet<String> {
    candidates.iter().map(|c| name(*c, named)).collect::<Option<_>>().unwrap_or_default()
}

fn name(candidate: Candidate, named: &mut Named<'_>) -> Option<String> {
    let info = named.type_info(candidate.type_addr)?;
    Some(if candidate.array { format!("[]{}", info.name) } else { info.name })
}
