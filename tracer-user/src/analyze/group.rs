//! One cause, one finding: growing size classes that one piece of code feeds are put together, what the code of leaking
//! goroutines allocates is put with the goroutines, and a map with what its writer allocates. Where no code is known, findings of one rate only
//! point at each other: another leak may happen to have that rate. Then the findings are ranked.

use super::rules::heap_growth;
use super::{Finding, Growth, HeapPart, Verdict, figures, own};
use crate::symbolize::evidence::{Cause, Frame};

/// Object rates this near to each other are one rate.
const SAME_RATE: f64 = 0.25;
/// Objects one leaked goroutine can bring along, where they are known only by their rate.
const OBJECTS_PER_GOROUTINE: f64 = 4.5;

/// Merges and ranks.
pub(super) fn one_cause_one_finding(findings: Vec<Finding>, module: Option<&str>) -> Vec<Finding> {
    let (mut goroutines, mut maps) = (Vec::new(), Vec::new());
    let mut parts = Vec::new();
    let mut heap = None;
    for finding in findings {
        match finding.growth {
            Growth::Heap { total, parts: more, .. } => {
                heap = Some(total);
                parts.extend(more);
            }
            Growth::Goroutines(_) => goroutines.push(finding),
            Growth::Map(_) => maps.push(finding),
        }
    }
    for finding in &mut goroutines {
        parts = take_goroutine_memory(finding, parts, module);
    }
    let mut out = goroutines;
    if let Some(total) = heap {
        out.extend(
            linked_groups(parts, module)
                .into_iter()
                .map(|group: Vec<HeapPart>| heap_growth::compose(group, total, module)),
        );
    }
    maps.retain(|map| !out.iter_mut().any(|finding| takes_map(finding, map, module)));
    out.extend(maps);
    point_at_each_other(&mut out);
    rank(&mut out);
    out
}

/// Puts a growing map with the growth of what its writer allocates, where code says that they belong together.
fn takes_map(finding: &mut Finding, map: &Finding, module: Option<&str>) -> bool {
    let Growth::Heap { parts, .. } = &finding.growth else { return false };
    let Growth::Map(growth) = &map.growth else { return false };
    let by_writer = |writer: &Frame| {
        parts.iter().any(|part| {
            let own = part.candidates.first().map(|c| own::own_frames(&c.stack, module)).unwrap_or_default();
            // The writer, or what it calls for a value; the outermost frame calls everything.
            let inner = if own.len() > 2 { &own[..own.len() - 1] } else { &own[..] };
            inner.iter().any(|f| f.function == writer.function)
        })
    };
    let holds = || parts.iter().any(|part| holds(map, growth.slope.per_unit, part));
    if !map.place.as_ref().is_some_and(by_writer) && !holds() {
        return false;
    }
    let what = map.type_name.as_deref().unwrap_or("a map");
    let writer = map.place.as_ref().map(|f| format!(", which {} writes to,", f.function));
    finding.evidence.push(format!(
        "{what}{} grows by {} and holds {} entries",
        writer.unwrap_or_default(),
        figures::event_rate(growth.slope.per_unit),
        figures::count(growth.entries)
    ));
    finding.advice.clone_from(&map.advice);
    true
}

/// Whether a map's values are the objects of a growing type, and come at their rate. Both: another map may hold the
/// same type, and another leak may have the same rate.
fn holds(map: &Finding, entries_per_s: f64, part: &HeapPart) -> bool {
    let Some(value) = map.type_name.as_deref().and_then(value_of) else { return false };
    let typed = part.types.iter().flat_map(|t| &t.names).any(|name| value == name);
    let (low, high) = (part.objects_per_s.min(entries_per_s), part.objects_per_s.max(entries_per_s));
    typed && low > 0.0 && low >= (1.0 - SAME_RATE) * high
}

/// The type that a map's values point to: "main.T" for "map[string]*main.T".
fn value_of(map: &str) -> Option<&str> {
    let mut depth = 0_u32;
    let behind = map.strip_prefix("map")?;
    for (at, c) in behind.char_indices() {
        match c {
            '[' => depth += 1,
            ']' if depth == 1 => return behind[at + 1..].strip_prefix('*'),
            ']' => depth = depth.checked_sub(1)?,
            _ => {}
        }
    }
    None
}

/// Links goroutines and maps with heap growth of which nothing is known but that it comes at their rate.
fn point_at_each_other(findings: &mut [Finding]) {
    let mut pairs = Vec::new();
    for (o, other) in findings.iter().enumerate() {
        let (per_s, what) = match &other.growth {
            Growth::Goroutines(growth) => (growth.slope.per_unit, "goroutines do".to_owned()),
            Growth::Map(growth) => {
                let what = other.type_name.as_deref().unwrap_or("a map");
                (growth.slope.per_unit, format!("entries come to {what}"))
            }
            Growth::Heap { .. } => continue,
        };
        for (h, heap) in findings.iter().enumerate() {
            let Growth::Heap { parts, .. } = &heap.growth else { continue };
            let theirs = |p: &&HeapPart| p.candidates.is_empty() && whole_number_each(p.objects_per_s, per_s);
            let sizes: Vec<String> = parts.iter().filter(theirs).map(HeapPart::name).collect();
            if !sizes.is_empty() {
                pairs.push((o, h, sizes.join(", "), what.clone()));
            }
        }
    }
    for (o, h, sizes, what) in pairs {
        let (of_other, of_heap) = (findings[o].id(), findings[h].id());
        findings[o].evidence.push(format!("{sizes} grow at the same rate"));
        findings[o].related.push(of_heap);
        findings[h].evidence.push(format!("{sizes} grow at the same rate as {what}"));
        findings[h].related.push(of_other);
    }
}

/// Whether objects come as a whole number for each goroutine or entry: one, or a few.
fn whole_number_each(objects_per_s: f64, per_s: f64) -> bool {
    let each = objects_per_s / per_s;
    plausible(each) && (each - each.round()).abs() <= 0.1 * each.round().max(1.0)
}

fn plausible(per_goroutine: f64) -> bool {
    per_goroutine > 1.0 - SAME_RATE && per_goroutine < OBJECTS_PER_GOROUTINE
}

/// Moves the classes that the code of a goroutine finding feeds into it.
fn take_goroutine_memory(finding: &mut Finding, parts: Vec<HeapPart>, module: Option<&str>) -> Vec<HeapPart> {
    let Growth::Goroutines(growth) = &mut finding.growth else { return parts };
    let started = finding.place.as_ref();
    let (theirs, others): (Vec<HeapPart>, Vec<HeapPart>) = parts
        .into_iter()
        .partition(|p| belongs_to_goroutines(p, started, &growth.entry, growth.slope.per_unit, module));
    if !theirs.is_empty() {
        let sum = heap_growth::sum(&theirs);
        finding.evidence.push(format!(
            "the live heap grows {} with them ({})",
            super::figures::byte_rate(sum.per_unit),
            theirs.iter().map(HeapPart::name).collect::<Vec<_>>().join(", ")
        ));
        growth.heap = Some(sum);
    }
    others
}

fn belongs_to_goroutines(
    part: &HeapPart,
    started: Option<&Frame>,
    entry: &str,
    goroutines_per_s: f64,
    module: Option<&str>,
) -> bool {
    // Without sites only the rate speaks, and a leak of another cause may have it.
    let Some(candidate) = part.candidates.first() else { return false };
    let plausible = plausible(part.objects_per_s / goroutines_per_s);
    let own = own::own_frames(&candidate.stack, module);
    let by_itself = !entry.is_empty() && own.last().is_some_and(|f| f.function == entry);
    let at_start = started.is_some_and(|s| {
        own.iter().any(|f| f.function == s.function && f.line == s.line)
            || (candidate.cause == Cause::GoroutineStart && own.iter().any(|f| f.function == s.function))
            || (plausible && own.first().is_some_and(|f| f.function == s.function))
    });
    by_itself || at_start
}

/// Classes linked, directly or through others, by the code that allocates in them.
fn linked_groups(parts: Vec<HeapPart>, module: Option<&str>) -> Vec<Vec<HeapPart>> {
    let mut groups: Vec<Vec<HeapPart>> = Vec::new();
    for part in parts {
        let (mut with, rest): (Vec<_>, Vec<_>) =
            groups.into_iter().partition(|g| g.iter().any(|p| linked(p, &part, module)));
        groups = rest;
        let mut merged: Vec<HeapPart> = with.drain(..).flatten().collect();
        merged.push(part);
        merged.sort_by(|a, b| b.slope.per_unit.total_cmp(&a.slope.per_unit));
        groups.push(merged);
    }
    groups
}

fn linked(a: &HeapPart, b: &HeapPart, module: Option<&str>) -> bool {
    let (Some(ca), Some(cb)) = (a.candidates.first(), b.candidates.first()) else {
        // Nothing but a size is known: objects that come at one rate come together.
        return a.candidates.is_empty() && b.candidates.is_empty() && same_rate(a, b);
    };
    let (fa, fb) = (own::own_frames(&ca.stack, module), own::own_frames(&cb.stack, module));
    let (Some(first_a), Some(first_b)) = (fa.first(), fb.first()) else { return ca.id == cb.id };
    if first_a.function == first_b.function {
        return true;
    }
    // One is called by the other's function. The outermost frame calls everything and links nothing by itself.
    let calls = |inner: &[&Frame], outer: &Frame| {
        inner.len() > 2 && inner[1..inner.len() - 1].iter().any(|f| f.function == outer.function)
    };
    if calls(&fa, first_b) || calls(&fb, first_a) {
        return true;
    }
    // Both are called by one function, which makes a pair of them each time.
    match (fa.get(1), fb.get(1)) {
        (Some(pa), Some(pb)) => pa.function == pb.function && same_rate(a, b),
        (Some(pa), None) => pa.function == first_b.function && same_rate(a, b),
        (None, Some(pb)) => pb.function == first_a.function && same_rate(a, b),
        (None, None) => false,
    }
}

fn same_rate(a: &HeapPart, b: &HeapPart) -> bool {
    let (low, high) = (a.objects_per_s.min(b.objects_per_s), a.objects_per_s.max(b.objects_per_s));
    low > 0.0 && low >= (1.0 - SAME_RATE) * high
}

/// Leaks before suspects; heap bytes before goroutines before maps of the same verdict; the fastest first.
fn rank(findings: &mut [Finding]) {
    let speed = |f: &Finding| match &f.growth {
        Growth::Heap { slope, .. } => (0, slope.per_unit),
        Growth::Goroutines(g) => (1, g.slope.per_unit),
        Growth::Map(m) => (2, m.slope.per_unit),
    };
    findings.sort_by(|a, b| {
        let (kind_a, speed_a) = speed(a);
        let (kind_b, speed_b) = speed(b);
        verdict_rank(a.verdict)
            .cmp(&verdict_rank(b.verdict))
            .then(kind_a.cmp(&kind_b))
            .then(speed_b.total_cmp(&speed_a))
            .then_with(|| a.subject.cmp(&b.subject))
    });
}

fn verdict_rank(verdict: Verdict) -> u8 {
    match verdict {
        Verdict::Leak => 0,
        Verdict::Suspect => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_maps_values_point_to() {
        assert_eq!(value_of("map[string]*main.session"), Some("main.session"));
        assert_eq!(value_of("map[[4]int]*main.Box[int]"), Some("main.Box[int]"));
        for none in ["map[string]int", "[]*main.session", "map[", "map]]*x", ""] {
            assert_eq!(value_of(none), None, "{none}");
        }
    }
}
