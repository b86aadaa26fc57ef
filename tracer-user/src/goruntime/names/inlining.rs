//! Expands one program counter into the frames the programmer wrote, inlined calls included.
//!
//! Apart because the inline tree lies outside pclntab (behind moduledata.gofunc) and has two formats. One entry
//! is read per inlined frame; the tree as a whole is never loaded.

use std::collections::BTreeSet;

use super::super::error::GoError;
use super::super::moduledata::Range;
use super::pcheader::Format;
use super::pclntab::{FuncData, FuncRef, Pclntab};
use crate::memory::ReadAt;
use crate::units::{Bytes, ImageAddr};

/// The compiler stops inlining long before; a deeper chain is a loop in damaged data.
const MAX_DEPTH: usize = 64;

/// The largest functions have some thousand inlined calls.
const MAX_TREE: u32 = 1 << 16;

/// Steps and entries read by one pass over all trees. A program of 100 MB needs some ten million; a damaged one
/// may point all its functions at one long table.
const MAX_WORK: usize = 1 << 27;

/// How a program counter was come by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PcKind {
    /// A return address: the call is the instruction before it.
    Return,
    /// An instruction that runs (a probe site, an interrupted one).
    Exact,
}

/// One frame as the programmer wrote it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Frame {
    /// As the runtime prints it: `main.Map[...]` for any instance of a generic function.
    pub function: String,
    /// `"?"` where the table has none, as the runtime prints.
    pub file: String,
    /// 0 where the table has none, as the runtime prints.
    pub line: u32,
    pub inlined: bool,
    /// Made by the compiler (method wrappers, `go` statement wrappers): hidden unless nothing else is left.
    pub wrapper: bool,
}

/// What expansion needs besides the table.
pub struct Inlining<'a, R: ?Sized> {
    pub table: &'a Pclntab,
    /// The file at linked addresses.
    pub memory: &'a R,
    /// moduledata.gofunc.
    pub gofunc: ImageAddr,
}

/// A function's name as the runtime prints it: what a generic function was instantiated with is left out
/// (runtime/symtab.go, funcNameForPrint).
fn printed(name: String) -> String {
    match (name.find('['), name.rfind(']')) {
        (Some(open), Some(close)) if open < close => {
            format!("{}[...]{}", &name[..open], &name[close + 1..])
        }
        _ => name,
    }
}

/// One `inlinedCall`.
struct Call {
    func_id: u8,
    name: u32,
    /// An instruction of the call's own place, from the function's entry.
    parent_pc: u32,
}

impl<R: ReadAt<ImageAddr> + ?Sized> Inlining<'_, R> {
    /// The frames at `pc`, innermost first; empty outside Go's functions.
    ///
    /// An inline tree that cannot be read ends the expansion with the frames found and the function itself.
    pub fn frames(&self, pc: ImageAddr, kind: PcKind) -> Vec<Frame> {
        let pc = match kind {
            PcKind::Return => ImageAddr(pc.0.saturating_sub(1)),
            PcKind::Exact => pc,
        };
        let Some(function) = self.table.at(pc) else {
            return Vec::new();
        };
        let Some(data) = self.table.data(function.index) else {
            return Vec::new();
        };
        let mut frames = Vec::new();
        let mut at = pc;
        while frames.len() < MAX_DEPTH {
            let Some(index) = self.table.inline_index(function, &data, at) else {
                break;
            };
            let Ok(call) = self.call(&data, index) else {
                break;
            };
            let name = self.table.name_at(call.name).map(String::from_utf8_lossy);
            let name = name.map_or_else(|| "?".to_owned(), std::borrow::Cow::into_owned);
            frames.push(self.frame(function, &data, at, name, true, call.func_id));
            at = function.entry.plus(u64::from(call.parent_pc));
        }
        let name = self.table.name(function.index);
        frames.push(self.frame(function, &data, at, name, false, data.func_id));
        frames
    }

    /// The names, as sorted offsets into the name table, of every function with a copy inlined somewhere.
    ///
    /// One pass over every inline tree: a profile-guided build may inline functions that never are otherwise.
    pub fn inlined(&self) -> Box<[u32]> {
        let size = self.entry_size();
        let mut found = BTreeSet::new();
        self.each_tree(|tree| {
            let len = (tree.end.0 - tree.start.0) as usize;
            if let Ok(entries) = self.memory.read_vec(tree.start, len, Bytes(len as u64)) {
                found.extend(entries.chunks_exact(size).map(|entry| self.take(entry).name));
            }
        });
        found.into_iter().collect()
    }

    /// Where each function's inline tree lies, as far as its code refers to it. One pass over the whole table.
    pub fn each_tree(&self, mut see: impl FnMut(Range)) {
        let mut budget = MAX_WORK;
        for function in self.table.functions() {
            let Some(data) = self.table.data(function.index) else {
                continue;
            };
            let Some(tree) = self.table.inline_tree(&data) else {
                continue;
            };
            let count = self.table.inline_entries(&data, &mut budget).min(MAX_TREE);
            budget = budget.saturating_sub(count as usize);
            let start = self.gofunc.plus(u64::from(tree));
            see(Range { start, end: start.plus(u64::from(count) * self.entry_size() as u64) });
            if budget == 0 {
                break;
            }
        }
    }

    fn frame(
        &self,
        function: FuncRef,
        data: &FuncData,
        pc: ImageAddr,
        name: String,
        inlined: bool,
        func_id: u8,
    ) -> Frame {
        let (file, line) = self.table.file_line(function, data, pc);
        Frame {
            function: printed(name),
            file: file.unwrap_or_else(|| "?".to_owned()),
            line: line.unwrap_or(0),
            inlined,
            wrapper: self.table.is_wrapper(func_id),
        }
    }

    fn call(&self, data: &FuncData, index: u32) -> Result<Call, GoError> {
        let broken = |what| GoError::Broken { what, at: self.gofunc.0 };
        let tree =
            self.table.inline_tree(data).ok_or(broken("a function with inlined calls has no inline tree"))?;
        let size = self.entry_size();
        let at = self.gofunc.plus(u64::from(tree)).plus(u64::from(index) * size as u64);
        let mut raw = [0; 20];
        let raw = &mut raw[..size];
        self.memory.read(at, raw)?;
        Ok(self.take(raw))
    }

    /// runtime/symtabinl.go: 20 bytes {parent i16, funcID u8, pad, file, line, func, parentPc} up to go1.19;
    /// 16 bytes {funcID u8, pad, nameOff, parentPc, startLine} from go1.20 on.
    fn entry_size(&self) -> usize {
        match self.table.format() {
            Format::Go118 => 20,
            Format::Go120 => 16,
        }
    }

    /// `raw` has `entry_size` bytes.
    fn take(&self, raw: &[u8]) -> Call {
        let word = |o: usize| u32::from_le_bytes([raw[o], raw[o + 1], raw[o + 2], raw[o + 3]]);
        match self.table.format() {
            Format::Go118 => Call { func_id: raw[2], name: word(12), parent_pc: word(16) },
            Format::Go120 => Call { func_id: raw[0], name: word(4), parent_pc: word(8) },
        }
    }
}
