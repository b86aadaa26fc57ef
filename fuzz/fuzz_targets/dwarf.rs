//! Any bytes as the debugging information of an ELF file whose headers are right, and the questions that layouts ask of it.
//! The first two bytes say how much of the rest is abbreviations.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tracer_fuzz::elf;
use tracer_user::binary::dwarf::Structures;
use tracer_user::binary::elf::Elf;
use tracer_user::goruntime::layout::Layout;
use tracer_user::memory::Flat;

fuzz_target!(|bytes: &[u8]| {
    let Some((len, rest)) = bytes.split_first_chunk::<2>() else { return };
    let (abbreviations, info) = rest.split_at(usize::from(u16::from_le_bytes(*len)).min(rest.len()));
    let bytes = elf::file(&[(".debug_abbrev", abbreviations), (".debug_info", info)]);
    let file = Flat { base: 0, bytes: &bytes };
    let elf = Elf::read(&file, bytes.len() as u64).expect("its headers are right");
    if let Ok(Some(structures)) = Structures::read(&elf, &file, |_| true) {
        let layout = Layout::for_minor(27).expect("it is in the table");
        for (path, _) in layout.fields() {
            std::hint::black_box(structures.offset(path));
        }
        for path in ["a.b", "a.b.c", "a.b.sizeof", "a.b.len", "a.b.c.len", "main.T.x.y.z"] {
            std::hint::black_box(structures.offset(path));
        }
    }
});
