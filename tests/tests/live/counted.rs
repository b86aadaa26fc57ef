//! Calls that are counted because of what grows by them, the writes to a map and a `go` statement, against a program that counts both
//! itself; and what findings say by them.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tracer_tests::go::Go;
use tracer_tests::instructions::wait_restored;
use tracer_tests::live;
use tracer_tests::report::{list, number, text};
use tracer_tests::target::Target;
use tracer_tests::tracer::Tracer;

const END: Duration = Duration::from_mins(1);

#[test]
fn the_calls_by_which_maps_and_goroutines_grow_are_counted() {
    live!(Root, Uprobes, EveryGo, Tracer);
    for (go, mode) in Go::milestones() {
        let what = format!("go{} {}", go.pin.version, mode.name());
        let mut target = Target::start(&go.build("pinned", mode));
        // To count all births and ends is more than the budget has; one `go` statement is not.
        target.ask("churn");
        let mut tracer = Tracer::attach(target.pid(), &["--format", "json"]);
        let functions = ["main.add", "main.rename", "main.seed", "main.start"];
        let first = grow_until(&mut target, &mut tracer, &what, |report| {
            functions.into_iter().all(|function| calls(report, function).is_some())
        });
        let had = target.ask("join 0");
        // Long enough that findings go by what was counted.
        let begun = Instant::now();
        let last = grow_until(&mut target, &mut tracer, &what, |_| begun.elapsed() > Duration::from_secs(15));
        let has = target.ask("join 0");
        for (function, account) in
            [("main.add", "/joined"), ("main.rename", "/renamed"), ("main.start", "/launched")]
        {
            let ran = number(&has, account) - number(&had, account);
            let counted = calls(&last, function).expect("it was") - calls(&first, function).expect("it was");
            assert_eq!(counted, ran, "{what}: {function}");
        }
        assert_eq!(calls(&last, "main.seed"), Some(0), "{what}: it ran before");
        let map = because(&last, "map-growth");
        // Those of the program, and of what it imports.
        let places = " places in the code that write to such a map 2 ran: main.add (";
        assert!(map.iter().any(|said| said.contains(places)), "{what}: {map:?}");
        let goroutines = because(&last, "goroutine-growth");
        let said = |said: &String| {
            said.starts_with("its go statement ran ") && said.ends_with("; hardly any of them ended")
        };
        assert!(goroutines.iter().any(said), "{what}: {goroutines:?}");
        let end = tracer.interrupt().success().last_json();
        // Of all goroutines some were not counted, and some changed each time they were read. Nothing else is lost.
        let may_be = ["throttled", "goroutine_torn", "window_forgotten"];
        let lost = end.pointer("/session/counters").and_then(Value::as_object).expect("there are losses");
        assert!(
            lost.contains_key("throttled") && lost.keys().all(|name| may_be.contains(&name.as_str())),
            "{what}: {lost:?}"
        );
        wait_restored(target.pid(), &what);
        assert!(target.finish().success(), "{what}");
    }
}

/// The report that shows it.
fn grow_until(target: &mut Target, tracer: &mut Tracer, what: &str, shows: impl Fn(&Value) -> bool) -> Value {
    let begun = Instant::now();
    loop {
        for _ in 0..10 {
            target.ask("join 40");
            target.ask("launch 2");
            thread::sleep(Duration::from_millis(100));
        }
        let report = tracer.interim(END);
        if shows(&report) {
            return report;
        }
        assert!(begun.elapsed() < END, "{what}: it did not come to it: {report:#}");
    }
}

fn calls(report: &Value, function: &str) -> Option<u64> {
    let pins = report.pointer("/pins").and_then(Value::as_array)?;
    let of = pins.iter().find(|pin| text(pin, "/stack/0/function") == function)?;
    of["calls"].as_u64()
}

fn because(report: &Value, rule: &str) -> Vec<String> {
    let of = list(report, "/findings").iter().find(|finding| text(finding, "/rule") == rule);
    let said = of.map_or_else(Vec::new, |finding| list(finding, "/evidence").to_vec());
    said.iter().filter_map(Value::as_str).map(str::to_owned).collect()
}
