//! Stacks and what is drawn from them: a known chain of calls reads as runtime.Callers tells it, inlined frames
//! included, and folded output holds what the JSON report does.

use std::collections::BTreeMap;

use serde_json::Value;
use tracer_tests::chain::{self, CALLS};
use tracer_tests::go::{Go, Mode, matrix};
use tracer_tests::live;
use tracer_tests::report::{self, list, number, text};
use tracer_tests::target::Target;
use tracer_tests::tracer::Tracer;

fn assert_chain(go: &Go, mode: Mode, attach: &str) {
    let what = format!("go {} {}: --attach {attach}", go.pin.version, mode.name());
    chain::assert_chain(&go.build("stacks", mode), &what, attach);
}

#[test]
fn a_chain_reads_as_the_runtime_tells_it() {
    live!();
    for (go, mode) in matrix() {
        assert_chain(&go, mode, "auto");
    }
}

#[test]
fn single_links_take_the_same_stacks() {
    live!();
    for (go, mode) in matrix() {
        assert_chain(&go, mode, "single");
    }
}

fn folded(output: &str) -> BTreeMap<String, u64> {
    let line = |line: &str| {
        let (stack, count) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no count in {line:?}"));
        (stack.to_owned(), count.parse().unwrap_or_else(|_| panic!("no number at the end of {line:?}")))
    };
    output.lines().map(line).collect()
}

/// A row's stack as folded output writes it.
fn folded_name(stack: &Value) -> String {
    let frames = report::frames(stack);
    frames.iter().rev().map(|frame| frame.function.as_str()).collect::<Vec<_>>().join(";")
}

/// Three sessions see the fixture do the same work, without a collection that would add work of its own: one tells it
/// as JSON, two draw it.
#[test]
fn folded_allocations_are_those_of_the_json_report() {
    live!();
    for (go, mode) in matrix() {
        let what = format!("go {} {}", go.pin.version, mode.name());
        let program = go.build("stacks", mode);
        let session = |arguments: &[&str]| {
            let mut target = Target::start(&program);
            let mut all = vec!["--sampler", "all", "--events", "alloc"];
            all.extend(arguments);
            let tracer = Tracer::attach(target.pid(), &all);
            target.ask(&format!("alloc {CALLS}"));
            tracer.interrupt().success()
        };
        let json = session(&["--format", "json"]).json();
        let (mut objects, mut space) = (BTreeMap::new(), BTreeMap::new());
        for row in list(&json, "/allocations") {
            let stack = folded_name(&row["stack"]);
            *objects.entry(stack.clone()).or_default() += number(row, "/allocated/objects");
            *space.entry(stack).or_default() += number(row, "/allocated/bytes");
        }
        let drawn = |profile| session(&["--format", "folded", "--profile", profile]).stdout;
        assert_eq!(of_chain(folded(&drawn("alloc_objects"))), of_chain(objects), "{what}");
        assert_eq!(of_chain(folded(&drawn("alloc_space"))), of_chain(space), "{what}");
    }
}

/// Stacks of the command's own work. What stands around it, such as the buffers of the JSON encoder, differs by what
/// pools happen to hold.
fn of_chain(stacks: impl IntoIterator<Item = (String, u64)>) -> BTreeMap<String, u64> {
    let own: BTreeMap<_, _> = stacks.into_iter().filter(|(stack, _)| stack.contains("main.alloc")).collect();
    assert!(own.values().sum::<u64>() >= CALLS, "{own:?}");
    own
}

/// The fixture's goroutines stay as they are between two readings.
#[test]
fn folded_goroutines_are_those_of_the_json_report() {
    live!();
    for (go, mode) in matrix() {
        let what = format!("go {} {}", go.pin.version, mode.name());
        let mut target = Target::start(&go.build("goroutines", mode));
        for kind in ["chan-receive 7", "select 5", "mutex 3"] {
            target.ask(&format!("start {kind}"));
        }
        let pid = target.pid().to_string();
        let read = |format: &str| {
            let arguments = ["goroutines", "--pid", &pid, "--format", format];
            Tracer::run(&arguments, std::time::Duration::from_secs(20)).success()
        };
        let (json, drawn) = (read("json").json(), read("folded").stdout);
        let mut told: BTreeMap<String, u64> = BTreeMap::new();
        for group in list(&json, "/goroutines/sites").iter().flat_map(|site| list(site, "/groups")) {
            let mut stack = folded_name(&group["stack"]);
            if stack.is_empty() {
                text(group, "/entry").clone_into(&mut stack);
            }
            *told.entry(stack).or_default() += number(group, "/count");
        }
        let drawn = folded(&drawn);
        assert_eq!(drawn, told, "{what}");
        assert_eq!(drawn.values().sum::<u64>(), number(&json, "/goroutines/live"), "{what}");
    }
}

/// Stacks as deep as a record holds, deeper, and much deeper: the innermost frames are there, nothing is
/// undecodable, and a cut is told.
#[test]
fn deep_stacks_keep_their_innermost_frames() {
    live!();
    for go in Go::all() {
        for attach in ["auto", "single"] {
            let mut target = Target::start(&go.build("stacks", Mode::Ordinary));
            let arguments = ["--sampler", "all", "--events", "alloc", "--attach", attach, "--format", "json"];
            let tracer = Tracer::attach(target.pid(), &arguments);
            let depths = [100, 118, 119, 120, 121, 122, 123, 124, 125, 126, 127, 128, 129, 300, 2000];
            let made: u64 =
                depths.iter().map(|d| number(&target.ask(&format!("deep {d} 20")), "/calls")).sum();
            let report = tracer.interrupt().success().json();
            assert!(target.finish().success());
            let what = format!("go {} --attach {attach}", go.pin.version);
            let rows: Vec<&Value> =
                list(&report, "/allocations").iter().filter(|row| row["type"] == "main.diver").collect();
            let objects: u64 = rows.iter().map(|row| number(row, "/allocated/objects")).sum();
            assert_eq!(objects, made, "{what}");
            assert_eq!(made, 20 * depths.len() as u64, "{what}");
            for row in &rows {
                let dives =
                    list(row, "/stack").iter().filter(|frame| frame["function"] == "main.dive").count();
                assert!(dives >= 100, "{what}: {dives} of them");
                let outermost = text(list(row, "/stack").last().expect("frames"), "/function");
                // A cut may take frames of the runtime only, which the report leaves out anyway.
                assert!(row["truncated"] == true || outermost == "main.main", "{what}: ends in {outermost}");
            }
            let counters = &report["session"]["counters"];
            for lost in ["undecodable", "stack_unknown", "ring_full", "stack_cut"] {
                assert!(counters.get(lost).is_none(), "{what}: {counters}");
            }
            assert!(counters["stack_truncated"].as_u64().is_some_and(|n| n >= 40), "{what}: {counters}");
        }
    }
}
