//! Any bytes as an ELF file: headers, sections, notes, relocations.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tracer_user::binary::elf::Elf;
use tracer_user::goruntime::buildinfo::BuildInfo;
use tracer_user::memory::Flat;

fuzz_target!(|bytes: &[u8]| {
    let file = Flat { base: 0, bytes };
    if let Ok(elf) = Elf::read(&file, bytes.len() as u64) {
        let mut seen = 0;
        let done = elf.relative_relocations(&file, |_, _| {
            seen += 1;
            true
        });
        assert!(done.is_err() || seen <= bytes.len() / 24);
        drop(BuildInfo::find(&elf, &file));
    }
});
