//! Where allocators hand out their objects, on every Go and the builds that compile the runtime otherwise: the set is proven
//! for each function that stands for allocations, whatever the kernel emulates.

use tracer_tests::go::{Go, Mode};
use tracer_tests::image::image;
use tracer_tests::live;
use tracer_user::binary::x86::Emulates;
use tracer_user::goruntime::code::exits::exit_sites;
use tracer_user::goruntime::code::hooks::alloc_hooks;

fn proven(go: &Go, mode: Mode) -> usize {
    let what = format!("go{} {}", go.pin.version, mode.name());
    let image = image(&go.build("state", mode));
    let hooks = alloc_hooks(&image).hooks;
    assert!(!hooks.is_empty(), "{what}");
    let mut found = 0;
    for long_nops in [true, false] {
        for hook in &hooks {
            let sites = exit_sites(&image, &hook.function, Emulates { long_nops })
                .unwrap_or_else(|e| panic!("{what}: {e}"));
            assert!(!sites.is_empty(), "{what}: {}", hook.function);
            found += sites.len();
        }
    }
    found
}

#[test]
fn every_allocator_of_every_go() {
    live!(EveryGo);
    for go in Go::every() {
        assert!(proven(&go, Mode::Ordinary) >= 2, "{go:?}");
    }
}

#[test]
fn with_the_race_detector_and_with_cgo() {
    live!(EveryGo);
    for go in Go::every() {
        for mode in [Mode::Race, Mode::Cgo, Mode::StrippedPie] {
            proven(&go, mode);
        }
    }
}
