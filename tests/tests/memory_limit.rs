//! A target whose cgroup has no memory left survives: it is read, and not probed, as a probe copies pages of its code.
//!
//! The truth is the kernel's own count of the processes it ended, and that the target goes on answering.

use std::time::Duration;

use tracer_tests::cgroup::MemoryGroup;
use tracer_tests::go::Go;
use tracer_tests::live;
use tracer_tests::report::{number, text};
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
