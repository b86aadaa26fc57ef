//! Go's function table (pclntab): exact function ranges, names, files and lines; present in stripped programs.
//!
//! Apart because it is one self-contained blob with two formats (go1.18 to 1.19, go1.20 on; runtime/symtab.go and
//! internal/abi/symtab.go). The bytes are kept once; names are cut out when asked for, never stored per function.

use std::borrow::Cow;
use std::sync::OnceLock;

use super::super::error::GoError;
use super::super::moduledata::ModuleData;
use super::pcheader::{Format, HEADER, Header, MAX_TABLE};
use crate::binary::elf::Elf;
use crate::memory::ReadAt;
use crate::record::image::Image;
use crate::units::{FileOffset, ImageAddr};

/// A name or file path longer than this is cut.
const MAX_NAME: usize = 4096;
/// A pc-value sequence has one step per source line of a function; this many steps is damage.
const MAX_STEPS: usize = 1 << 20;

/// One function: its index in the table and where it lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FuncRef {
    pub index: u32,
    pub entry: ImageAddr,
    /// The next function's entry: padding included, nothing left out.
    pub end: ImageAddr,
}

/// The table, held once.
pub struct Pclntab {
    bytes: Vec<u8>,
    header: Header,
    text: ImageAddr,
    /// funcID of functions the toolchain made.
    wrapper: u8,
    /// (hash of name, function index), sorted; made at the first lookup by name.
    by_name: OnceLock<Box<[(u32, u32)]>>,
}

/// `_func` of one function, taken apart (runtime/runtime2.go).
#[derive(Clone, Copy, Debug)]
pub struct FuncData {
    /// Where `_func` starts in the table.
    at: usize,
    name: u32,
    pcfile: u32,
    pcln: u32,
    npcdata: u32,
    cu: u32,
    pub func_id: u8,
    pub flags: u8,
    nfuncdata: u8,
    fixed: usize,
}

/// `_func.flag` bit of functions written in assembly (internal/abi/symtab.go, FuncFlagAsm).
pub const FLAG_ASSEMBLY: u8 = 4;
/// PCDATA_InlTreeIndex and FUNCDATA_InlTree (internal/abi/symtab.go).
const PCDATA_INLINE: u32 = 2;
const FUNCDATA_INLINE: u8 = 3;

impl Pclntab {
    /// Reads the whole table once.
    pub fn read<R: ReadAt<FileOffset> + ?Sized>(
        elf: &Elf,
        file: &R,
        header: Header,
        module: &ModuleData,
        file_len: u64,
        minor: u32,
    ) -> Result<Self, GoError> {
        let broken = |what| GoError::Broken { what, at: header.address.0 };
        let ftab = header.functions * 8 + 4;
        let len = module.pclntab_len;
        if len > MAX_TABLE.0.min(file_len) || header.pcln + ftab > len {
            return Err(broken("the function table's length"));
        }
        let bytes = elf
            .at(file)
            .read_vec(header.address, len as usize, MAX_TABLE)
            .map_err(|_fault| broken("the function table reaches outside its segment"))?;
        Self::new(bytes, header, module.text.start, wrapper_id(minor))
            .ok_or(broken("the function table is not sorted"))
    }

    /// The table as a recording keeps it: its bytes at their linked address, and what else `image` says.
    pub fn of_sections<R: ReadAt<ImageAddr> + ?Sized>(image: &Image, memory: &R) -> Result<Self, GoError> {
        let Image { functions: at, functions_len: len, .. } = *image;
        let broken = |what| GoError::Broken { what, at: at.0 };
        let mut raw = [0; HEADER];
        memory.read(at, &mut raw)?;
        let header = Header::parse(&raw, at).ok_or(broken("the header of the function table"))?;
        if len > MAX_TABLE.0 || header.pcln + header.functions * 8 + 4 > len {
            return Err(broken("the function table's length"));
        }
        // Before room for all of it is made: the end is there.
        memory.read_u8(at.plus(len - 1))?;
        let bytes = memory.read_vec(at, len as usize, MAX_TABLE)?;
        Self::new(bytes, header, image.text, wrapper_id(image.minor))
            .ok_or(broken("the function table is not sorted"))
    }

    fn new(bytes: Vec<u8>, header: Header, text: ImageAddr, wrapper: u8) -> Option<Self> {
        let table = Self { bytes, header, text, wrapper, by_name: OnceLock::new() };
        let entries = (0..=table.len()).map(|i| table.entry_offset(i));
        let mut last = 0;
        for entry in entries {
            let entry = entry?;
            if entry < last {
                return None;
            }
            last = entry;
        }
        Some(table)
    }

    /// How many functions there are.
    pub fn len(&self) -> u32 {
        self.header.functions as u32
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn format(&self) -> Format {
        self.header.format
    }

    /// Functions in address order.
    pub fn functions(&self) -> impl Iterator<Item = FuncRef> + '_ {
        (0..self.len()).filter_map(|i| self.function(i))
    }

    pub fn function(&self, index: u32) -> Option<FuncRef> {
        if index >= self.len() {
            return None;
        }
        Some(FuncRef {
            index,
            entry: self.text.plus(u64::from(self.entry_offset(index)?)),
            end: self.text.plus(u64::from(self.entry_offset(index + 1)?)),
        })
    }

    /// The function whose range holds `pc`.
    pub fn at(&self, pc: ImageAddr) -> Option<FuncRef> {
        let offset = u32::try_from(pc.0.checked_sub(self.text.0)?).ok()?;
        let (mut low, mut high) = (0, self.len());
        // The last index whose entry is not above the offset.
        while low < high {
            let middle = low + (high - low) / 2;
            if self.entry_offset(middle)? <= offset {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        let found = self.function(low.checked_sub(1)?)?;
        (pc < found.end).then_some(found)
    }

    /// The function of this name. A Go function that assembly calls has a wrapper of the same name
    /// (cmd/compile, ABI wrappers): the function itself is meant. Of other doubles the first.
    pub fn by_name(&self, name: &str) -> Option<FuncRef> {
        let index = self.by_name.get_or_init(|| {
            let hashes = (0..self.len()).filter_map(|i| Some((hash(self.raw_name(i)?), i)));
            let mut index: Box<[(u32, u32)]> = hashes.collect();
            index.sort_unstable();
            index
        });
        let wanted = hash(name.as_bytes());
        let from = index.partition_point(|(h, _)| *h < wanted);
        let same = || {
            let run = index[from..].iter().take_while(|(h, _)| *h == wanted).map(|(_, i)| *i);
            run.filter(|i| self.raw_name(*i) == Some(name.as_bytes()))
        };
        let own = same().find(|i| self.data(*i).is_some_and(|d| !self.is_wrapper(d.func_id)));
        own.or_else(|| same().next()).and_then(|i| self.function(i))
    }

    /// Whether a funcID, here or in an inline tree, is that of a wrapper.
    pub fn is_wrapper(&self, func_id: u8) -> bool {
        func_id == self.wrapper
    }

    /// A function's name; `"?"` where the table is damaged.
    pub fn name(&self, index: u32) -> String {
        self.raw_name(index).map_or_else(|| "?".to_owned(), |n| String::from_utf8_lossy(n).into_owned())
    }

    /// All names in address order, cut out one at a time.
    pub fn names(&self) -> impl Iterator<Item = Cow<'_, str>> {
        (0..self.len()).filter_map(|i| self.raw_name(i)).map(String::from_utf8_lossy)
    }

    /// A name by its offset in the name table, as inline trees use it.
    pub fn name_at(&self, offset: u32) -> Option<&[u8]> {
        let from = usize::try_from(self.header.funcname.checked_add(u64::from(offset))?).ok()?;
        let end = self.header.cu as usize;
        cut(self.bytes.get(from..end.min(self.bytes.len()))?)
    }

    pub fn data(&self, index: u32) -> Option<FuncData> {
        if index >= self.len() {
            return None;
        }
        let ftab = self.header.pcln as usize;
        let offset = read_u32(&self.bytes, ftab + index as usize * 8 + 4)?;
        let at = ftab.checked_add(offset as usize)?;
        // go1.20 put startLine before funcID.
        let ids = match self.header.format {
            Format::Go118 => 36,
            Format::Go120 => 40,
        };
        let raw = self.bytes.get(at..at.checked_add(ids + 4)?)?;
        let word = |o| read_u32(raw, o);
        Some(FuncData {
            at,
            name: word(4)?,
            pcfile: word(20)?,
            pcln: word(24)?,
            npcdata: word(28)?,
            cu: word(32)?,
            func_id: raw[ids],
            flags: raw[ids + 1],
            nfuncdata: raw[ids + 3],
            fixed: ids + 4,
        })
    }

    /// File and line of an instruction, before inlining is considered: the innermost source position.
    pub fn file_line(
        &self,
        function: FuncRef,
        data: &FuncData,
        pc: ImageAddr,
    ) -> (Option<String>, Option<u32>) {
        let line = self.pc_value(data.pcln, function.entry, pc).and_then(|l| u32::try_from(l).ok());
        let file = self.pc_value(data.pcfile, function.entry, pc).and_then(|f| self.file(data, f));
        (file, line)
    }

    /// Index into the inline tree at an instruction; `None` in code of the function itself.
    pub fn inline_index(&self, function: FuncRef, data: &FuncData, pc: ImageAddr) -> Option<u32> {
        if PCDATA_INLINE >= data.npcdata {
            return None;
        }
        let table = read_u32(&self.bytes, data.at + data.fixed + PCDATA_INLINE as usize * 4)?;
        // Offset 0 means that the function has no such table (runtime/symtab.go, pcdatavalue1).
        if table == 0 {
            return None;
        }
        u32::try_from(self.pc_value(table, function.entry, pc)?).ok()
    }

    /// How many entries the function's inline tree has, by the highest index that its code refers to; a parent
    /// that no instruction belongs to alone may be missing. Each step taken is counted off `budget`.
    pub fn inline_entries(&self, data: &FuncData, budget: &mut usize) -> u32 {
        let table = (PCDATA_INLINE < data.npcdata)
            .then(|| read_u32(&self.bytes, data.at + data.fixed + PCDATA_INLINE as usize * 4))
            .flatten();
        let mut rest = table.filter(|t| *t != 0).and_then(|t| self.steps(t)).unwrap_or_default();
        let (mut value, mut highest) = (-1, -1);
        for step in 0..MAX_STEPS.min(*budget) {
            *budget -= 1;
            if self.step(&mut rest, &mut value, step).is_none() {
                break;
            }
            highest = highest.max(value);
        }
        u32::try_from(i64::from(highest) + 1).unwrap_or(0)
    }

    /// Offset of the inline tree from moduledata.gofunc.
    pub fn inline_tree(&self, data: &FuncData) -> Option<u32> {
        if FUNCDATA_INLINE >= data.nfuncdata {
            return None;
        }
        let slot = (data.npcdata as usize).checked_add(usize::from(FUNCDATA_INLINE))?.checked_mul(4)?;
        let offset = read_u32(&self.bytes, (data.at + data.fixed).checked_add(slot)?)?;
        (offset != u32::MAX).then_some(offset)
    }

    fn entry_offset(&self, index: u32) -> Option<u32> {
        read_u32(&self.bytes, self.header.pcln as usize + index as usize * 8)
    }

    fn raw_name(&self, index: u32) -> Option<&[u8]> {
        let offset = read_u32(&self.bytes, self.header.pcln as usize + index as usize * 8 + 4)?;
        let at = (self.header.pcln as usize).checked_add(offset as usize)?;
        self.name_at(read_u32(&self.bytes, at.checked_add(4)?)?)
    }

    /// runtime/symtab.go, funcfile: file number of the unit -> offset in the file table -> path.
    fn file(&self, data: &FuncData, number: i32) -> Option<String> {
        let slot = data.cu.checked_add(u32::try_from(number).ok()?)?;
        let slot = (self.header.cu as usize).checked_add(slot as usize * 4)?;
        let offset = read_u32(&self.bytes, slot)?;
        if offset == u32::MAX {
            return None;
        }
        let from = (self.header.filetab as usize).checked_add(offset as usize)?;
        let end = (self.header.pctab as usize).min(self.bytes.len());
        cut(self.bytes.get(from..end)?).map(|f| String::from_utf8_lossy(f).into_owned())
    }

    /// The value in force at `pc` (runtime/symtab.go, pcvalue).
    fn pc_value(&self, table: u32, entry: ImageAddr, pc: ImageAddr) -> Option<i32> {
        if table == 0 {
            return None;
        }
        let mut rest = self.steps(table)?;
        let (mut value, mut at) = (-1, entry.0);
        for step in 0..MAX_STEPS {
            at = at.checked_add(self.step(&mut rest, &mut value, step)?)?;
            if pc.0 < at {
                return Some(value);
            }
        }
        None
    }

    fn steps(&self, table: u32) -> Option<&[u8]> {
        let from = (self.header.pctab as usize).checked_add(table as usize)?;
        let end = (self.header.pcln as usize).min(self.bytes.len());
        self.bytes.get(from..end)
    }

    /// One step of a pc-value sequence (runtime/symtab.go, step): the new value, and for how many bytes of code.
    fn step(&self, rest: &mut &[u8], value: &mut i32, index: usize) -> Option<u64> {
        let delta = uvarint(rest)?;
        if delta == 0 && index > 0 {
            return None;
        }
        let sign = -((delta & 1) as i32);
        *value = value.wrapping_add((delta >> 1) as i32 ^ sign);
        Some(u64::from(uvarint(rest)?) * u64::from(self.header.quantum))
    }
}

impl FuncData {
    /// Offset of the function's name in the name table.
    pub fn name_offset(&self) -> u32 {
        self.name
    }
}

/// abi.FuncIDWrapper (internal/abi/symtab.go; runtime/symtab.go in go1.19 and 1.20), read from binaries of each.
fn wrapper_id(minor: u32) -> u8 {
    match minor {
        ..=21 => 21,
        22..=24 => 22,
        _ => 23,
    }
}

pub(super) fn read_u32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

pub(super) fn read_u64(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
}

/// Up to the terminating zero.
fn cut(bytes: &[u8]) -> Option<&[u8]> {
    let limit = &bytes[..bytes.len().min(MAX_NAME)];
    match limit.iter().position(|b| *b == 0) {
        Some(end) => Some(&limit[..end]),
        None if limit.len() == MAX_NAME => Some(limit),
        None => None,
    }
}

fn uvarint(rest: &mut &[u8]) -> Option<u32> {
    let mut value = 0u32;
    for shift in (0..35).step_by(7) {
        let (byte, tail) = rest.split_first()?;
        *rest = tail;
        value |= u32::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// FNV-1a: short, no state, and a clash costs one comparison.
fn hash(name: &[u8]) -> u32 {
    name.iter().fold(0x811c_9dc5, |h, b| (h ^ u32::from(*b)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::super::pcheader::{HEADER, MAGIC_118, MAGIC_120};
    use super::*;

    const TEXT: u64 = 0x40_1000;

    /// Two functions: `a.f` (0x20 bytes, lines 10 then 12, wrapper) and `a.g` (0x10 bytes, no tables).
    fn sample(format: Format) -> (Vec<u8>, Header) {
        let names = b"\0a.f\0a.g\0";
        let files = b"\0/src/a.go\0";
        // value 10 (-1 + 11) for 0x10 bytes, then 12 for 0x10; file number 0 for 0x20.
        let pctab = [0, 22, 0x10, 4, 0x10, 0, 2, 0x20, 0];
        let mut b = vec![0; HEADER];
        let mut section = |bytes: &[u8]| {
            b.resize(b.len().next_multiple_of(8), 0);
            let at = b.len() as u64;
            b.extend_from_slice(bytes);
            at
        };
        let funcname = section(names);
        let cu = section(&1u32.to_le_bytes());
        let filetab = section(files);
        let pctab = section(&pctab);
        let fixed = if format == Format::Go120 { 44 } else { 40 };
        let mut pcln = Vec::new();
        for word in [0u32, 20, 0x20, 20 + fixed, 0x30] {
            pcln.extend(word.to_le_bytes());
        }
        for (entry, name, pcfile, line, id) in [(0u32, 1u32, 6u32, 1u32, 21u8), (0x20, 5, 0, 0, 0)] {
            for word in [entry, name, 0, 0, 0, pcfile, line, 0, 0] {
                pcln.extend(word.to_le_bytes());
            }
            if format == Format::Go120 {
                pcln.extend([0; 4]);
            }
            pcln.extend([id, 0, 0, 0]);
        }
        let pcln = section(&pcln);
        let address = ImageAddr(0x50_0000);
        let header = Header {
            address,
            format,
            functions: 2,
            text_start: TEXT,
            funcname,
            cu,
            filetab,
            pctab,
            pcln,
            quantum: 1,
        };
        let magic = if format == Format::Go120 { MAGIC_120 } else { MAGIC_118 };
        b[..4].copy_from_slice(&magic.to_le_bytes());
        (b[6], b[7]) = (1, 8);
        for (at, word) in
            [(8, 2), (24, TEXT), (32, funcname), (40, cu), (48, filetab), (56, pctab), (64, pcln)]
        {
            b[at..at + 8].copy_from_slice(&u64::to_le_bytes(word));
        }
        assert_eq!(Header::parse(&b, address), Some(header));
        (b, header)
    }

    fn table(bytes: Vec<u8>, header: Header) -> Option<Pclntab> {
        Pclntab::new(bytes, header, ImageAddr(TEXT), 21)
    }

    #[test]
    fn both_formats() {
        for format in [Format::Go118, Format::Go120] {
            let (bytes, header) = sample(format);
            let t = table(bytes, header).expect("sound");
            let f = t.by_name("a.f").expect("a.f");
            assert_eq!((f.entry.0, f.end.0), (TEXT, TEXT + 0x20));
            assert_eq!(t.by_name("a.g").map(|g| g.end.0), Some(TEXT + 0x30));
            assert_eq!(t.by_name("a"), None);
            assert_eq!(t.at(ImageAddr(TEXT + 0x1f)), Some(f));
            assert_eq!(t.at(ImageAddr(TEXT + 0x20)).map(|g| g.index), Some(1));
            assert_eq!(t.at(ImageAddr(TEXT + 0x30)), None);
            assert_eq!(t.at(ImageAddr(TEXT - 1)), None);
            let data = t.data(0).expect("data");
            assert!(t.is_wrapper(data.func_id));
            let at = |pc| t.file_line(f, &data, ImageAddr(TEXT + pc));
            assert_eq!(at(0xf), (Some("/src/a.go".to_owned()), Some(10)));
            assert_eq!(at(0x10).1, Some(12));
            assert_eq!(at(0x20).1, None);
            assert_eq!(t.inline_index(f, &data, f.entry), None);
            assert_eq!(t.inline_tree(&data), None);
        }
    }

    #[test]
    fn an_unsorted_table_is_refused() {
        let (mut bytes, header) = sample(Format::Go120);
        bytes[header.pcln as usize + 8] = 0x40;
        assert!(table(bytes, header).is_none());
    }

    proptest::proptest! {
        #[test]
        fn any_flipped_bytes_are_answered(
            flips in proptest::collection::vec((0usize..400, proptest::num::u8::ANY), 0..12),
            cut in 0usize..400,
        ) {
            for format in [Format::Go118, Format::Go120] {
                let (mut bytes, header) = sample(format);
                for (at, byte) in &flips {
                    if let Some(b) = bytes.get_mut(*at) {
                        *b = *byte;
                    }
                }
                let parsed = Header::parse(&bytes, header.address).unwrap_or(header);
                bytes.truncate(cut.max(HEADER));
                // What find and read would have checked before.
                let header = Header { functions: parsed.functions.min(50), ..parsed };
                let Some(t) = table(bytes, header) else { continue };
                for f in t.functions().collect::<Vec<_>>() {
                    let Some(data) = t.data(f.index) else { continue };
                    drop(t.file_line(f, &data, f.entry.plus(3)));
                    drop((t.name(f.index), t.inline_index(f, &data, f.entry), t.inline_tree(&data)));
                    proptest::prop_assert!(t.inline_entries(&data, &mut 1000) <= 1 << 31);
                }
                proptest::prop_assert!(t.by_name("a.f").is_none_or(|f| f.index < 50));
                proptest::prop_assert!(t.at(ImageAddr(TEXT + 5)).is_none_or(|f| f.index < 50));
            }
        }
    }
}
