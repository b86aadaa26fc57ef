//! What maps hold, read from outside, equals what the program itself says: entries of maps that grew and of package
//! variables, writes and deletions, on every Go minor: both generations of Go's maps, which meet between 1.23 and 1.24,
//! and each version's own layout of them. And what is no more is not told.

use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use tracer_tests::go::{Go, Mode, every_version, matrix};
use tracer_tests::live;
use tracer_tests::report::{self, list, number, text};
use tracer_tests::target::Target;
use tracer_tests::tracer::Tracer;

/// What the report says of a map of which only the heap tells, made by `share`.
const EITHER: &str = "main.tags | map[uint64]*main.dropped";
const ONLY_READ: [&str; 4] = ["--format", "json", "--sampler", "none"];

/// Before 1.22 nothing in the heap says what type a map's storage is of.
fn with_typed_storage() -> Vec<(Go, Mode)> {
    every_version().into_iter().filter(|(go, _)| go.pin.minor() >= 22).collect()
}

/// Traces the fixture while it obeys the commands; the report and the last answer.
fn traced(go: &Go, mode: Mode, commands: &[&str], arguments: &[&str]) -> (Value, Value) {
    let mut target = Target::start(&go.build("maps", mode));
    let mut all = vec!["--format", "json"];
    all.extend(arguments);
    let tracer = Tracer::attach(target.pid(), &all);
    let mut answer = Value::Null;
    for command in commands {
        answer = target.ask(command);
    }
    let report = tracer.interrupt().success().json();
    assert!(target.finish().success());
    if !arguments.contains(&"none") {
        report::assert_nothing_lost(
            &report,
            &format!("go {} {}: {arguments:?}", go.pin.version, mode.name()),
        );
    }
    (report, answer)
}

/// The row of a type; where several maps have the type, the one with most entries.
fn row<'a>(report: &'a Value, of: &str) -> Option<&'a Value> {
    let rows = list(report, "/maps").iter().filter(|row| row["type"] == of);
    rows.max_by_key(|row| row["entries"].as_u64())
}

/// Room is there for what a map holds and for what was deleted from it.
fn assert_room(row: &Value, what: &str) {
    let (entries, capacity) = (number(row, "/entries"), number(row, "/capacity"));
    let deleted = row["tombstones"].as_u64().unwrap_or(0);
    assert!(entries + deleted <= capacity, "{what}: {row}");
    assert!(capacity <= 64 * entries.max(8), "{what}: {row}");
}

#[test]
fn maps_that_grow_are_found_and_hold_what_the_program_says() {
    live!(Root, Uprobes, EveryGo, Tracer);
    for (go, mode) in every_version() {
        let what = format!("go {} {}", go.pin.version, mode.name());
        let (report, answer) = traced(&go, mode, &["run 20000"], &["--sampler", "auto"]);
        for family in answer.as_array().expect("the fixture answers with families") {
            let of = text(family, "/type");
            let row = row(&report, of).unwrap_or_else(|| panic!("{what}: no {of} in {}", report["maps"]));
            assert_eq!(number(row, "/entries"), number(family, "/entries"), "{what}: {of}");
            assert_room(row, &what);
            assert!(number(row, "/grows") > 0, "{what}: {of}");
            assert!(row.get("writes").is_none(), "{what}: writes were not counted");
            let site = &list(row, "/sites")[0];
            assert_eq!(report::innermost(site), Some(text(family, "/function")), "{what}: {of}");
        }
    }
}

#[test]
fn package_variables_are_read_without_a_probe() {
    live!(Root, EveryGo, Tracer);
    for (go, mode) in every_version() {
        let what = format!("go {} {}", go.pin.version, mode.name());
        let (report, answer) = traced(&go, mode, &["hold 30000"], &["--sampler", "none"]);
        for held in answer.as_array().expect("the fixture answers with what it holds") {
            let of = text(held, "/type");
            let row = row(&report, of).unwrap_or_else(|| panic!("{what}: no {of} in {}", report["maps"]));
            assert_eq!(number(row, "/entries"), number(held, "/entries"), "{what}: {of}");
            assert!(row["variable"].is_string(), "{what}: {row}");
            assert_room(row, &what);
        }
    }
}

/// The target counts its own marks, in the memory of the map.
#[test]
fn deleted_slots_are_those_that_the_map_has_marked() {
    live!(Root, EveryGo, Tracer);
    for (go, mode) in every_version() {
        let what = format!("go {} {}", go.pin.version, mode.name());
        let (report, answer) = traced(&go, mode, &["punch 3000"], &["--sampler", "none"]);
        let row = row(&report, "map[int64]int").unwrap_or_else(|| panic!("{what}: {}", report["maps"]));
        assert_eq!(number(row, "/entries"), number(&answer, "/entries"), "{what}");
        assert!(number(&answer, "/deleted") > 50, "{what}: {answer}");
        assert_eq!(number(row, "/tombstones"), number(&answer, "/deleted"), "{what}: {row:#}");
    }
}

#[test]
fn large_maps_in_fields_are_found_in_the_heap() {
    live!(Root, EveryGo, Tracer);
    side_by_side(&with_typed_storage(), |go, mode, what| {
        let mut target = Target::start(&go.build("maps", mode));
        let answer = target.ask("run 20000");
        target.ask("collect");
        let tracer = Tracer::attach(target.pid(), &ONLY_READ);
        thread::sleep(Duration::from_secs(2));
        let report = tracer.interrupt().success().json();
        let mut found = 0;
        for family in answer.as_array().expect("the fixture answers with families") {
            let of = text(family, "/type");
            match row(&report, of) {
                Some(row) => {
                    assert_eq!(number(row, "/entries"), number(family, "/entries"), "{what}: {of}");
                    assert!(row.get("variable").is_none_or(Value::is_null), "{what}: {row}");
                    assert_room(row, what);
                    found += 1;
                }
                // Storage without pointers has no type word.
                None => assert!(
                    ["map[int32]int", "map[int64]int", "map[int64]main.wide"].contains(&of),
                    "{what}: {of}"
                ),
            }
        }
        assert_eq!(found, 5, "{what}: {}", report["maps"]);
        assert!(target.finish().success());
    });
}

/// A reading of the maps that `share` made, once a collection has marked them.
fn shared(target: &mut Target, share: &str) -> Value {
    target.ask(share);
    target.ask("collect");
    let tracer = Tracer::attach(target.pid(), &ONLY_READ);
    thread::sleep(READ);
    tracer.interrupt().success().json()
}

#[test]
fn a_map_whose_storage_two_types_share_is_one_of_them() {
    live!(Root, EveryGo, Tracer);
    side_by_side(&with_typed_storage(), |go, mode, what| {
        let mut target = Target::start(&go.build("maps", mode));
        let report = shared(&mut target, "share 4000");
        assert_eq!(entries(&report, EITHER), [Some(4000), Some(2000)], "{what}: {}", report["maps"]);
        let row = row(&report, EITHER).expect("one of them");
        assert_eq!(row["candidates"], json!(["main.tags", "map[uint64]*main.dropped"]), "{what}");
        let search = &report["map_search"];
        assert!(
            number(search, "/span_bytes") > 0 && number(search, "/waiting_bytes") == 0,
            "{what}: {search}"
        );
        assert!(target.finish().success());
    });
}

#[test]
fn maps_in_a_large_heap_are_found_in_turns_and_stay_what_they_may_be() {
    live!(Root, EveryGo, Tracer);
    side_by_side(&with_typed_storage(), |go, mode, what| {
        let mut target = Target::start(&go.build("maps", mode));
        // Three times what one census looks through.
        target.ask("crowd 500000");
        target.ask("share 4000");
        target.ask("crowd 500000");
        // Each look takes a cycle, and how many a session has time for is the machine's business.
        let mut watched = |cycles| {
            let tracer = Tracer::attach(target.pid(), &ONLY_READ);
            for _ in 0..cycles {
                target.ask("collect");
                thread::sleep(READ / 2);
            }
            tracer.interrupt().success().json()
        };
        let mut report = Value::Null;
        for cycles in [10, 20, 40] {
            report = watched(cycles);
            if entries(&report, EITHER).len() == 2 {
                break;
            }
        }
        assert!(number(&report, "/map_search/waiting_bytes") > 0, "{what}: {}", report["map_search"]);
        assert_eq!(entries(&report, EITHER), [Some(4000), Some(2000)], "{what}: {}", report["maps"]);
        assert!(target.finish().success());
    });
}

#[test]
fn maps_that_live_are_found_among_many_that_died() {
    live!(Root, EveryGo, Tracer);
    side_by_side(&with_typed_storage(), |go, mode, what| {
        let mut target = Target::start(&go.build("maps", mode));
        target.ask("litter 1000");
        let report = shared(&mut target, "share 3000");
        assert_eq!(entries(&report, EITHER), [Some(3000), Some(1500)], "{what}: {}", report["maps"]);
        assert!(report["session"]["counters"].get("map_search_cut").is_none(), "{what}: {report}");
        assert!(target.finish().success());
    });
}

#[test]
fn writes_and_deletions_are_exact() {
    live!(Root, Uprobes, EveryGo, Tracer);
    for (go, mode) in every_version() {
        let what = format!("go {} {}", go.pin.version, mode.name());
        let arguments = ["--sampler", "all", "--events", "map"];
        let (report, answer) = traced(&go, mode, &["hold 5000"], &arguments);
        for held in answer.as_array().expect("the fixture answers with what it holds") {
            let of = text(held, "/type");
            let row = row(&report, of).unwrap_or_else(|| panic!("{what}: no {of} in {}", report["maps"]));
            for (name, truth) in [("/writes", "/writes"), ("/deletes", "/deletes"), ("/entries", "/entries")]
            {
                assert_eq!(number(row, name), number(held, truth), "{what}: {of} {name}");
            }
            let sites = list(row, "/sites");
            let deleting: Vec<Option<&str>> =
                sites.iter().filter(|s| number(s, "/deletes") > 0).map(report::innermost).collect();
            assert_eq!(deleting, [Some("main.forget")], "{what}: {of}");
        }
    }
}

/// The types of the maps that the fixture drops.
const DROPPED: [&str; 2] = ["map[string]*main.dropped", "map[int64]*main.dropped"];
/// A reading a second, and room for a busy machine.
const READ: Duration = Duration::from_millis(2500);
/// Programs traced at once: they sleep most of the time.
const TOGETHER: usize = 9;

/// Traces the fixture while each command is followed by at least one reading; the report and the last answer.
fn traced_slowly(go: &Go, mode: Mode, commands: &[&str]) -> (Value, Value) {
    let mut target = Target::start(&go.build("maps", mode));
    let tracer = Tracer::attach(target.pid(), &["--format", "json", "--sampler", "auto"]);
    let mut answer = Value::Null;
    for command in commands {
        answer = target.ask(command);
        thread::sleep(READ);
    }
    let report = tracer.interrupt().success().json();
    assert!(target.finish().success());
    (report, answer)
}

/// How many entries the report has in maps of that type, large first.
fn entries(report: &Value, of: &str) -> Vec<Option<u64>> {
    // Without a row there is no list.
    let rows = report["maps"].as_array().into_iter().flatten().filter(|row| row["type"] == of);
    let mut found: Vec<Option<u64>> = rows.map(|row| row["entries"].as_u64()).collect();
    found.sort_unstable_by_key(|n| std::cmp::Reverse(*n));
    found
}

fn side_by_side(all: &[(Go, Mode)], check: impl Fn(&Go, Mode, &str) + Sync) {
    for some in all.chunks(TOGETHER) {
        thread::scope(|scope| {
            for (go, mode) in some {
                let check = &check;
                let what = format!("go {} {}", go.pin.version, mode.name());
                scope.spawn(move || check(go, *mode, &what));
            }
        });
    }
}

#[test]
fn a_map_that_was_dropped_leaves_the_list_when_it_is_collected() {
    live!(Root, Uprobes, EveryGo, Tracer);
    side_by_side(&every_version(), |go, mode, what| {
        // While no cycle has ended, nobody can know.
        let (report, _) = traced_slowly(go, mode, &["fill 5000", "drop"]);
        for of in DROPPED {
            assert_eq!(entries(&report, of), [Some(5000)], "{what}: {of} in {}", report["maps"]);
        }
        // What lives is marked in each cycle.
        let (report, _) = traced_slowly(go, mode, &["fill 5000", "collect", "collect", "collect"]);
        for of in DROPPED {
            assert_eq!(entries(&report, of), [Some(5000)], "{what}: {of} in {}", report["maps"]);
        }
        let (report, _) = traced_slowly(go, mode, &["fill 5000", "drop", "collect"]);
        for of in DROPPED {
            assert!(entries(&report, of).is_empty(), "{what}: {of} in {}", report["maps"]);
        }
        // Between two readings its memory became that of another map, which lives: mostly, for the allocator has its own mind.
        let mut tries = (0..4).map(|_| traced_slowly(go, mode, &["fill 5000", "drop", "reuse 100000"]));
        let reused = tries.find(|(_, taken)| taken.as_u64() > Some(0));
        let (report, _) = reused.unwrap_or_else(|| panic!("{what}: no place of theirs was taken"));
        for of in DROPPED {
            assert!(entries(&report, of).is_empty(), "{what}: {of} in {}", report["maps"]);
        }
    });
}

#[test]
fn a_map_that_was_dropped_is_not_accused_of_having_grown() {
    live!();
    side_by_side(&matrix(), |go, mode, what| {
        let named = |report: &Value, list_of: &str, name: &str| {
            list(report, list_of).iter().any(|row| DROPPED.iter().any(|of| row[name] == **of))
        };
        // Readings are further apart where the machine is busy; a rule waits for as many as it needs.
        let mut grown = Value::Null;
        for fill in ["fill 14000 14", "fill 14000 60"] {
            (grown, _) = traced(go, mode, &[fill], &["--sampler", "auto"]);
            if !named(&grown, "/undecided", "subject") {
                break;
            }
        }
        assert!(named(&grown, "/findings", "type"), "{what}: {} {}", grown["findings"], grown["undecided"]);
        let (report, _) = traced_slowly(go, mode, &["fill 14000 14", "drop"]);
        // Not collected, and it has not grown for a while.
        assert!(!named(&report, "/findings", "type"), "{what}: {}", report["findings"]);
        let (report, _) = traced_slowly(go, mode, &["fill 14000 14", "drop", "collect"]);
        assert!(!named(&report, "/findings", "type"), "{what}: {}", report["findings"]);
        assert!(!named(&report, "/undecided", "subject"), "{what}: {}", report["undecided"]);
    });
}
