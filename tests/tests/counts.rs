//! Counts in `all` mode equal the target's own account: four threads allocate from thirty sites while collections
//! are forced and stacks grow.
//!
//! The truth is the fixture's own counters and runtime.MemStats. Nothing here knows how the counting is done.

use serde_json::Value;
use tracer_tests::go::{Go, Mode, matrix};
use tracer_tests::live;
use tracer_tests::report::{self, Amount, list, number, text};
use tracer_tests::target::Target;
use tracer_tests::tracer::Tracer;

/// Rounds of four workers with thirty sites each: 120 000 allocations.
const ROUNDS: u32 = 1000;

/// A window in which the fixture answered `command`, as the tracer and as the target itself saw it.
struct Window {
    what: String,
    report: Value,
    /// The fixture's answer.
    answer: Value,
    mallocs: u64,
    total_alloc: u64,
}

/// Traces the fixture while it obeys `command`.
///
/// Both accounts span the same work. The runtime's begins and ends inside the command `memstats`, the tracer's
/// between two commands: each contains the rest of one such answer. An answer costs the same every time, once
/// the JSON encoder has met its types, so that the two sums are of equal lengths of work.
fn window(go: &Go, mode: Mode, command: &str) -> Window {
    let what = format!("go {} {}: {command}", go.pin.version, mode.name());
    let mut target = Target::start(&go.build("allocs", mode));
    target.ask("memstats");
    let before = target.ask("memstats");
    let tracer = Tracer::attach(target.pid(), &["--sampler", "all", "--format", "json"]);
    let answer = target.ask(command);
    let after = target.ask("memstats");
    let report = tracer.interrupt().success().json();
    assert!(target.finish().success(), "{what}");
    let change = |path| number(&after, path) - number(&before, path);
    Window { what, report, answer, mallocs: change("/mallocs"), total_alloc: change("/total_alloc") }
}

fn site(value: &Value) -> (String, bool, u64, u64) {
    let tiny = value["tiny"].as_bool().expect("the fixture says which sites are tiny");
    (text(value, "/function").to_owned(), tiny, number(value, "/calls"), number(value, "/bytes"))
}

fn off(ours: u64, theirs: u64) -> f64 {
    (ours as f64 - theirs as f64).abs() / theirs as f64
}

#[test]
fn every_allocation_is_counted_once_and_at_its_site() {
    live!();
    for (go, mode) in matrix() {
        let window = window(&go, mode, &format!("run {ROUNDS}"));
        let what = &window.what;
        report::assert_nothing_lost(&window.report, what);
        let total = report::allocated_total(&window.report);
        assert!(
            off(total.objects, window.mallocs) < 0.001,
            "{what}: {} of {}",
            total.objects,
            window.mallocs
        );
        assert_eq!(report::allocated_sum(&window.report), total, "{what}: rows and total");

        let by_function = report::allocated_by(&window.report);
        let sites: Vec<_> = list(&window.answer, "/sites").iter().map(site).collect();
        assert!(sites.len() >= 20, "{what}");
        for (function, _, calls, bytes) in sites {
            let ours = by_function.get(&function).copied().unwrap_or_default();
            let ours = (ours.objects, ours.requested);
            assert_eq!(ours, (calls, bytes), "{what}: objects and requested bytes of {function}");
        }
    }
}

#[test]
fn rounded_bytes_are_what_the_heap_grew_by() {
    live!();
    for (go, mode) in matrix() {
        let window = window(&go, mode, &format!("run {ROUNDS} notiny"));
        let what = &window.what;
        report::assert_nothing_lost(&window.report, what);
        let Amount { objects, requested, rounded } = report::allocated_total(&window.report);
        assert!(requested < rounded, "{what}");
        assert!(off(objects, window.mallocs) < 0.001, "{what}: {objects} of {}", window.mallocs);
        assert!(off(rounded, window.total_alloc) < 0.005, "{what}: {rounded} of {}", window.total_alloc);
    }
}
