//! The demo's leak is told with the type and the number of objects that live, in stripped programs of every Go, by
//! readings alone: no allocation is probed.
//!
//! The truth is what the demo says it holds. How long anything takes is not asserted: bounds follow from the most
//! orders it can take in a second.

use std::process::Command;
use std::thread;
use std::time::Duration;

use serde_json::Value;
use tracer_tests::go::{Go, Mode};
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
fn watch(go: &Go, mode: Mode, arguments: &[&str]) -> (Value, u64, u64) {
    let mut demo = Target::start_command(&mut Command::new(go.build("demo", mode)));
    demo.wait_for(Duration::from_mins(1), |line| line.starts_with("sessions "));
    let before = sessions(&mut demo);
    let pid = demo.pid().to_string();
    let all = [&["--pid", &pid, "--format", "json"], arguments].concat();
    let report = Tracer::run(&all, Duration::from_mins(5)).success().json();
    // What it said meanwhile is old.
    sessions(&mut demo);
    let line = demo.wait_for(Duration::from_mins(1), |line| line.starts_with("sessions "));
    let after = line["sessions ".len()..].trim().parse().expect("a number of sessions");
    (report, before, after)
}

fn check(go: &Go, mode: Mode) {
    let what = format!("go {} {}", go.pin.version, mode.name());
    let (report, before, after) = watch(go, mode, &["--sampler", "auto", "--duration", "30s"]);
    assert_eq!(report["target"]["stripped"], true, "{what}");
    let heap: Vec<&Value> =
        list(&report, "/findings").iter().filter(|f| f["rule"] == "heap-growth").collect();
    let said = format!("{what}: {heap:#?} {:#?}", report["undecided"]);
    let finding = heap.iter().find(|f| f["type"] == "main.session").unwrap_or_else(|| panic!("{said}"));
    assert_eq!(text(finding, "/subject/type"), "main.session", "{said}");
    // The census is of a moment before the demo's last word.
    let age =
        report["session"]["duration_s"].as_f64().unwrap() - report["heap"]["census"]["t"].as_f64().unwrap();
    let live = number(finding, "/live_objects");
    let error = finding["live_objects_stderr"].as_f64().unwrap_or(0.0);
    let low = after as f64 - RATE * (age + SLACK_S) - 4.0 * error;
    let high = after as f64 + 4.0 * error;
    assert!(live as f64 >= low.max(0.0) && live as f64 <= high, "{low}..{high} sessions live; {said}");
    assert!(live > before, "{before} sessions lived before; {said}");
    // Its rate is that of the orders, and the interval holds it: an order may come late but none comes twice.
    let (per_s, size) = (finding["bytes_per_s"].as_f64().unwrap(), 320.0);
    assert!(per_s > 0.25 * RATE * size && per_s < 1.5 * RATE * size, "{said}");
    assert!(
        finding["low"].as_f64().unwrap() <= per_s && finding["high"].as_f64().unwrap() >= per_s,
        "{said}"
    );
    // What comes and goes is not accused.
    for innocent in ["main.price", "list.Element", "json."] {
        assert!(heap.iter().all(|f| !f["type"].as_str().unwrap_or("").contains(innocent)), "{said}");
    }
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
