//! Readings of a fixture without a probe, or with its objects sampled, against what the fixture says of itself.
//!
//! Apart from the tests of each reading because every cell of the matrix makes them too.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::followed::{estimated, session};
use crate::go::Go;
use crate::report::{assert_nothing_lost, list, number, text};
use crate::target::Target;
use crate::tracer::Tracer;
use crate::typed::{self, Session};
use crate::{classes, followed};

/// One census.
pub fn read(target: &Target) -> Value {
    let pid = target.pid().to_string();
    Tracer::run(&["heap", "--pid", &pid, "--format", "json"], Duration::from_mins(1)).success().json()
}

/// Objects per size by the census, those allocated since the last cycle included.
pub fn by_size(report: &Value) -> BTreeMap<u64, u64> {
    let mut sums = BTreeMap::new();
    for class in list(report, "/heap/size_classes") {
        assert!(class["noscan"].is_boolean(), "{class}");
        let size = class["bytes"].as_u64().unwrap_or(0);
        *sums.entry(size).or_default() += number(class, "/objects") + number(class, "/new_objects");
    }
    sums
}

/// No span was left out.
pub fn assert_whole(report: &Value, what: &str) {
    for lost in ["torn_spans", "swapped_spans", "unread_spans"] {
        assert_eq!(number(report, &format!("/heap/census/{lost}")), 0, "{what}: {lost}");
    }
}

/// Size classes are MemStats' within one span.
pub fn assert_census(go: &Go, program: &Path, what: &str) {
    let mut target = Target::start(program);
    target.ask("keep 3000");
    let account = target.ask("memstats");
    let report = read(&target);
    assert_whole(&report, what);
    assert_eq!(number(&report, "/heap/census/gc_cycle"), number(&account, "/num_gc"), "{what}");
    let ours = by_size(&report);
    classes::assert_held(&ours, &account, go, what);
    // Classes beyond BySize (19 072 bytes and more) and large objects.
    let beyond = ours.iter().filter(|(size, _)| **size == 0 || **size > 18_432);
    let (beyond, large) = (beyond.map(|(_, n)| n).sum::<u64>(), number(&account, "/large"));
    assert!(beyond.abs_diff(large) <= 8, "{what}: {beyond} large objects, the target has {large}");
    // Nothing died since: what survived is nearly all, and bytes are the target's.
    let census = &report["heap"]["census"];
    let bytes = number(census, "/bytes") + number(census, "/new_bytes");
    let theirs = number(&account, "/heap_alloc");
    assert!(bytes.abs_diff(theirs) <= 256 << 10, "{what}: {bytes} bytes, the target has {theirs}");
    assert!(number(census, "/new_objects") < 2000, "{what}: {census}");
    let in_spans: u64 = list(&report, "/heap/size_classes").iter().map(|c| number(c, "/spans")).sum();
    assert_eq!(in_spans, number(census, "/spans"), "{what}");
    let stacks = number(&account, "/stack_inuse");
    assert!(number(census, "/stack_bytes") >= stacks / 2, "{what}: {census}, the target has {stacks}");
}

/// Of what the fixture `typed` keeps, the types of 95 % of the bytes are told, and next to none wrong.
pub fn assert_types(program: &Path, large_too: bool, what: &str) {
    let readings = if large_too { 1 } else { typed::SMALL_READINGS };
    let types = typed::shares(&Session::several(program, 3000, readings), large_too);
    let of = if large_too { types.all } else { types.small };
    assert!(of.alone + of.among >= 0.95 * of.kept, "{what}: {of:?}");
    assert!(of.wrong < 0.01 * of.kept, "{what}: {of:?}");
}

/// Maps of package variables hold what the fixture says.
pub fn assert_maps(program: &Path, what: &str) {
    let mut target = Target::start(program);
    let tracer = Tracer::attach(target.pid(), &["--sampler", "none", "--format", "json"]);
    let answer = target.ask("hold 30000");
    // All code is looked through for the variables: on a busy machine that takes a while.
    std::thread::sleep(Duration::from_secs(1));
    let report = tracer.interrupt().success().json();
    for held in list(&answer, "") {
        let of = text(held, "/type");
        let row = list(&report, "/maps").iter().find(|row| row["type"] == of && row["variable"].is_string());
        let row = row.unwrap_or_else(|| panic!("{what}: no {of} in {}", report["maps"]));
        assert_eq!(row["entries"], held["entries"], "{what}: {of}");
    }
}

/// The runtime's own profile, taken at every allocation, has what the fixture keeps at each site, and of which type.
pub fn assert_profile(program: &Path, large_too: bool, what: &str) {
    const KEPT: u64 = 50;
    let mut target = Target::start_command(Command::new(program).env("PROFILE_RATE", "1"));
    let types = target.ask(&format!("types {KEPT}"));
    target.ask("gc");
    let report = read(&target);
    for (site, of) in types.as_object().expect("sites with their type") {
        let row =
            list(&report, "/allocations").iter().find(|row| row["stack"][0]["function"] == site.as_str());
        let row = row.unwrap_or_else(|| panic!("{what}: no {site}"));
        assert_eq!(number(row, "/live/objects"), KEPT, "{what}: {row:#}");
        assert_eq!(number(row, "/freed/objects"), 0, "{what}: {row:#}");
        let known = large_too || site == "main.keepNode";
        assert_eq!(row["live_type"], if known { of.clone() } else { Value::Null }, "{what}: {row:#}");
    }
}

/// Objects that a finished worker's stack or register may still hold.
pub const LEFT_BEHIND: u64 = 6;

/// With every allocation sampled, the living are those that the fixture `followed` keeps; the session and its rows.
pub fn assert_sampled(
    program: &Path,
    arguments: &[&str],
    what: &str,
) -> (followed::Session, BTreeMap<String, followed::Estimated>) {
    // Collections only when they are asked for: each is seen, however slow the machine.
    let lines = ["collect -1", "run 400", "gc", "run 150", "gc", "release", "gc"];
    let found = session(program, &[&["--sample-bytes", "1"], arguments].concat(), &lines);
    assert_nothing_lost(&found.report, what);
    let rows = estimated(&found.report);
    for site in &found.account {
        let row = rows.get(&site.function).unwrap_or_else(|| panic!("{what}: no {}", site.function));
        assert_eq!(row.allocated as u64, site.allocated, "{what}: {site:?} {row:?}");
        assert_eq!(row.samples, site.allocated, "{what}: {site:?} {row:?}");
        // What was lost sight of is said to be, and is little: collections are slower than the looks at them.
        let known = site.kept.saturating_sub(row.unknown as u64)..=site.kept + LEFT_BEHIND;
        assert!(known.contains(&(row.live as u64)), "{what}: {site:?} {row:?}");
        assert!(row.unknown <= 0.05 * row.allocated, "{what}: {site:?} {row:?}");
        let sum = row.live + row.freed + row.unknown + row.since_gc;
        assert_eq!(sum as u64, site.allocated, "{what}: {site:?} {row:?}");
    }
    (found, rows)
}
