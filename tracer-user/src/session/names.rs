//! Names for addresses of one process: its image and where it was loaded.

use std::sync::Arc;

use super::plugins::More;
use crate::{
    goruntime::{
        error::GoError,
        image::GoImage,
        names::{
            book::NameBook,
            inlining::{Frame as GoFrame, PcKind as GoPcKind},
            types::TypeInfo as GoTypeInfo,
        },
    },
    symbolize::{Frame, Line, Names, PcKind, TypeInfo},
    units::{ImageAddr, LoadBias, ProcAddr},
};

/// Where names are looked up: an executable, or the name sections that a recording kept of it.
pub trait Lookup: Send + Sync {
    fn frames_at(&self, pc: ImageAddr, kind: GoPcKind) -> Vec<GoFrame>;
    /// Whether a function begins there.
    fn is_entry(&self, pc: ImageAddr) -> bool;
    fn type_info(&self, at: ImageAddr) -> Result<GoTypeInfo, GoError>;
    fn main_module(&self) -> Option<&str>;
}

impl Lookup for GoImage {
    fn frames_at(&self, pc: ImageAddr, kind: GoPcKind) -> Vec<GoFrame> {
        self.frames_at(pc, kind)
    }
    fn is_entry(&self, pc: ImageAddr) -> bool {
        self.function_at(pc).is_some_and(|f| f.entry == pc)
    }
    fn type_info(&self, at: ImageAddr) -> Result<GoTypeInfo, GoError> {
        self.type_info(at)
    }
    fn main_module(&self) -> Option<&str> {
        self.main_module()
    }
}

impl Lookup for NameBook {
    fn frames_at(&self, pc: ImageAddr, kind: GoPcKind) -> Vec<GoFrame> {
        self.frames_at(pc, kind)
    }
    fn is_entry(&self, pc: ImageAddr) -> bool {
        self.is_entry(pc)
    }
    fn type_info(&self, at: ImageAddr) -> Result<GoTypeInfo, GoError> {
        self.type_info(at)
    }
    fn main_module(&self) -> Option<&str> {
        self.main_module()
    }
}

/// An image at a load bias.
pub struct ImageNames {
    pub image: Arc<dyn Lookup>,
    pub bias: LoadBias,
    /// Where what the image does not hold is looked up.
    pub more: More,
}

impl ImageNames {
    fn frames_of(&self, pc: ImageAddr, kind: PcKind) -> Vec<GoFrame> {
        let own = Self::frames_in(&*self.image, pc, kind);
        let other = |lookup: &dyn Lookup| Some(Self::frames_in(lookup, pc, kind)).filter(|f| !f.is_empty());
        if own.is_empty() { self.more.find(other).unwrap_or_default() } else { own }
    }

    fn frames_in(image: &dyn Lookup, pc: ImageAddr, kind: PcKind) -> Vec<GoFrame> {
        // A goroutine that has not run yet is parked on its function's first instruction, which no call
        // precedes.
        let kind = match kind {
            PcKind::Return if !image.is_entry(pc) => GoPcKind::Return,
            PcKind::Return | PcKind::Entry => GoPcKind::Exact,
        };
        image.frames_at(pc, kind)
    }
}

impl Names for ImageNames {
    fn frames(&self, pc: ProcAddr, kind: PcKind) -> Vec<Frame> {
        let frames = self.frames_of(self.bias.to_image(pc), kind);
        frames
            .into_iter()
            .map(|GoFrame { function, file, line, inlined, wrapper }| Line {
                function,
                file: if file == "?" { String::new() } else { file },
                line,
                inlined,
                wrapper,
            })
            .map(Frame::from)
            .collect()
    }

    fn type_info(&self, addr: ProcAddr) -> Option<TypeInfo> {
        let at = self.bias.to_image(addr);
        let other = || self.more.find(|lookup| lookup.type_info(at).ok());
        let info = self.image.type_info(at).ok().or_else(other)?;
        Some(TypeInfo { name: info.name, size: info.size.0, pointer_bytes: info.ptr_bytes.0 })
    }

    fn generation(&self) -> usize {
        self.more.count()
    }

    fn module(&self) -> Option<String> {
        self.image.main_module().map(str::to_owned)
    }
}
