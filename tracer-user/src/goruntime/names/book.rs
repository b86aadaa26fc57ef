//! The names of an image from its name sections alone: what a recording opens where a session has the file.
//!
//! It looks up with the same code as [`super::super::GoImage`] and knows nothing else of the image: no probe site,
//! no variable, no section header. Its bytes come from a file that anyone may have written.

use super::super::error::GoError;
use super::super::moduledata::Range;
use super::inlining::{Frame, Inlining, PcKind};
use super::pclntab::Pclntab;
use super::types::{self, TypeInfo};
use crate::memory::ReadAt;
use crate::record::image::Image;
use crate::units::ImageAddr;

/// Bytes of an image at its linked addresses.
pub type NameBytes = Box<dyn ReadAt<ImageAddr> + Send + Sync>;

/// An image's names.
pub struct NameBook {
    table: Pclntab,
    memory: NameBytes,
    inline_trees: ImageAddr,
    types: Range,
    module: Option<String>,
}

impl NameBook {
    /// Checks the function table; inline trees and types are read when asked for.
    pub fn open(image: &Image, memory: NameBytes) -> Result<Self, GoError> {
        let table = Pclntab::of_sections(image, &*memory)?;
        Ok(Self {
            table,
            memory,
            inline_trees: image.inline_trees,
            types: Range { start: image.types_start, end: image.types_end },
            module: image.module.clone(),
        })
    }

    /// The frames of one program counter, innermost first; empty outside Go's functions.
    pub fn frames_at(&self, pc: ImageAddr, kind: PcKind) -> Vec<Frame> {
        Inlining { table: &self.table, memory: &*self.memory, gofunc: self.inline_trees }.frames(pc, kind)
    }

    /// Whether a function begins there.
    pub fn is_entry(&self, pc: ImageAddr) -> bool {
        self.table.at(pc).is_some_and(|f| f.entry == pc)
    }

    pub fn type_info(&self, at: ImageAddr) -> Result<TypeInfo, GoError> {
        types::read(&*self.memory, self.types, at)
    }

    pub fn main_module(&self) -> Option<&str> {
        self.module.as_deref()
    }
}
