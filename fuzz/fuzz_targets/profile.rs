//! Any bytes as a process's memory: its memory profile and the lists of sampled objects. The first bytes say which Go
//! it is and where the variables lie.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tracer_user::goruntime::layout::Layout;
use tracer_user::goruntime::state::StateVars;
use tracer_user::goruntime::state::profile::{self, ProfileVars};
use tracer_user::goruntime::state::specials;
use tracer_user::memory::Flat;
use tracer_user::units::ProcAddr;

fuzz_target!(|bytes: &[u8]| {
    let Some(([minor, at], bytes)) = bytes.split_first_chunk::<2>() else {
        return;
    };
    let base = 0x1000;
    let mut bytes = bytes.to_vec();
    // Pieces are read by whole pages.
    bytes.resize(bytes.len().next_multiple_of(4096), 0);
    let memory = Flat { base, bytes: &bytes };
    let Ok(layout) = Layout::for_minor(19 + u32::from(minor % 9)) else {
        return;
    };
    let at = |offset: u64| ProcAddr(base + u64::from(*at) + offset);
    let vars = ProfileVars { mbuckets: at(0), cycle: at(8), rate: at(16) };
    let limits = profile::Limits { buckets: 1000, frames: 10_000 };
    if let Ok(found) = profile::read(&memory, layout, &vars, limits) {
        assert!(found.profile.buckets.len() <= limits.buckets);
    }
    // The slice of spans is put at the start of the bytes.
    let mheap = ProcAddr((base + 24).wrapping_sub(u64::from(layout.mheap_allspans)));
    let vars = StateVars {
        memstats: at(0),
        gc_controller: at(0),
        work: at(0),
        allgs: at(0),
        allglen: at(0),
        allgptr: at(0),
        mheap,
        wait_reason_strings: None,
    };
    let limits = specials::Limits { spans: 1000, objects: 1000 };
    if let Ok(found) = specials::read(&memory, layout, &vars, limits) {
        assert!(found.objects.len() <= limits.objects);
    }
});
