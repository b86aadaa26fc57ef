//! Evidence of the heap's objects -> the model's rows. Apart from `build` because a census has rows of its own shape.

use super::growth;
use super::model::{HeapCensus, HeapPoint, HeapType, SizeClass};
use crate::symbolize::evidence::{self, Evidence};

/// Names of candidates that a row's type is made of; `candidates` has them all.
const SHOWN: usize = 3;

/// With a census its rows, else one row per class as the allocator's own counts have it.
pub(super) fn size_classes(evidence: &Evidence) -> Vec<SizeClass> {
    let Some(census) = &evidence.census else {
        let rows = evidence.size_classes.iter().map(|c| SizeClass {
            class: c.class,
            bytes: c.size,
            noscan: None,
            objects: c.objects,
            total_bytes: c.bytes,
            new_objects: None,
            new_bytes: None,
            spans: None,
            allocs_per_s: c.allocs_per_s,
            growth: growth::of_class(&c.points),
        });
        return rows.collect();
    };
    let rows = census.classes.iter().map(|c| {
        // The rate is known of the class; it is this row's where that is the class's only one.
        let alone = census.classes.iter().filter(|other| other.class == c.class).count() == 1;
        let rate = || evidence.size_classes.iter().find(|other| other.class == c.class)?.allocs_per_s;
        SizeClass {
            class: c.class,
            bytes: c.size,
            noscan: Some(c.noscan),
            objects: c.objects,
            total_bytes: c.bytes,
            new_objects: Some(c.since_objects),
            new_bytes: Some(c.since_bytes),
            spans: Some(c.spans),
            allocs_per_s: alone.then(rate).flatten(),
            growth: growth::of_class(&c.points),
        }
    });
    rows.collect()
}

/// A cycle, with the objects that a census of what it left has counted.
pub(super) fn point(of: &evidence::GcPoint, evidence: &Evidence) -> HeapPoint {
    let counted = evidence.census.iter().flat_map(|c| &c.points).find(|p| p.cycle == of.cycle);
    HeapPoint { t: of.t, gc_cycle: of.cycle, live_bytes: of.live_bytes, objects: counted.map(|p| p.objects) }
}

pub(super) fn types(census: &evidence::Census) -> Option<Vec<HeapType>> {
    let rows = census.types.as_ref()?.iter().map(|row| {
        let exact = row.objects_stderr == 0.0;
        HeapType {
            type_name: type_name(&row.candidates),
            candidates: if row.candidates.len() > 1 { row.candidates.clone() } else { Vec::new() },
            objects: row.objects,
            bytes: row.bytes,
            objects_stderr: (!exact).then_some(row.objects_stderr),
            bytes_stderr: (!exact).then_some(row.bytes_stderr),
            samples: row.hits,
            unproven: row.unproven,
            growth: growth::of_type(&row.classes),
        }
    });
    Some(rows.collect())
}

fn type_name(candidates: &[String]) -> Option<String> {
    let shown = candidates.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(" | ");
    match candidates.len() {
        0 => None,
        n if n > SHOWN => Some(format!("{shown} | {} more", n - SHOWN)),
        _ => Some(shown),
    }
}

pub(super) fn census(census: &evidence::Census) -> HeapCensus {
    let sum = |of: fn(&evidence::CensusClass) -> u64| {
        census.classes.iter().fold(0_u64, |sum, class| sum.saturating_add(of(class)))
    };
    HeapCensus {
        t: census.at_s,
        gc_cycle: census.cycle,
        gc_cycle_end: (census.cycle_end != census.cycle).then_some(census.cycle_end),
        objects: sum(|c| c.objects),
        bytes: sum(|c| c.bytes),
        new_objects: sum(|c| c.since_objects),
        new_bytes: sum(|c| c.since_bytes),
        spans: sum(|c| c.spans),
        stack_spans: census.manual_spans,
        stack_bytes: census.manual_bytes,
        arena_bytes: (census.arena_bytes > 0).then_some(census.arena_bytes),
        torn_spans: census.torn,
        swapped_spans: census.swapped,
        unread_spans: census.unread,
    }
}
