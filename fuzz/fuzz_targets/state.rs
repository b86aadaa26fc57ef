//! The memory of a real process with some words changed, read as a session reads it: GC, size classes, goroutines, maps,
//! the memory profile and the sampled objects.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tracer_fuzz::patch::Changed;
use tracer_fuzz::process;
use tracer_user::goruntime::state::maps::{Known, Place};
use tracer_user::goruntime::state::{RuntimeState, goroutines, profile, specials};
use tracer_user::units::ProcAddr;

fuzz_target!(|bytes: &[u8]| {
    let Some((which, patches)) = process::changes(bytes) else { return };
    let process = &process::all()[which];
    let mut memory = Changed::memory(&process.base);
    memory.apply(&patches);
    let state = &process.state;
    // Attaching meets the same bytes.
    drop(RuntimeState::open(&memory, process.layout, *state.vars(), process.base.unix_ns));
    if let Ok(gc) = state.gc(&memory, Some(1)) {
        assert!(gc.new_pauses_ns.len() <= 256);
    }
    drop(state.size_classes(&memory));
    let limits = goroutines::Limits { goroutines: 2_000, groups: 200 };
    if let Ok(found) = state.goroutines(&memory, limits) {
        assert!(found.groups.len() <= limits.groups);
        let grouped: u64 = found.groups.iter().map(|group| group.count).sum();
        assert!(grouped + found.skipped <= found.total + found.skipped);
    }
    let known = |(at, of): &(u64, u64)| Known { at: Place::Header(ProcAddr(*at)), type_addr: ProcAddr(*of) };
    let known: Vec<Known> = process.base.maps.iter().map(known).collect();
    let maps = state.maps(&memory, process.maps, &known);
    assert_eq!(maps.maps.len() as u64 + maps.skipped, known.len() as u64);
    if let Some(vars) = &process.profile {
        let limits = profile::Limits { buckets: 1_000, frames: 10_000 };
        if let Ok(found) = profile::read(&memory, process.layout, vars, limits) {
            assert!(found.profile.buckets.len() <= limits.buckets);
        }
    }
    let limits = specials::Limits { spans: 2_000, objects: 1_000 };
    if let Ok(found) = state.sampled_objects(&memory, limits) {
        assert!(found.objects.len() <= limits.objects);
    }
});
