//! Every loss of docs/losses.md is forced by a test: those of this side's stores here, by feeding a ledger more than it keeps, the others
//! where the list says. The page itself says what each does to a report's totals, and the reports are held to it.
//!
//! Nothing here sets a counter where it can be made to count; [`ELSEWHERE`] names a test that exists, and no test that only prints one.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use tracer_user::aggregate::{
    Ledger, MAX_REMARKS, call_sites, census, counts, goroutines, heap, maps, profile,
};
use tracer_user::aggregate::{samples, stacks};
use tracer_user::analyze;
use tracer_user::record::call_sites::{CallSites, SitesOf};
use tracer_user::record::census::{Amount, Candidate, Census, Population, TypeShare};
use tracer_user::record::profile::{Bucket, Profile, Sampled};
use tracer_user::record::reading::{
    AllocClass, AllocCount, Counts, Gc, GoState, GoroutineCount, GoroutineGroup, Goroutines, MapCall,
    MapCallCount, MapSearch, MapState, Maps, SizeClass, SizeClasses,
};
use tracer_user::record::samples::{Fates, MAX_FOLLOWED, Sample, SampleKey};
use tracer_user::record::waits::Waits;
use tracer_user::record::{Body, Counter, Event, Note, Reading, Readout, Record, Slot};
use tracer_user::report::build::{Attach, Sampler};
use tracer_user::report::{self, Report, SessionFacts, TargetFacts};
use tracer_user::symbolize::{Frame, Names, PcKind, Symbolizer, TypeInfo};
use tracer_user::units::{Bytes, KTime, ProcAddr, StackId};

/// More than there is room for, in each case.
const BEYOND: u64 = 3;

/// Losses that another test forces: its file and its name.
const ELSEWHERE: &[(&str, &str, &str)] = &[
    ("alloc_table_full", LIVE, "a_full_table_of_allocations_is_counted"),
    ("map_table_full", LIVE, "a_full_table_of_map_calls_is_counted"),
    ("goroutine_table_full", LIVE, "a_full_table_of_goroutines_is_counted"),
    ("bad_cookie", LIVE, "a_cookie_that_nobody_gave_is_counted"),
    ("site_refused", "tests/tests/live/plugins.rs", "what_probes_cannot_see_of_a_plugin_is_said"),
    ("site_not_taken", "tracer-user/src/session/plan.rs", "a_site_that_does_not_show_its_probe_is_named"),
    (
        "target_replaced",
        "tests/tests/live/lifecycle.rs",
        "a_target_that_executes_itself_again_has_its_report",
    ),
    ("sample_ring_full", LIVE, "a_full_ring_loses_samples_and_says_so"),
    ("sample_table_full", LIVE, "a_full_table_of_samples_is_counted"),
    ("sample_unanswered", LIVE, "samples_without_an_address_are_counted"),
    ("sample_unreadable", LIVE, "samples_that_cannot_be_read_are_counted"),
    ("throttled", "tests/tests/live/budget.rs", "what_costs_too_much_is_taken_away_and_comes_back"),
    ("recording_cut", "tests/tests/live/recordings.rs", "what_a_killed_tracer_recorded_is_replayed"),
    ("ring_full", LIVE, "a_full_ring_is_counted"),
    ("stack_cut", LIVE, "what_cannot_be_read_of_an_allocation_is_counted"),
    ("caller_unreadable", LIVE, "what_cannot_be_read_of_an_allocation_is_counted"),
    ("type_unreadable", LIVE, "what_cannot_be_read_of_an_allocation_is_counted"),
    ("goroutine_unreadable", LIVE, "goroutines_that_ended_where_nothing_is_are_counted"),
    ("page_swapped", "tests/tests/live/swapped.rs", "what_is_swapped_out_is_left_there_and_said"),
    ("undecodable", "tracer-user/src/session/drain.rs", "what_is_no_record_is_counted"),
    ("sample_unplaced", "tracer-user/src/session/placer.rs", "an_object_without_a_size_is_counted"),
    ("stack_truncated", LIVE, "what_cannot_be_read_of_an_allocation_is_counted"),
    ("foreign_process", LIVE, "hits_in_another_process_are_counted_and_nothing_else"),
    ("window_forgotten", LIVE, "what_a_window_chose_and_never_got_is_counted"),
    ("reading_failed", "tracer-user/src/session/reader.rs", "a_reading_that_fails_is_counted"),
    (
        "unrecorded",
        "tests/tests/live/recordings.rs",
        "a_recording_on_a_full_disk_stays_readable_and_the_session_goes_on",
    ),
];
const LIVE: &str = "tests/tests/live/losses.rs";

/// What no test forces, and why.
const UNFORCED: &[(&str, &str)] = &[(
    "scratch_busy",
    "five tasks would have to preempt each other inside the program, which not every kernel lets them",
)];

/// A name, how many are lost, and the records that lose them.
type Case = (&'static str, u64, Vec<Record>);

fn cases() -> Vec<Case> {
    let mut all = counted();
    all.extend(read());
    all.extend(sampled());
    all.extend(said());
    all
}

/// What the kernel side counts.
fn counted() -> Vec<Case> {
    let counts = |counts| vec![reading(Readout::Counts(counts))];
    let allocs = (0..counts::MAX_ALLOC_KEYS as u64 + BEYOND).map(|n| alloc(0, n));
    let maps = (0..counts::MAX_MAP_KEYS as u64 + BEYOND).map(|n| MapCallCount {
        stack: StackId(0),
        type_addr: ProcAddr(1),
        map: ProcAddr(n),
        call: MapCall::Write,
        calls: 1,
    });
    let births = (0..counts::MAX_GOROUTINE_KEYS as u64 + BEYOND).map(|n| GoroutineCount {
        created_at: ProcAddr(n + 1),
        created: 1,
        ended: 0,
    });
    vec![
        (
            "ledger_allocations_unlisted",
            BEYOND,
            counts(Counts { allocs: allocs.collect(), ..Counts::default() }),
        ),
        (
            "ledger_map_calls_unlisted",
            BEYOND,
            counts(Counts { map_calls: maps.collect(), ..Counts::default() }),
        ),
        (
            "ledger_goroutines_unlisted",
            BEYOND,
            counts(Counts { goroutines: births.collect(), ..Counts::default() }),
        ),
        ("stack_unknown", 2, counts(Counts { allocs: vec![alloc(8, 1), alloc(9, 1)], ..Counts::default() })),
        (
            "stack_table_full",
            BEYOND,
            (0..stacks::MAX_STACKS as u64 + BEYOND)
                .map(|id| {
                    event(id, Event::Stack { id: StackId(id + 1), frames: Vec::new(), truncated: false })
                })
                .collect(),
        ),
    ]
}

/// What is read from the target.
fn read() -> Vec<Case> {
    let group = |site: u64, entry: u64| GoroutineGroup {
        created_at: Some(ProcAddr(site)),
        entry: ProcAddr(entry),
        state: GoState::Waiting,
        wait: None,
        stack: Vec::new(),
        count: 1,
        oldest_wait: None,
        examples: Vec::new(),
    };
    let goroutines = |groups: Vec<GoroutineGroup>, skipped, swapped| {
        let total = groups.len() as u64;
        vec![reading(Readout::Goroutines(Goroutines { groups, total, skipped, swapped, stackless: 0 }))]
    };
    let sites = (0..goroutines::MAX_SITES as u64 + BEYOND).map(|site| group(site + 1, 1)).collect();
    let groups = (0..goroutines::MAX_GROUPS as u64 + BEYOND).map(|entry| group(1, entry)).collect();
    let found = (0..maps::MAX_MAPS as u64 + BEYOND).map(|n| MapState {
        address: ProcAddr(64 * (n + 1)),
        type_addr: ProcAddr(1),
        variable: None,
        seed: 1,
        entries: 1,
        capacity: None,
        tombstones: None,
    });
    let search = |unread, beyond_cap| {
        vec![reading(Readout::MapSearch(MapSearch { unread, beyond_cap, ..MapSearch::default() }))]
    };
    let shares = (0..census::MAX_TYPES as u64 + BEYOND).map(|n| TypeShare {
        class: 5,
        candidates: vec![Candidate { type_addr: ProcAddr(n + 1), array: false }],
        hits: 1,
        bytes: Bytes(64),
        looked_at: 10_000,
        of: Amount { objects: 10_000, bytes: Bytes(640_000) },
        population: Population::Survived,
    });
    let census = Census { cycle: 1, cycle_end: 1, types: Some(shares.collect()), ..Census::default() };
    let torn = SizeClass { class: 5, size: Bytes(64), allocs: 1, frees: 2 };
    let sizes = SizeClasses {
        small: vec![torn; 3],
        large_allocs: 0,
        large_frees: 0,
        large_alloc_bytes: Bytes(0),
        large_free_bytes: Bytes(0),
        tiny_allocs: 0,
    };
    let buckets = (0..profile::MAX_BUCKETS as u64 + BEYOND).map(|n| Bucket {
        stack: vec![ProcAddr(n + 1)],
        size: Bytes(64),
        published: Sampled { allocs: 1, frees: 0 },
        last_gc: Sampled::default(),
        since_gc: Sampled::default(),
    });
    let profile = |buckets, cut| reading(Readout::Profile(Profile { rate: 1, cycle: 1, buckets, cut }));
    let of = |n: u64| SitesOf::new(ProcAddr(n + 1), Vec::new(), 0);
    let types = (0..call_sites::MAX_TYPES as u64 + BEYOND - 1).map(of).collect();
    let pauses = heap::MAX_PAUSES as u64 + BEYOND;
    vec![
        ("goroutine_torn", BEYOND, goroutines(vec![group(1, 1)], BEYOND, 0)),
        ("ledger_goroutine_sites_cut", BEYOND, goroutines(sites, 0, 0)),
        ("ledger_goroutine_groups_cut", BEYOND, goroutines(groups, 0, 0)),
        (
            "goroutine_waits_cut",
            BEYOND,
            vec![reading(Readout::Waits(Waits { sites: Vec::new(), over: BEYOND }))],
        ),
        (
            "ledger_maps_cut",
            BEYOND,
            vec![reading(Readout::Maps(Maps { maps: found.collect(), ..Maps::default() }))],
        ),
        ("map_search_unread", BEYOND, search(BEYOND, 0)),
        ("map_search_cut", BEYOND, search(0, BEYOND)),
        ("ledger_types_cut", BEYOND, vec![reading(Readout::Census(census))]),
        ("ledger_size_classes_torn", 3, vec![reading(Readout::SizeClasses(sizes))]),
        ("ledger_profile_unfollowed", BEYOND, vec![profile(buckets.collect(), false)]),
        ("ledger_profile_cut", 2, vec![profile(Vec::new(), true), profile(Vec::new(), true)]),
        (
            "ledger_call_sites_cut",
            BEYOND,
            vec![reading(Readout::CallSites(CallSites { types, unasked: 1, ..CallSites::default() }))],
        ),
        // Pauses before the session are none of its own: the first reading only begins.
        (
            "ledger_pauses_cut",
            BEYOND,
            [0, pauses].map(|n| reading(Readout::Gc(gc(vec![1; n as usize])))).into(),
        ),
    ]
}

/// Sampled objects.
fn sampled() -> Vec<Case> {
    let sampling = || vec![said_that(Note::Sampling { mean: 1 })];
    let of_size = |n: u64, size: u64| event(n, Event::Sample(sample(n, size, 0)));
    let with = |all: &mut dyn Iterator<Item = Record>| sampling().into_iter().chain(all).collect::<Vec<_>>();
    let fates = |cycle, survived| reading(Readout::Fates(Fates { cycle, survived, ..Fates::default() }));
    let key = |n: u64| SampleKey { address: ProcAddr(16 * n), at: KTime(n) };
    let rows = profile::MAX_BUCKETS as u64 + BEYOND;
    let mut living = with(&mut (1..=rows).map(|n| of_size(n, n)));
    living.push(fates(1, (1..=rows).map(key).collect()));
    let window = Note::Window { probes: Vec::new(), open_us: 1, mean: 1 };
    let mut seen = vec![said_that(window)];
    // One of these two has a stack that came.
    seen.push(event(1, Event::Stack { id: StackId(7), frames: Vec::new(), truncated: false }));
    seen.extend([(2, 7), (3, 8), (4, 8)].map(|(n, stack)| event(n, Event::Sample(sample(n, 64, stack)))));
    vec![
        ("sample_unfollowed", BEYOND, with(&mut (1..=MAX_FOLLOWED as u64 + BEYOND).map(|n| of_size(n, 64)))),
        (
            "ledger_sample_groups_cut",
            BEYOND,
            with(&mut (1..=samples::MAX_GROUPS as u64 + BEYOND).map(|n| of_size(n, n))),
        ),
        ("ledger_samples_unfollowed", BEYOND, living),
        ("ledger_fates_misplaced", BEYOND, vec![fates(1, (1..=BEYOND).map(key).collect())]),
        ("window_stack_unknown", 2, seen),
    ]
}

/// What is about the session.
fn said() -> Vec<Case> {
    let newer = |n| said_that(Note::NewerGo { how: format!("{n}") });
    let elsewhere = Record { slot: Slot(1), ..said_that(Note::Sampling { mean: 1 }) };
    vec![
        ("ledger_remarks_cut", BEYOND, (0..MAX_REMARKS as u64 + BEYOND).map(newer).collect()),
        ("ledger_misrouted", 2, vec![elsewhere.clone(), elsewhere]),
    ]
}

fn alloc(stack: u64, type_addr: u64) -> AllocCount {
    AllocCount {
        stack: StackId(stack),
        type_addr: Some(ProcAddr(type_addr)),
        class: AllocClass::Small(5),
        objects: 1,
        requested: Bytes(64),
        rounded: Bytes(64),
    }
}

fn sample(n: u64, size: u64, stack: u64) -> Sample {
    Sample {
        address: ProcAddr(16 * n),
        stack: StackId(stack),
        type_addr: None,
        class: AllocClass::Small(5),
        size: Bytes(size),
        g: ProcAddr(1),
        born: None,
        pin: None,
    }
}

fn gc(new_pauses_ns: Vec<u64>) -> Gc {
    Gc {
        cycles: 1,
        forced: 0,
        heap_marked: Bytes(1),
        heap_live: Bytes(1),
        goal: None,
        in_use: Bytes(1),
        free: Bytes(0),
        released: Bytes(0),
        mapped_ready: Bytes(1),
        in_stacks: Bytes(0),
        gogc: 100,
        memory_limit: None,
        last_gc_unix_ns: None,
        new_pauses_ns,
        cpu_fraction: None,
    }
}

fn reading(readout: Readout) -> Record {
    let reading = Reading { from: KTime(1), gc_cycle: None, readout };
    Record { slot: Slot(0), time: KTime(1_000_000_000), body: Body::Reading(reading) }
}

fn event(at: u64, event: Event) -> Record {
    Record { slot: Slot(0), time: KTime(at), body: Body::Event(event) }
}

fn said_that(note: Note) -> Record {
    Record { slot: Slot(0), time: KTime(1), body: Body::Note(note) }
}

fn report(records: Vec<Record>) -> Report {
    let mut ledger = Ledger::new(Slot(0), KTime(0));
    for record in records {
        ledger.apply(record);
    }
    let evidence = Symbolizer::new().evidence(&ledger, &Nameless);
    let facts = SessionFacts {
        tracer_version: String::new(),
        kernel: String::new(),
        target: TargetFacts::default(),
        started_at: report::moment::Moment { unix_ms: 0 },
        sampler: Sampler::All,
        sampler_reason: String::new(),
        attach: Attach::Multi,
        events: None,
        cost: report::model::Cost::default(),
        ended_by: None,
    };
    report::report(&facts, &evidence, &analyze::judge(&evidence))
}

/// Addresses stand for names.
struct Nameless;

impl Names for Nameless {
    fn frames(&self, _: ProcAddr, _: PcKind) -> Vec<Frame> {
        Vec::new()
    }
    fn type_info(&self, _: ProcAddr) -> Option<TypeInfo> {
        None
    }
    fn module(&self) -> Option<String> {
        None
    }
}

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// The losses of docs/losses.md; with each whether the report is a lower bound then, and whether it is complete.
fn page() -> BTreeMap<String, (bool, bool)> {
    let page = fs::read_to_string(root().join("docs/losses.md")).unwrap();
    let mut all = BTreeMap::new();
    for table in page.split("\n## ").skip(1) {
        let does = (table.starts_with("What was not counted"), table.starts_with("What was left out"));
        for row in table.lines().filter_map(|line| line.strip_prefix("| `")) {
            let names = row.split(" |").next().unwrap_or_default().split("`, `");
            all.extend(names.map(|name| (name.trim_end_matches('`').to_owned(), does)));
        }
    }
    assert_eq!(all.values().copied().collect::<BTreeSet<_>>().len(), 3, "the page has three tables");
    all
}

#[test]
fn what_a_store_cannot_keep_is_counted_and_does_to_totals_what_the_page_says() {
    let page = page();
    for (name, lost, records) in cases() {
        let session = report(records).session;
        assert_eq!(session.counters, BTreeMap::from([(name.to_owned(), lost)]));
        assert_eq!((session.lower_bounds, session.complete), page[name], "{name}");
    }
}

#[test]
fn what_has_no_row_is_in_the_totals() {
    let of = |name: &str| report(cases().into_iter().find(|case| case.0 == name).unwrap().2);
    let unlisted = of("ledger_allocations_unlisted");
    let total = unlisted.allocated_total.map(|total| total.objects);
    assert_eq!(total, Some(counts::MAX_ALLOC_KEYS as u64 + BEYOND));
    assert_eq!(of("stack_unknown").allocated_total.map(|total| total.objects), Some(2));
    let goroutines = of("ledger_goroutine_sites_cut").goroutines.and_then(|all| all.live);
    assert_eq!(goroutines, Some(goroutines::MAX_SITES as u64 + BEYOND));
}

#[test]
fn what_sessions_lose_does_to_totals_what_the_page_says() {
    let page = page();
    for counter in Counter::ALL {
        let session = report(vec![said_that(Note::Lost { counter, count: 3 })]).session;
        assert_eq!(session.counters, BTreeMap::from([(counter.name().to_owned(), 3)]));
        assert_eq!((session.lower_bounds, session.complete), page[counter.name()], "{}", counter.name());
    }
    let why = String::new();
    let session = report(vec![said_that(Note::RecordingCut { why })]).session;
    assert_eq!((session.lower_bounds, session.complete), page["recording_cut"]);
}

#[test]
fn every_loss_has_a_test_that_forces_it() {
    let mut tested = BTreeSet::new();
    let here = cases().into_iter().map(|case| case.0);
    let elsewhere = ELSEWHERE.iter().map(|(name, ..)| *name);
    for name in here.chain(elsewhere).chain(UNFORCED.iter().map(|(name, _)| *name)) {
        assert!(tested.insert(name.to_owned()), "{name} is listed twice");
    }
    assert_eq!(tested, page().into_keys().collect());
    for (name, file, test) in ELSEWHERE {
        let text = fs::read_to_string(root().join(file)).unwrap_or_default();
        assert!(
            text.contains(&format!("#[test]\nfn {test}()"))
                || text.contains(&format!("#[test]\n    fn {test}()")),
            "{name}: {file} has no test {test}"
        );
    }
}
