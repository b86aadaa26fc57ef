//! A plugin in a process's memory: a real program's tables at their addresses with words changed, found by a pointer to
//! its module data as the runtime's list of modules leads to it.
#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use tracer_fuzz::patch::Changed;
use tracer_fuzz::process;
use tracer_user::binary::elf::Elf;
use tracer_user::goruntime::GoImage;
use tracer_user::goruntime::modules::Module;
use tracer_user::goruntime::names::inlining::PcKind;
use tracer_user::memory::{FaultKind, ReadAt, ReadFault};
use tracer_user::units::{ImageAddr, LoadBias, ProcAddr};

/// Where the list's last pointer is.
const LINK: u64 = 0x1000;

/// A file as the loader maps it; nothing in it is relocated, for it is no position-independent one.
struct Loaded<'a> {
    file: Changed,
    elf: &'a Elf,
    module: u64,
}

impl ReadAt<ProcAddr> for Loaded<'_> {
    fn read(&self, addr: ProcAddr, buf: &mut [u8]) -> Result<(), ReadFault> {
        if addr.0 == LINK {
            let fault = ReadFault { addr: LINK, len: buf.len(), kind: FaultKind::Unmapped };
            buf.copy_from_slice(self.module.to_le_bytes().get(..buf.len()).ok_or(fault)?);
            return Ok(());
        }
        self.elf.at(&self.file).read(ImageAddr(addr.0), buf)
    }
}

/// Each program's headers and where its module data is.
fn programs() -> &'static [(Elf, u64); 2] {
    static ALL: OnceLock<[(Elf, u64); 2]> = OnceLock::new();
    ALL.get_or_init(|| {
        process::all().each_ref().map(|process| {
            let file = Changed::file(&process.base);
            let elf = Elf::read(&file, process.base.file_len).expect("nothing was changed");
            let image = GoImage::open(Box::new(file), process.base.file_len).expect("nothing was changed");
            (elf, image.module().address.0)
        })
    })
}

fuzz_target!(|bytes: &[u8]| {
    let Some((which, patches)) = process::changes(bytes) else { return };
    let process = &process::all()[which];
    let (elf, module) = &programs()[which];
    let mut file = Changed::file(&process.base);
    file.apply(&patches);
    let memory = Loaded { file, elf, module: *module };
    let found = Module::read(&memory, LoadBias(0), process.layout, ImageAddr(LINK));
    if patches.is_empty() {
        assert!(matches!(found, Ok(Some(_))), "nothing was changed");
    }
    if let Ok(Some(module)) = found {
        let start = module.data.text.start;
        for n in 0..200 {
            drop(module.names.frames_at(start.plus(n * 61), PcKind::Return));
        }
        for n in 0..50 {
            let at = module.data.types.start.plus(n * 8);
            drop(module.names.type_info(at));
            drop(module.type_pieces(at));
        }
        let kept: usize = module.name_pieces().map(|(_, bytes)| bytes.len()).sum();
        assert!(kept as u64 <= (256 << 20) + (64 << 20));
        assert!(module.type_bytes().len() as u64 == module.data.types.len());
    }
});
