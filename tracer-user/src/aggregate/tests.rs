//! Properties of the ledger: any records, no panic; what was counted is what is held; kinds do not disturb
//! each other.

use proptest::prelude::*;

use super::*;
use crate::record::Reading;
use crate::record::reading::{
    AllocClass, AllocCount, Counts, Gc, GoState, GoroutineCount, GoroutineGroup, Goroutines, MapCall,
    MapCallCount, Process, SizeClass, SizeClasses,
};
use crate::units::{Bytes, ProcAddr, StackId};

fn any_class() -> impl Strategy<Value = AllocClass> {
    prop_oneof![
        any::<u8>().prop_map(AllocClass::BelowTiny),
        any::<u8>().prop_map(AllocClass::Small),
        Just(AllocClass::Large)
    ]
}

fn any_alloc() -> impl Strategy<Value = AllocCount> {
    (0..6_u64, prop::option::of(0..3_u64), any_class(), any::<u64>(), any::<u64>(), any::<u64>()).prop_map(
        |(stack, ty, class, objects, requested, rounded)| AllocCount {
            stack: StackId(stack),
            type_addr: ty.map(ProcAddr),
            class,
            objects,
            requested: Bytes(requested),
            rounded: Bytes(rounded),
        },
    )
}

fn any_counts() -> impl Strategy<Value = Counts> {
    (
        prop::collection::vec(any_alloc(), 0..8),
        prop::collection::vec((0..4_u64, any::<u64>()), 0..4),
        prop::collection::vec((0..4_u64, any::<u64>(), any::<u64>()), 0..4),
        prop::collection::vec(any::<u64>(), 0..4),
        prop::collection::vec((0..Counter::ALL.len(), any::<u64>()), 0..4),
    )
        .prop_map(|(allocs, maps, births, hits, losses)| Counts {
            allocs,
            map_calls: maps
                .into_iter()
                .map(|(stack, writes)| MapCallCount {
                    stack: StackId(stack),
                    type_addr: ProcAddr(1),
                    map: ProcAddr(2),
                    call: MapCall::Write,
                    calls: writes,
                })
                .collect(),
            goroutines: births
                .into_iter()
                .map(|(site, created, ended)| GoroutineCount { created_at: ProcAddr(site), created, ended })
                .collect(),
            hits,
            losses: losses.into_iter().map(|(c, n)| (Counter::ALL[c], n)).collect(),
        })
}

fn any_gc() -> impl Strategy<Value = Gc> {
    (any::<u32>(), any::<u64>(), prop::collection::vec(any::<u64>(), 0..4)).prop_map(
        |(cycles, marked, new_pauses_ns)| Gc {
            cycles,
            forced: 0,
            heap_marked: Bytes(marked),
            heap_live: Bytes(marked),
            goal: None,
            in_use: Bytes(marked),
            free: Bytes(0),
            released: Bytes(0),
            mapped_ready: Bytes(marked),
            in_stacks: Bytes(0),
            gogc: 100,
            memory_limit: None,
            last_gc_unix_ns: None,
            new_pauses_ns,
            cpu_fraction: None,
        },
    )
}

fn any_group() -> impl Strategy<Value = GoroutineGroup> {
    (prop::option::of(0..5_u64), any::<u64>(), any::<bool>(), prop::option::of(any::<u64>())).prop_map(
        |(site, count, waits, oldest)| GoroutineGroup {
            created_at: site.map(ProcAddr),
            entry: ProcAddr(7),
            state: if waits { GoState::Waiting } else { GoState::Running },
            wait: waits.then(|| "select".to_owned()),
            stack: vec![ProcAddr(9)],
            count,
            oldest_wait: oldest.map(KTime),
            examples: Vec::new(),
        },
    )
}

fn any_sizes() -> impl Strategy<Value = SizeClasses> {
    (prop::collection::vec((any::<u8>(), any::<u64>(), any::<u64>(), any::<u64>()), 0..6), any::<[u64; 4]>())
        .prop_map(|(small, large)| SizeClasses {
            small: small
                .into_iter()
                .map(|(class, size, allocs, frees)| SizeClass { class, size: Bytes(size), allocs, frees })
                .collect(),
            large_allocs: large[0],
            large_frees: large[1],
            large_alloc_bytes: Bytes(large[2]),
            large_free_bytes: Bytes(large[3]),
            tiny_allocs: 0,
        })
}

fn any_readout() -> impl Strategy<Value = Readout> {
    prop_oneof![
        any_counts().prop_map(Readout::Counts),
        any_gc().prop_map(Readout::Gc),
        any_sizes().prop_map(Readout::SizeClasses),
        (prop::collection::vec(any_group(), 0..6), any::<u64>(), any::<u64>()).prop_map(
            |(groups, total, skipped)| Readout::Goroutines(Goroutines {
                groups,
                total,
                skipped,
                ..Goroutines::default()
            })
        ),
        any::<u64>().prop_map(|rss| Readout::Process(Process {
            rss: Bytes(rss),
            rss_anon: None,
            rss_shmem: None,
            cpu_s: 0.0,
            threads: 1,
        })),
    ]
}

fn any_body() -> impl Strategy<Value = Body> {
    prop_oneof![
        1 => (0..8_u64, prop::collection::vec(any::<u64>().prop_map(ProcAddr), 0..5)).prop_map(
            |(id, frames)| Body::Event(Event::Stack { id: StackId(id), frames, truncated: false })
        ),
        4 => (any_readout(), prop::option::of(any::<u32>())).prop_map(|(readout, gc_cycle)| {
            Body::Reading(Reading { from: KTime(0), gc_cycle, readout })
        }),
        1 => prop_oneof![
            Just(Note::End(EndedBy::Signal)),
            Just(Note::Attached { probes: Vec::new() }),
            Just(Note::ReadingFailed { what: "gc".into(), why: "gone".into() }),
            Just(Note::NewerGo { how: "by trial".into() }),
            Just(Note::SiteRefused { function: "f".into(), why: "no".into() }),
        ]
        .prop_map(Body::Note),
    ]
}

fn any_record() -> impl Strategy<Value = Record> {
    (0..2_u16, any::<u64>(), any_body()).prop_map(|(slot, time, body)| Record {
        slot: Slot(slot),
        time: KTime(time),
        body,
    })
}

fn reading(time: u64, readout: Readout) -> Record {
    Record {
        slot: Slot(0),
        time: KTime(time),
        body: Body::Reading(Reading { from: KTime(time), gc_cycle: Some(3), readout }),
    }
}

fn ledger(records: &[Record]) -> Ledger {
    let mut ledger = Ledger::new(Slot(0), KTime(0));
    for record in records {
        ledger.apply(record.clone());
    }
    ledger
}

proptest! {
    #[test]
    fn any_records_are_taken_without_a_panic(records in prop::collection::vec(any_record(), 0..40)) {
        let held = ledger(&records);
        let other_slot = records.iter().filter(|r| r.slot != Slot(0)).count() as u64;
        prop_assert_eq!(held.cuts().get("ledger_misrouted").copied().unwrap_or(0), other_slot);
    }

    #[test]
    fn what_was_counted_is_what_is_held(allocs in prop::collection::vec(any_alloc(), 0..20)) {
        let want: u128 = {
            let mut by_key = BTreeMap::new();
            for a in &allocs {
                let sum = by_key.entry((a.stack, a.type_addr, a.class)).or_insert(0_u64);
                *sum = sum.saturating_add(a.objects);
            }
            by_key.values().map(|n| u128::from(*n)).sum()
        };
        let counts = Counts { allocs, ..Counts::default() };
        let held = ledger(&[
            reading(1, Readout::Counts(counts.clone())),
            reading(2, Readout::Counts(counts)),
        ]);
        let sum: u128 = held.tallies().allocs().values().map(|t| u128::from(t.objects)).sum();
        prop_assert_eq!(sum + u128::from(held.tallies().allocs_unlisted().objects), want);
    }

    #[test]
    fn kinds_of_one_moment_commute(
        counts in any_counts(), gc in any_gc(), sizes in any_sizes(),
        groups in prop::collection::vec(any_group(), 0..6), turn in 0..6_usize,
    ) {
        let mut records = vec![
            reading(5, Readout::Counts(counts)),
            reading(5, Readout::Gc(gc)),
            reading(5, Readout::SizeClasses(sizes)),
            reading(5, Readout::Goroutines(Goroutines { groups, total: 1, ..Goroutines::default() })),
            Record {
                slot: Slot(0),
                time: KTime(5),
                body: Body::Event(Event::Stack {
                    id: StackId(1),
                    frames: vec![ProcAddr(4)],
                    truncated: false,
                }),
            },
            Record { slot: Slot(0), time: KTime(5), body: Body::Note(Note::End(EndedBy::Duration)) },
        ];
        let one = ledger(&records);
        records.rotate_left(turn);
        prop_assert_eq!(&ledger(&records), &one);
        records.reverse();
        prop_assert_eq!(&ledger(&records), &one);
    }
}

#[test]
fn a_full_table_of_stacks_is_counted() {
    let mut held = Ledger::new(Slot(0), KTime(0));
    for id in 0..stacks::MAX_STACKS as u64 + 3 {
        held.apply(Record {
            slot: Slot(0),
            time: KTime(1),
            body: Body::Event(Event::Stack { id: StackId(id), frames: vec![], truncated: false }),
        });
    }
    assert_eq!(held.stacks().len(), stacks::MAX_STACKS);
    assert_eq!(held.losses(), BTreeMap::from([(Counter::StackTableFull, 3)]));
}
