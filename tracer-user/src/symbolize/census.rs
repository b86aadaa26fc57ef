//! Census rows: classes as they are, types by name. Types that read the same become one row.

use std::collections::{BTreeMap, BTreeSet};

use super::Clock;
use super::evidence::{Census, CensusClass, TypeRow};
use super::memo::Named;
use crate::aggregate::Ledger;
use crate::aggregate::census::{TypeTotal, totals};
use crate::record::census::Candidate;

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
        types: census.types.as_ref().map(|shares| types(totals(shares), named)),
    })
}

/// Most bytes first.
fn types(totals: BTreeMap<Vec<Candidate>, TypeTotal>, named: &mut Named<'_>) -> Vec<TypeRow> {
    let mut rows: BTreeMap<BTreeSet<String>, TypeRow> = BTreeMap::new();
    for (candidates, total) in totals {
        let names: BTreeSet<String> = candidates.iter().filter_map(|c| name(*c, named)).collect();
        // A candidate without a name (made while the program runs) leaves the row unknown rather than sure.
        let names =
            if candidates.iter().all(|c| name(*c, named).is_some()) { names } else { BTreeSet::new() };
        let row = rows
            .entry(names.clone())
            .or_insert_with(|| TypeRow { candidates: names.into_iter().collect(), ..TypeRow::default() });
        row.objects = row.objects.saturating_add(total.amount.objects);
        row.bytes = row.bytes.saturating_add(total.amount.bytes.0);
        row.objects_stderr = row.objects_stderr.hypot(total.objects_stderr);
        row.bytes_stderr = row.bytes_stderr.hypot(total.bytes_stderr);
        row.hits = row.hits.saturating_add(total.hits);
        row.unproven |= total.unproven;
    }
    let mut rows: Vec<TypeRow> = rows.into_values().collect();
    rows.sort_by_key(|r| std::cmp::Reverse(r.bytes));
    rows
}

fn name(candidate: Candidate, named: &mut Named<'_>) -> Option<String> {
    let info = named.type_info(candidate.type_addr)?;
    Some(if candidate.array { format!("[]{}", info.name) } else { info.name })
}
