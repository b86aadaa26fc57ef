//! Goroutines created and ended and map writes are exact by the fixture's own count.
//!
//! The truth is what the fixture says it did, per place and per family of keys.

use serde_json::Value;
use tracer_tests::events::{self, assert_churned, assert_written};
use tracer_tests::go::{Go, Mode, matrix};
use tracer_tests::live;
use tracer_tests::report;

fn traced(go: &Go, mode: Mode, fixture: &str, command: &str, arguments: &[&str]) -> (Value, Value) {
    let what = format!("go {} {}: {arguments:?}", go.pin.version, mode.name());
    events::traced(&go.build(fixture, mode), &what, command, arguments)
}

#[test]
fn goroutines_are_counted_at_birth_and_end() {
    live!();
    for (go, mode) in matrix() {
        for sampler in ["auto", "all"] {
            let what = format!("go {} {}: --sampler {sampler}", go.pin.version, mode.name());
            let (report, answer) = traced(&go, mode, "goroutines", "churn 700", &["--sampler", sampler]);
            assert_churned(&report, &answer, &what);
        }
    }
}

#[test]
fn map_writes_are_counted_per_family() {
    live!();
    for (go, mode) in matrix() {
        let what = format!("go {} {}", go.pin.version, mode.name());
        let arguments = ["--sampler", "all", "--events", "map"];
        let (report, answer) = traced(&go, mode, "maps", "run 1000", &arguments);
        assert_written(&report, &answer, &what);
        assert!(report.get("allocations").is_none(), "{what}: allocations were not asked for");
    }
}

#[test]
fn all_kinds_of_events_together_are_as_exact() {
    live!();
    let arguments = ["--sampler", "all", "--events", "alloc,map,goroutine"];
    for (go, mode) in matrix() {
        let what = format!("go {} {}: {arguments:?}", go.pin.version, mode.name());
        let (report, answer) = traced(&go, mode, "maps", "run 1000", &arguments);
        assert_written(&report, &answer, &what);
        assert!(report::allocated_total(&report).objects > 0, "{what}");
        let (report, answer) = traced(&go, mode, "goroutines", "churn 700", &arguments);
        assert_churned(&report, &answer, &what);
    }
}
