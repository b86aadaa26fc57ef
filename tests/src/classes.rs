//! Size classes of a report beside MemStats.BySize, and GC figures beside the rest of MemStats.
//!
//! Apart because the tests of readings and the matrix of Go versions ask the same. The truth is the fixture's own account, taken
//! right after a collection.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::go::Go;
use crate::report::{list, number};
use crate::target::Target;
use crate::tracer::Tracer;

/// Live objects of each class are those the target tells, within what one span holds.
pub fn assert_as_told(report: &Value, account: &Value, go: &Go, what: &str) {
    let ours: BTreeMap<u64, u64> = list(report, "/heap/size_classes")
        .iter()
        .filter_map(|class| Some((class["bytes"].as_u64()?, number(class, "/objects"))))
        .collect();
    assert_held(&ours, account, go, what);
}

/// The same of objects by size.
pub fn assert_held(ours: &BTreeMap<u64, u64>, account: &Value, go: &Go, what: &str) {
    let spans = spans(go);
    assert_eq!(spans.len(), 67, "{what}");
    let mut compared = 0;
    for class in list(account, "/by_size").iter().filter(|class| number(class, "/size") > 0) {
        let size = number(class, "/size");
        let theirs = number(class, "/mallocs") - number(class, "/frees");
        let held = ours.get(&size).copied().unwrap_or(0);
        // The runtime counts a span's objects when a processor gives the span back.
        assert!(
            held.abs_diff(theirs) <= spans[&size],
            "{what}: {held} objects of {size} bytes, the target has {theirs}"
        );
        compared += usize::from(theirs > 0);
    }
    assert!(compared >= 20, "{what}: only {compared} classes hold anything");
}

/// Collections forced in a session.
const COLLECTIONS: u64 = 5;
const LIMIT: Duration = Duration::from_mins(1);
/// What the fixture may allocate or give back between the end of a collection and its word on the heap.
const SINCE: u64 = 64 << 10;

/// A session that only reads: its newest cycle, its goal and what it says is live are what the target tells.
pub fn assert_gc_as_told(program: &Path, what: &str) {
    let mut target = Target::start(program);
    target.ask("run 100");
    let mut tracer = Tracer::attach(target.pid(), &["--sampler", "none", "--format", "json"]);
    // What is since attach is since the first reading.
    tracer.wait_for("first report", LIMIT);
    let mut after = Value::Null;
    for _ in 0..COLLECTIONS {
        after = target.ask("gc");
    }
    let report = tracer.interrupt().success().json();
    assert!(target.finish().success(), "{what}");
    let last = list(&report, "/heap/series").last().expect("a collection was seen");
    assert_eq!(number(last, "/gc_cycle"), number(&after, "/num_gc"), "{what}: cycles");
    assert_eq!(number(&report, "/heap/goal_bytes"), number(&after, "/next_gc"), "{what}: the goal");
    let (live, held) = (number(&report, "/heap/live_bytes"), number(&after, "/heap_alloc"));
    assert!(live.abs_diff(held) < SINCE, "{what}: {live} bytes live, the target holds {held}");
}

/// Bytes per object and objects per span of each class, from the toolchain's own source.
pub fn spans(go: &Go) -> BTreeMap<u64, u64> {
    let root = go.path.parent().and_then(Path::parent).expect("go lies in its root's bin");
    // Go 1.25 moved the table.
    let table = ["src/internal/runtime/gc/sizeclasses.go", "src/runtime/sizeclasses.go"]
        .iter()
        .find_map(|file| fs::read_to_string(root.join(file)).ok())
        .expect("the toolchain has its size classes");
    let row = |line: &str| -> Option<(u64, u64)> {
        let columns: Vec<&str> = line.strip_prefix("//")?.split_whitespace().collect();
        let [_, bytes, _, objects, _, waste, _] = columns[..] else { return None };
        waste.ends_with('%').then_some((bytes.parse().ok()?, objects.parse().ok()?))
    };
    table.lines().filter_map(row).collect()
}
