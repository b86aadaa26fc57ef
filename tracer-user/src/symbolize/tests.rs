//! Merging, naming and honesty about what has no name.

use super::*;
use crate::record::reading::{
    AllocClass, AllocCount, Counts, GoState, GoroutineCount, GoroutineGroup, Goroutines, MapSearch, MapState,
    Maps, SharedStorage,
};
use crate::record::{Body, Event, Reading, Readout, Record, Slot};
use crate::units::{Bytes, StackId};

/// 0x1xx: runtime.newobject; 0x2xx: main.f at line xx / 16; 0x3xx: main.main; 0x4xx: runtime.main.
struct Table;

impl Names for Table {
    fn frames(&self, pc: ProcAddr, _: PcKind) -> Vec<Frame> {
        let function = match pc.0 >> 8 {
            1 => "runtime.newobject",
            2 => "main.f",
            3 => "main.main",
            4 => "runtime.main",
            5 => "runtime.gopark",
            _ => return Vec::new(),
        };
        vec![Frame::from(Line {
            function: function.into(),
            file: "m.go".into(),
            line: (pc.0 as u32 & 0xff) / 16,
            ..Line::default()
        })]
    }
    fn type_info(&self, addr: ProcAddr) -> Option<TypeInfo> {
        let name = match addr.0 {
            1 => "int",
            0x51 => "map[string]int",
            0x52 => "main.names",
            _ => return None,
        };
        Some(TypeInfo { name: name.into(), size: 8, pointer_bytes: 0 })
    }
    fn module(&self) -> Option<String> {
        Some("example".into())
    }
}

fn record(time: u64, body: Body) -> Record {
    Record { slot: Slot(0), time: KTime(time * 1_000_000_000), body }
}

fn reading(time: u64, readout: Readout) -> Record {
    record(time, Body::Reading(Reading { from: KTime(0), gc_cycle: None, readout }))
}

fn stack(id: u64, frames: &[u64]) -> Record {
    record(
        1,
        Body::Event(Event::Stack {
            id: StackId(id),
            frames: frames.iter().map(|f| ProcAddr(*f)).collect(),
            truncated: false,
        }),
    )
}

fn alloc(stack: u64, class: AllocClass, ty: Option<u64>, objects: u64) -> AllocCount {
    AllocCount {
        stack: StackId(stack),
        type_addr: ty.map(ProcAddr),
        class,
        objects,
        requested: Bytes(objects * 8),
        rounded: Bytes(objects * 8),
    }
}

fn evidence(records: &[Record]) -> Evidence {
    let mut ledger = Ledger::new(Slot(0), KTime(1_000_000_000));
    for r in records {
        ledger.apply(r.clone());
    }
    Symbolizer::new().evidence(&ledger, &Table)
}

#[test]
fn stacks_that_read_the_same_are_one_site_and_sums_hold() {
    let e = evidence(&[
        stack(1, &[0x100, 0x210, 0x300, 0x400]),
        stack(2, &[0x105, 0x211, 0x300, 0x400]),
        stack(3, &[0x100, 0x220, 0x300, 0x400]),
        reading(
            11,
            Readout::Counts(Counts {
                allocs: vec![
                    alloc(1, AllocClass::BelowTiny(1), Some(1), 10),
                    alloc(2, AllocClass::BelowTiny(1), Some(1), 5),
                    alloc(3, AllocClass::Small(5), None, 7),
                    alloc(9, AllocClass::Small(5), None, 3),
                    alloc(0, AllocClass::Large, None, 1),
                ],
                ..Counts::default()
            }),
        ),
    ]);
    let a = e.allocations.expect("allocations were counted");
    let rows: Vec<(&str, u64)> = a
        .sites
        .iter()
        .map(|s| (s.stack.first().map_or("unknown", |f| f.function.as_str()), s.amount.objects))
        .collect();
    assert_eq!(rows, [("main.f", 15), ("main.f", 7), ("unknown", 4)]);
    assert_eq!(a.total.objects, 26);
    assert_eq!(a.sites[0].cause, evidence::Cause::New);
    assert_eq!(a.sites[0].stack.len(), 2, "runtime.main is not the user's");
    assert_eq!(a.sites[0].classes.keys().copied().collect::<Vec<_>>(), [2], "a tiny block");
    assert!((a.counted_s - 10.0).abs() < 1e-9);
    let lost: Vec<(&str, u64)> = e.losses.iter().map(|l| (l.name, l.count)).collect();
    assert_eq!(lost, [("stack_unknown", 1)]);
}

#[test]
fn goroutines_on_one_line_share_a_history() {
    let group = |site: u64, count: u64, wait: u64| GoroutineGroup {
        created_at: Some(ProcAddr(site)),
        entry: ProcAddr(0x200),
        state: GoState::Waiting,
        wait: Some("chan receive".into()),
        stack: vec![ProcAddr(0x500), ProcAddr(0x250)],
        count,
        oldest_wait: Some(KTime(wait * 1_000_000_000)),
        examples: Vec::new(),
    };
    let read = |t, groups: Vec<GoroutineGroup>| {
        reading(t, Readout::Goroutines(Goroutines { total: 9, groups, ..Goroutines::default() }))
    };
    let e = evidence(&[
        read(2, vec![group(0x310, 3, 1)]),
        read(3, vec![group(0x310, 4, 1), group(0x311, 2, 2)]),
        reading(
            3,
            Readout::Counts(Counts {
                goroutines: vec![GoroutineCount { created_at: ProcAddr(0x311), created: 6, ended: 3 }],
                ..Counts::default()
            }),
        ),
    ]);
    let g = e.goroutines.expect("goroutines were read");
    assert_eq!(g.sites.len(), 1);
    let s = &g.sites[0];
    assert_eq!(s.created_by.as_ref().map(|f| (f.function.as_str(), f.line)), Some(("main.main", 1)));
    assert_eq!(s.points.iter().map(|p| p.count).collect::<Vec<_>>(), [3, 6]);
    assert_eq!((s.count, s.created, s.ended), (6, Some(6), Some(3)));
    assert_eq!(s.groups.len(), 1);
    assert_eq!(s.groups[0].stack[0].function, "main.f");
    assert_eq!(s.groups[0].oldest_wait_s, Some(2.0));
    assert!(!s.internal);
}

#[test]
fn every_loss_is_explained() {
    let page = include_str!("../../../docs/losses.md");
    let cuts = Ledger::new(Slot(0), KTime(0)).every_cut().map(|(name, _)| name);
    for name in Counter::ALL.iter().map(|counter| counter.name()).chain(cuts) {
        assert!(page.contains(&format!("`{name}`")), "docs/losses.md says nothing of {name}");
    }
}

#[test]
fn a_map_whose_storage_several_types_share_is_one_of_them() {
    let map = |address, variable: Option<u64>| MapState {
        address: ProcAddr(address),
        type_addr: ProcAddr(0x51),
        variable: variable.map(ProcAddr),
        seed: 7,
        entries: 3000,
        capacity: None,
        tombstones: None,
    };
    let maps = Maps {
        maps: vec![map(0x10, None), map(0x20, None), map(0x30, Some(8)), map(0x40, None)],
        ..Maps::default()
    };
    let shared = |address, types: &[u64], more| SharedStorage {
        map: ProcAddr(address),
        types: types.iter().copied().map(ProcAddr).collect(),
        more,
    };
    let both = [0x51, 0x52];
    let search = MapSearch {
        spans: Bytes(9),
        waiting: Bytes(4),
        unread: 3,
        beyond_cap: 2,
        shared: vec![shared(0x10, &both, 0), shared(0x30, &both, 0), shared(0x40, &[0x51, 0x99], 0)],
    };
    let e = evidence(&[reading(1, Readout::Maps(maps)), reading(1, Readout::MapSearch(search))]);
    let mut told: Vec<_> =
        e.maps.iter().map(|m| (m.address, m.type_name.as_deref(), m.may_be.len())).collect();
    told.sort_unstable();
    assert_eq!(
        told,
        [
            (0x10, Some("main.names | map[string]int"), 2),
            (0x20, Some("map[string]int"), 0),
            (0x30, Some("map[string]int"), 0),
            (0x40, None, 0),
        ]
    );
    assert_eq!(e.map_search.map(|s| (s.span_bytes, s.waiting_bytes)), Some((9, 4)));
    let lost: Vec<_> = e.losses.iter().map(|loss| (loss.name, loss.count)).collect();
    assert_eq!(lost, [("map_search_cut", 2), ("map_search_unread", 3)]);
}
