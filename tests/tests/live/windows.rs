//! Who keeps strings and bytes, where nothing in the heap says who made them: found by moments in which the allocator is probed, against a
//! program in which two places take turns in one size class and only one keeps what it makes.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tracer_tests::go::{Go, Mode};
use tracer_tests::instructions::wait_restored;
use tracer_tests::live;
use tracer_tests::report::{assert_nothing_lost, list, number, text};
use tracer_tests::target::Target;
use tracer_tests::tracer::Tracer;

const END: Duration = Duration::from_mins(2);

/// Two places in turn so many times a second, garbage of their size from another thread, and a third that only computes.
fn start(go: &Go, mode: Mode, turns_per_s: u32) -> Target {
    let mut target = Target::start(&go.build("untyped", mode));
    target.ask(&format!("alternate {turns_per_s}"));
    target.ask("noise 4000");
    target.ask("spin");
    target
}

/// Interim reports, a cycle every 300 ms, until one is as wanted.
fn wait_until(target: &mut Target, tracer: &mut Tracer, what: &str, is: impl Fn(&Value) -> bool) -> Value {
    let begun = Instant::now();
    loop {
        for _ in 0..6 {
            target.ask("gc");
            thread::sleep(Duration::from_millis(300));
        }
        let report = tracer.interim(END);
        if is(&report) {
            return report;
        }
        assert!(begun.elapsed() < END, "{what}: {report:#}");
    }
}

#[test]
fn the_call_that_keeps_strings_is_found_counted_and_followed() {
    live!(Root, Uprobes, EveryGo, Tracer);
    for (go, mode) in Go::milestones() {
        let what = format!("go{} {}", go.pin.version, mode.name());
        let mut target = start(&go, mode, 800);
        let mut tracer = Tracer::attach(target.pid(), &["--format", "json"]);
        wait_until(&mut target, &mut tracer, &what, |report| pin(report, "main.remember").is_some());
        let had = settle(&mut target);
        let first = tracer.interim(END);
        target.ask("go");
        thread::sleep(Duration::from_secs(3));
        let has = settle(&mut target);
        let last = tracer.interrupt().success().last_json();
        assert_nothing_lost(&last, &what);
        let ran = number(&has, "/kept") - number(&had, "/kept");
        let calls = |report| number(pin(report, "main.remember").expect("it is probed"), "/calls");
        assert_eq!(calls(&last) - calls(&first), ran, "{what}");
        // All that was made since lives.
        let (before, after) = (lives(&first), lives(&last));
        let made = after.0 - before.0;
        let error = (after.1.powi(2) + before.1.powi(2)).sqrt();
        assert!((made - ran as f64).abs() <= 4.0 * error + 1.0, "{what}: {made} ± {error} of {ran}");
        assert!(pin(&last, "main.forget").is_none(), "{what}: {:#}", last["pins"]);
        let pid = target.pid();
        wait_restored(pid, &what);
        assert!(target.finish().success(), "{what}");
    }
}

#[test]
fn a_call_that_runs_too_often_to_be_followed_is_named_by_its_share() {
    live!(Root, Uprobes, EveryGo, Tracer);
    let go = Go::every().into_iter().find(|go| go.pin.minor() == 26).expect("it is supported");
    let mut target = start(&go, Mode::StrippedPie, 4_000);
    let mut tracer = Tracer::attach(target.pid(), &["--format", "json"]);
    let report = wait_until(&mut target, &mut tracer, "growth", |report| finding(report).is_some());
    let calls = list(&report, "/windows/calls");
    let of_size: Vec<&Value> = calls.iter().filter(|call| call["bytes"] == 64).collect();
    let kept = |call: &&Value| number(call, "/kept");
    let all: u64 = of_size.iter().map(kept).sum();
    assert_eq!(text(of_size[0], "/stack/0/function"), "main.remember");
    assert!(kept(&of_size[0]) * 20 >= all * 19, "{of_size:#?}");
    // Those that take turns are seen alike: the exact test of a fair coin, at five standard errors.
    let sampled = |function: &str| {
        let of = of_size.iter().filter(|call| text(call, "/stack/0/function") == function);
        of.map(|call| number(call, "/sampled")).sum::<u64>() as f64
    };
    let (one, other) = (sampled("main.remember"), sampled("main.forget"));
    assert!((one - other).abs() <= 5.0 * (one + other).sqrt(), "{one} and {other}");
    assert!(report["pins"].is_null(), "{:#}", report["pins"]);
    let last = tracer.interrupt().success().last_json();
    assert_nothing_lost(&last, "too often");
    assert!(target.finish().success());
}

fn pin<'a>(report: &'a Value, function: &str) -> Option<&'a Value> {
    let pins = report["pins"].as_array()?;
    pins.iter().find(|pin| text(pin, "/stack/0/function") == function)
}

/// The finding that names who keeps the strings by what windows showed.
fn finding(report: &Value) -> Option<&Value> {
    let of = list(report, "/findings").iter().filter(|finding| finding["rule"] == "heap-growth");
    let mut said = of.filter(|finding| {
        list(finding, "/evidence")
            .iter()
            .any(|line| line.as_str().is_some_and(|l| l.contains("seen to be kept")))
    });
    said.find(|finding| text(finding, "/where/function") == "main.remember")
}

/// Nothing is made any more, and two cycles told of what was.
fn settle(target: &mut Target) -> Value {
    let account = target.ask("rest");
    for _ in 0..3 {
        target.ask("gc");
        thread::sleep(Duration::from_millis(500));
    }
    account
}

/// Objects of the call that live, and the standard error.
fn lives(report: &Value) -> (f64, f64) {
    let rows = list(report, "/allocations").iter();
    let of = |row: &&Value| row.pointer("/stack/0/function").and_then(Value::as_str) == Some("main.remember");
    let one = |row: &Value, path: &str| row.pointer(path).and_then(Value::as_f64).unwrap_or(0.0);
    let mut sum = (0.0, 0.0_f64);
    for row in rows.filter(of) {
        sum = (sum.0 + one(row, "/live/objects"), sum.1.hypot(one(row, "/live/objects_stderr")));
    }
    sum
}
