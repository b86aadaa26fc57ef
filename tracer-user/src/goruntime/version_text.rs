//! The Go version of a program that carries no build information: what its own `runtime.buildVersion` says.
//!
//! Apart because it is a derivation with its proof, for builds that were stripped of the usual blob (npm's esbuild).
//! A string variable counts only where `runtime.schedinit` refers to it, found through the function table that the
//! same version's layout reads. No string that merely looks like a version does.

use super::buildinfo::BuildInfo;
use super::layout::{Known, Layout};
use super::moduledata::ModuleData;
use super::names::pcheader::Header;
use super::names::pclntab::Pclntab;
use super::version::GoVersion;
use crate::binary::elf::Elf;
use crate::binary::x86;
use crate::memory::ReadAt;
use crate::units::{Bytes, FileOffset, ImageAddr};

/// runtime/proc.go, schedinit: `if buildVersion == ""`, in every release since go1.5.
const READER: &str = "runtime.schedinit";
/// `go1.26.8 X:greenteagc,noswissmap` and what vendors append.
const LENGTHS: std::ops::RangeInclusive<u64> = 6..=128;
/// Static data with pointers; programs with large tables have some megabytes.
const MOST_DATA: u64 = 64 << 20;
const WINDOW: usize = 64 << 10;

/// The build as far as it can be proven: the version, and nothing of modules or settings.
pub(super) fn build_info<R: ReadAt<FileOffset> + ?Sized>(
    elf: &Elf,
    file: &R,
    file_len: u64,
    known: Known,
) -> Option<BuildInfo> {
    // Only what is plainly Go: every other program on a host comes here too. Where the loader relocates, words of
    // the file are no addresses yet.
    if elf.section(".gopclntab").is_none() || elf.is_dynamic() {
        return None;
    }
    let header = Header::find(elf, file).ok()?;
    candidates(elf, file).into_iter().find_map(|(variable, version_text)| {
        let version = GoVersion::parse(&version_text)?.supported().ok()?;
        let (layout, _) = Layout::choose(known, &version, elf, file).ok()?;
        let module = ModuleData::find(elf, file, &header, layout).ok()?;
        let table = Pclntab::read(elf, file, header, &module, file_len, version.minor).ok()?;
        let reader = table.by_name(READER)?;
        let len = reader.end.0.checked_sub(reader.entry.0)?;
        let code = elf.at(file).read_vec(reader.entry, usize::try_from(len).ok()?, Bytes(x86::MAX_FUNCTION));
        let insns = x86::decode(&code.ok()?, reader.entry).ok()?;
        // The variable is a string: its address and, 8 bytes on, its length.
        let refers =
            x86::pc_relative(&insns).any(|at| at == variable || at == variable.plus(size_of::<u64>() as u64));
        refers.then(|| BuildInfo::of_version(version, version_text))
    })
}

/// String variables in writable data whose text is a Go version.
fn candidates<R: ReadAt<FileOffset> + ?Sized>(elf: &Elf, file: &R) -> Vec<(ImageAddr, String)> {
    let mut found = Vec::new();
    let image = elf.at(file);
    let mut window = vec![0; WINDOW];
    for segment in elf.segments().iter().filter(|s| s.writable) {
        let mut done = 0;
        while done + 16 <= segment.file_size.min(MOST_DATA) {
            let part = &mut window[..((segment.file_size - done) as usize).min(WINDOW)];
            if file.read(segment.offset.plus(done), part).is_err() {
                break;
            }
            let word = |at: usize| part[at..at + 8].try_into().map_or(0, u64::from_le_bytes);
            for at in (0..part.len() - 15).step_by(8) {
                let (text, len) = (ImageAddr(word(at)), word(at + 8));
                if !LENGTHS.contains(&len) || elf.file_offset(text).is_none() {
                    continue;
                }
                let bytes = image.read_vec(text, len as usize, Bytes(*LENGTHS.end()));
                let text = bytes.ok().and_then(|bytes| String::from_utf8(bytes).ok());
                if let Some(text) = text.filter(|text| GoVersion::parse(text).is_some()) {
                    found.push((segment.start.plus(done + at as u64), text));
                }
            }
            if part.len() < WINDOW {
                break;
            }
            // A pair across two windows is seen in the second.
            done += (WINDOW - 8) as u64;
        }
    }
    found
}
