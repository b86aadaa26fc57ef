//! Goroutines born and ended, and map writes, by the fixtures' own count.
//!
//! Apart because the tests of events and the matrix of Go versions ask the same. The truth is what the fixture says it did.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use crate::report::{self, list, number, text};
use crate::target::Target;
use crate::tracer::Tracer;

/// Traces a fixture while it obeys one command; the report and the fixture's answer.
pub fn traced(program: &Path, what: &str, command: &str, arguments: &[&str]) -> (Value, Value) {
    let mut target = Target::start(program);
    let mut all = vec!["--format", "json"];
    all.extend(arguments);
    let tracer = Tracer::attach(target.pid(), &all);
    let answer = target.ask(command);
    let report = tracer.interrupt().success().json();
    assert!(target.finish().success(), "{what}");
    report::assert_nothing_lost(&report, what);
    (report, answer)
}

/// Each place that starts goroutines has as many births and ends as the fixture says.
pub fn assert_churned(report: &Value, answer: &Value, what: &str) {
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
pub fn assert_written(report: &Value, answer: &Value, what: &str) {
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
