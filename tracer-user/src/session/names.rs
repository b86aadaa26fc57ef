//! Names for addresses of one process: its image and where it was loaded.

use std::sync::Arc;

use crate::{
    goruntime::{
        image::GoImage,
        names::inlining::{Frame as GoFrame, PcKind as GoPcKind},
    },
    symbolize::{Frame, Names, PcKind, TypeInfo},
    units::{ImageAddr, LoadBias, ProcAddr},
};

/// An image at a load bias.
pub struct ImageNames {
    pub image: Arc<GoImage>,
    pub bias: LoadBias,
}

impl ImageNames {
    fn frames_of(&self, pc: ImageAddr, kind: PcKind) -> Vec<GoFrame> {
        // A goroutine that has not run yet is parked on its function's first instruction, which no call
        // precedes.
        let at_entry = || self.image.function_at(pc).is_some_and(|f| f.entry == pc);
        let kind = match kind {
            PcKind::Return if !at_entry() => GoPcKind::Return,
            PcKind::Return | PcKind::Entry => GoPcKind::Exact,
        };
        self.image.frames_at(pc, kind)
    }
}

impl Names for ImageNames {
    fn frames(&self, pc: ProcAddr, kind: PcKind) -> Vec<Frame> {
        let frames = self.frames_of(self.bias.to_image(pc), kind);
        frames
            .into_iter()
            .map(|GoFrame { function, file, line, inlined, wrapper }| Frame {
                function,
                file: if file == "?" { String::new() } else { file },
                line,
                inlined,
                wrapper,
            })
            .collect()
    }

    fn type_info(&self, addr: ProcAddr) -> Option<TypeInfo> {
        let info = self.image.type_info(self.bias.to_image(addr)).ok()?;
        Some(TypeInfo { name: info.name, size: info.size.0, pointer_bytes: info.ptr_bytes.0 })
    }

    fn module(&self) -> Option<String> {
        self.image.main_module().map(str::to_owned)
    }
}
