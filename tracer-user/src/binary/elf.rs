//! ELF headers, segments, sections and the maps between linked addresses and file offsets.
//!
//! Apart because every later stage needs these few kilobytes and nothing else of a file that may have hundreds
//! of megabytes. It never reads a whole file and never maps one; section contents are read on request, capped.

use object::LittleEndian as LE;
use object::elf::{
    ELFCLASS64, ELFDATA2LSB, ELFMAG, EM_X86_64, ET_DYN, ET_EXEC, FileHeader64, NT_GNU_BUILD_ID, PF_W, PF_X,
    PT_DYNAMIC, PT_LOAD, ProgramHeader64, Rela64, SHF_COMPRESSED, SHN_XINDEX, SHT_NOBITS, SectionHeader64,
};
use object::pod;

use super::BinaryError;
use crate::memory::{FaultKind, ReadAt, ReadFault};
use crate::units::{Bytes, FileOffset, ImageAddr};

/// A linker makes about ten; a kernel refuses more than 64 KiB of them.
const MAX_SEGMENTS: u16 = 1024;
/// Linkers make four to six; each may be scanned as a whole, so their number bounds the time.
const MAX_LOADS: usize = 64;
/// C++ with one section per function makes tens of thousands; an executable has a few dozen.
const MAX_SECTIONS: u64 = 65_536;
/// Section names are short; a larger table is damage.
const MAX_NAMES: Bytes = Bytes(4 << 20);
/// Build ids are 20 (GNU) or about 83 bytes (Go).
const MAX_NOTE: Bytes = Bytes(4096);
/// `R_X86_64_RELATIVE`: the word becomes load bias + addend.
const R_X86_64_RELATIVE: u32 = 8;
/// Tags of the dynamic section: address and size of the relocations.
const DT_RELA: u64 = 7;
const DT_RELASZ: u64 = 8;
/// Some dozens of 16-byte entries, one per needed library and a few more.
const MAX_DYNAMIC: Bytes = Bytes(64 << 10);
/// Size of one relocation.
const RELA: usize = size_of::<Rela64<LE>>();
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
        addr.0.checked_sub(self.start.0).is_some_and(|o| o < self.mem_size)
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
    /// `SHF_COMPRESSED`: a header, then a compressed stream.
    pub compressed: bool,
}

/// A run of bytes in the file.
#[derive(Clone, Copy, Debug)]
struct Extent {
    start: FileOffset,
    size: u64,
}

/// What a file says about itself; holds no reference to it.
#[derive(Clone, Debug)]
pub struct Elf {
    kind: object::elf::FileType,
    segments: Vec<Segment>,
    sections: Vec<Section>,
    relocations: Option<Extent>,
    gnu_build_id: Option<Vec<u8>>,
    go_build_id: Option<String>,
}

impl Elf {
    /// Reads headers, section names and build ids.
    pub fn read<R: ReadAt<FileOffset> + ?Sized>(file: &R, file_len: u64) -> Result<Self, BinaryError> {
        let mut ident = [0; 20];
        file.read(FileOffset(0), &mut ident).map_err(|f| short(f, BinaryError::NotElf))?;
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
        let (header, _) = pod::from_bytes::<FileHeader64<LE>>(&raw).map_err(|()| damaged(0, "ELF header"))?;
        let kind = header.e_type.get(LE);
        if kind != ET_EXEC && kind != ET_DYN {
            return Err(BinaryError::Refused {
                what: "an ELF file that is neither executable nor shared object",
            });
        }
        let (segments, dynamic) = read_segments(file, header)?;
        let sections = read_sections(file, header, file_len)?;
        let (relocations, gnu_build_id, go_build_id) = (None, None, None);
        let mut elf = Self { kind, segments, sections, relocations, gnu_build_id, go_build_id };
        elf.relocations = dynamic.and_then(|d| elf.find_relocations(file, d));
        elf.gnu_build_id = elf.note(file, ".note.gnu.build-id", NT_GNU_BUILD_ID.0, b"GNU\0");
        // cmd/internal/buildid/note.go: elfGoBuildIDTag = 4, name "Go\0\0".
        elf.go_build_id =
            elf.note(file, ".note.go.buildid", 4, b"Go\0\0").and_then(|b| String::from_utf8(b).ok());
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
        self.segments.iter().filter(|s| s.executable).find_map(|s| s.file_offset(addr))
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
            return Err(damaged(section.offset.0, "a section's size is beyond reason"));
        }
        file.read_vec(section.offset, section.size as usize, cap)
            .map_err(|f| short(f, damaged(section.offset.0, "a section lies outside the file")))
    }

    /// Calls `see(place, addend)` for each relative relocation, in file order, until it answers `false`.
    /// In a position-independent executable this is where pointers between static data are written down.
    pub fn relative_relocations<R: ReadAt<FileOffset> + ?Sized>(
        &self,
        file: &R,
        mut see: impl FnMut(ImageAddr, ImageAddr) -> bool,
    ) -> Result<(), BinaryError> {
        let Some(Extent { start, size }) = self.relocations else {
            return Ok(());
        };
        let mut run = vec![0; RELA * RELOCATION_RUN];
        let mut done = 0;
        while done + RELA as u64 <= size {
            let want = (size - done).min(run.len() as u64) as usize / RELA * RELA;
            let part = &mut run[..want];
            let at = start.plus(done);
            let outside = damaged(at.0, "relocations lie outside the file");
            file.read(at, part).map_err(|f| short(f, outside))?;
            for entry in part.chunks_exact(RELA) {
                let Ok((rela, _)) = pod::from_bytes::<Rela64<LE>>(entry) else {
                    continue;
                };
                let (place, addend) = (rela.r_offset.get(LE), rela.r_addend.get(LE) as u64);
                let relative = rela.r_info.get(LE) as u32 == R_X86_64_RELATIVE;
                if relative && !see(ImageAddr(place), ImageAddr(addend)) {
                    return Ok(());
                }
            }
            done += want as u64;
        }
        Ok(())
    }

    /// Where the loader's relocations are, from the dynamic section: it survives what removes section headers.
    fn find_relocations<R: ReadAt<FileOffset> + ?Sized>(&self, file: &R, dynamic: Extent) -> Option<Extent> {
        let Extent { start: at, size } = dynamic;
        let bytes = file.read_vec(at, size.min(MAX_DYNAMIC.0) as usize, MAX_DYNAMIC).ok()?;
        let (mut start, mut size) = (None, 0);
        for entry in bytes.chunks_exact(16) {
            let word = |o: usize| entry[o..o + 8].try_into().map_or(0, u64::from_le_bytes);
            match word(0) {
                0 => break,
                DT_RELA => start = self.file_offset(ImageAddr(word(8))),
                DT_RELASZ => size = word(8),
                _ => {}
            }
        }
        start.map(|start| Extent { start, size })
    }

    /// The payload of the first note of this type in a section. A damaged note is no note.
    fn note<R: ReadAt<FileOffset> + ?Sized>(
        &self,
        file: &R,
        section: &str,
        kind: u32,
        name: &[u8],
    ) -> Option<Vec<u8>> {
        let bytes = self.section_bytes(file, self.section(section)?, MAX_NOTE).ok()?;
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
        let fault = ReadFault { addr: addr.0, len: buf.len(), kind: FaultKind::Unmapped };
        let segment = self.elf.segments.iter().find(|s| s.file_offset(addr).is_some()).ok_or(fault)?;
        let into = addr.0 - segment.start.0;
        if buf.len() as u64 > segment.file_size - into {
            return Err(fault);
        }
        self.file.read(segment.offset.plus(into), buf).map_err(|f| ReadFault { addr: addr.0, ..f })
    }
}

fn damaged(offset: u64, what: &'static str) -> BinaryError {
    BinaryError::Damaged { offset: FileOffset(offset), what }
}

/// A read past the end means `instead`; other faults stay what they are.
fn short(fault: ReadFault, instead: BinaryError) -> BinaryError {
    if fault.kind == FaultKind::Unmapped { instead } else { BinaryError::Read(fault) }
}

fn read_segments<R: ReadAt<FileOffset> + ?Sized>(
    file: &R,
    header: &FileHeader64<LE>,
) -> Result<(Vec<Segment>, Option<Extent>), BinaryError> {
    const ENTRY: usize = size_of::<ProgramHeader64<LE>>();
    let (at, count) = (header.e_phoff.get(LE), header.e_phnum.get(LE));
    if count == 0 || count > MAX_SEGMENTS || usize::from(header.e_phentsize.get(LE)) != ENTRY {
        return Err(damaged(54, "program header count or size"));
    }
    let mut raw = vec![0; ENTRY * usize::from(count)];
    file.read(FileOffset(at), &mut raw)
        .map_err(|f| short(f, damaged(at, "program headers lie outside the file")))?;
    let mut segments = Vec::new();
    let mut dynamic = None;
    for entry in raw.chunks_exact(ENTRY) {
        let Ok((p, _)) = pod::from_bytes::<ProgramHeader64<LE>>(entry) else {
            continue;
        };
        match p.p_type.get(LE) {
            PT_LOAD => {}
            PT_DYNAMIC => {
                dynamic = Some(Extent { start: FileOffset(p.p_offset.get(LE)), size: p.p_filesz.get(LE) });
                continue;
            }
            _ => continue,
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
        if segments.len() == MAX_LOADS {
            return Err(damaged(at, "more loadable segments than a linker makes"));
        }
        segments.push(segment);
    }
    Ok((segments, dynamic))
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
    let (zeroth, _) =
        pod::from_bytes::<SectionHeader64<LE>>(&first).map_err(|()| damaged(at, "section header"))?;
    // Counts that do not fit the header are kept in the first section (System V ABI, "Section Header").
    let count = match header.e_shnum.get(LE) {
        0 => zeroth.sh_size.get(LE),
        n => u64::from(n),
    };
    let names_index = match header.e_shstrndx.get(LE) {
        SHN_XINDEX => zeroth.sh_link.get(LE) as usize,
        n => usize::from(n.0),
    };
    if count > MAX_SECTIONS || at.checked_add(count * ENTRY as u64).is_none_or(|end| end > file_len) {
        return Err(damaged(at, "section headers lie outside the file"));
    }
    let mut raw = vec![0; ENTRY * count as usize];
    file.read(FileOffset(at), &mut raw)
        .map_err(|f| short(f, damaged(at, "section headers lie outside the file")))?;
    let headers: Vec<&SectionHeader64<LE>> =
        raw.chunks_exact(ENTRY).filter_map(|e| pod::from_bytes(e).ok().map(|(h, _)| h)).collect();
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
        compressed: h.sh_flags.get(LE).0 & SHF_COMPRESSED.0 != 0,
    });
    Ok(sections.collect())
}

fn name_at(names: &[u8], at: u32) -> String {
    let tail = names.get(at as usize..).unwrap_or_default();
    let end = tail.iter().position(|b| *b == 0).unwrap_or(0);
    // A table of names that all share one long tail must not multiply into gigabytes.
    String::from_utf8_lossy(&tail[..end.min(256)]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Flat;

    /// A file with one executable and one writable segment and no sections.
    fn sample() -> Vec<u8> {
        let mut b = vec![0; 0x300];
        b[..20].copy_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x3e\0");
        b[20] = 1;
        b[32] = 64;
        b[52] = 64;
        b[54] = 56;
        b[56] = 2;
        let mut put = |at: usize, flags: u32, offset: u64, start: u64, file: u64, mem: u64| {
            b[at..at + 4].copy_from_slice(&1u32.to_le_bytes());
            b[at + 4..at + 8].copy_from_slice(&flags.to_le_bytes());
            for (i, v) in [offset, start, start, file, mem].iter().enumerate() {
                b[at + 8 + i * 8..at + 16 + i * 8].copy_from_slice(&v.to_le_bytes());
            }
        };
        put(64, 5, 0, 0x40_0000, 0x200, 0x200);
        put(120, 6, 0x200, 0x50_0000, 0x100, 0x800);
        b
    }

    fn read(bytes: &[u8]) -> Result<Elf, BinaryError> {
        Elf::read(&Flat { base: 0, bytes }, bytes.len() as u64)
    }

    #[test]
    fn addresses_and_offsets() {
        let bytes = sample();
        let elf = read(&bytes).expect("reads");
        assert!(!elf.is_dynamic() && elf.is_stripped());
        assert_eq!(elf.code_offset(ImageAddr(0x40_0010)), Some(FileOffset(0x10)));
        assert_eq!(elf.code_address(FileOffset(0x10)), Some(ImageAddr(0x40_0010)));
        assert_eq!(elf.code_offset(ImageAddr(0x50_0010)), None);
        assert_eq!(elf.file_offset(ImageAddr(0x50_0010)), Some(FileOffset(0x210)));
        assert_eq!(elf.file_offset(ImageAddr(0x50_0100)), None);
        assert!(elf.is_mapped(ImageAddr(0x50_07ff)) && !elf.is_mapped(ImageAddr(0x50_0800)));
        let file = Flat { base: 0, bytes: &bytes };
        let memory = elf.at(&file);
        assert!(memory.read_u8(ImageAddr(0x50_00ff)).is_ok());
        assert!(memory.read_u16(ImageAddr(0x50_00ff)).is_err(), "half of it has no bytes in the file");
    }

    #[test]
    fn what_is_refused_by_name() {
        let with = |at: usize, byte: u8| {
            let mut b = sample();
            b[at] = byte;
            read(&b).expect_err("refused").to_string()
        };
        assert_eq!(read(b"#!/bin/sh\n").expect_err("refused"), BinaryError::NotElf);
        assert_eq!(read(b"").expect_err("refused"), BinaryError::NotElf);
        assert!(with(4, 1).contains("32-bit"));
        assert!(with(18, 0xb7).contains("processor"));
        assert!(with(16, 1).contains("neither executable"));
        assert_eq!(
            with(33, 9),
            "damaged executable: program headers lie outside the file (at file offset 0x940)"
        );
        assert!(with(56, 0).contains("program header count"));
        assert!(with(64 + 36, 0xff).contains("contradict"));
        assert!(read(&sample()[..40]).expect_err("cut").to_string().contains("inside the ELF header"));
    }

    proptest::proptest! {
        #[test]
        fn any_flipped_byte_is_read_or_refused(
            flips in proptest::collection::vec((0usize..0x300, proptest::num::u8::ANY), 1..8),
            len in 0usize..0x300,
        ) {
            let mut bytes = sample();
            for (at, byte) in flips {
                bytes[at] = byte;
            }
            bytes.truncate(0x300 - len);
            if let Ok(elf) = read(&bytes) {
                let file = Flat { base: 0, bytes: &bytes };
                let mut seen = 0;
                let done = elf.relative_relocations(&file, |_, _| { seen += 1; true });
                proptest::prop_assert!(seen <= 0x300 / RELA || done.is_err());
            }
        }
    }
}
