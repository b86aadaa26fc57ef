//! The modules that a process loaded while it runs: Go plugins, which hang on the main module's data in a list.
//!
//! Apart from `image` because they are read from the process: a plugin's file may be gone, and that of go1.20 has no build
//! information. The runtime only appends to the list and unloads nothing (runtime/symtab.go, `modulesinit`; plugin has
//! no Close). What names need is copied once, so that it outlives the process. Addresses here are those of the process less
//! the program's own load bias, so that one space holds the program and its plugins. Every word is checked as a stranger's.

use std::sync::Arc;

use super::error::GoError;
use super::layout::Layout;
use super::moduledata::{ModuleData, Range};
use super::names::book::NameBook;
use super::names::inlining::Inlining;
use super::names::kept::{self, Piece};
use super::names::pcheader::{HEADER, Header, MAX_TABLE};
use super::names::pclntab::Pclntab;
use crate::memory::{FaultKind, ReadAt, ReadFault};
use crate::record::image::Image;
use crate::units::{Bytes, ImageAddr, LoadBias, ProcAddr};

/// More plugins than this are not looked at; their functions stay addresses.
pub const MAX_MODULES: usize = 64;
/// The types of one plugin. Those of very large programs take 30 MiB.
const MAX_TYPES: Bytes = Bytes(64 << 20);
/// Its inline trees.
const MAX_TREES: u64 = 64 << 20;
/// Data that is looked through for what refers to types.
const MAX_DATA: u64 = 64 << 20;
const WINDOW: u64 = 64 << 10;

/// One plugin.
pub struct Module {
    pub data: ModuleData,
    /// What a recording says of it.
    pub image: Image,
    pub names: NameBook,
    kept: Arc<Kept>,
    /// Types that its data refers to, in any module.
    references: Vec<ImageAddr>,
}

impl Module {
    /// The module that `link` (a module's `next`) leads to; `None` at the end of the list.
    pub fn read(
        memory: &dyn ReadAt<ProcAddr>,
        bias: LoadBias,
        layout: &Layout,
        link: ImageAddr,
    ) -> Result<Option<Self>, GoError> {
        let at = ProcAddr(memory.read_u64(bias.to_proc(link))?);
        if at == ProcAddr(0) {
            return Ok(None);
        }
        let mut raw = vec![0; layout.module_size as usize];
        memory.read(at, &mut raw)?;
        let words: Vec<u64> =
            raw.chunks_exact(8).filter_map(|c| c.try_into().ok().map(u64::from_le_bytes)).collect();
        let table = ProcAddr(words.first().copied().unwrap_or(0));
        let mut raw = [0; HEADER];
        memory.read(table, &mut raw)?;
        let header = Header::parse(&raw, ImageAddr(table.0))
            .ok_or(GoError::Broken { what: "the header of a plugin's function table", at: table.0 })?;
        let readable = |at: ImageAddr| memory.read_u8(ProcAddr(at.0)).is_ok();
        let data = ModuleData::of_words(&words, ImageAddr(at.0), &header, layout, readable)?.less(bias);
        Self::copy(&InProcess { memory, bias }, data, layout).map(Some)
    }

    fn copy(memory: &InProcess<'_>, data: ModuleData, layout: &Layout) -> Result<Self, GoError> {
        let image = Image {
            minor: layout.minor,
            module: None,
            functions: data.pclntab,
            functions_len: data.pclntab_len,
            text: data.text.start,
            inline_trees: data.gofunc,
            types_start: data.types.start,
            types_end: data.types.end,
        };
        let table = Pclntab::of_sections(&image, memory)?;
        let mut runs = vec![
            (data.pclntab, memory.read_vec(data.pclntab, data.pclntab_len as usize, MAX_TABLE)?),
            (data.types.start, memory.read_vec(data.types.start, data.types.len() as usize, MAX_TYPES)?),
        ];
        let inlining = Inlining { table: &table, memory, gofunc: data.gofunc };
        let mut left = MAX_TREES;
        for tree in kept::inline_extents(&inlining) {
            // What is cut off or cannot be read ends an expansion, as in a program's own file.
            let Some(rest) = left.checked_sub(tree.len()) else { break };
            left = rest;
            if let Ok(bytes) = memory.read_vec(tree.start, tree.len() as usize, Bytes(MAX_TREES)) {
                runs.push((tree.start, bytes));
            }
        }
        let kept = Arc::new(Kept(runs));
        let names = NameBook::open(&image, Box::new(Arc::clone(&kept)))?;
        let references = references(memory, &data);
        Ok(Self { data, image, names, kept, references })
    }

    /// Whether an address is one of this module's code or types.
    pub fn holds(&self, at: ImageAddr) -> bool {
        self.data.text.contains(at) || self.data.types.contains(at)
    }

    /// Where it lies as a whole.
    pub fn extent(&self) -> Range {
        let ModuleData { text, types, noptrdata, data, bss, noptrbss, .. } = self.data;
        let all = [text, types, noptrdata, data, bss, noptrbss];
        let start = all.iter().map(|range| range.start).min().unwrap_or(text.start);
        Range { start, end: all.iter().map(|range| range.end).max().unwrap_or(text.end) }
    }

    /// The function table and the inline trees, for a recording: all that names code.
    pub fn name_pieces(&self) -> impl Iterator<Item = (ImageAddr, &[u8])> {
        let types = self.data.types.start;
        self.kept.0.iter().filter(move |(at, _)| *at != types).map(|(at, bytes)| (*at, &bytes[..]))
    }

    /// What a recording keeps of one type descriptor.
    pub fn type_pieces(&self, at: ImageAddr) -> Vec<Piece> {
        kept::type_pieces(&*self.kept, self.data.types, at)
    }

    /// The bytes of all type descriptors; pointers in them are addresses of the process.
    pub fn type_bytes(&self) -> &[u8] {
        self.kept.0.iter().find(|(at, _)| *at == self.data.types.start).map_or(&[], |(_, bytes)| bytes)
    }

    /// Types that its data refers to: code of a plugin reaches them through a table of pointers.
    pub fn references(&self) -> &[ImageAddr] {
        &self.references
    }
}

/// A process's memory in the space of its program.
struct InProcess<'a> {
    memory: &'a dyn ReadAt<ProcAddr>,
    bias: LoadBias,
}

impl ReadAt<ImageAddr> for InProcess<'_> {
    fn read(&self, addr: ImageAddr, buf: &mut [u8]) -> Result<(), ReadFault> {
        self.memory.read(self.bias.to_proc(addr), buf)
    }
}

/// Copied bytes.
struct Kept(Vec<(ImageAddr, Vec<u8>)>);

impl ReadAt<ImageAddr> for Kept {
    fn read(&self, addr: ImageAddr, buf: &mut [u8]) -> Result<(), ReadFault> {
        let fault = ReadFault { addr: addr.0, len: buf.len(), kind: FaultKind::Unmapped };
        let part = self.0.iter().find_map(|(start, bytes)| {
            let from = usize::try_from(addr.0.checked_sub(start.0)?).ok()?;
            bytes.get(from..from.checked_add(buf.len())?)
        });
        buf.copy_from_slice(part.ok_or(fault)?);
        Ok(())
    }
}

/// Words between its types and the end of its data that may be types; the caller knows which are.
fn references(memory: &InProcess<'_>, data: &ModuleData) -> Vec<ImageAddr> {
    let start = data.types.end.0.next_multiple_of(8);
    let end = data.noptrdata.end.max(data.data.end).0.min(start.saturating_add(MAX_DATA));
    let table = Range { start: data.pclntab, end: data.pclntab.plus(data.pclntab_len) };
    let mut found = Vec::new();
    let mut window = vec![0; WINDOW as usize];
    let mut at = start;
    while at < end {
        let part = &mut window[..(end - at).min(WINDOW) as usize];
        if !table.contains(ImageAddr(at)) && memory.read(ImageAddr(at), part).is_ok() {
            let words = part.chunks_exact(8).filter_map(|c| c.try_into().ok().map(u64::from_le_bytes));
            // Aligned addresses only: descriptors are.
            let words = words.filter(|word| *word != 0 && word.is_multiple_of(8));
            found.extend(words.map(|word| memory.bias.to_image(ProcAddr(word))));
        }
        at += WINDOW;
    }
    found.sort_unstable();
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::memory::Flat;

    const BASE: u64 = 0x1000;

    fn read(bytes: &[u8]) -> Result<Option<Module>, GoError> {
        let layout = Layout::for_minor(26).unwrap();
        Module::read(&Flat { base: BASE, bytes }, LoadBias(0), layout, ImageAddr(BASE))
    }

    #[test]
    fn the_list_ends_at_zero_and_never_leads_out_of_memory() {
        assert!(matches!(read(&[0; 8]), Ok(None)));
        assert!(matches!(read(&[0; 4]), Err(GoError::Read(_))));
        for next in [1, BASE, BASE + 8, u64::MAX, u64::MAX - 8] {
            let mut bytes = vec![0; 4096];
            bytes[..8].copy_from_slice(&next.to_le_bytes());
            assert!(read(&bytes).is_err(), "{next:#x}");
        }
    }

    proptest! {
        /// A header of a function table that holds up, and module data that is anything but for pointing to it.
        #[test]
        fn any_module_data_is_accepted(
            words in proptest::collection::vec(any::<u64>(), 80),
            small in proptest::collection::vec(0_u64..0x3000, 80),
            which in any::<u128>(),
            functions in 1_u64..40,
        ) {
            let mut bytes = vec![0; 0x2000];
            let mut put = |at: u64, word: u64| {
                bytes[at as usize..at as usize + 8].copy_from_slice(&word.to_le_bytes());
            };
            put(0, BASE + 0x100);
            for n in 0..80 {
                put(0x100 + 8 * n, if which >> n & 1 == 0 { words[n as usize] } else { BASE + small[n as usize] });
            }
            let table = BASE + 0x800;
            put(0x100, table);
            put(0x800, 0x0801_0000_ffff_fff1);
            put(0x808, functions);
            for (field, offset) in [(32, 72), (40, 80), (48, 88), (56, 96), (64, 104)] {
                put(0x800 + field, offset);
            }
            for (field, offset) in [(8, 72), (32, 80), (56, 88), (80, 96), (104, 104), (128, 104)] {
                put(0x100 + field, table + offset);
            }
            put(0x100 + 136, functions + 1);
            if let Ok(Some(module)) = read(&bytes) {
                module.names.frames_at(module.data.text.start, crate::goruntime::names::inlining::PcKind::Exact);
                prop_assert!(module.name_pieces().all(|(_, bytes)| bytes.len() <= 0x2000));
            }
        }
    }
}
