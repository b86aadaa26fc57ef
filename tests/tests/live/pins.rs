//! Calls of the program's own code that are probed because what they make grows: each run of them counted, each of their objects
//! followed, against a program that counts both itself.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tracer_tests::go::{Go, Mode};
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
        wait_until(&mut target, &mut tracer, |report| report["pins"].is_array());
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

/// Grows it, slowly enough that each object is followed; every census sees a cycle of its own.
fn wait_until(target: &mut Target, tracer: &mut Tracer, is: impl Fn(&Value) -> bool) {
    let begun = Instant::now();
    loop {
        for _ in 0..4 {
            target.ask("grow 30");
            target.ask("gc");
            thread::sleep(Duration::from_millis(300));
        }
        let report = tracer.interim(END);
        if is(&report) {
            return;
        }
        assert!(begun.elapsed() < END, "it did not come to it: {report:#}");
    }
}

/// Each object of a call is followed until half of the table of followed objects is used, then fewer; what is said to live is the
/// target's own count all the same, within its stated error.
#[test]
fn what_stays_does_not_fill_the_table() {
    live!(Root, Uprobes, Go, Tracer);
    let mut target = Target::start(&Go::demo().build("pinned", Mode::Ordinary));
    // So many at once are more than any budget has, and are not the question.
    let options = ["--format", "json", "--overhead-budget", "90"];
    let mut tracer = Tracer::attach(target.pid(), &options);
    wait_until(&mut target, &mut tracer, |report| report["pins"].is_array());
    settle(&mut target);
    let had = target.ask("gc");
    grow(&mut target, 60_000);
    wait_until(&mut target, &mut tracer, |report| mean(report) > 1);
    let thinned = mean(&tracer.interim(END));
    let has = grow(&mut target, 400 * thinned);
    settle(&mut target);
    let last = tracer.interrupt().success().last_json();
    assert_nothing_lost(&last, "thinned");
    let kept = number(&has, "/kept");
    let ran = calls(&last, "main.keep");
    assert!((kept - number(&had, "/kept")..=kept).contains(&ran), "{ran} of {kept}");
    // Before it was probed it made some more: all it made since is counted.
    let row = list(&last, "/allocations")
        .iter()
        .find(|row| row.pointer("/stack/0/function").and_then(Value::as_str) == Some("main.keep"))
        .expect("it is followed");
    let of = |pointer: &str| row.pointer(pointer).and_then(Value::as_f64).expect(pointer);
    let (lives, error) = (of("/live/objects"), of("/live/objects_stderr"));
    assert!(error > 0.0, "{row}");
    assert!((lives - ran as f64).abs() <= 4.0 * error, "{lives} of {ran}, give or take {error}: {row}");
    assert!(target.finish().success());
}

fn mean(report: &Value) -> u64 {
    let of = list(report, "/pins").iter().filter(|pin| text(pin, "/stack/0/function") == "main.keep");
    of.map(|pin| number(pin, "/sample_calls")).max().unwrap_or(0)
}

/// So many at once make cycles that end while the table is looked at, and what lives is then unknown: in pieces, with time for a look.
fn grow(target: &mut Target, objects: u64) -> Value {
    const PIECES: u64 = 40;
    for _ in 1..PIECES {
        target.ask(&format!("grow {}", objects / PIECES));
        thread::sleep(Duration::from_millis(50));
    }
    target.ask(&format!("grow {}", objects - objects / PIECES * (PIECES - 1)))
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
