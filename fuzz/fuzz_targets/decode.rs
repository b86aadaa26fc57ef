//! Any bytes as a ring-buffer record, and what was decoded into the ledger.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tracer_user::aggregate::Ledger;
use tracer_user::record::{Slot, decode};
use tracer_user::units::KTime;

fuzz_target!(|bytes: &[u8]| {
    let mut ledger = Ledger::new(Slot(0), KTime(0));
    for piece in bytes.chunks(1100) {
        if let Some(record) = decode::decode(piece) {
            ledger.apply(record);
        }
    }
});
