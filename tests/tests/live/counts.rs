//! Counts in `all` mode equal the target's own account: four threads allocate from thirty sites while collections
//! are forced and stacks grow.
//!
//! The truth is the fixture's own counters and runtime.MemStats. Nothing here knows how the counting is done.

use tracer_tests::counting::{Window, off};
use tracer_tests::go::{Go, Mode, matrix};
use tracer_tests::live;
use tracer_tests::report::{self, Amount};

/// Rounds of four workers with thirty sites each: 120 000 allocations.
const ROUNDS: u32 = 1000;

fn window(go: &Go, mode: Mode, command: &str) -> Window {
    let what = format!("go {} {}: {command}", go.pin.version, mode.name());
    Window::of(go, &go.build("allocs", mode), what, command)
}

#[test]
fn every_allocation_is_counted_once_and_at_its_site() {
    live!();
    for (go, mode) in matrix() {
        window(&go, mode, &format!("run {ROUNDS}")).assert_exact();
    }
}

#[test]
fn rounded_bytes_are_what_the_heap_grew_by() {
    live!();
    for (go, mode) in matrix() {
        let window = window(&go, mode, &format!("run {ROUNDS} notiny"));
        let what = &window.what;
        window.assert_nothing_lost();
        let Amount { objects, requested, rounded } = report::allocated_total(&window.report);
        assert!(requested < rounded, "{what}");
        assert!(off(objects, window.mallocs) < 0.001, "{what}: {objects} of {}", window.mallocs);
        assert!(off(rounded, window.total_alloc) < 0.005, "{what}: {rounded} of {}", window.total_alloc);
    }
}
