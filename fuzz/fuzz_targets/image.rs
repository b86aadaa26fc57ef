//! A Go executable: any bytes, or a real one with words changed (the first byte says which). Build info, module data,
//! function table, inline trees, types, recipes, probe sites, map variables.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tracer_fuzz::patch::Changed;
use tracer_fuzz::process;
use tracer_user::binary::x86::Emulates;
use tracer_user::goruntime::GoImage;
use tracer_user::goruntime::code::call_sites::program;
use tracer_user::goruntime::code::recipes::RuntimeVars;
use tracer_user::goruntime::code::{hooks, sites};
use tracer_user::goruntime::names::inlining::PcKind;
use tracer_user::goruntime::names::type_table::TypeTable;
use tracer_user::memory::{Flat, ReadAt, ReadFault};
use tracer_user::units::FileOffset;

struct Owned(Vec<u8>);

impl ReadAt<FileOffset> for Owned {
    fn read(&self, addr: FileOffset, buf: &mut [u8]) -> Result<(), ReadFault> {
        ReadAt::read(&Flat { base: 0, bytes: &self.0 }, addr, buf)
    }
}

/// One part of what a session looks at, so that each input is quick; `part` 3 is all of it.
fn look(image: &GoImage, part: u8) {
    if matches!(part, 0 | 3) {
        drop(RuntimeVars::find(image));
    }
    if matches!(part, 1 | 3) {
        probe(image);
    }
    if matches!(part, 2 | 3) {
        name(image);
    }
}

fn probe(image: &GoImage) {
    for set in [hooks::alloc_hooks(image), hooks::map_hooks(image), hooks::goroutine_hooks(image)] {
        for hook in &set.hooks {
            drop(sites::probe_site(image, hook, Emulates { long_nops: true }));
        }
    }
}

fn name(image: &GoImage) {
    for function in image.functions().take(100) {
        drop(image.frames_at(function.entry.plus(8), PcKind::Return));
    }
    for at in 0..100 {
        drop(image.type_info(image.module().types.start.plus(at * 8)));
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Some((mode, rest)) = bytes.split_first() else { return };
    if mode % 4 == 0 {
        if let Ok(image) = GoImage::open(Box::new(Owned(rest.to_vec())), rest.len() as u64) {
            look(&image, 3);
            drop(image.name_extents());
        }
        return;
    }
    let Some((which, patches)) = process::changes(rest) else { return };
    let base = &process::all()[which].base;
    let mut file = Changed::file(base);
    file.apply(&patches);
    let Ok(image) = GoImage::open(Box::new(file), base.file_len) else { return };
    look(&image, mode >> 4 & 3);
    // These read all of the code, or of the tables.
    match mode % 16 {
        1 => drop(TypeTable::read(&image)),
        2 => drop(program(&image)),
        3 => drop(image.inlined(&["runtime.mallocgc"])),
        5 => drop(image.name_extents()),
        _ => {}
    }
});
