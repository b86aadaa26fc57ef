//! Any bytes as the texts of /proc: mappings, stat, status, cgroup and the figures of a cgroup.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tracer_user::host::texts;

fuzz_target!(|bytes: &[u8]| {
    std::hint::black_box(texts::look(bytes));
});
