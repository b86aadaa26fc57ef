//! The table of goroutines, as a report has it and as the target's own runtime.Stack prints it.
//!
//! Apart because the tests of goroutines and the matrix of Go versions ask the same. The target's goroutines stay parked between its
//! word and the reading.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::report::{self, Frame, list, number, text};
use crate::target::Target;
use crate::tracer::{Ended, Tracer};

/// Every kind of wait the fixture knows, with how many of each.
pub const KINDS: [(&str, u64); 11] = [
    ("chan-receive", 9),
    ("chan-send", 8),
    ("select", 7),
    ("select-empty", 6),
    ("mutex", 5),
    ("rwmutex", 4),
    ("waitgroup", 3),
    ("cond", 2),
    ("sleep", 3),
    ("nil-chan", 4),
    ("io-wait", 5),
];

/// The fixture with goroutines of every kind.
pub fn started(program: &Path) -> Target {
    let mut target = Target::start(program);
    for (kind, count) in KINDS {
        target.ask(&format!("start {kind} {count}"));
    }
    target
}

/// One reading without probes.
pub fn read(target: &Target, format: &str) -> Ended {
    let pid = target.pid().to_string();
    Tracer::run(&["goroutines", "--pid", &pid, "--format", format], Duration::from_secs(20)).success()
}

/// What makes two goroutines alike.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Group {
    pub created_by: Frame,
    pub wait: String,
    pub stack: Vec<Frame>,
}

/// Goroutines that are alike, counted.
pub type Groups = BTreeMap<Group, u64>;

/// Frames in the runtime's own files, at the inner end: waiting itself, whatever package lends it its name. The
/// report begins with the code that waits.
pub fn without_runtime(mut stack: Vec<Frame>) -> Vec<Frame> {
    let inner = stack.iter().take_while(|frame| frame.file.contains("/src/runtime/")).count();
    stack.drain(..inner);
    stack
}

/// What runtime.Stack prints of all goroutines but the first, grouped.
pub fn from_runtime_stack(printed: &str) -> Groups {
    let mut groups = Groups::new();
    for goroutine in printed.trim_end().split("\n\n") {
        let mut lines = goroutine.lines();
        let head = lines.next().expect("a goroutine has a first line");
        let state = head.split_once('[').and_then(|(_, rest)| rest.split_once("]:")).map(|(state, _)| state);
        let wait = state.expect("the first line tells the state").split(", ").next().unwrap_or_default();
        let (mut stack, mut created_by) = (Vec::new(), None);
        while let (Some(function), Some(place)) = (lines.next(), lines.next()) {
            let place = place.trim_start().split(" +0x").next().unwrap_or_default();
            let (file, line) = place.rsplit_once(':').unwrap_or_else(|| panic!("no place in {goroutine}"));
            let frame = |function: &str| Frame {
                function: function.to_owned(),
                file: file.to_owned(),
                line: line.parse().unwrap_or_else(|_| panic!("no line in {place:?}")),
            };
            if let Some(creator) = function.strip_prefix("created by ") {
                created_by = Some(frame(creator.split(" in goroutine ").next().unwrap_or_default()));
            } else {
                stack.push(frame(&function[..function.rfind('(').unwrap_or(function.len())]));
            }
        }
        if let Some(created_by) = created_by {
            let group = Group { created_by, wait: wait.to_owned(), stack: without_runtime(stack) };
            *groups.entry(group).or_default() += 1;
        }
    }
    groups
}

/// The user's goroutines in a report, without the first.
pub fn from_report(json: &Value) -> Groups {
    let mut groups = Groups::new();
    for site in list(json, "/goroutines/sites") {
        if site["internal"] == true || site.get("created_by").is_none() {
            continue;
        }
        for group in list(site, "/groups") {
            let key = Group {
                created_by: report::frame(&site["created_by"]),
                wait: text(group, "/state").to_owned(),
                stack: report::frames(&group["stack"]),
            };
            *groups.entry(key).or_default() += number(group, "/count");
        }
    }
    groups
}
