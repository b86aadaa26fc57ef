//! From records to the printed report, without root: a service that leaks a map entry per request and a
//! goroutine now and then, beside a busy and innocent site in the same size class.

use tracer_user::aggregate::Ledger;
use tracer_user::analyze::{Judgement, all_decided, judge};
use tracer_user::record::note::EndedBy;
use tracer_user::record::reading::{
    AllocClass, AllocCount, Counts, Gc, GoState, GoroutineCount, GoroutineGroup, Goroutines, SizeClass,
    SizeClasses,
};
use tracer_user::record::{Body, Event, Note, Reading, Readout, Record, Slot};
use tracer_user::symbolize::{Evidence, Frame, Line, Names, PcKind, Symbolizer, TypeInfo};
use tracer_user::units::{Bytes, KTime, ProcAddr, StackId};

const SECOND: u64 = 1_000_000_000;

/// Addresses are 16 times an index into this table.
const FUNCTIONS: &[(&str, u32)] = &[
    ("runtime.newobject", 0),
    ("main.(*Cache).Put", 42),
    ("main.handle", 88),
    ("main.main", 7),
    ("runtime.main", 0),
    ("main.render", 12),
    ("main.startWorker", 23),
    ("main.worker", 31),
    ("runtime.gopark", 0),
    ("runtime.mapassign_faststr", 0),
];

struct Table;

impl Names for Table {
    fn frames(&self, pc: ProcAddr, _: PcKind) -> Vec<Frame> {
        let found = FUNCTIONS.get(pc.0 as usize / 16);
        found
            .map(|(function, line)| {
                Frame::from(Line {
                    function: (*function).to_owned(),
                    file: "/src/main.go".to_owned(),
                    line: *line,
                    ..Line::default()
                })
            })
            .into_iter()
            .collect()
    }
    fn type_info(&self, addr: ProcAddr) -> Option<TypeInfo> {
        (addr.0 == 1).then(|| TypeInfo { name: "main.Session".into(), size: 90, pointer_bytes: 80 })
    }
    fn module(&self) -> Option<String> {
        Some("example.com/service".into())
    }
}

fn at(t: u64, body: Body) -> Record {
    Record { slot: Slot(0), time: KTime(t), body }
}

fn stack(id: u64, functions: &[u64]) -> Record {
    let frames = functions.iter().map(|f| ProcAddr(f * 16)).collect();
    at(0, Body::Event(Event::Stack { id: StackId(id), frames, truncated: false }))
}

fn gc(cycle: u64, marked: u64) -> Gc {
    Gc {
        cycles: cycle as u32,
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
        new_pauses_ns: vec![80_000],
        cpu_fraction: None,
    }
}

fn workers(count: u64) -> Goroutines {
    Goroutines {
        groups: vec![GoroutineGroup {
            created_at: Some(ProcAddr(6 * 16)),
            entry: ProcAddr(7 * 16),
            state: GoState::Waiting,
            wait: Some("chan receive".into()),
            stack: vec![ProcAddr(8 * 16), ProcAddr(7 * 16)],
            count,
            oldest_wait: Some(KTime(0)),
            examples: vec![],
        }],
        total: count + 1,
        ..Goroutines::default()
    }
}

fn row(stack: u64, objects: u64) -> AllocCount {
    AllocCount {
        stack: StackId(stack),
        type_addr: Some(ProcAddr(1)),
        class: AllocClass::Small(8),
        objects,
        requested: Bytes(objects * 90),
        rounded: Bytes(objects * 96),
    }
}

/// Four readings a second, a GC a second, `leak` objects leaked a second.
fn session(seconds: u64, leak: u64) -> Vec<Record> {
    let mut records =
        vec![stack(1, &[0, 1, 2, 3, 4]), stack(2, &[0, 5, 2, 3, 4]), stack(3, &[0, 9, 1, 2, 3, 4])];
    for quarter in 0..seconds * 4 {
        let (t, cycle) = (quarter * SECOND / 4, 100 + quarter / 4);
        // A wobble that repeats after 7 readings stands for load.
        let wobble = quarter * 5 % 7 * 40;
        let made = |per_s: u64| quarter * per_s / 4;
        let marked = (20_000 + (cycle - 100) * leak + wobble) * 96;
        let live = 20_000 + made(leak) + wobble + quarter % 4 * 12_000;
        let allocs = 1_000_000 + made(48_000) + made(leak);
        let sizes = SizeClasses {
            small: vec![SizeClass { class: 8, size: Bytes(96), allocs, frees: allocs - live }],
            large_allocs: 3,
            large_frees: 1,
            large_alloc_bytes: Bytes(300_000),
            large_free_bytes: Bytes(100_000),
            tiny_allocs: 0,
        };
        let counts = Counts {
            allocs: vec![row(1, made(leak)), row(2, made(48_000)), row(3, made(leak) / 50)],
            goroutines: vec![GoroutineCount {
                created_at: ProcAddr(6 * 16),
                created: made(leak / 400),
                ended: 0,
            }],
            ..Counts::default()
        };
        for readout in [
            Readout::Gc(gc(cycle, marked)),
            Readout::SizeClasses(sizes),
            Readout::Goroutines(workers(5 + made(leak / 400))),
            Readout::Counts(counts),
        ] {
            let gc_cycle = Some(cycle as u32);
            let reading = Reading { from: KTime(t), gc_cycle, readout };
            records.push(at(t, Body::Reading(reading)));
        }
    }
    records.push(at(seconds * SECOND, Body::Note(Note::End(EndedBy::Duration))));
    records
}

fn judged(records: &[Record]) -> (Evidence, Judgement) {
    let mut ledger = Ledger::new(Slot(0), KTime(0));
    for record in records {
        ledger.apply(record.clone());
    }
    let evidence = Symbolizer::new().evidence(&ledger, &Table);
    let judgement = judge(&evidence);
    (evidence, judgement)
}

#[test]
fn the_planted_leaks_are_named_and_nothing_else() {
    let (evidence, judgement) = judged(&session(40, 4_000));
    let named: Vec<(&str, &str)> = judgement
        .findings
        .iter()
        .map(|f| (f.verdict.name(), f.place.as_ref().map_or("", |p| p.function.as_str())))
        .collect();
    assert_eq!(
        named,
        [("leak", "main.startWorker"), ("suspect", "main.(*Cache).Put")],
        "{:#?}",
        judgement.undecided
    );
    assert!(all_decided(&judgement));
    let counted = evidence.allocations.expect("allocations were counted");
    let sum: u64 = counted.sites.iter().map(|s| s.amount.objects).sum();
    assert_eq!(sum, counted.total.objects, "sites add up to the total");
    assert_eq!(counted.sites.iter().filter(|s| s.cause.name() == "map-assign").count(), 1);
}

#[test]
fn the_same_service_without_its_leaks_is_quiet() {
    for seconds in [20, 40, 90] {
        let (_, judgement) = judged(&session(seconds, 0));
        assert_eq!(judgement.findings, []);
        assert!(all_decided(&judgement), "{seconds}: {:?}", judgement.undecided);
    }
}

#[test]
fn a_short_session_accuses_nobody_and_says_what_it_needs() {
    let (_, judgement) = judged(&session(6, 4_000));
    assert_eq!(judgement.findings, []);
    let rules: Vec<&str> = judgement.undecided.iter().map(|u| u.rule).collect();
    assert_eq!(rules, ["goroutine-growth", "heap-growth"]);
}

#[test]
fn the_same_records_give_the_same_evidence_and_judgement() {
    let records = session(40, 4_000);
    assert_eq!(judged(&records), judged(&records));
}

#[test]
fn cycles_that_went_backwards_are_absent_and_not_none() {
    let read = |t, cycle| {
        let readout = Readout::Gc(gc(cycle, 96));
        at(t * SECOND, Body::Reading(Reading { from: KTime(t), gc_cycle: None, readout }))
    };
    let cycles = |last| judged(&[read(1, 100), read(2, last)]).0.gc.unwrap().cycles;
    assert_eq!((cycles(100), cycles(104), cycles(3)), (Some(0), Some(4), None));
}
