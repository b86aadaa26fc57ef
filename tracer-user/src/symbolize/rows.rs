//! Rows of counted and read figures: allocations, GC, size classes, process, probes.

use std::collections::{BTreeMap, BTreeSet};

use super::Clock;
use super::evidence::{
    AllocSite, Allocations, Amount, ClassPoint, Frame, GcPoint, GcState, Pauses, ProbeRow, ProcessPoint,
    ProcessState, SizeClass,
};
use super::memo::Named;
use super::stack::{UserStack, site_id};
use crate::aggregate::Ledger;
use crate::goruntime::names::cause::{self, Cause};
use crate::record::reading::{AllocClass, Process};
use crate::units::{Bytes, KTime, StackId};

/// The id of what has no known stack.
const UNKNOWN: &str = "unknown";
/// The size class that tiny blocks are taken from (malloc.go, `tinySpanClass`), all versions.
const TINY_BLOCK_CLASS: u8 = 2;

/// The size class as the heap has it, 0 for large objects: below the tiny allocator's block, objects without pointers share one.
pub(super) fn class_of(class: AllocClass, noscan: bool) -> u8 {
    match class {
        AllocClass::Large => 0,
        AllocClass::BelowTiny(_) if noscan => TINY_BLOCK_CLASS,
        AllocClass::Small(class) | AllocClass::BelowTiny(class) => class,
    }
}

/// Allocation rows, and how many stack ids were counted whose frames never arrived.
pub(super) fn allocations(
    ledger: &Ledger,
    clock: Clock,
    named: &mut Named<'_>,
) -> (Option<Allocations>, u64) {
    let tallies = ledger.tallies();
    let (Some(read_at), false) = (tallies.read_at(), tallies.allocs().is_empty()) else {
        return (None, 0);
    };
    let mut stacks: BTreeMap<StackId, Option<(UserStack, bool)>> = BTreeMap::new();
    let mut missing = BTreeSet::new();
    let mut rows: BTreeMap<(Vec<Frame>, Option<String>, Cause), AllocSite> = BTreeMap::new();
    let mut total = Amount::default();
    for (key, held) in tallies.allocs() {
        let stack = stacks.entry(key.stack).or_insert_with(|| {
            let stack = ledger.stacks().get(key.stack)?;
            Some((named.allocation_stack(&stack.frames, stack.truncated), stack.truncated))
        });
        if stack.is_none() && key.stack != StackId(0) {
            missing.insert(key.stack);
        }
        let ty = key.type_addr.map(|t| named.type_info(t));
        let type_name = ty.as_ref().and_then(|t| t.as_ref().map(|t| t.name.clone()));
        let (frames, cause, truncated) = match stack {
            Some((user, truncated)) => {
                let runtime: Vec<&str> = user.runtime.iter().map(String::as_str).collect();
                (user.frames.clone(), cause::of(&runtime, type_name.as_deref()), *truncated)
            }
            None => (Vec::new(), Cause::Other, false),
        };
        // No type, or one without pointers.
        let noscan = ty.as_ref().is_none_or(|t| t.as_ref().is_some_and(|t| t.pointer_bytes == 0));
        let class = class_of(key.class, noscan);
        let amount = Amount { objects: held.objects, requested: held.requested, rounded: held.rounded };
        total.add(amount);
        let id = if frames.is_empty() { UNKNOWN.to_owned() } else { site_id(&frames) };
        let (first_s, last_s) = (clock.at(held.first), clock.at(held.last));
        let row = rows.entry((frames, type_name, cause)).or_insert_with_key(|(stack, ty, cause)| AllocSite {
            id,
            stack: stack.clone(),
            type_name: ty.clone(),
            cause: *cause,
            amount: Amount::default(),
            classes: BTreeMap::new(),
            first_s,
            last_s,
            truncated: false,
        });
        row.amount.add(amount);
        row.classes.entry(class).or_default().add(amount);
        row.first_s = row.first_s.min(first_s);
        row.last_s = row.last_s.max(last_s);
        row.truncated |= truncated;
    }
    let unlisted = tallies.allocs_unlisted();
    let mut sites: Vec<AllocSite> = rows.into_values().collect();
    if unlisted.objects > 0 {
        let amount =
            Amount { objects: unlisted.objects, requested: unlisted.requested, rounded: unlisted.rounded };
        total.add(amount);
        sites.push(AllocSite {
            id: UNKNOWN.to_owned(),
            stack: Vec::new(),
            type_name: None,
            cause: Cause::Other,
            amount,
            classes: BTreeMap::new(),
            first_s: clock.at(unlisted.first),
            last_s: clock.at(unlisted.last),
            truncated: false,
        });
    }
    // The rows come sorted by name, so a stable sort by bytes is a total order.
    sites.sort_by_key(|s| std::cmp::Reverse((s.amount.rounded, s.amount.objects)));
    let read_at_s = clock.at(read_at);
    (Some(Allocations { sites, total, read_at_s, counted_s: read_at_s.max(0.0) }), missing.len() as u64)
}

pub(super) fn gc(ledger: &Ledger, clock: Clock) -> Option<GcState> {
    let history = ledger.gc();
    let (time, gc) = history.newest()?;
    let (first_time, first_cycle) = history.first_cycle()?;
    let points: Vec<GcPoint> = history
        .points()
        .iter()
        .map(|p| GcPoint { t: clock.at(p.time), cycle: p.cycle, live_bytes: p.heap_marked.0 })
        .collect();
    Some(GcState {
        cycles: gc.cycles.checked_sub(first_cycle),
        watched_s: time.seconds_since(first_time),
        live_bytes: (gc.cycles > 0).then_some(gc.heap_marked.0),
        goal_bytes: gc.goal.map(|b| b.0),
        in_use_bytes: gc.in_use.0,
        free_bytes: gc.free.0,
        released_bytes: gc.released.0,
        mapped_bytes: gc.mapped_ready.0,
        stack_bytes: gc.in_stacks.0,
        // mgcpacer.go: mappedReady is the heap in use and free, stacks, and what the runtime keeps for itself.
        other_bytes: [gc.in_use, gc.free, gc.in_stacks]
            .iter()
            .try_fold(gc.mapped_ready.0, |left, part| left.checked_sub(part.0)),
        gogc: gc.gogc,
        memory_limit: gc.memory_limit.map(|b| b.0),
        cpu_fraction: gc.cpu_fraction,
        points,
        pause: pauses(history.pauses().collect(), history.longest_pause()),
    })
}

/// Nearest-rank quantiles of the pauses kept; the longest over the whole session.
fn pauses(mut ns: Vec<u64>, longest: Option<u64>) -> Option<Pauses> {
    ns.sort_unstable();
    let rank = |q: f64| -> Option<f64> {
        let at = ((q * ns.len() as f64).ceil() as usize).max(1) - 1;
        ns.get(at).map(|v| *v as f64 / 1e9)
    };
    Some(Pauses { p50: rank(0.5)?, p99: rank(0.99)?, max: longest? as f64 / 1e9 })
}

pub(super) fn size_classes(ledger: &Ledger, clock: Clock) -> Vec<SizeClass> {
    ledger
        .sizes()
        .classes()
        .iter()
        .filter_map(|(class, history)| {
            let (objects, bytes) = history.newest()?;
            let allocs_per_s = history.allocs().and_then(|((t0, a0), (t1, a1))| {
                let dt = t1.seconds_since(t0);
                (dt > 0.0).then(|| a1.checked_sub(a0).map(|n| n as f64 / dt)).flatten()
            });
            Some(SizeClass {
                class: *class,
                size: history.size().map(|b| b.0),
                objects,
                bytes: bytes.0,
                allocs_per_s,
                points: history
                    .per_cycle()
                    .iter()
                    .map(|p| ClassPoint {
                        t: clock.at(p.time),
                        cycle: p.cycle,
                        objects: p.objects,
                        bytes: p.bytes.0,
                    })
                    .collect(),
            })
        })
        .collect()
}

pub(super) fn process(ledger: &Ledger, clock: Clock) -> Option<ProcessState> {
    let history = ledger.process();
    let (_, newest) = history.points().last()?;
    let point = |(time, p): &(KTime, Process)| ProcessPoint {
        t: clock.at(*time),
        rss: p.rss.0,
        rss_anon: p.rss_anon.map(|b| b.0),
    };
    Some(ProcessState {
        rss: newest.rss.0,
        rss_anon: newest.rss_anon.map(|b| b.0),
        rss_shmem: newest.rss_shmem.map(|b| b.0),
        outside_go: outside_go(newest, history.mapped_by_go()),
        points: history.points().iter().map(point).collect(),
        peak: history.peak().map(point),
    })
}

/// Not every page that Go has mapped is resident: a lower bound, and nothing where it would be less than nothing.
fn outside_go(process: &Process, mapped_by_go: Option<Bytes>) -> Option<u64> {
    let resident = process.rss_anon?.0.checked_add(process.rss_shmem?.0)?;
    resident.checked_sub(mapped_by_go?.0)
}

pub(super) fn probes(ledger: &Ledger) -> Vec<ProbeRow> {
    let hits = ledger.tallies().hits();
    ledger
        .probes()
        .iter()
        .enumerate()
        .map(|(i, p)| ProbeRow {
            function: p.function.clone(),
            offset: p.offset,
            instruction: p.instruction.clone(),
            hits: hits.get(i).copied(),
        })
        .collect()
}
