//! ELF headers, segments, sections and the maps between linked addresses and file offsets.
//!
//! Apart because every later stage needs these few kilobytes and nothing else of a file that may have hundreds
//! of megabytes. It never reads a whole file and never maps one; section contents are read on request, capped.

use object::LittleEndian as LE;
use object::elf::{
    ELFCLASS64, ELFDATA2LSB, ELFMAG, EM_X86_64, ET_DYN, ET_EXEC, FileHeader64, NT_GNU_BUILD_ID,
    PF_W, PF_X, PT_LOAD, ProgramHeader64, Rela64, SHN_XINDEX, SHT_NOBITS, SHT_RELA,
    SectionHeader64,
};
use object::pod;

use super::BinaryError;
use crate::memory::{FaultKind, ReadAt, ReadFault};
use crate::units::{Bytes, FileOffset, ImageAddr};

/// A linker makes about ten; a kernel refuses more than 64 KiB of them.
const MAX_SEGMENTS: u16 = 1024;
/// C++ with one section per function makes tens of thousands; an executable has a few dozen.
const MAX_SECTIONS: u64 = 65_536;
/// Section names are short; a larger table is damage.
const MAX_NAMES: Bytes = Bytes(4 << 20);
/// Build ids are 20 (GNU) or about 83 bytes (Go).
const MAX_NOTE: Bytes = Bytes(4096);
/// `R_X86_64_RELATIVE`: the word becomes load bias + addend.
const R_X86_64_RELATIVE: u32 = 8;
/// Relocations are read in runs of this many entries.
const RELOCATION_RUN: usize = 4096;

/// One `PT_LOAD`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Segment {
    pub start: ImageAddr,
    pub mem_size: u64,
    pub offset: FileOffset,
    /// Bytes that come from the file; the rest up to `mem_size` is zero at start.
    pub file_size: u64,
    pub executable: bool,
    pub writable: bool,
}

impl Segment {
    fn contains(&self, addr: ImageAddr) -> bool {
        addr.0
            .checked_sub(self.start.0)
            .is_some_and(|o| o < self.mem_size)
    }

    fn file_offset(&self, addr: ImageAddr) -> Option<FileOffset> {
        let into = addr.0.checked_sub(self.start.0)?;
        (into < self.file_size).then(|| self.offset.plus(into))
    }
}

/// One section header, its name resolved.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Section {
    pub name: String,
    pub kind: u32,
    pub start: ImageAddr,
    pub offset: FileOffset,
    pub size: u64,
}

/// What a file says about itself; holds no reference to it.
#[derive(Clone, Debug)]
pub struct Elf {
    kind: object::elf::FileType,
    segments: Vec<Segment>,
    sections: Vec<Section>,
    gnu_build_id: Option<Vec<u8>>,
    go_build_id: Option<String>,
}

impl Elf {
    /// Reads headers, section names and build ids.
    pub fn read<R: ReadAt<FileOffset> + ?Sized>(
        file: &R,
        file_len: u64,
    ) -> Result<Self, BinaryError> {
        let mut ident = [0; 20];
        file.read(FileOffset(0), &mut ident)
            .map_err(|f| short(f, BinaryError::NotElf))?;
        if ident[..4] != ELFMAG {
            return Err(BinaryError::NotElf);
        }
        if ident[4] != ELFCLASS64.0 {
            return Err(BinaryError::Refused {
                what: "a 32-bit executable (only 64-bit ones can be traced)",
            });
        }
        if ident[5] != ELFDATA2LSB.0 || u16::from_le_bytes([ident[18], ident[19]]) != EM_X86_64.0 {
            return Err(BinaryError::Refused {
                what: "an executable for another processor (only x86-64 can be traced)",
            });
        }
        let mut raw = [0; size_of::<FileHeader64<LE>>()];
        file.read(FileOffset(0), &mut raw)
            .map_err(|f| short(f, damaged(0, "the file ends inside the ELF header")))?;
        let (header, _) =
            pod::from_bytes::<FileHeader64<LE>>(&raw).map_err(|()| damaged(0, "ELF header"))?;
        let kind = header.e_type.get(LE);
        if kind != ET_EXEC && kind != ET_DYN {
            return Err(BinaryError::Refused {
                what: "an ELF file that is neither executable nor shared object",
            });
        }
        let segments = read_segments(file, header)?;
        let sections = read_sections(file, header, file_len)?;
        let mut elf = Self {
            kind,
            segments,
            sections,
            gnu_build_id: None,
            go_build_id: None,
        };
        elf.gnu_build_id = elf.note(file, ".note.gnu.build-id", NT_GNU_BUILD_ID.0, b"GNU\0");
        // cmd/internal/buildid/note.go: elfGoBuildIDTag = 4, name "Go\0\0".
        elf.go_build_id = elf
            .note(file, ".note.go.buildid", 4, b"Go\0\0")
            .and_then(|b| String::from_utf8(b).ok());
        Ok(elf)
    }

    /// `ET_DYN`: position independent, the kernel chooses where it goes.
    pub fn is_dynamic(&self) -> bool {
        self.kind == ET_DYN
    }

    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    pub fn sections(&self) -> &[Section] {
        &self.sections
    }

    pub fn section(&self, name: &str) -> Option<&Section> {
        self.sections.iter().find(|s| s.name == name)
    }

    /// No symbol table: strip(1) or the linker's `-s` took it.
    pub fn is_stripped(&self) -> bool {
        self.section(".symtab").is_none()
    }

    pub fn gnu_build_id(&self) -> Option<&[u8]> {
        self.gnu_build_id.as_deref()
    }

    pub fn go_build_id(&self) -> Option<&str> {
        self.go_build_id.as_deref()
    }

    /// The place in the file of a linked address, whatever segment holds it.
    pub fn file_offset(&self, addr: ImageAddr) -> Option<FileOffset> {
        self.segments.iter().find_map(|s| s.file_offset(addr))
    }

    /// The place in the file of an instruction: what a uprobe wants.
    pub fn code_offset(&self, addr: ImageAddr) -> Option<FileOffset> {
        self.segments
            .iter()
            .filter(|s| s.executable)
            .find_map(|s| s.file_offset(addr))
    }

    /// The linked address of an instruction at a place in the file.
    pub fn code_address(&self, offset: FileOffset) -> Option<ImageAddr> {
        self.segments.iter().filter(|s| s.executable).find_map(|s| {
            let into = offset.0.checked_sub(s.offset.0)?;
            (into < s.file_size).then(|| s.start.plus(into))
        })
    }

    /// Some segment covers this address, with bytes of the file or with zeros.
    pub fn is_mapped(&self, addr: ImageAddr) -> bool {
        self.segments.iter().any(|s| s.contains(addr))
    }

    /// The file seen at its linked addresses.
    pub fn at<'a, R: ReadAt<FileOffset> + ?Sized>(&'a self, file: &'a R) -> AtAddress<'a, R> {
        AtAddress { elf: self, file }
    }

    /// A section's bytes. One without bytes in the file, or past `cap`, is damage here.
    pub fn section_bytes<R: ReadAt<FileOffset> + ?Sized>(
        &self,
        file: &R,
        section: &Section,
        cap: Bytes,
    ) -> Result<Vec<u8>, BinaryError> {
        if section.kind == SHT_NOBITS.0 || section.size > cap.0 {
            return Err(damaged(
                section.offset.0,
                "a section's size is beyond reason",
            ));
        }
        file.read_vec(section.offset, section.size as usize, cap)
            .map_err(|f| {
                short(
                    f,
                    damaged(section.offset.0, "a section lies outside the file"),
                )
            })
    }

    /// Calls `see(place, addend)` for each relative relocation, in file order, until it answers `false`.
    /// In a position-independent executable this is where pointers between static data are written down.
    pub fn relative_relocations<R: ReadAt<FileOffset> + ?Sized>(
        &self,
        file: &R,
        mut see: impl FnMut(ImageAddr, ImageAddr) -> bool,
    ) -> Result<(), BinaryError> {
        const ENTRY: usize = size_of::<Rela64<LE>>();
        let mut run = vec![0; ENTRY * RELOCATION_RUN];
        for section in self.sections.iter().filter(|s| s.kind == SHT_RELA.0) {
            let mut done = 0;
            while done + ENTRY as u64 <= section.size {
                let want = ((section.size - done) as usize).min(run.len()) / ENTRY * ENTRY;
                let part = &mut run[..want];
                let at = section.offset.plus(done);
                file.read(at, part)
                    .map_err(|f| short(f, damaged(at.0, "relocations lie outside the file")))?;
                for entry in part.chunks_exact(ENTRY) {
                    let Ok((rela, _)) = pod::from_bytes::<Rela64<LE>>(entry) else {
                        continue;
                    };
                    if rela.r_info.get(LE) as u32 == R_X86_64_RELATIVE
                        && !see(
                            ImageAddr(rela.r_offset.get(LE)),
                            ImageAddr(rela.r_addend.get(LE) as u64),
                        )
                    {
                        return Ok(());
                    }
                }
                done += want as u64;
            }
        }
        Ok(())
    }

    /// The payload of the first note of this type in a section. A damaged note is no note.
    fn note<R: ReadAt<FileOffset> + ?Sized>(
        &self,
        file: &R,
        section: &str,
        kind: u32,
        name: &[u8],
    ) -> Option<Vec<u8>> {
        let bytes = self
            .section_bytes(file, self.section(section)?, MAX_NOTE)
            .ok()?;
        let word = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        let (name_size, size, found) = (word(0)? as usize, word(4)? as usize, word(8)?);
        let at = 12 + name_size.checked_next_multiple_of(4)?;
        if found != kind || bytes.get(12..12 + name.len())? != name {
            return None;
        }
        bytes.get(at..at.checked_add(size)?).map(<[u8]>::to_vec)
    }
}

/// A file read by linked address: each address is translated through the segments.
pub struct AtAddress<'a, R: ?Sized> {
    elf: &'a Elf,
    file: &'a R,
}

impl<R: ReadAt<FileOffset> + ?Sized> ReadAt<ImageAddr> for AtAddress<'_, R> {
    /// Fails where the segment has no bytes in the file: what is zero at start may be anything by now.
    fn read(&self, addr: ImageAddr, buf: &mut [u8]) -> Result<(), ReadFault> {
        let fault = ReadFault {
            addr: addr.0,
            len: buf.len(),
            kind: FaultKind::Unmapped,
        };
        let segment = self
            .elf
            .segments
            .iter()
            .find(|s| s.file_offset(addr).is_some())
            .ok_or(fault)?;
        let into = addr.0 - segment.start.0;
        if buf.len() as u64 > segment.file_size - into {
            return Err(fault);
        }
        self.file
            .read(segment.offset.plus(into), buf)
            .map_err(|f| ReadFault { addr: addr.0, ..f })
    }
}

fn damaged(offset: u64, what: &'static str) -> BinaryError {
    BinaryError::Damaged {
        offset: FileOffset(offset),
        what,
    }
}

/// A read past the end means `instead`; other faults stay what they are.
fn short(fault: ReadFault, instead: BinaryError) -> BinaryError {
    if fault.kind == FaultKind::Unmapped {
        instead
    } else {
        BinaryError::Read(fault)
    }
}

fn read_segments<R: ReadAt<FileOffset> + ?Sized>(
    file: &R,
    header: &FileHeader64<LE>,
) -> Result<Vec<Segment>, BinaryError> {
    const ENTRY: usize = size_of::<ProgramHeader64<LE>>();
    let (at, count) = (header.e_phoff.get(LE), header.e_phnum.get(LE));
    if count == 0 || count > MAX_SEGMENTS || usize::from(header.e_phentsize.get(LE)) != ENTRY {
        return Err(damaged(54, "program header count or size"));
    }
    let mut raw = vec![0; ENTRY * usize::from(count)];
    file.read(FileOffset(at), &mut raw)
        .map_err(|f| short(f, damaged(at, "program headers lie outside the file")))?;
    let mut segments = Vec::new();
    for entry in raw.chunks_exact(ENTRY) {
        let Ok((p, _)) = pod::from_bytes::<ProgramHeader64<LE>>(entry) else {
            continue;
        };
        if p.p_type.get(LE) != PT_LOAD {
            continue;
        }
        let segment = Segment {
            start: ImageAddr(p.p_vaddr.get(LE)),
            mem_size: p.p_memsz.get(LE),
            offset: FileOffset(p.p_offset.get(LE)),
            file_size: p.p_filesz.get(LE),
            executable: p.p_flags.get(LE).0 & PF_X.0 != 0,
            writable: p.p_flags.get(LE).0 & PF_W.0 != 0,
        };
        // The kernel refuses to run a file where these do not hold.
        if segment.file_size > segment.mem_size
            || segment.start.0.checked_add(segment.mem_size).is_none()
            || segment.offset.0.checked_add(segment.file_size).is_none()
        {
            return Err(damaged(at, "a segment's sizes contradict each other"));
        }
        segments.push(segment);
    }
    Ok(segments)
}

fn read_sections<R: ReadAt<FileOffset> + ?Sized>(
    file: &R,
    header: &FileHeader64<LE>,
    file_len: u64,
) -> Result<Vec<Section>, BinaryError> {
    const ENTRY: usize = size_of::<SectionHeader64<LE>>();
    let at = header.e_shoff.get(LE);
    // A file may run without section headers; packers remove them.
    if at == 0 {
        return Ok(Vec::new());
    }
    if usize::from(header.e_shentsize.get(LE)) != ENTRY {
        return Err(damaged(58, "section header size"));
    }
    let mut first = [0; ENTRY];
    file.read(FileOffset(at), &mut first)
        .map_err(|f| short(f, damaged(at, "section headers lie outside the file")))?;
    let (zeroth, _) = pod::from_bytes::<SectionHeader64<LE>>(&first)
        .map_err(|()| damaged(at, "section header"))?;
    // Counts that do not fit the header are kept in the first section (System V ABI, "Section Header").
    let count = match header.e_shnum.get(LE) {
        0 => zeroth.sh_size.get(LE),
        n => u64::from(n),
    };
    let names_index = match header.e_shstrndx.get(LE) {
        SHN_XINDEX => zeroth.sh_link.get(LE) as usize,
        n => usize::from(n.0),
    };
    if count > MAX_SECTIONS
        || at
            .checked_add(count * ENTRY as u64)
            .is_none_or(|end| end > file_len)
    {
        return Err(damaged(at, "section headers lie outside the file"));
    }
    let mut raw = vec![0; ENTRY * count as usize];
    file.read(FileOffset(at), &mut raw)
        .map_err(|f| short(f, damaged(at, "section headers lie outside the file")))?;
    let headers: Vec<&SectionHeader64<LE>> = raw
        .chunks_exact(ENTRY)
        .filter_map(|e| pod::from_bytes(e).ok().map(|(h, _)| h))
        .collect();
    let names = match headers.get(names_index) {
        Some(h) if names_index != 0 => {
            let offset = h.sh_offset.get(LE);
            let size = h.sh_size.get(LE);
            if size > MAX_NAMES.0 || offset.checked_add(size).is_none_or(|end| end > file_len) {
                return Err(damaged(offset, "section names lie outside the file"));
            }
            file.read_vec(FileOffset(offset), size as usize, MAX_NAMES)
                .map_err(|f| short(f, damaged(offset, "section names lie outside the file")))?
        }
        _ => Vec::new(),
    };
    let sections = headers.iter().skip(1).map(|h| Section {
        name: name_at(&names, h.sh_name.get(LE)),
        kind: h.sh_type.get(LE).0,
        start: ImageAddr(h.sh_addr.get(LE)),
        offset: FileOffset(h.sh_offset.get(LE)),
        size: h.sh_size.get(LE),
    });
    Ok(sections.collect())
}

fn name_at(names: &[u8], at: u32) -> String {
    let tail = names.get(at as usize..).unwrap_or_default();
    let end = tail.iter().position(|b| *b == 0).unwrap_or(0);
    // A table of names that all share one long tail must not multiply into gigabytes.
    String::from_utf8_lossy(&tail[..end.min(256)]).into_owned()
}
