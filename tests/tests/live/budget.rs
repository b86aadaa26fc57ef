//! Probes that cost more than tracing may take are taken out of the target, and come back when it calms down. Whether a probe is
//! there is read from the target's memory, and what it allocated is what it counted itself.

use std::thread;
use std::time::{Duration, Instant};

use tracer_tests::go::{Go, Mode};
use tracer_tests::instructions::{changed, hits, wait_restored};
use tracer_tests::live;
use tracer_tests::report::{allocated_sum, assert_nothing_lost, list, number};
use tracer_tests::target::Target;
use tracer_tests::tracer::Tracer;

/// On a machine that is busy with other things, too.
const LIMIT: Duration = Duration::from_mins(2);

/// Waits until as many bytes of the target's code are changed as is wanted.
fn wait_changed(pid: u32, what: &str, wanted: impl Fn(usize) -> bool) -> usize {
    let begun = Instant::now();
    loop {
        let now = changed(pid).len();
        if wanted(now) {
            return now;
        }
        assert!(begun.elapsed() < LIMIT, "{what}: {now} bytes of code are changed");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn what_costs_too_much_is_taken_away_and_comes_back() {
    live!(Root, Uprobes, EveryGo, Tracer);
    for minor in [22, 24, 26, 27] {
        let go = Go::every().into_iter().find(|go| go.pin.minor() == minor).expect("it is supported");
        let what = format!("go{}", go.pin.version);
        let mut target = Target::start(&go.build("mill", Mode::Ordinary));
        let arguments = ["--sampler", "all", "--overhead-budget", "1%", "--format", "json"];
        let mut tracer = Tracer::attach(target.pid(), &arguments);
        let all = wait_changed(target.pid(), &what, |now| now > 0);
        let mut mallocs = 0;
        // Half a million allocations at a time, until the budget has had enough of them.
        let begun = Instant::now();
        while changed(target.pid()).len() >= all {
            mallocs += number(&target.ask("run 32000 1"), "/mallocs");
            assert!(begun.elapsed() < LIMIT, "{what}: {mallocs} allocations and every probe is still there");
        }
        let left = changed(target.pid()).len();
        assert!(left > 0, "{what}: what costs little stays");
        let closed = tracer.interim(LIMIT);
        mallocs += number(&target.ask("run 32000 1"), "/mallocs");
        let missed = tracer.interim(LIMIT);
        assert_eq!(allocated_sum(&missed).objects, allocated_sum(&closed).objects, "{what}: not counted");
        assert!(hits(&missed, "runtime.newproc1") > hits(&closed, "runtime.newproc1"), "{what}: counted on");
        // Nothing runs now.
        assert_eq!(wait_changed(target.pid(), &what, |now| now > left), all, "{what}: all are back");
        mallocs += number(&target.ask("run 10 1"), "/mallocs");
        let report = tracer.interrupt().success().last_json();
        let objects = allocated_sum(&report).objects;
        assert!(objects > allocated_sum(&missed).objects, "{what}: counted again");
        assert!(objects < mallocs, "{what}: {objects} of {mallocs} is a lower bound");
        let session = &report["session"];
        assert_eq!(number(session, "/counters/throttled"), 1, "{what}");
        assert_eq!((&session["lower_bounds"], &session["complete"]), (&true.into(), &false.into()), "{what}");
        assert!(
            list(session, "/remarks").iter().any(|said| said.as_str().unwrap().starts_with("allocations: "))
        );
        let cost = &session["cost"];
        assert_eq!(cost["budget"], 0.01, "{what}");
        assert!(cost["throttled_s"].as_f64().unwrap() >= 9.0, "{what}: {cost}");
        wait_restored(target.pid(), &what);
        assert!(target.finish().success(), "{what}");
    }
}

#[test]
fn without_a_budget_what_was_asked_for_stays() {
    live!(Root, Uprobes, Go, Tracer);
    let mut target = Target::start(&Go::demo().build("mill", Mode::Ordinary));
    let tracer = Tracer::attach(target.pid(), &["--sampler", "all", "--format", "json"]);
    let all = wait_changed(target.pid(), "at first", |now| now > 0);
    let answer = target.ask("run 100000 1");
    assert_eq!(changed(target.pid()).len(), all);
    let report = tracer.interrupt().success().json();
    assert_nothing_lost(&report, "mill");
    assert!(allocated_sum(&report).objects >= number(&answer, "/mallocs"));
    let cost = &report["session"]["cost"];
    assert!(cost["budget"].is_null() && cost["throttled_s"].is_null(), "{cost}");
    let of = |what: &str| cost[what].as_f64().unwrap_or_else(|| panic!("{what} in {cost}"));
    // Each hit takes what was measured for its kind of instruction, and what its program takes on top.
    let session = &report["session"];
    let probes = list(session, "/probes").iter();
    let traps = probes.map(|p| {
        number(p, "/hits") as f64 * cost["per_hit_s"][p["site"].as_str().unwrap()].as_f64().unwrap()
    });
    let (traps, watched) = (traps.sum::<f64>(), session["duration_s"].as_f64().unwrap());
    let hits = (of("estimated") - of("readings")) * watched;
    assert!(traps > 0.0 && hits > 0.9 * traps, "{hits} s of hits, {traps} s of traps");
}

#[test]
fn what_a_hit_costs_is_measured_for_every_kind_of_instruction() {
    live!(Root, Uprobes, Go, Tracer);
    let target = Target::start(&Go::demo().build("mill", Mode::Ordinary));
    let report =
        Tracer::run(&["--pid", &target.pid().to_string(), "--duration", "1s", "--format", "json"], LIMIT);
    let report = report.success().json();
    let cost = &report["session"]["cost"];
    for kind in ["nop5", "nop", "push", "call", "jcc"] {
        // A trap is thousands of instructions, a single step ten times as many.
        let ns = cost["per_hit_s"][kind].as_f64().unwrap_or_else(|| panic!("{kind} in {cost}")) * 1e9;
        assert!((20.0..1e6).contains(&ns), "{kind}: {ns} ns");
    }
    assert_eq!(cost["budget"], 0.01);
    assert_eq!(cost["throttled_s"], 0.0);
    assert_eq!(report["session"]["counters"].get("throttled"), None);
    assert!(target.finish().success());
}
