//! Any bytes as a module's types: the first eight bytes say where the descriptor is.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tracer_user::goruntime::moduledata::Range;
use tracer_user::goruntime::names::types;
use tracer_user::memory::Flat;
use tracer_user::units::ImageAddr;

fuzz_target!(|bytes: &[u8]| {
    let Some((at, bytes)) = bytes.split_first_chunk::<8>() else {
        return;
    };
    let base = 0x50_0000;
    let range = Range { start: ImageAddr(base), end: ImageAddr(base + bytes.len() as u64) };
    let at = base.wrapping_add(u64::from_le_bytes(*at));
    drop(types::read(&Flat { base, bytes }, range, ImageAddr(at)));
});
