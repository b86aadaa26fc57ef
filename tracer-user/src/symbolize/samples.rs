//! Our own sampled objects as named rows: what lives per site and type, estimated, with its error.
//!
//! Apart from the runtime's own profile, whose rows these share the form of. Each group of samples of one size is scaled
//! by the probability that an object of that size is taken. What is not known to live is never counted as live: it has a
//! column of its own.

use std::collections::{BTreeMap, BTreeSet};

use super::Clock;
use super::evidence::{Cause, Frame};
use super::memo::Named;
use super::profile::{
    Amounts, HeapProfile, Places, ProfileSource, Sample, Sampling, SiteAmounts, SiteUnderWay, live_first,
};
use super::stack::UserStack;
use crate::aggregate::Ledger;
use crate::aggregate::heap::ClassHistory;
use crate::aggregate::samples::{Followed, SampleGroup};
use crate::goruntime::names::cause;
use crate::record::profile::Sampled;
use crate::record::reading::AllocClass;
use crate::sampling::ByBytes;
use crate::units::StackId;

/// Large objects take whole pages (runtime/sizeclasses.go, _PageShift).
const PAGE: u64 = 8192;

/// What reads the same is one row.
type RowKey = (Vec<Frame>, Option<String>, Cause);

/// A stack of samples, named.
struct Site {
    frames: Vec<Frame>,
    cause: Cause,
    places: Vec<u32>,
}

/// The rows, and how many stacks were sampled whose frames never arrived.
pub(super) fn heap_profile(
    ledger: &Ledger,
    clock: Clock,
    named: &mut Named<'_>,
) -> (Option<HeapProfile>, u64) {
    let store = ledger.samples();
    let Some(mean) = store.mean() else {
        return (None, 0);
    };
    let design = ByBytes { mean };
    let collected = store.cycle().is_some();
    let mut out = HeapProfile {
        source: ProfileSource::Samples,
        rate: mean,
        read_at_s: clock.at(store.newest().unwrap_or_else(|| ledger.now())),
        collected,
        ..HeapProfile::default()
    };
    let mut missing = BTreeSet::new();
    let mut places = Places::default();
    let mut rows: BTreeMap<RowKey, SiteUnderWay> = BTreeMap::new();
    for (group, held) in store.groups() {
        let type_name = group.type_addr.and_then(|t| named.type_info(t)).map(|t| t.name);
        if group.stack != StackId(0) && ledger.stacks().get(group.stack).is_none() {
            missing.insert(group.stack);
        }
        let Site { frames, cause, places: stack } =
            stack_of(ledger, named, &mut places, group.stack, type_name.as_deref());
        let bytes = rounded(ledger, group);
        let amounts = amounts(design, group, *held, bytes);
        out.total.add(amounts);
        let row = rows.entry((frames, type_name.clone(), cause)).or_default();
        let sampling = Sampling {
            amounts,
            samples: held.taken,
            bytes,
            points: store.points(),
            number: store.number(group),
        };
        row.add(&sampling, clock, |sampled| Amounts::of(design, sampled, group.size.0, bytes));
        // What is unknown is in neither count of the live: left out of what was freed, it would be.
        let frees = held.dead.saturating_add(held.unknown);
        let counts = if collected {
            Sampled { allocs: held.taken.saturating_sub(held.fresh), frees }
        } else {
            Sampled { allocs: held.taken, frees }
        };
        out.samples.push(Sample { stack, type_name, cause, size: bytes, chosen_by: group.size.0, counts });
    }
    out.places = places.all;
    out.sites = rows
        .into_iter()
        .map(|((stack, type_name, cause), row)| row.finish(stack, type_name, cause))
        .collect();
    live_first(&mut out.sites);
    (Some(out), missing.len() as u64)
}

fn stack_of(
    ledger: &Ledger,
    named: &mut Named<'_>,
    places: &mut Places,
    id: StackId,
    type_name: Option<&str>,
) -> Site {
    let Some(stack) = ledger.stacks().get(id) else {
        return Site { frames: Vec::new(), cause: Cause::Other, places: Vec::new() };
    };
    let UserStack { frames, runtime } = named.allocation_stack(&stack.frames, stack.truncated);
    let runtime: Vec<&str> = runtime.iter().map(String::as_str).collect();
    let cause = cause::of(&runtime, type_name);
    // One place for each frame, inlined ones too, as the runtime's profiler writes them.
    let (mut addresses, mut all) = (Vec::new(), Vec::new());
    for pc in &stack.frames {
        for frame in named.frames(*pc, super::PcKind::Return) {
            addresses.push(*pc);
            all.push(frame);
        }
    }
    Site { frames, cause, places: places.stack(&addresses, &all) }
}

/// What the allocator set aside for one object of the group.
fn rounded(ledger: &Ledger, group: &SampleGroup) -> u64 {
    let size = group.size.0;
    match group.class {
        AllocClass::Large => size.saturating_add(PAGE - 1) / PAGE * PAGE,
        AllocClass::Small(class) | AllocClass::BelowTiny(class) => {
            let known = ledger.sizes().classes().get(&class).and_then(ClassHistory::size);
            known.map_or(size, |bytes| bytes.0)
        }
    }
}

fn amounts(design: ByBytes, group: &SampleGroup, held: Followed, bytes: u64) -> SiteAmounts {
    let of = |n: u64| Amounts::of(design, n, group.size.0, bytes);
    SiteAmounts {
        live: of(held.live),
        allocated: of(held.taken),
        freed: of(held.dead),
        since_gc: of(held.fresh),
        unknown: of(held.unknown),
    }
}
