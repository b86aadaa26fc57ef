//! One reading without probes: the goroutine table equals the target's own runtime.Stack and its pprof grouping,
//! size classes equal MemStats.BySize.
//!
//! The truth is what the target says of itself. Its goroutines stay parked between its word and the reading.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use tracer_tests::go::{Go, Mode, matrix};
use tracer_tests::live;
use tracer_tests::report::{self, Frame, list, number, text};
use tracer_tests::target::Target;
use tracer_tests::tracer::{Ended, Tracer};

/// Every kind of wait the fixture knows, with how many of each.
const KINDS: [(&str, u64); 11] = [
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

/// What makes two goroutines alike.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Group {
    created_by: Frame,
    wait: String,
    stack: Vec<Frame>,
}

type Groups = BTreeMap<Group, u64>;

fn started(go: &Go, mode: Mode) -> Target {
    let mut target = Target::start(&go.build("goroutines", mode));
    for (kind, count) in KINDS {
        target.ask(&format!("start {kind} {count}"));
    }
    target
}

fn read(target: &Target, format: &str) -> Ended {
    let pid = target.pid().to_string();
    Tracer::run(&["goroutines", "--pid", &pid, "--format", format], Duration::from_secs(20)).success()
}

/// Frames in the runtime's own files, at the inner end: waiting itself, whatever package lends it its name. The
/// report begins with the code that waits.
fn without_runtime(mut stack: Vec<Frame>) -> Vec<Frame> {
    let inner = stack.iter().take_while(|frame| frame.file.contains("/src/runtime/")).count();
    stack.drain(..inner);
    stack
}

/// What runtime.Stack prints of all goroutines but the first, grouped.
fn from_runtime_stack(printed: &str) -> Groups {
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
fn from_report(json: &Value) -> Groups {
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

/// What the pprof goroutine profile prints (debug=1): goroutines by stack alone. The first one made it.
fn from_profile(printed: &str) -> BTreeMap<Vec<Frame>, u64> {
    let mut stacks = BTreeMap::new();
    let mut count = 0;
    let mut stack: Vec<Frame> = Vec::new();
    for line in printed.lines().skip(1).chain([""]) {
        if let Some((number, _)) = line.split_once(" @ ") {
            count = number.parse().unwrap_or_else(|_| panic!("no count in {line:?}"));
        } else if line.starts_with("#\t") {
            let columns: Vec<&str> = line.split('\t').filter(|column| !column.is_empty()).collect();
            let [_, _, function, place] = columns[..] else { panic!("not a frame: {line:?}") };
            let (file, number) = place.rsplit_once(':').unwrap_or_else(|| panic!("no place in {line:?}"));
            stack.push(Frame {
                function: function.rsplit_once("+0x").map_or(function, |(name, _)| name).to_owned(),
                file: file.to_owned(),
                line: number.parse().unwrap_or_else(|_| panic!("no line in {line:?}")),
            });
        } else if !stack.is_empty() {
            let stack = without_runtime(std::mem::take(&mut stack));
            if !stack.iter().any(|frame| frame.function == "main.main") {
                *stacks.entry(stack).or_default() += count;
            }
        }
    }
    stacks
}

#[test]
fn the_table_is_what_the_runtime_prints() {
    live!();
    for (go, mode) in matrix() {
        let what = format!("go {} {}", go.pin.version, mode.name());
        let mut target = started(&go, mode);
        let stack = target.ask("stack");
        let profile = target.ask("profile");
        let json = read(&target, "json").json();
        let plain = read(&target, "text").stdout;

        let ours = from_report(&json);
        let theirs = from_runtime_stack(stack.as_str().expect("a text"));
        assert_eq!(ours, theirs, "{what}");
        assert_eq!(ours.values().sum::<u64>(), KINDS.iter().map(|(_, count)| count).sum::<u64>(), "{what}");

        let mut by_stack: BTreeMap<Vec<Frame>, u64> = BTreeMap::new();
        for (group, count) in &ours {
            *by_stack.entry(group.stack.clone()).or_default() += count;
        }
        assert_eq!(by_stack, from_profile(profile.as_str().expect("a text")), "{what}");

        assert_eq!(json["goroutines"]["skipped"].as_u64().unwrap_or(0), 0, "{what}");
        assert_in_text(&plain, &theirs, &what);
        assert!(target.is_alive());
    }
}

/// Each group is a block of the text: how many and in which state, started where, the frames they wait at.
fn assert_in_text(plain: &str, groups: &Groups, what: &str) {
    let blocks: Vec<&str> = plain.split("\n\n").collect();
    for (Group { created_by, wait, stack }, count) in groups {
        let head = format!("{count}  {wait}");
        let found = blocks.iter().any(|block| {
            let first = block.lines().next().unwrap_or_default();
            (first == head || first.starts_with(&format!("{head}, ")))
                && [created_by].into_iter().chain(stack).all(|frame| block.contains(&frame.function))
        });
        assert!(found, "{what}: no block {head:?} started by {created_by:?} in\n{plain}");
    }
}

/// Bytes per object and objects per span of each class, from the toolchain's own source.
fn spans(go: &Go) -> BTreeMap<u64, u64> {
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

#[test]
fn size_classes_are_those_of_memstats() {
    live!();
    for (go, mode) in matrix() {
        let what = format!("go {} {}", go.pin.version, mode.name());
        let spans = spans(&go);
        assert_eq!(spans.len(), 67, "{what}");
        let mut target = Target::start(&go.build("allocs", mode));
        target.ask("run 300");
        target.ask("gc");
        let account = target.ask("memstats");
        let json = read(&target, "json").json();
        let ours: BTreeMap<u64, u64> = list(&json, "/heap/size_classes")
            .iter()
            .filter_map(|class| Some((class["bytes"].as_u64()?, number(class, "/objects"))))
            .collect();
        let mut compared = 0;
        for class in list(&account, "/by_size").iter().filter(|class| number(class, "/size") > 0) {
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
}
