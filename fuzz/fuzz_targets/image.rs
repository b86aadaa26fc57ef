//! Any bytes as a Go executable: build info, module data, function table, inline trees, types, recipes, sites.
//! Start it from a corpus of small real programs; from nothing it will hardly get past the build info.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tracer_user::binary::x86::Emulates;
use tracer_user::goruntime::GoImage;
use tracer_user::goruntime::code::recipes::RuntimeVars;
use tracer_user::goruntime::code::{hooks, sites};
use tracer_user::goruntime::names::inlining::PcKind;
use tracer_user::memory::{Flat, ReadAt, ReadFault};
use tracer_user::units::FileOffset;

struct Owned(Vec<u8>);

impl ReadAt<FileOffset> for Owned {
    fn read(&self, addr: FileOffset, buf: &mut [u8]) -> Result<(), ReadFault> {
        ReadAt::read(
            &Flat {
                base: 0,
                bytes: &self.0,
            },
            addr,
            buf,
        )
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Ok(image) = GoImage::open(Box::new(Owned(bytes.to_vec())), bytes.len() as u64) else {
        return;
    };
    drop(RuntimeVars::find(&image));
    for set in [
        hooks::alloc_hooks(&image),
        hooks::map_hooks(&image),
        hooks::goroutine_hooks(&image),
    ] {
        for hook in &set.hooks {
            drop(sites::probe_site(
                &image,
                hook,
                Emulates { long_nops: true },
            ));
        }
    }
    for function in image.functions().take(100) {
        drop(image.frames_at(function.entry.plus(8), PcKind::Return));
    }
    for at in 0..100 {
        drop(image.type_info(image.module().types.start.plus(at * 8)));
    }
});
