//! A target whose cgroup has no memory left survives: it is read, and not probed, as a probe copies pages of its code. One that its GC
//! keeps below the limit is probed and read as it allocates.
//!
//! The truth is the kernel's own count of the processes it ended and of what the group uses, and that the target goes on answering.

use std::fs;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use tracer_tests::cgroup::MemoryGroup;
use tracer_tests::go::Go;
use tracer_tests::live;
use tracer_tests::report::{allocated_total, number, text};
use tracer_tests::target::Target;
use tracer_tests::tracer::Tracer;

const LIMIT: Duration = Duration::from_mins(1);

/// More than the largest limit a cgroup of the first generation takes for none.
const NONE: u64 = 1 << 62;

/// A target that stays still, in a group that holds next to nothing but its heap.
fn in_group(group: &MemoryGroup) -> Target {
    let mut target = Target::start(&Go::demo().build("typed", tracer_tests::go::Mode::Ordinary));
    group.take(target.pid());
    target.ask("keep 20000");
    target
}

/// Leaves so many bytes, as the kernel counts. Returns once nothing moves.
fn leave(group: &MemoryGroup, bytes: u64) {
    // The kernel gives back what processors hold in stock when a limit is set.
    for _ in 0..3 {
        group.limit((group.used() + bytes).next_multiple_of(4096));
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_target_without_memory_left_is_read_and_not_probed() {
    live!(Root, Uprobes, Go, Tracer, MemoryGroup);
    let group = MemoryGroup::new();
    let mut target = in_group(&group);
    let pid = target.pid().to_string();
    leave(&group, 0);

    let says = ["below the target's memory limit", "--sampler none"];
    let all = ["--pid", &pid, "--sampler", "all", "--duration", "2s"];
    assert_eq!(Tracer::run(&all, LIMIT).refused(&says).stdout, "");

    for sampler in ["none", "auto"] {
        let arguments = ["--pid", &pid, "--sampler", sampler, "--duration", "3s", "--format", "json"];
        let report = Tracer::run(&arguments, LIMIT).success().json();
        assert_eq!(report["session"]["probes"], serde_json::json!([]));
        assert!(number(&report, "/heap/census/objects") > 20_000);
        assert!(number(&report, "/target/limit/bytes") < NONE);
        if sampler == "auto" {
            assert!(text(&report, "/session/sampler_reason").contains(says[0]), "{}", report["session"]);
        }
    }
    for command in ["goroutines", "heap"] {
        assert_ne!(Tracer::run(&[command, "--pid", &pid], LIMIT).success().stdout, "");
    }

    assert_eq!(group.killed(), 0);
    group.limit(NONE);
    target.ask("keep 10");
}

#[test]
fn a_target_with_a_little_memory_left_is_probed_and_survives() {
    live!(Root, Uprobes, Go, Tracer, MemoryGroup);
    let group = MemoryGroup::new();
    let mut target = in_group(&group);
    let pid = target.pid().to_string();
    leave(&group, 2 << 20);

    let all = ["--pid", &pid, "--sampler", "all", "--duration", "2s", "--format", "json"];
    let report = Tracer::run(&all, LIMIT).success().json();
    assert_ne!(report["session"]["probes"], serde_json::json!([]));
    assert!(number(&report, "/session/cost/target_pages_bytes") > 0);

    assert_eq!(group.killed(), 0);
    group.limit(NONE);
    target.ask("keep 10");
}

/// What Go may use, and by how much the group's limit is above. What the target uses stays a few MiB below either, as the runtime
/// counts pages that it has not touched yet.
const GOAL: u64 = 80 << 20;
const ROOM: u64 = 4 << 20;

/// The kernel's own for the target (page tables, stacks), and 64 pages for each processor that it charges ahead.
const OF_THE_KERNEL: u64 = 2 << 20;

/// A target that is at its limit before anyone looks, in its group from the first page on.
fn pressed(group: &MemoryGroup) -> Target {
    let program = Go::demo().build("typed", tracer_tests::go::Mode::Ordinary);
    group.limit(GOAL + ROOM);
    let mut command = Command::new("sh");
    command.args(["-c", "echo $$ > \"$0\" && exec \"$1\""]).arg(group.door()).arg(program);
    let mut target = Target::start_command(command.env("GOMEMLIMIT", GOAL.to_string()));
    target.ask("keep 15000");
    // So lazy a GC that the limit alone makes it run.
    target.ask("press 100000");
    let begun = Instant::now();
    while group.most_used() < NEAR && begun.elapsed() < LIMIT {
        thread::sleep(Duration::from_millis(50));
    }
    target
}

/// At the limit: so much of it was in use at once.
const NEAR: u64 = GOAL / 100 * 85;

/// Lets it go on until its own account has so many more cycles, each at the limit, and says by how much the account moved.
fn works_on(target: &mut Target, cycles: u64) -> Value {
    let account = |target: &mut Target| target.ask("pressed");
    let before = account(target);
    let change = |after: &Value, path: &str| number(after, path) - number(&before, path);
    let begun = Instant::now();
    loop {
        let after = account(target);
        if change(&after, "/num_gc") >= cycles {
            assert!(change(&after, "/rounds") > 0, "{before} {after}");
            return change(&after, "/objects").into();
        }
        assert!(begun.elapsed() < LIMIT, "{before} {after}");
        thread::sleep(Duration::from_millis(50));
    }
}

fn rss_anon(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process is alive");
    let row = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("the kernel says");
    let kib = row.trim().strip_suffix(" kB").and_then(|kib| kib.trim().parse::<u64>().ok());
    kib.expect("a number of KiB") << 10
}

/// The group has the target in it and nothing else: neither the tracer nor what the kernel holds for it.
fn assert_alone(group: &MemoryGroup, target: &Target, tracer: &Tracer) {
    assert_eq!(group.processes(), [target.pid()]);
    // What is held against it here could not be overlooked.
    let of_tracer = rss_anon(tracer.pid());
    assert!(of_tracer > 2 * OF_THE_KERNEL, "the tracer has only {of_tracer}");
    let (own, anonymous, used) = (rss_anon(target.pid()), group.anonymous(), group.used_beside_files());
    assert!(anonymous.abs_diff(own) < OF_THE_KERNEL, "{anonymous} in the group, {own} are the target's");
    assert!(used < own + OF_THE_KERNEL, "{used} used by the group, {own} are the target's");
}

#[test]
fn a_target_that_allocates_at_its_limit_is_probed_and_read_and_survives() {
    live!(Root, Uprobes, Go, Tracer, MemoryGroup);
    for sampler in ["all", "sampled", "none"] {
        let group = MemoryGroup::new();
        let mut target = pressed(&group);
        assert!(group.most_used() >= NEAR, "{sampler}: at most {} used", group.most_used());
        // Attached in the midst of it.
        let arguments = ["--sampler", sampler, "--format", "json", "--interval", "500ms"];
        let tracer = Tracer::attach(target.pid(), &arguments);
        let counted = works_on(&mut target, 3);
        let pid = target.pid().to_string();
        let census = Tracer::run(&["heap", "--pid", &pid, "--format", "json"], LIMIT).success().json();
        assert!(number(&census, "/heap/census/spans") > 1000, "{sampler}: {}", census["heap"]["census"]);
        works_on(&mut target, 2);
        let begun = Instant::now();
        while rss_anon(tracer.pid()) <= 2 * OF_THE_KERNEL && begun.elapsed() < LIMIT {
            thread::sleep(Duration::from_millis(50));
        }
        target.ask("rest");
        assert_alone(&group, &target, &tracer);

        let report = tracer.interrupt().success().json();
        let what = format!("{sampler}: {:#}", report["session"]);
        assert_eq!(text(&report, "/session/sampler"), sampler, "{what}");
        assert_eq!(number(&report, "/target/limit/bytes"), GOAL + ROOM, "{what}");
        assert_eq!(number(&report, "/gc/memory_limit"), GOAL, "{what}");
        assert!(number(&report, "/gc/cycles") >= 5, "{what}: {}", report["gc"]);
        assert!(number(&report, "/heap/census/spans") > 1000, "{what}: {}", report["heap"]["census"]);
        let probes = &report["session"]["probes"];
        assert_eq!(probes == &serde_json::json!([]), sampler == "none", "{what}");
        if sampler == "all" {
            let (told, least) = (allocated_total(&report).objects, counted.as_u64().expect("objects"));
            assert!(told >= least, "{what}: {told} allocated, the target counted {least} of them");
        }

        assert!(target.is_alive(), "{what}");
        assert_eq!((group.killed(), group.ran_out()), (0, 0), "{what}");
        target.ask("keep 10");
        assert!(target.finish().success(), "{what}");
    }
}
