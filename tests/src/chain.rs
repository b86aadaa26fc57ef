//! The fixture `stacks`: a known chain of calls, some inlined, reads as runtime.Callers tells it.
//!
//! Apart because the tests of stacks and the matrix of Go versions ask the same. It compares and decides nothing else.

use std::path::Path;

use serde_json::Value;

use crate::report::{self, Frame, list, number};
use crate::target::Target;
use crate::tracer::Tracer;

/// Walks of the chain, and so allocations of its type.
pub const CALLS: u64 = 300;

/// A frame and whether it was inlined.
type Known = (Frame, bool);

fn known(frame: &Value) -> Known {
    (report::frame(frame), frame["inlined"].as_bool().expect("a frame says whether it was inlined"))
}

/// The chain's row equals what the target's own runtime made of the same chain.
pub fn assert_chain(program: &Path, what: &str, attach: &str) {
    let mut target = Target::start(program);
    let arguments = ["--sampler", "all", "--events", "alloc", "--attach", attach, "--format", "json"];
    let tracer = Tracer::attach(target.pid(), &arguments);
    let answer = target.ask(&format!("alloc {CALLS}"));
    let report = tracer.interrupt().success().json();
    assert!(target.finish().success(), "{what}");
    report::assert_nothing_lost(&report, what);

    let rows: Vec<&Value> =
        list(&report, "/allocations").iter().filter(|row| row["type"] == "main.record").collect();
    assert_eq!(rows.len(), 1, "{what}: the chain is one row: {rows:?}");
    assert_eq!(number(rows[0], "/allocated/objects"), number(&answer, "/calls"), "{what}");
    assert_eq!(number(rows[0], "/allocated/requested_bytes"), CALLS * number(&answer, "/bytes"), "{what}");

    let mut theirs: Vec<Known> = list(&answer, "/frames").iter().map(known).collect();
    // The report leaves out what starts every goroutine.
    while theirs.last().is_some_and(|(frame, _)| frame.function.starts_with("runtime.")) {
        theirs.pop();
    }
    let ours: Vec<Known> = list(rows[0], "/stack").iter().map(known).collect();
    assert_eq!(ours, theirs, "{what}");
    assert!(theirs.iter().filter(|(_, inlined)| *inlined).count() >= 3, "{what}: {theirs:?}");
}
