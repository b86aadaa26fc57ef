//! Calls of the program's own code that are probed because what they make grows: each run of them counted, each of their objects
//! followed, against a program that counts both itself.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tracer_tests::go::Go;
use tracer_tests::instructions::wait_restored;
use tracer_tests::live;
use tracer_tests::report::{assert_nothing_lost, list, number, text};
use tracer_tests::target::Target;
use tracer_tests::tracer::Tracer;

const END: Duration = Duration::from_mins(1);

#[test]
fn the_calls_that_make_what_grows_are_counted_and_their_objects_followed() {
    live!(Root, Uprobes, EveryGo, Tracer);
    for (go, mode) in Go::milestones() {
        let what = format!("go{} {}", go.pin.version, mode.name());
        let mut target = Target::start(&go.build("pinned", mode));
        let mut tracer = Tracer::attach(target.pid(), &["--format", "json"]);
        // Grows until its calls are probed, slowly enough that each object is followed; every census sees a cycle of its own.
        let begun = Instant::now();
        loop {
            for _ in 0..4 {
                target.ask("grow 30");
                target.ask("gc");
                thread::sleep(Duration::from_millis(300));
            }
            let report = tracer.interim(END);
            if report["pins"].is_array() {
                break;
            }
            assert!(begun.elapsed() < END, "{what}: nothing is probed: {report:#}");
        }
        settle(&mut target);
        let first = tracer.interim(END);
        let had = target.ask("gc");
        // Cycles in which nobody could look make what lives unknown.
        thread::sleep(Duration::from_millis(500));
        let has = target.ask("grow 1000");
        settle(&mut target);
        let last = tracer.interrupt().success().last_json();
        assert_nothing_lost(&last, &what);
        for (function, account) in [("main.keep", "/kept"), ("main.discard", "/discarded")] {
            let ran = number(&has, account) - number(&had, account);
            assert_eq!(calls(&last, function) - calls(&first, function), ran, "{what}: {function}");
            let made = |report| objects(report, function, "allocated");
            assert_eq!(made(&last) - made(&first), ran, "{what}: {function}");
            let lives = |report| objects(report, function, "live");
            let kept = if function == "main.keep" { ran } else { 0 };
            let (low, high) = (kept.saturating_sub(1), kept + 1);
            let more = lives(&last).saturating_sub(lives(&first));
            let rows = |report| accounts(report, function);
            assert!(
                (low..=high).contains(&more),
                "{what}: {function}: {more} more live of {ran}: {} then {}",
                rows(&first),
                rows(&last)
            );
        }
        // What learns its type while the program runs is nowhere in its code.
        assert!(list(&last, "/pins").iter().all(|pin| pin["type"] == "main.session"), "{what}");
        let pid = target.pid();
        wait_restored(pid, &what);
        assert!(target.finish().success(), "{what}");
    }
}

/// Two cycles: what was allocated since the last one has its fate told.
fn settle(target: &mut Target) {
    for _ in 0..3 {
        target.ask("gc");
        thread::sleep(Duration::from_millis(500));
    }
}

fn calls(report: &Value, function: &str) -> u64 {
    let of = list(report, "/pins").iter().filter(|pin| text(pin, "/stack/0/function") == function);
    of.map(|pin| number(pin, "/calls")).sum()
}

fn objects(report: &Value, function: &str, what: &str) -> u64 {
    let rows = list(report, "/allocations").iter();
    let of = rows.filter(|row| row.pointer("/stack/0/function").and_then(Value::as_str) == Some(function));
    of.map(|row| number(row, &format!("/{what}/objects"))).sum()
}

/// What became of the objects of a function, for a failure's message.
fn accounts(report: &Value, function: &str) -> String {
    let rows = list(report, "/allocations").iter();
    let of = rows.filter(|row| row.pointer("/stack/0/function").and_then(Value::as_str) == Some(function));
    of.map(ToString::to_string).collect()
}
