//! One reading without probes: the goroutine table equals the target's own runtime.Stack and its pprof grouping,
//! size classes equal MemStats.BySize.
//!
//! The truth is what the target says of itself. Its goroutines stay parked between its word and the reading.

use std::collections::BTreeMap;
use std::time::Duration;

use tracer_tests::classes;
use tracer_tests::go::matrix;
use tracer_tests::live;
use tracer_tests::report::{Frame, list, number};
use tracer_tests::table::{
    Group, Groups, KINDS, from_report, from_runtime_stack, read, started, without_runtime,
};
use tracer_tests::target::Target;

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
        let mut target = started(&go.build("goroutines", mode));
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

#[test]
fn how_long_they_wait_is_told_for_all_of_them() {
    live!();
    for (go, mode) in matrix() {
        let what = format!("go {} {}", go.pin.version, mode.name());
        let mut target = Target::start(&go.build("goroutines", mode));
        target.ask("start chan-receive 5");
        // A wait counts from the GC that sees it.
        target.ask("collect");
        std::thread::sleep(Duration::from_millis(1100));
        target.ask("start chan-receive 3");
        target.ask("collect");
        let json = read(&target, "json").json();
        let sites = list(&json, "/goroutines/sites").iter();
        let site = sites.max_by_key(|s| s["count"].as_u64()).unwrap_or_else(|| panic!("{what}: {json}"));
        assert_eq!((number(site, "/count"), number(site, "/wait_s/goroutines")), (8, 8), "{what}: {site}");
        let waited = |name: &str| site["wait_s"][name].as_f64().unwrap_or_else(|| panic!("{what}: {site}"));
        assert!(waited("p50") >= 1.1 && waited("p50") <= waited("max"), "{what}: {site}");
        let plain = read(&target, "text").stdout;
        assert!(plain.contains("waits    half of 8 have waited "), "{what}: {plain}");
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

#[test]
fn size_classes_are_those_of_memstats() {
    live!();
    for (go, mode) in matrix() {
        let what = format!("go {} {}", go.pin.version, mode.name());
        let mut target = Target::start(&go.build("allocs", mode));
        target.ask("run 300");
        target.ask("gc");
        let account = target.ask("memstats");
        classes::assert_as_told(&read(&target, "json").json(), &account, &go, &what);
    }
}
