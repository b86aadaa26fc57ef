//! The head of Go's function table, and how it is found in a file with or without section names.
//!
//! Apart because it is read before anything else is known: it leads to moduledata, which alone says how long the
//! table is. It believes nothing but the header's own consistency; moduledata must agree with it afterwards.

use super::super::error::GoError;
use super::pclntab::{read_u32, read_u64};
use crate::binary::elf::Elf;
use crate::memory::ReadAt;
use crate::units::{Bytes, FileOffset, ImageAddr};

/// pcHeader.magic (internal/abi/symtab.go): go1.18 to 1.19, and go1.20 on.
pub(super) const MAGIC_118: u32 = 0xffff_fff0;
pub(super) const MAGIC_120: u32 = 0xffff_fff1;
/// Size of pcHeader on a 64-bit machine.
pub(in crate::goruntime) const HEADER: usize = 72;
/// The largest Go programs have a few hundred thousand functions.
const MAX_FUNCTIONS: u64 = 8 << 20;
/// The largest pclntab met in the wild is some 40 MB.
pub(in crate::goruntime) const MAX_TABLE: Bytes = Bytes(256 << 20);
/// Bytes scanned at a time while the header is searched.
const WINDOW: usize = 64 << 10;

/// The table's head: enough to find moduledata, which then says how long the table is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    pub address: ImageAddr,
    pub format: Format,
    pub functions: u64,
    /// 0 from go1.26 on.
    pub text_start: u64,
    pub funcname: u64,
    pub cu: u64,
    pub filetab: u64,
    pub pctab: u64,
    pub pcln: u64,
    /// Smallest pc step (1 on x86-64).
    pub quantum: u32,
}

/// What differs between the formats.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// go1.18 and go1.19: `_func` has no start line, inline entries have 20 bytes.
    Go118,
    /// go1.20 on.
    Go120,
}

impl Header {
    /// Finds the table by section name, else by its magic in any segment.
    pub fn find<R: ReadAt<FileOffset> + ?Sized>(elf: &Elf, file: &R) -> Result<Self, GoError> {
        let mut damaged = None;
        // go1.19 to 1.25 position-independent executables use the second name (cmd/link/internal/ld/data.go).
        for name in [".gopclntab", ".data.rel.ro.gopclntab"] {
            let Some(section) = elf.section(name) else {
                continue;
            };
            let mut raw = [0; HEADER];
            if file.read(section.offset, &mut raw).is_ok()
                && let Some(header) = Self::parse(&raw, section.start)
            {
                return Ok(header);
            }
            damaged =
                Some(GoError::Broken { what: "the header of Go's function table", at: section.offset.0 });
        }
        let none = || damaged.unwrap_or(GoError::NotGo { why: "it has no Go function table".into() });
        Self::search(elf, file).ok_or_else(none)
    }

    fn search<R: ReadAt<FileOffset> + ?Sized>(elf: &Elf, file: &R) -> Option<Self> {
        let mut window = vec![0; WINDOW];
        for segment in elf.segments() {
            let mut done = 0;
            while done + HEADER as u64 <= segment.file_size {
                let part = &mut window[..((segment.file_size - done) as usize).min(WINDOW)];
                if file.read(segment.offset.plus(done), part).is_err() {
                    break;
                }
                // The last HEADER bytes are looked at again in the next window.
                for at in (0..part.len().saturating_sub(HEADER - 1)).step_by(8) {
                    if part[at + 1..at + 4] == [0xff; 3]
                        && let Some(header) =
                            Self::parse(&part[at..at + HEADER], segment.start.plus(done + at as u64))
                    {
                        return Some(header);
                    }
                }
                if part.len() < WINDOW {
                    break;
                }
                done += (WINDOW - HEADER) as u64;
            }
        }
        None
    }

    pub(in crate::goruntime) fn parse(raw: &[u8], address: ImageAddr) -> Option<Self> {
        let format = match read_u32(raw, 0)? {
            MAGIC_118 => Format::Go118,
            MAGIC_120 => Format::Go120,
            _ => return None,
        };
        let word = |at| read_u64(raw, at);
        let quantum = match raw.get(4..8)? {
            [0, 0, quantum @ (1 | 2 | 4), 8] => u32::from(*quantum),
            _ => return None,
        };
        let header = Self {
            address,
            format,
            functions: word(8)?,
            text_start: word(24)?,
            funcname: word(32)?,
            cu: word(40)?,
            filetab: word(48)?,
            pctab: word(56)?,
            pcln: word(64)?,
            quantum,
        };
        let offsets = [HEADER as u64, header.funcname, header.cu, header.filetab, header.pctab, header.pcln];
        let sound = (1..MAX_FUNCTIONS).contains(&header.functions)
            && offsets.is_sorted()
            && header.pcln < MAX_TABLE.0
            && address.0.checked_add(MAX_TABLE.0).is_some();
        sound.then_some(header)
    }
}
