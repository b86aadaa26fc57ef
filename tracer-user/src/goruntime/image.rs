//! One build of a Go program, read from its file: identity, functions, names, types.
//!
//! Apart because it is immutable and shared by every process of that build. It reads no process and keeps no
//! more of the file than pclntab; everything else is read when asked for.

use std::collections::{BTreeMap, BTreeSet, btree_map};
use std::fmt::Write as _;
use std::sync::OnceLock;

use super::buildinfo::BuildInfo;
use super::error::GoError;
use super::layout::{Basis, Known, Layout};
use super::moduledata::{ModuleData, Range};
use super::names::inlining::{Frame, Inlining, PcKind};
use super::names::kept::{self, Piece};
use super::names::pcheader::Header;
use super::names::pclntab::{FLAG_ASSEMBLY, FuncRef, Pclntab};
use super::names::types::{self, TypeInfo};
use super::version::GoVersion;
use super::version_text;
use crate::binary::elf::Elf;
use crate::binary::x86;
use crate::memory::ReadAt;
use crate::record::image::Image;
use crate::units::{Bytes, FileOffset, ImageAddr};

/// UPX writes its mark right behind the headers of the stub it makes.
const UPX_WINDOW: usize = 1024;

/// Bytes of an executable, from a file or a capture.
pub type ImageBytes = Box<dyn ReadAt<FileOffset> + Send + Sync>;

/// A function as the table has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Function {
    pub name: String,
    pub entry: ImageAddr,
    /// The next function's entry, padding included.
    pub end: ImageAddr,
    /// Written in assembly: nothing may be assumed about its shape.
    pub assembly: bool,
}

/// A Go executable.
pub struct GoImage {
    file: ImageBytes,
    elf: Elf,
    info: BuildInfo,
    layout: &'static Layout,
    basis: Basis,
    known: Known,
    module: ModuleData,
    table: Pclntab,
    /// Names of inlined functions; read when first asked for.
    inlined: OnceLock<Box<[u32]>>,
}

impl GoImage {
    /// Reads what every other question needs, or says why this is no Go program that can be traced.
    pub fn open(file: ImageBytes, file_len: u64) -> Result<Self, GoError> {
        Self::open_knowing(file, file_len, Known::all())
    }

    /// The same as a tracer with these rows does it.
    pub fn open_knowing(file: ImageBytes, file_len: u64, known: Known) -> Result<Self, GoError> {
        let elf = Elf::read(&*file, file_len)?;
        let info = BuildInfo::find(&elf, &*file)?;
        let Some(info) = info.or_else(|| version_text::build_info(&elf, &*file, file_len, known)) else {
            let why = if is_upx(&*file, file_len) {
                "it is packed with UPX; run the unpacked program (upx -d) to trace it"
            } else {
                "it has no Go build information"
            };
            return Err(GoError::NotGo { why: why.into() });
        };
        if let Some(mode @ ("c-shared" | "plugin" | "shared")) = info.setting("-buildmode") {
            let why = format!("it is Go inside a library (-buildmode={mode}), which cannot be traced");
            return Err(GoError::NotGo { why });
        }
        let version = info.version.clone().supported()?;
        let header = Header::find(&elf, &*file).map_err(|error| {
            if known.has(version.minor) { error } else { GoError::newer(&version, known, &error.to_string()) }
        })?;
        let (layout, basis) = Layout::choose(known, &version, &elf, &*file)?;
        let judge = |error| basis.judge(known, &version, error);
        let module = ModuleData::find(&elf, &*file, &header, layout).map_err(judge)?;
        let table = Pclntab::read(&elf, &*file, header, &module, file_len, version.minor).map_err(judge)?;
        let layout = layout.of_variant(|name, file| is_of(&table, name, file));
        Ok(Self { file, elf, info, layout, basis, known, module, table, inlined: OnceLock::new() })
    }

    /// Where the fields of its runtime's structures lie.
    pub fn layout(&self) -> &'static Layout {
        self.layout
    }

    /// What that layout rests on.
    pub fn basis(&self) -> Basis {
        self.basis
    }

    /// The rows that layout was chosen from.
    pub fn known(&self) -> Known {
        self.known
    }

    pub fn version(&self) -> &GoVersion {
        &self.info.version
    }

    pub fn build_info(&self) -> &BuildInfo {
        &self.info
    }

    pub fn elf(&self) -> &Elf {
        &self.elf
    }

    pub fn module(&self) -> &ModuleData {
        &self.module
    }

    pub fn is_pie(&self) -> bool {
        self.elf.is_dynamic()
    }

    /// C code is linked in. `CGO_ENABLED=1` alone only says that it might have been.
    pub fn is_cgo(&self) -> bool {
        // runtime/cgo/asm_amd64.s: there whenever runtime/cgo is.
        self.table.by_name("crosscall2").is_some()
    }

    pub fn is_race(&self) -> bool {
        // runtime/race_amd64.s is built with -race only; a build without settings still shows it.
        self.info.setting("-race") == Some("true") || self.table.by_name("runtime.racecall").is_some()
    }

    /// The runtime's memory profiler is on unless the program turns it off: the linker turns it off where nothing that
    /// reads the profile is linked (cmd/link/internal/ld/lib.go, `disableMemoryProfiling`).
    pub fn links_memory_profiler(&self) -> bool {
        // What the linker looks for: the second since Go 1.23.
        ["runtime.MemProfile", "runtime.memProfileInternal"].iter().any(|f| self.table.by_name(f).is_some())
    }

    pub fn is_stripped(&self) -> bool {
        self.elf.is_stripped()
    }

    /// Go's own build id, else the GNU one in hex: the same for every copy of one build.
    pub fn build_id(&self) -> Option<String> {
        if let Some(id) = self.elf.go_build_id() {
            return Some(id.to_owned());
        }
        let mut hex = String::new();
        for byte in self.elf.gnu_build_id()? {
            write!(hex, "{byte:02x}").expect("writing to a String cannot fail");
        }
        Some(hex)
    }

    /// Path of the main module, or of the main package where the build says no more.
    pub fn main_module(&self) -> Option<&str> {
        self.info.module.as_deref().or(self.info.path.as_deref())
    }

    pub fn function(&self, name: &str) -> Option<Function> {
        self.table.by_name(name).map(|f| self.named(f))
    }

    /// Whether a function is linked and its code is of that source file. A program that loads plugins keeps all methods,
    /// also those that stand in for an experiment's in a file of their own.
    pub fn has_of(&self, name: &str, file: &str) -> bool {
        is_of(&self.table, name, file)
    }

    /// The function whose range holds an address.
    pub fn function_at(&self, pc: ImageAddr) -> Option<Function> {
        self.table.at(pc).map(|f| self.named(f))
    }

    /// All functions in address order.
    pub fn functions(&self) -> impl Iterator<Item = Function> + '_ {
        self.table.functions().map(|f| self.named(f))
    }

    /// The names that a predicate accepts, in address order.
    pub fn function_names(&self, accepts: impl Fn(&str) -> bool) -> Vec<String> {
        self.table.names().filter(|n| accepts(n)).map(std::borrow::Cow::into_owned).collect()
    }

    /// The frames of one program counter, innermost first; empty outside Go's functions.
    pub fn frames_at(&self, pc: ImageAddr, kind: PcKind) -> Vec<Frame> {
        let memory = self.memory();
        Inlining { table: &self.table, memory: &memory, gofunc: self.module.gofunc }.frames(pc, kind)
    }

    /// Which of these functions have copies inlined into others. The first call reads every inline tree.
    pub fn inlined(&self, names: &[&str]) -> BTreeSet<String> {
        let offsets = self.inlined.get_or_init(|| {
            let memory = self.memory();
            Inlining { table: &self.table, memory: &memory, gofunc: self.module.gofunc }.inlined()
        });
        let inlined = offsets.iter().filter_map(|o| std::str::from_utf8(self.table.name_at(*o)?).ok());
        inlined.filter(|n| names.contains(n)).map(str::to_owned).collect()
    }

    /// A pointer in static data, as linked: the relocation's addend where there is one, else the word itself.
    pub fn pointer(&self, at: ImageAddr) -> Result<ImageAddr, GoError> {
        self.pointers(vec![at]).and_then(|mut found| {
            found.remove(&at).ok_or(GoError::Broken { what: "a pointer in static data", at: at.0 })
        })
    }

    /// The same for many places, in one pass over the relocations. Those that cannot be read are left out.
    pub fn pointers(&self, mut places: Vec<ImageAddr>) -> Result<BTreeMap<ImageAddr, ImageAddr>, GoError> {
        places.sort_unstable();
        let mut found = BTreeMap::new();
        self.elf.relative_relocations(&*self.file, |place, addend| {
            if places.binary_search(&place).is_ok() {
                found.insert(place, addend);
            }
            found.len() < places.len()
        })?;
        let memory = self.memory();
        for place in places {
            if let btree_map::Entry::Vacant(missing) = found.entry(place)
                && let Ok(word) = memory.read_u64(place)
            {
                missing.insert(ImageAddr(word));
            }
        }
        Ok(found)
    }

    /// Every pointer between static data that the loader writes, as (place, value) without a load bias; none in a
    /// position-dependent executable.
    pub fn relocations(&self, mut see: impl FnMut(ImageAddr, ImageAddr)) -> Result<(), GoError> {
        self.elf.relative_relocations(&*self.file, |place, addend| {
            see(place, addend);
            true
        })?;
        Ok(())
    }

    /// What a type descriptor in this file says.
    pub fn type_info(&self, at: ImageAddr) -> Result<TypeInfo, GoError> {
        types::read(&self.memory(), self.module.types, at)
    }

    /// Where its name sections lie: what a recording says of it.
    pub fn name_sections(&self) -> Image {
        Image {
            minor: self.version().minor,
            module: self.main_module().map(str::to_owned),
            functions: self.module.pclntab,
            functions_len: self.module.pclntab_len,
            text: self.module.text.start,
            inline_trees: self.module.gofunc,
            types_start: self.module.types.start,
            types_end: self.module.types.end,
        }
    }

    /// The ranges that a recording keeps so that every code address can be named again.
    pub fn name_extents(&self) -> Vec<Range> {
        let table =
            Range { start: self.module.pclntab, end: self.module.pclntab.plus(self.module.pclntab_len) };
        let memory = self.memory();
        let inlining = Inlining { table: &self.table, memory: &memory, gofunc: self.module.gofunc };
        let trees = kept::inline_extents(&inlining);
        // The newest releases put the trees into the table.
        let outside = trees.into_iter().filter(|tree| tree.start < table.start || tree.end > table.end);
        std::iter::once(table).chain(outside).collect()
    }

    /// What a recording keeps of one type descriptor.
    pub fn type_pieces(&self, at: ImageAddr) -> Vec<Piece> {
        kept::type_pieces(&self.memory(), self.module.types, at)
    }

    /// The place in the file of an instruction, as a uprobe wants it.
    pub fn file_offset(&self, addr: ImageAddr) -> Option<FileOffset> {
        self.elf.code_offset(addr)
    }

    /// All bytes of a function, entry to exact end.
    pub fn text_bytes(&self, function: &Function) -> Result<Vec<u8>, GoError> {
        let len = function.end.0.saturating_sub(function.entry.0);
        if len > x86::MAX_FUNCTION {
            return Err(GoError::Broken {
                what: "a function's length is beyond reason",
                at: function.entry.0,
            });
        }
        Ok(self.memory().read_vec(function.entry, len as usize, Bytes(x86::MAX_FUNCTION))?)
    }

    /// The file at its linked addresses: constants and initial values, before any relocation.
    pub fn memory(&self) -> impl ReadAt<ImageAddr> + '_ {
        self.elf.at(&*self.file)
    }

    fn named(&self, f: FuncRef) -> Function {
        let flags = self.table.data(f.index).map_or(0, |d| d.flags);
        Function {
            name: self.table.name(f.index),
            entry: f.entry,
            end: f.end,
            assembly: flags & FLAG_ASSEMBLY != 0,
        }
    }
}

/// A function without a file is taken for the one that was meant.
fn is_of(table: &Pclntab, name: &str, file: &str) -> bool {
    table.by_name(name).is_some_and(|function| {
        let data = table.data(function.index);
        let path = data.and_then(|data| table.file_line(function, &data, function.entry).0);
        path.is_none_or(|path| path.rsplit('/').next() == Some(file))
    })
}

fn is_upx<R: ReadAt<FileOffset> + ?Sized>(file: &R, file_len: u64) -> bool {
    let mut head = vec![0; UPX_WINDOW.min(file_len as usize)];
    file.read(FileOffset(0), &mut head).is_ok() && head.windows(4).any(|w| w == b"UPX!")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::{FaultKind, ReadFault};

    struct Owned(Vec<u8>);

    impl ReadAt<FileOffset> for Owned {
        fn read(&self, addr: FileOffset, buf: &mut [u8]) -> Result<(), ReadFault> {
            let fault = ReadFault { addr: addr.0, len: buf.len(), kind: FaultKind::Unmapped };
            let from = usize::try_from(addr.0).map_err(|_large| fault)?;
            let to = from.checked_add(buf.len()).ok_or(fault)?;
            buf.copy_from_slice(self.0.get(from..to).ok_or(fault)?);
            Ok(())
        }
    }

    /// An ELF file with one segment and nothing of Go in it.
    fn stub(mark: &[u8]) -> Result<GoImage, GoError> {
        let mut b = vec![0; 0x200];
        b[..20].copy_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x3e\0");
        (b[32], b[54], b[56]) = (64, 56, 1);
        (b[64], b[68]) = (1, 5);
        (b[97], b[105]) = (2, 2);
        b[0x100..0x100 + mark.len()].copy_from_slice(mark);
        let len = b.len() as u64;
        GoImage::open(Box::new(Owned(b)), len)
    }

    fn why(mark: &[u8]) -> String {
        match stub(mark) {
            Err(e @ GoError::NotGo { .. }) => e.to_string(),
            Err(e) => panic!("{e}"),
            Ok(_) => panic!("there is no Go in it"),
        }
    }

    #[test]
    fn a_packed_program_is_named() {
        assert!(why(b"UPX!").contains("packed with UPX"));
        assert!(why(b"UPX?").contains("no Go build information"));
    }
}
