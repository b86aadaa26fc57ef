//! The demo's leak is told with the type and the number of objects that live, in stripped programs of every Go, by
//! readings alone: no allocation is probed.
//!
//! The truth is what the demo says it holds. How long anything takes is not asserted: bounds follow from the most
//! orders it can take in a second.

use std::process::Command;
use std::thread;
use std::time::Duration;

use serde_json::Value;
use tracer_tests::go::{Go, Mode, Variant};
use tracer_tests::live;
use tracer_tests::report::{list, number, text};
use tracer_tests::target::Target;
use tracer_tests::tracer::Tracer;

/// Orders a second, and so sessions, at most (demo/main.go).
const RATE: f64 = 2000.0;
/// From the GC cycle that a census is of to its end, with room; and from one line of the demo to the next.
const SLACK_S: f64 = 4.0;
/// Programs traced at once.
const TOGETHER: usize = 3;

/// How many sessions it said it holds; 0 before it said anything.
fn sessions(demo: &mut Target) -> u64 {
    let said = demo.said();
    let last = said.lines().rev().find_map(|line| line.strip_prefix("sessions "));
    last.map_or(0, |n| n.trim().parse().expect("a number of sessions"))
}

/// One demo watched for a while, and what it held before and after.
fn watch(demo: &mut Command) -> (Value, u64, u64) {
    let mut demo = Target::start_command(demo);
    demo.wait_for(Duration::from_mins(1), |line| line.starts_with("sessions "));
    let before = sessions(&mut demo);
    let pid = demo.pid().to_string();
    let arguments = ["--pid", &pid, "--sampler", "auto", "--duration", "30s", "--format", "json"];
    let report = Tracer::run(&arguments, Duration::from_mins(5)).success().json();
    // What it said meanwhile is old.
    sessions(&mut demo);
    let line = demo.wait_for(Duration::from_mins(1), |line| line.starts_with("sessions "));
    let after = line["sessions ".len()..].trim().parse().expect("a number of sessions");
    (report, before, after)
}

fn float(value: &Value, path: &str) -> f64 {
    value.pointer(path).and_then(Value::as_f64).unwrap_or_else(|| panic!("no number {path} in {value}"))
}

/// The finding on the sessions, held against what the demo said.
fn sessions_finding<'r>(report: &'r Value, before: u64, after: u64, what: &str) -> &'r Value {
    let heap: Vec<&Value> = list(report, "/findings").iter().filter(|f| f["rule"] == "heap-growth").collect();
    let said = format!("{what}: {heap:#?} {:#?}", report["undecided"]);
    let finding = heap.iter().find(|f| f["type"] == "main.session").unwrap_or_else(|| panic!("{said}"));
    // The census is of a moment before the demo's last word.
    let age = float(report, "/session/duration_s") - float(report, "/heap/census/t");
    let live = number(finding, "/live_objects");
    let error = finding["live_objects_stderr"].as_f64().unwrap_or(0.0);
    let low = after as f64 - RATE * (age + SLACK_S) - 4.0 * error;
    let high = after as f64 + 4.0 * error;
    assert!(live as f64 >= low.max(0.0) && live as f64 <= high, "{low}..{high} sessions live; {said}");
    assert!(live > before, "{before} sessions lived before; {said}");
    // Its rate is that of the orders: some may come late but none comes twice.
    let (per_s, size) = (float(finding, "/bytes_per_s"), 320.0);
    assert!(per_s > 0.25 * RATE * size && per_s < 1.5 * RATE * size, "{said}");
    assert!(float(finding, "/low") <= per_s && float(finding, "/high") >= per_s, "{said}");
    assert!(finding["evidence"].to_string().contains("map[string]*main.session"), "{said}");
    // What comes and goes is not accused.
    for innocent in ["main.price", "list.Element", "json."] {
        assert!(heap.iter().all(|f| !f["type"].as_str().unwrap_or("").contains(innocent)), "{said}");
    }
    finding
}

fn check(go: &Go, mode: Mode) {
    let what = format!("go {} {}", go.pin.version, mode.name());
    let (report, before, after) = watch(&mut Command::new(go.build("demo", mode)));
    assert_eq!(report["target"]["stripped"], true, "{what}");
    let finding = sessions_finding(&report, before, after, &what);
    // Of the type, or of the one place that makes it once its calls are probed.
    assert_eq!(text(finding, "/type"), "main.session", "{what}: {finding:#?}");
}

#[test]
fn the_leak_of_a_stripped_demo_has_its_type_and_its_live_objects_on_every_go() {
    live!(Root, Uprobes, EveryGo, Tracer);
    let all: Vec<(Go, Mode)> =
        Go::every().into_iter().zip([Mode::Bare, Mode::StrippedPie].into_iter().cycle()).collect();
    for some in all.chunks(TOGETHER) {
        thread::scope(|scope| {
            let running: Vec<_> = some.iter().map(|(go, mode)| scope.spawn(|| check(go, *mode))).collect();
            for one in running {
                one.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            }
        });
    }
}

#[test]
fn with_the_programs_own_profile_the_leak_has_its_site_too() {
    live!();
    for go in Go::all() {
        let what = format!("go {} with its profiler", go.pin.version);
        let variant = Variant { profiled: true, ..Variant::from(Mode::Bare) };
        let mut demo = Command::new(go.build("demo", variant));
        // As a program may set it for itself: enough objects in the sample within half a minute.
        let (report, before, after) = watch(demo.env("GODEBUG", "memprofilerate=32768"));
        assert_eq!(report["session"]["sampler"], "runtime", "{what}");
        let finding = sessions_finding(&report, before, after, &what);
        assert_eq!(text(finding, "/where/function"), "main.(*sessionCache).put", "{what}: {finding:#?}");
        assert!(text(finding, "/title").contains("allocated by"), "{what}: {finding:#?}");
        // The row of that site: what lives, by the sample, and how fast it grows.
        let rows = list(&report, "/allocations").iter();
        let row = rows
            .filter(|row| row["site"] == finding["subject"]["site"])
            .max_by_key(|r| r["samples"].as_u64());
        let row = row.unwrap_or_else(|| panic!("{what}: no row of {}", finding["subject"]));
        let (live, error) = (float(row, "/live/objects"), float(row, "/live/objects_stderr"));
        assert!(live - 5.0 * error <= after as f64, "{what}: {after} sessions live, {row}");
        assert!(live + 5.0 * error >= before as f64, "{what}: {before} sessions lived, {row}");
        let growth = &row["growth"];
        assert!(float(growth, "/low") > 0.0 && float(growth, "/p_value") < 0.01, "{what}: {growth}");
        assert!(float(growth, "/low") < RATE * 320.0 * 1.2, "{what}: {growth}");
        assert_eq!(number(row, "/sizes/max"), 320, "{what}: {row}");
    }
}
