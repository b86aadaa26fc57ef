//! The runtime's description of the main module: where text, data, types and inline trees are.
//!
//! Apart because its layout changes per release while what it says does not. It is read from the file alone: in
//! a position-independent executable its pointers are the addends of relocations. Every candidate must agree
//! with the pclntab header before a word of it is believed.

use std::collections::BTreeMap;

use super::error::GoError;
use super::layout::Layout;
use super::names::pcheader::Header;
use crate::binary::elf::Elf;
use crate::memory::ReadAt;
use crate::units::{FileOffset, ImageAddr, LoadBias, ProcAddr};

/// Larger than the structure of any known release (592 bytes in go1.26); more of a newer one is not read.
const SIZE: usize = 1024;
/// Bytes scanned at a time while the structure is searched.
const WINDOW: usize = 64 << 10;
/// More words equal to pclntab's address than this are not looked at.
const MAX_CANDIDATES: usize = 16;

/// A half-open range of linked addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Range {
    pub start: ImageAddr,
    pub end: ImageAddr,
}

impl Range {
    pub fn contains(self, addr: ImageAddr) -> bool {
        (self.start..self.end).contains(&addr)
    }

    /// Bytes in it.
    pub fn len(self) -> u64 {
        self.end.0.saturating_sub(self.start.0)
    }

    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    fn less(self, bias: LoadBias) -> Self {
        Self { start: bias.to_image(ProcAddr(self.start.0)), end: bias.to_image(ProcAddr(self.end.0)) }
    }
}

/// The fields that are used, as linked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ModuleData {
    /// `runtime.firstmoduledata` itself.
    pub address: ImageAddr,
    pub pclntab: ImageAddr,
    /// Bytes of pclntab from its start to the end of the function table and its data.
    pub pclntab_len: u64,
    /// Go's text; C code of a cgo program lies outside.
    pub text: Range,
    pub noptrdata: Range,
    pub data: Range,
    pub bss: Range,
    pub noptrbss: Range,
    /// Type descriptors and their names.
    pub types: Range,
    /// Base of funcdata offsets (inline trees).
    pub gofunc: ImageAddr,
    /// Where the pointer to the next module (a plugin) is, to be read from the process.
    pub next_field: ImageAddr,
}

impl ModuleData {
    /// Finds the structure that belongs to the pclntab at `header.address`.
    pub fn find<R: ReadAt<FileOffset> + ?Sized>(
        elf: &Elf,
        file: &R,
        header: &Header,
        layout: &Layout,
    ) -> Result<Self, GoError> {
        let mut candidates = Vec::new();
        // go1.26 gave it a section of its own (cmd/link/internal/ld/data.go).
        candidates.extend(elf.section(".go.module").map(|s| s.start));
        elf.relative_relocations(file, |place, addend| {
            if addend == header.address {
                candidates.push(place);
            }
            candidates.len() < MAX_CANDIDATES
        })?;
        words_equal(elf, file, header.address, &mut candidates);
        let mut why =
            GoError::Broken { what: "no module data refers to the function table", at: header.address.0 };
        for address in candidates {
            match Self::read(elf, file, address, header, layout) {
                Ok(module) => return Ok(module),
                Err(e) => why = e,
            }
        }
        Err(why)
    }

    /// Static data lies in one of these; anything else is no Go variable.
    pub fn is_data(&self, addr: ImageAddr) -> bool {
        [self.noptrdata, self.data, self.bss, self.noptrbss].iter().any(|r| r.contains(addr))
    }

    fn read<R: ReadAt<FileOffset> + ?Sized>(
        elf: &Elf,
        file: &R,
        address: ImageAddr,
        header: &Header,
        layout: &Layout,
    ) -> Result<Self, GoError> {
        let words = read_words(elf, file, address, layout.module_size as usize)?;
        Self::of_words(&words, address, header, layout, |at| elf.is_mapped(at))
    }

    /// The same of words that the loader has relocated already, all addresses the process's.
    pub(super) fn of_words(
        words: &[u64],
        address: ImageAddr,
        header: &Header,
        layout: &Layout,
        is_mapped: impl Fn(ImageAddr) -> bool,
    ) -> Result<Self, GoError> {
        // The fields before `end` never moved between go1.18 and go1.27 (runtime/symtab.go, moduledata).
        let word = |offset: usize| words.get(offset / 8).copied().unwrap_or(0);
        let range = |from: usize, to: usize| Range { start: ImageAddr(word(from)), end: ImageAddr(word(to)) };
        let failed = |what: &str| GoError::Layout { field: "moduledata", failed: what.to_owned() };
        let start = header.address.0;
        // The slices cut out of pclntab must start where its header says.
        let slices = [
            (8, header.funcname),
            (32, header.cu),
            (56, header.filetab),
            (80, header.pctab),
            (104, header.pcln),
            (128, header.pcln),
        ];
        if word(0) != start {
            return Err(failed("does not point to the function table"));
        }
        if slices.iter().any(|(field, offset)| word(*field) != start.wrapping_add(*offset)) {
            return Err(failed("its tables are not where the function table says"));
        }
        let module = Self {
            address,
            pclntab: header.address,
            pclntab_len: header.pcln.saturating_add(word(112)),
            text: range(176, 184),
            noptrdata: range(192, 200),
            data: range(208, 216),
            bss: range(224, 232),
            noptrbss: range(240, 248),
            types: range(layout.module_types as usize, layout.module_etypes as usize),
            gofunc: ImageAddr(word(layout.module_gofunc as usize)),
            next_field: address.plus(u64::from(layout.module_next)),
        };
        let ordered = [module.text, module.noptrdata, module.data, module.bss, module.noptrbss, module.types];
        if ordered.iter().any(|r| r.start > r.end) {
            return Err(failed("a range ends before it starts"));
        }
        if ![module.text.start, module.types.start, module.gofunc].into_iter().all(is_mapped) {
            return Err(failed("text, types or inline trees are not in the file"));
        }
        if word(136) != header.functions.saturating_add(1) {
            return Err(failed("its function count is not the table's"));
        }
        if header.text_start != 0 && header.text_start != module.text.start.0 {
            return Err(failed("its text does not start where the function table says"));
        }
        Ok(module)
    }

    /// With addresses of a process as those of the program it runs, which was loaded at `bias`.
    pub(super) fn less(self, bias: LoadBias) -> Self {
        let image = |at: ImageAddr| bias.to_image(ProcAddr(at.0));
        Self {
            address: image(self.address),
            pclntab: image(self.pclntab),
            pclntab_len: self.pclntab_len,
            text: self.text.less(bias),
            noptrdata: self.noptrdata.less(bias),
            data: self.data.less(bias),
            bss: self.bss.less(bias),
            noptrbss: self.noptrbss.less(bias),
            types: self.types.less(bias),
            gofunc: image(self.gofunc),
            next_field: image(self.next_field),
        }
    }
}

/// The structure's words; those that the loader relocates are what it would make of them without a bias.
fn read_words<R: ReadAt<FileOffset> + ?Sized>(
    elf: &Elf,
    file: &R,
    address: ImageAddr,
    len: usize,
) -> Result<Vec<u64>, GoError> {
    let mut raw = [0; SIZE];
    let raw = &mut raw[..len.min(SIZE)];
    elf.at(file).read(address, raw)?;
    let mut words: Vec<u64> = raw
        .chunks_exact(8)
        .map(|c| u64::from_le_bytes(c.try_into().expect("chunks_exact(8) gives eight bytes")))
        .collect();
    let mut relocated = BTreeMap::new();
    elf.relative_relocations(file, |place, addend| {
        if let Some(into) = place.0.checked_sub(address.0)
            && into < len as u64
            && into.is_multiple_of(8)
        {
            relocated.insert(into / 8, addend.0);
        }
        relocated.len() < SIZE
    })?;
    for (index, value) in relocated {
        if let Some(word) = words.get_mut(index as usize) {
            *word = value;
        }
    }
    Ok(words)
}

/// Aligned words in segments' file bytes that equal `wanted`; the usual case of a position-dependent executable.
fn words_equal<R: ReadAt<FileOffset> + ?Sized>(
    elf: &Elf,
    file: &R,
    wanted: ImageAddr,
    found: &mut Vec<ImageAddr>,
) {
    let wanted = wanted.0.to_le_bytes();
    let mut window = vec![0; WINDOW];
    for segment in elf.segments().iter().filter(|s| s.writable) {
        let mut done = 0;
        while done < segment.file_size && found.len() < MAX_CANDIDATES {
            let part = &mut window[..((segment.file_size - done) as usize).min(WINDOW)];
            if file.read(segment.offset.plus(done), part).is_err() {
                break;
            }
            let hits = part.chunks_exact(8).enumerate().filter(|(_, c)| **c == wanted);
            found.extend(hits.map(|(i, _)| segment.start.plus(done + i as u64 * 8)).take(MAX_CANDIDATES));
            done += part.len() as u64;
        }
    }
}
