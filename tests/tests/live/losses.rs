//! Every way in which the kernel side can lose something, forced: the counter is right, and the report says what it does to the totals.
//!
//! The hits are of probes on code of the tests' own (`tracer_tests::kernel_side`); programs in Go do these things by accident only.

use tracer_common::control::MAX_TARGETS;
use tracer_common::cookie::{BY_OBJECT, CALLER_AT_SP};
use tracer_tests::kernel_side::{At, KernelSide, NOWHERE, Registers, Shape, counted, frames, report};
use tracer_tests::live;
use tracer_user::record::{Body, Counter, Event, Note, Record, Slot, decode};
use tracer_user::report::Report;
use tracer_user::units::KTime;

/// Two words of memory for each g: the kernel side is told that the first is its creation site and the second its stack's end.
struct G(Box<[u64; 2]>);

fn g(number: u64) -> G {
    G(Box::new([number, 0x1_0000]))
}

fn of(g: &G) -> u64 {
    g.0.as_ptr() as u64
}

/// Exactly these were lost, and no total can be believed but as a lower bound.
fn assert_lower_bounds(report: &Report, lost: &[(&str, u64)]) {
    assert_lost(report, lost);
    assert!(report.session.lower_bounds && !report.session.complete, "{:?}", report.session);
}

/// Exactly these were lost; what was counted is all there is, but some of it has no site.
fn assert_totals_hold(report: &Report, lost: &[(&str, u64)]) {
    assert_lost(report, lost);
    assert!(!report.session.lower_bounds && !report.session.complete, "{:?}", report.session);
}

fn assert_lost(report: &Report, lost: &[(&str, u64)]) {
    let told: Vec<(&str, u64)> =
        report.session.counters.iter().map(|(name, n)| (name.as_str(), *n)).collect();
    assert_eq!(told, lost);
}

fn allocated(report: &Report) -> u64 {
    report.allocated_total.as_ref().map_or(0, |total| total.objects)
}

#[test]
fn a_full_table_of_allocations_is_counted() {
    live!(Root, Uprobes);
    let side = KernelSide::load(&[], |_| {}).probed(&[(At::First, Shape::Alloc, 0, 0)]);
    for number in 1..=10 {
        let stack = frames(3, number);
        side.hit(At::First, Registers { rax: 64, rbp: stack.as_ptr() as u64, ..Registers::default() });
    }
    let report = side.report();
    // No stack was drained, which the second counter says of the one that is kept.
    assert_lower_bounds(&report, &[("alloc_table_full", 9), ("stack_unknown", 1)]);
    assert_eq!(allocated(&report), 1);
    assert_eq!(side.counts().hits, [10]);
}

#[test]
fn a_full_table_of_map_calls_is_counted() {
    live!(Root, Uprobes);
    let side = KernelSide::load(&[], |_| {}).probed(&[(At::First, Shape::MapWrite, 0, 0)]);
    for map in 1..=10 {
        side.hit(At::First, Registers { rax: 0x77, rbx: map << 8, ..Registers::default() });
    }
    assert_lower_bounds(&side.report(), &[("map_table_full", 9)]);
    assert_eq!(side.counts().map_calls.iter().map(|row| row.calls).sum::<u64>(), 1);
}

#[test]
fn a_full_table_of_goroutines_is_counted() {
    live!(Root, Uprobes);
    let probes = [(At::First, Shape::GoBorn, 0, 0), (At::Second, Shape::GoEnd, 0, 0)];
    let side = KernelSide::load(&[], |_| {}).probed(&probes);
    let calls = 9_000;
    for site in 1..=calls {
        side.hit(At::First, Registers { rcx: site, ..Registers::default() });
    }
    let kept = side.counts().goroutines.len() as u64;
    assert!(kept > 1_000 && kept < calls, "{kept}");
    // One that ended, of a site that is in no table.
    let ended = g(calls + 1);
    side.hit(At::Second, Registers { rax: of(&ended), ..Registers::default() });
    assert_lower_bounds(&side.report(), &[("goroutine_table_full", calls - kept + 1)]);
    let created: u64 = side.counts().goroutines.iter().map(|row| row.created).sum();
    assert_eq!(created, kept);
}

#[test]
fn a_cookie_that_nobody_gave_is_counted() {
    live!(Root, Uprobes);
    let probes = [(At::First, Shape::Alloc, 0, MAX_TARGETS as u16)];
    let side = KernelSide::load(&[Shape::Alloc], |_| {}).probed(&probes);
    for _ in 0..4 {
        side.hit(At::First, Registers { rax: 64, ..Registers::default() });
    }
    assert_lower_bounds(&side.report(), &[("bad_cookie", 4)]);
}

#[test]
fn hits_in_another_process_are_counted_and_nothing_else() {
    live!(Root, Uprobes);
    let side = KernelSide::load(&[Shape::Alloc], |control| control.tgid += 1);
    let side = side.probed(&[(At::First, Shape::Alloc, 0, 0)]);
    for _ in 0..4 {
        side.hit(At::First, Registers { rax: 64, ..Registers::default() });
    }
    let report = side.report();
    assert_lost(&report, &[("foreign_process", 4)]);
    assert!(report.session.complete && !report.session.lower_bounds);
    assert_eq!((allocated(&report), side.counts().hits), (0, vec![0]));
}

/// A kernel side that follows each object.
fn sampling(shapes: &[Shape], marking: u64) -> KernelSide {
    let word = Box::leak(Box::new(0_u32));
    let of_word = &raw const *word as u64;
    let side = KernelSide::load(shapes, |control| {
        control.g_stack_hi = 8;
        control.sample.marking = if marking == 0 { of_word } else { marking };
        control.sample.generation = of_word;
    });
    side.probed(&[(At::First, Shape::SampleBegin, BY_OBJECT, 0), (At::Second, Shape::SampleEnd, 0, 0)])
}

fn chosen(side: &KernelSide, g: u64) {
    side.hit(At::First, Registers { rax: 64, r14: g, ..Registers::default() });
}

fn handed_out(side: &KernelSide, g: u64, address: u64) {
    side.hit(At::Second, Registers { rax: address, r14: g, ..Registers::default() });
}

#[test]
fn a_full_table_of_samples_is_counted() {
    live!(Root, Uprobes);
    let side = sampling(&[], 0);
    let all: Vec<G> = (0..5).map(g).collect();
    for g in &all {
        chosen(&side, of(g));
    }
    assert_lower_bounds(&side.report(), &[("sample_table_full", 4)]);
}

#[test]
fn samples_without_an_address_are_counted() {
    live!(Root, Uprobes);
    let side = sampling(&[Shape::SampleBegin], 0);
    let g = g(1);
    // Each of the later two comes where the one before still waits.
    for _ in 0..3 {
        chosen(&side, of(&g));
    }
    assert_lower_bounds(&side.report(), &[("sample_unanswered", 2)]);
}

#[test]
fn samples_that_cannot_be_read_are_counted() {
    live!(Root, Uprobes);
    let side = sampling(&[Shape::SampleBegin], NOWHERE);
    // A g that is nowhere; an object that is nowhere; a collector of which nobody knows what it does.
    chosen(&side, NOWHERE);
    let g = g(1);
    chosen(&side, of(&g));
    handed_out(&side, of(&g), 0);
    chosen(&side, of(&g));
    handed_out(&side, of(&g), 0x1234);
    assert_lower_bounds(&side.report(), &[("sample_unreadable", 3)]);
}

#[test]
fn what_a_window_chose_and_never_got_is_counted() {
    live!(Root, Uprobes);
    let mut side = sampling(&[Shape::SampleBegin], 0);
    let all: Vec<G> = (0..5).map(g).collect();
    for g in &all {
        chosen(&side, of(g));
    }
    handed_out(&side, of(&all[0]), 0x1234);
    let forgotten = side.kernel.forget_pending().expect("it is there");
    assert_eq!((forgotten, side.kernel.forget_pending().expect("it is there")), (4, 0));
    let note = Note::Lost { counter: Counter::WindowForgotten, count: forgotten };
    let said = Record { slot: Slot(0), time: KTime(3), body: Body::Note(note) };
    let report = report(vec![counted(side.counts()), said]);
    assert_lost(&report, &[("window_forgotten", 4)]);
    assert!(report.session.complete);
}

/// Nobody drains the ring, until it is full.
#[test]
fn a_full_ring_is_counted() {
    live!(Root, Uprobes);
    let mut side = KernelSide::load(&[Shape::Alloc], |_| {}).probed(&[(At::First, Shape::Alloc, 0, 0)]);
    let calls = 5_000;
    for number in 1..=calls {
        let stack = frames(126, number);
        side.hit(At::First, Registers { rax: 64, rbp: stack.as_ptr() as u64, ..Registers::default() });
    }
    let counts = side.counts();
    let mut records = Vec::new();
    side.kernel.ring().expect("nobody took it").drain(|bytes| records.extend(decode::decode(bytes)));
    let arrived = records.len() as u64;
    assert!(arrived > 1_000 && arrived < calls, "{arrived}");
    let rest = counts.allocs.iter().filter(|row| row.stack.0 == 0).map(|row| row.objects).sum::<u64>();
    assert_eq!(rest, calls - arrived);
    records.push(counted(counts));
    let report = report(records);
    assert_totals_hold(&report, &[("ring_full", calls - arrived)]);
    assert_eq!(allocated(&report), calls);
}

#[test]
fn a_full_ring_loses_samples_and_says_so() {
    live!(Root, Uprobes);
    let mut side = sampling(&[Shape::SampleBegin], 0);
    let g = g(1);
    let calls = 80_000;
    for address in 1..=calls {
        chosen(&side, of(&g));
        handed_out(&side, of(&g), address << 4);
    }
    let counts = side.counts();
    let mut arrived = 0;
    side.kernel.ring().expect("nobody took it").drain(|bytes| {
        let record = decode::decode(bytes).expect("it is the kernel side's");
        arrived += u64::from(matches!(record.body, Body::Event(Event::Sample(_))));
    });
    assert!(arrived > 1_000 && arrived < calls, "{arrived}");
    assert_lower_bounds(&report(vec![counted(counts)]), &[("sample_ring_full", calls - arrived)]);
}

/// Each is counted, whatever of its stack or type could not be read.
#[test]
fn what_cannot_be_read_of_an_allocation_is_counted() {
    live!(Root, Uprobes);
    let long = frames(200, 1);
    let good = Registers { rax: 64, ..Registers::default() };
    let cases = [
        ("stack_cut", 0, Registers { rbp: NOWHERE, ..good }),
        ("stack_truncated", 0, Registers { rbp: long.as_ptr() as u64, ..good }),
        ("caller_unreadable", CALLER_AT_SP, Registers { rsp: NOWHERE, ..good }),
        ("type_unreadable", 0, Registers { rbx: NOWHERE, ..good }),
    ];
    for (name, flags, registers) in cases {
        let mut side = KernelSide::load(&[Shape::Alloc], |control| {
            (control.alloc.header_above, control.alloc.max_small) = (8, 32 << 10);
        });
        side = side.probed(&[(At::First, Shape::Alloc, flags, 0)]);
        for _ in 0..3 {
            side.hit(At::First, registers);
        }
        let mut records = Vec::new();
        side.kernel.ring().expect("nobody took it").drain(|bytes| records.extend(decode::decode(bytes)));
        records.push(counted(side.counts()));
        let report = report(records);
        assert_lost(&report, &[(name, 3)]);
        assert!(!report.session.lower_bounds, "{name}");
        assert_eq!(report.session.complete, name == "stack_truncated");
        assert_eq!(allocated(&report), 3, "{name}");
    }
}

#[test]
fn goroutines_that_ended_where_nothing_is_are_counted() {
    live!(Root, Uprobes);
    let side = KernelSide::load(&[], |_| {}).probed(&[(At::First, Shape::GoEnd, 0, 0)]);
    for _ in 0..3 {
        side.hit(At::First, Registers { rax: NOWHERE, ..Registers::default() });
    }
    assert_totals_hold(&side.report(), &[("goroutine_unreadable", 3)]);
    assert!(side.counts().goroutines.is_empty());
}
