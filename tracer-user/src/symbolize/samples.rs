//! Our own sampled objects as named rows: what lives per site and type, estimated, with its error.
//!
//! Apart from the runtime's own profile, whose rows these share the form of. Each group of samples of one size is scaled
//! by the probability that an object of that size is taken. What is not known to live is never counted as live: it has a
//! column of its own. Before a GC told of any there is no such column: nothing is known to be garbage, and all counts as
//! live, as the runtime's own profile has it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Clock;
use super::evidence::{Cause, Frame};
use super::memo::Named;
use super::profile::{
    Amounts, HeapProfile, Places, ProfileSource, Sample, Sampling, SiteAmounts, SiteUnderWay, live_first,
};
use crate::aggregate::Ledger;
use crate::aggregate::heap::ClassHistory;
use crate::aggregate::samples::{Followed, SampleGroup};
use crate::record::profile::Sampled;
use crate::record::reading::AllocClass;
use crate::sampling::ByBytes;
use crate::units::{ProcAddr, StackId};

/// Large objects take whole pages (runtime/sizeclasses.go, _PageShift).
const PAGE: u64 = 8192;

/// What reads the same is one row.
type RowKey = (Vec<Frame>, Option<String>, Cause);

/// How the objects of a group were chosen: each weighs its bytes, or, at a pinned call, one.
#[derive(Clone, Copy)]
struct Design {
    by: ByBytes,
    weight: u64,
}

impl Design {
    fn amounts(self, sampled: u64, bytes: u64) -> Amounts {
        Amounts::of(self.by, sampled, self.weight, bytes)
    }
}

/// A stack of samples, named.
#[derive(Clone)]
struct Site {
    frames: Vec<Frame>,
    cause: Cause,
    places: Arc<[u32]>,
}

/// The rows, and how many stacks were sampled whose frames never arrived.
pub(super) fn heap_profile(
    ledger: &Ledger,
    clock: Clock,
    named: &mut Named<'_>,
) -> (Option<HeapProfile>, u64) {
    let store = ledger.samples();
    let (source, rate) = match (store.mean(), ledger.pins().largest_mean()) {
        (Some(mean), _) => (ProfileSource::Samples, mean),
        (None, Some(mean)) => (ProfileSource::Pins, mean),
        (None, None) => return (None, 0),
    };
    // Where single calls are probed, each has a mean of its own.
    let design_of = |group: &SampleGroup| {
        let mean = group.pin.and_then(|probe| ledger.pins().mean(probe)).unwrap_or(rate);
        Design { by: ByBytes { mean }, weight: if group.pin.is_some() { 1 } else { group.size.0 } }
    };
    let collected = store.cycle().is_some();
    let mut out = HeapProfile {
        source,
        rate,
        read_at_s: clock.at(store.newest().unwrap_or_else(|| ledger.now())),
        collected,
        total: SiteAmounts::of_none(ByBytes { mean: rate }),
        ..HeapProfile::default()
    };
    let mut missing = BTreeSet::new();
    let groups = store.groups();
    let (mut samples, mut places) = (Vec::with_capacity(groups.len()), Places::default());
    let mut keyed: Vec<(RowKey, &SampleGroup, &Followed)> = Vec::with_capacity(groups.len());
    let mut ages: BTreeMap<SampleGroup, Vec<u64>> = BTreeMap::new();
    for (group, born) in store.living() {
        let age_ns = ledger.now().0.saturating_sub(born.0);
        ages.entry(group).or_default().push(age_ns / 1_000_000);
    }
    let mut last: Option<(StackId, Option<ProcAddr>, Site)> = None;
    for (group, held) in groups {
        // What windows showed says who allocates, not how much.
        if source == ProfileSource::Pins && group.pin.is_none() {
            continue;
        }
        let type_name = group.type_addr.and_then(|t| named.type_info(t)).map(|t| t.name);
        if group.stack != StackId(0) && ledger.stacks().get(group.stack).is_none() {
            missing.insert(group.stack);
        }
        // Groups of one stack and type, of several sizes, come one after the other.
        let known = last.take().filter(|(stack, of, _)| (*stack, *of) == (group.stack, group.type_addr));
        let site = known.map_or_else(
            || stack_of(ledger, named, &mut places, group.stack, type_name.as_deref()),
            |(_, _, site)| site,
        );
        last = Some((group.stack, group.type_addr, site.clone()));
        let Site { frames, cause, places: stack } = site;
        keyed.push(((frames, type_name.clone(), cause), group, held));
        // What is unknown is in neither count of the live: left out of what was freed, it would be.
        let frees = held.dead.saturating_add(held.unknown);
        let counts = if collected {
            Sampled { allocs: held.taken.saturating_sub(held.fresh), frees }
        } else {
            Sampled { allocs: held.taken, frees }
        };
        let size = rounded(ledger, group);
        let Design { by, weight } = design_of(group);
        samples.push(Sample { stack, type_name, cause, size, chosen_by: weight, mean: by.mean, counts });
    }
    (out.samples, out.places) = (Arc::new(samples), Arc::new(places.all));
    // What reads the same lies side by side, its groups in their own order.
    keyed.sort_by(|(a, ..), (b, ..)| a.cmp(b));
    out.sites.reserve_exact(keyed.chunk_by(|(a, ..), (b, ..)| a == b).count());
    let mut keyed = keyed.into_iter().peekable();
    while let Some((key, mut group, mut held)) = keyed.next() {
        let mut row = SiteUnderWay::default();
        loop {
            let bytes = rounded(ledger, group);
            let design = design_of(group);
            let amounts = amounts(design, *held, bytes, collected);
            out.total.add(amounts);
            let sampling = Sampling {
                amounts,
                samples: held.taken,
                bytes,
                points: store.points(),
                number: store.number(group),
                ages: ages.get(group).map_or(&[], Vec::as_slice),
            };
            row.add(&sampling, clock, |sampled| design.amounts(sampled, bytes));
            match keyed.next_if(|(next, ..)| *next == key) {
                Some((_, next, followed)) => (group, held) = (next, followed),
                None => break,
            }
        }
        let (stack, type_name, cause) = key;
        out.sites.push(row.finish(stack, type_name, cause));
    }
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
        return Site { frames: Vec::new(), cause: Cause::Other, places: Arc::default() };
    };
    let (frames, cause) = named.allocation(stack, type_name);
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

fn amounts(design: Design, held: Followed, bytes: u64, collected: bool) -> SiteAmounts {
    let of = |n: u64| design.amounts(n, bytes);
    let (live, since_gc) =
        if collected { (held.live, held.fresh) } else { (held.live.saturating_add(held.fresh), 0) };
    SiteAmounts {
        live: of(live),
        allocated: of(held.taken),
        freed: of(held.dead),
        since_gc: of(since_gc),
        unknown: of(held.unknown),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Line, Names, PcKind, Symbolizer, TypeInfo};
    use super::*;
    use crate::record::samples::{Born, Fates, Sample as Taken, SampleKey};
    use crate::record::{Body, Event, Note, Reading, Readout, Record, Slot};
    use crate::sampling::Total;
    use crate::units::{Bytes, KTime, ProcAddr};

    struct Table;

    impl Names for Table {
        fn frames(&self, pc: ProcAddr, _: PcKind) -> Vec<Frame> {
            let function = if pc.0 == 1 { "runtime.newobject" } else { "main.put" };
            vec![Frame::from(Line { function: function.into(), line: pc.0 as u32, ..Line::default() })]
        }
        fn type_info(&self, addr: ProcAddr) -> Option<TypeInfo> {
            (addr.0 == 7).then(|| TypeInfo { name: "main.T".into(), size: 500, pointer_bytes: 8 })
        }
        fn module(&self) -> Option<String> {
            None
        }
    }

    fn record(at: u64, body: Body) -> Record {
        Record { slot: Slot(0), time: KTime(at), body }
    }

    fn sample(at: u64, stack: u64) -> Record {
        let sample = Taken {
            address: ProcAddr(0x1000 + at),
            stack: StackId(stack),
            type_addr: Some(ProcAddr(7)),
            class: AllocClass::Large,
            size: Bytes(40_000),
            g: ProcAddr(1),
            born: Some(Born { generation: 2, marking: false }),
            pin: None,
        };
        record(at, Body::Event(Event::Sample(sample)))
    }

    #[test]
    fn what_lives_died_or_is_unknown_is_scaled_by_what_was_asked_for() {
        let key = |at| SampleKey { address: ProcAddr(0x1000 + at), at: KTime(at) };
        let frames = vec![ProcAddr(1), ProcAddr(20)];
        let stack = Event::Stack { id: StackId(5), frames, truncated: false };
        let fates = Fates {
            cycle: 2,
            survived: vec![key(11), key(12)],
            died: vec![key(13)],
            unknown: vec![key(14)],
            untold: 0,
        };
        let told = Reading { from: KTime(20), gc_cycle: Some(2), readout: Readout::Fates(fates) };
        let mut ledger = crate::aggregate::Ledger::new(Slot(0), KTime(1));
        let mut records =
            vec![record(1, Body::Note(Note::Sampling { mean: 40_000 })), record(10, Body::Event(stack))];
        records.extend((11..=15).map(|at| sample(at, 5)));
        records.push(sample(16, 99));
        records.push(record(20, Body::Reading(told)));
        for r in &records {
            ledger.apply(r.clone());
        }
        let evidence = Symbolizer::new().evidence(&ledger, &Table);
        let profile = evidence.profile.expect("allocations are sampled");
        assert_eq!((profile.source, profile.rate, profile.collected), (ProfileSource::Samples, 40_000, true));
        let [put, unknown] = &profile.sites[..] else { panic!("{:?}", profile.sites) };
        assert_eq!((put.stack[0].function.as_str(), put.type_name.as_deref()), ("main.put", Some("main.T")));
        assert_eq!((put.cause, put.samples, unknown.id.as_str()), (Cause::New, 5, "unknown"));
        // 1 / (1 - exp(-1)), and whole pages.
        let one = 1.581_976_706_869_326_4;
        let near =
            |found: Total, wanted: f64| assert!((found.value - wanted).abs() < 1e-9, "{found:?} {wanted}");
        near(put.amounts.live.objects, 2.0 * one);
        near(put.amounts.live.bytes, 2.0 * one * 40_960.0);
        near(put.amounts.freed.objects, one);
        // Two live, and one stands for 1.58.
        assert_eq!(put.ages, [(0, 2), (0, 2)]);
        near(put.amounts.unknown.objects, one);
        near(put.amounts.since_gc.objects, one);
        near(profile.total.allocated.objects, 6.0 * one);
        let lost: Vec<&str> = evidence.losses.iter().map(|loss| loss.name).collect();
        assert_eq!(lost, ["stack_unknown"]);
        let [one, _] = &profile.samples[..] else { panic!("{:?}", profile.samples) };
        assert_eq!((one.counts.live(), one.size, one.chosen_by), (2, 40_960, 40_000));
    }

    #[test]
    fn before_a_gc_told_of_them_all_samples_count_as_live_in_every_figure() {
        let key = |at| SampleKey { address: ProcAddr(0x1000 + at), at: KTime(at) };
        // What the follower had no room for, which tells of no cycle.
        let untold = Fates { unknown: vec![key(12)], ..Fates::default() };
        let told = Reading { from: KTime(20), gc_cycle: None, readout: Readout::Fates(untold) };
        let mut ledger = crate::aggregate::Ledger::new(Slot(0), KTime(1));
        ledger.apply(record(1, Body::Note(Note::Sampling { mean: 40_000 })));
        (11..=13).for_each(|at| ledger.apply(sample(at, 5)));
        ledger.apply(record(20, Body::Reading(told)));
        let profile = Symbolizer::new().evidence(&ledger, &Table).profile.expect("allocations are sampled");
        assert!(!profile.collected);
        let [site] = &profile.sites[..] else { panic!("{:?}", profile.sites) };
        for SiteAmounts { live, allocated, freed, since_gc, unknown } in [site.amounts, profile.total] {
            let thirds = |a: Amounts| (3.0 * a.objects.value / allocated.objects.value).round() as u64;
            assert_eq!([live, unknown, freed, since_gc].map(thirds), [2, 1, 0, 0]);
        }
        // The same is what a pprof profile is made of.
        assert_eq!(profile.samples.iter().map(|s| s.counts.live()).collect::<Vec<_>>(), [2]);
    }
}
