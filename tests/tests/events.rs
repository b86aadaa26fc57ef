//! Goroutines created and ended and map writes are exact by the fixture's own count.
//!
//! The truth is what the fixture says it did, per place and per family of keys.

use std::collections::BTreeMap;

use serde_json::Value;
use tracer_tests::go::{Go, Mode, matrix};
use tracer_tests::live;
use tracer_tests::report::{self, list, number, text};
use tracer_tests::target::Target;
use tracer_tests::tracer::Tracer;

/// Traces a fixture while it obeys one command; the report and the fixture's answer.
fn traced(go: &Go, mode: Mode, fixture: &str, command: &str, arguments: &[&str]) -> (Value, Value) {
    let mut target = Target::start(&go.build(fixture, mode));
    let mut all = vec!["--format", "json"];
    all.extend(arguments);
    let tracer = Tracer::attach(target.pid(), &all);
    let answer = target.ask(command);
    let report = tracer.interrupt().success().json();
    assert!(target.finish().success());
    report::assert_nothing_lost(&report, &format!("go {} {}: {arguments:?}", go.pin.version, mode.name()));
    (report, answer)
}

/// Each place that starts goroutines has as many births and ends as the fixture says.
fn assert_churned(report: &Value, answer: &Value, what: &str) {
    let sites = list(report, "/goroutines/sites");
    for churned in list(answer, "/sites") {
        let function = text(churned, "/function");
        let (mut created, mut ended) = (0, 0);
        for site in sites.iter().filter(|site| site["created_by"]["function"] == function) {
            created += number(site, "/created");
            ended += number(site, "/ended");
        }
        let theirs = (number(churned, "/created"), number(churned, "/ended"));
        assert_eq!((created, ended), theirs, "{what}: created and ended by {function}");
    }
    let sum = |path| sites.iter().map(|site| number(site, path)).sum::<u64>();
    let total = (number(report, "/goroutines/created"), number(report, "/goroutines/ended"));
    assert_eq!(total, (sum("/created"), sum("/ended")), "{what}: total and sites");
}

/// Each family's map has as many writes as the fixture says, by its type and by the function that wrote.
fn assert_written(report: &Value, answer: &Value, what: &str) {
    let mut writes: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    for row in list(report, "/maps") {
        let sites = list(row, "/sites");
        for site in sites {
            let function = report::innermost(site).expect("a map write has a known stack");
            *writes.entry((function, text(row, "/type"))).or_default() += number(site, "/writes");
        }
        let of_sites: u64 = sites.iter().map(|site| number(site, "/writes")).sum();
        assert_eq!(number(row, "/writes"), of_sites, "{what}: a map and its sites");
    }
    for family in answer.as_array().expect("the fixture answers with families") {
        let key = (text(family, "/function"), text(family, "/type"));
        let theirs = Some(number(family, "/writes"));
        assert_eq!(writes.get(&key).copied(), theirs, "{what}: {key:?}: {writes:?}");
    }
    let of_fixture = writes.keys().filter(|(function, _)| function.starts_with("main.write")).count();
    assert_eq!(of_fixture, 7, "{what}: a function writes to one type: {writes:?}");
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
