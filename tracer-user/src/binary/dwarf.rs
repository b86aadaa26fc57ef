//! Where the fields of a program's structures lie, by its own debugging information.
//!
//! Apart because it is the only reader of DWARF, and a slow one: all of `.debug_info` is passed once. It knows no
//! language and no structure; who asks names them. gimli does the reading; every section is capped before it is
//! read or inflated, and what all entries together may cost is bounded. Names are read where they stand in the entry,
//! as Go's linker writes them, also in DWARF 5 and where a C linker made the file.

use std::collections::HashMap;
use std::io::Read as _;
use std::rc::Rc;

use gimli::{
    Abbreviations, AttributeValue, DW_AT_byte_size, DW_AT_count, DW_AT_data_member_location, DW_AT_name,
    DW_AT_type, DW_AT_upper_bound, DW_TAG_array_type, DW_TAG_member, DW_TAG_structure_type,
    DW_TAG_subrange_type, DW_TAG_typedef, DW_TAG_variable, DebugAbbrev, DebugInfo, DebugInfoOffset,
    DebuggingInformationEntry, EndianRcSlice, LittleEndian, Reader as _, Section as _, UnitHeader,
    UnitOffset,
};

use super::BinaryError;
use super::elf::{Elf, Section};
use crate::memory::ReadAt;
use crate::units::{Bytes, FileOffset};

/// All sections that are read, inflated. The largest Go programs there are have about 150 MB.
const MAX_DWARF: u64 = 384 << 20;
/// Attributes of all entries and bytes of abbreviations of all units: ten times what the largest programs have.
const MAX_WORK: usize = 1 << 30;
/// Members of one structure.
const MAX_MEMBERS: usize = 4096;
/// Typedefs of typedefs, structures in structures.
const MAX_DEPTH: usize = 32;
/// The zlib header of a compressed section: type, size, alignment (`Elf64_Chdr`), then the stream.
const COMPRESSION_HEADER: usize = 24;
/// `ch_type` of zlib (ELFCOMPRESS_ZLIB).
const ZLIB: u32 = 1;

type Slice = EndianRcSlice<LittleEndian>;

/// The structures and variables of one program, by name.
pub struct Structures {
    abbreviations: DebugAbbrev<Slice>,
    units: Vec<UnitHeader<Slice>>,
    /// Where the type of each name is described.
    types: HashMap<String, DebugInfoOffset<usize>>,
}

impl Structures {
    /// Reads a file's debugging information; `None` where it has none.
    ///
    /// Only names that `wanted` accepts are kept.
    pub fn read<R: ReadAt<FileOffset> + ?Sized>(
        elf: &Elf,
        file: &R,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<Option<Self>, BinaryError> {
        let Some(info) = elf.section(".debug_info") else {
            return Ok(None);
        };
        let Some(abbreviations) = elf.section(".debug_abbrev") else {
            return Ok(None);
        };
        let mut left = MAX_DWARF;
        let abbreviations = contents(abbreviations, file, &mut left)?;
        let damaged = BinaryError::Damaged { offset: info.offset, what: "debugging information" };
        Self::of(contents(info, file, &mut left)?, abbreviations, wanted).map(Some).ok_or(damaged)
    }

    /// `None` where the bytes are no debugging information, or would take too long.
    fn of(info: Vec<u8>, abbreviations: Vec<u8>, wanted: impl Fn(&str) -> bool) -> Option<Self> {
        let slice = |bytes: Vec<u8>| Slice::new(Rc::from(bytes), LittleEndian);
        let info = DebugInfo::from(slice(info));
        let abbreviations = DebugAbbrev::from(slice(abbreviations));
        let mut found = Self { abbreviations, units: Vec::new(), types: HashMap::new() };
        found.index(&info, wanted).ok()?.then_some(found)
    }

    /// The offset a path leads to: `package.Type.field.field`, or a variable in place of the type. `.sizeof` at the
    /// end is the size of what the path names, `.len` the number of an array's elements. `None` where there is no such path.
    pub fn offset(&self, path: &str) -> Option<u32> {
        let mut words = path.split('.');
        let name = format!("{}.{}", words.next()?, words.next()?);
        let mut at = *self.types.get(&name)?;
        let mut offset = 0u64;
        let words: Vec<&str> = words.take(MAX_DEPTH).collect();
        for word in words {
            match word {
                "sizeof" => return u32::try_from(self.size(at)?).ok(),
                "len" => return u32::try_from(self.count(at)?).ok(),
                field => {
                    let (into, next) = self.member(at, field)?;
                    offset = offset.checked_add(into)?;
                    at = next;
                }
            }
        }
        u32::try_from(offset).ok()
    }

    /// False where it gave up.
    fn index(&mut self, info: &DebugInfo<Slice>, wanted: impl Fn(&str) -> bool) -> gimli::Result<bool> {
        let mut work = MAX_WORK;
        let mut headers = info.units();
        while let Some(header) = headers.next()? {
            let table = header.abbreviations(&self.abbreviations)?;
            let Some(left) = work.checked_sub(self.abbreviations.reader().len()) else { return Ok(false) };
            work = left;
            let mut entries = header.entries(&table);
            while let Some(entry) = entries.next_dfs()? {
                let Some(left) = work.checked_sub(entry.attrs().len() + 1) else { return Ok(false) };
                work = left;
                let tag = entry.tag();
                if tag != DW_TAG_structure_type && tag != DW_TAG_variable {
                    continue;
                }
                let Some(name) = name_of(entry) else { continue };
                if !wanted(&name) || self.types.contains_key(&name) {
                    continue;
                }
                let place = if tag == DW_TAG_structure_type {
                    entry.offset().to_debug_info_offset(&header)
                } else {
                    entry.attr_value(DW_AT_type).and_then(|value| reference(&value, &header))
                };
                if let Some(place) = place {
                    self.types.insert(name, place);
                }
            }
            self.units.push(header);
        }
        Ok(true)
    }

    /// Calls `visit` with the entry at an offset and, if it is a typedef, with what it stands for.
    fn resolve<T>(
        &self,
        mut at: DebugInfoOffset<usize>,
        visit: impl Fn(&UnitHeader<Slice>, &Abbreviations, UnitOffset<usize>) -> gimli::Result<Option<T>>,
    ) -> Option<T> {
        for _ in 0..MAX_DEPTH {
            // Units are in the order of their offsets.
            let index = self
                .units
                .partition_point(|header| header.debug_info_offset().is_some_and(|start| start.0 <= at.0));
            let header = self.units.get(index.checked_sub(1)?)?;
            let place = at.to_unit_offset(header)?;
            let table = header.abbreviations(&self.abbreviations).ok()?;
            let entry = header.entry(&table, place).ok()?;
            if entry.tag() != DW_TAG_typedef {
                return visit(header, &table, place).ok()?;
            }
            at = reference(&entry.attr_value(DW_AT_type)?, header)?;
        }
        None
    }

    fn size(&self, at: DebugInfoOffset<usize>) -> Option<u64> {
        self.resolve(at, |unit, table, place| {
            Ok(unit.entry(table, place)?.attr_value(DW_AT_byte_size).and_then(|size| size.udata_value()))
        })
    }

    fn count(&self, at: DebugInfoOffset<usize>) -> Option<u64> {
        self.resolve(at, |unit, table, place| {
            let mut entries = unit.entries_at_offset(table, place)?;
            if entries.next_dfs()?.is_none_or(|entry| entry.tag() != DW_TAG_array_type) {
                return Ok(None);
            }
            let Some(range) = entries.next_dfs()?.filter(|entry| entry.tag() == DW_TAG_subrange_type) else {
                return Ok(None);
            };
            let count = range.attr_value(DW_AT_count).and_then(|count| count.udata_value());
            let bound = range.attr_value(DW_AT_upper_bound).and_then(|bound| bound.udata_value());
            Ok(count.or_else(|| bound?.checked_add(1)))
        })
    }

    fn member(&self, at: DebugInfoOffset<usize>, field: &str) -> Option<(u64, DebugInfoOffset<usize>)> {
        self.resolve(at, |unit, table, place| {
            let mut entries = unit.entries_at_offset(table, place)?;
            if entries.next_dfs()?.is_none_or(|entry| entry.tag() != DW_TAG_structure_type) {
                return Ok(None);
            }
            let depth = entries.next_depth();
            for _ in 0..MAX_MEMBERS {
                let Some(entry) = entries.next_dfs()? else { break };
                if entry.depth() < depth {
                    break;
                }
                if entry.tag() != DW_TAG_member || entry.depth() != depth {
                    continue;
                }
                if name_of(entry).is_none_or(|name| name != field) {
                    continue;
                }
                let into = entry.attr_value(DW_AT_data_member_location).and_then(|value| value.udata_value());
                let kind = entry.attr_value(DW_AT_type).and_then(|value| reference(&value, unit));
                return Ok(into.zip(kind));
            }
            Ok(None)
        })
    }
}

fn name_of(entry: &DebuggingInformationEntry<Slice>) -> Option<String> {
    match entry.attr_value(DW_AT_name)? {
        AttributeValue::String(text) => Some(String::from_utf8_lossy(text.bytes()).into_owned()),
        _ => None,
    }
}

/// Where an attribute refers to, within its unit or across.
fn reference(value: &AttributeValue<Slice>, header: &UnitHeader<Slice>) -> Option<DebugInfoOffset<usize>> {
    match value {
        AttributeValue::UnitRef(offset) => offset.to_debug_info_offset(header),
        AttributeValue::DebugInfoRef(offset) => Some(*offset),
        _ => None,
    }
}

/// A section's bytes, inflated where they are compressed; `left` is what all of them may still take.
fn contents<R: ReadAt<FileOffset> + ?Sized>(
    section: &Section,
    file: &R,
    left: &mut u64,
) -> Result<Vec<u8>, BinaryError> {
    let damaged = |what| BinaryError::Damaged { offset: section.offset, what };
    let too_large = || BinaryError::Refused { what: "debugging information beyond reason" };
    if section.size > *left {
        return Err(too_large());
    }
    let raw = file.read_vec(section.offset, section.size as usize, Bytes(*left))?;
    if !section.compressed {
        *left -= section.size;
        return Ok(raw);
    }
    let (header, stream) =
        raw.split_at_checked(COMPRESSION_HEADER).ok_or_else(|| damaged("a compressed section"))?;
    let kind = header.first_chunk().map_or(0, |word| u32::from_le_bytes(*word));
    let size = header[8..].first_chunk().map_or(0, |word| u64::from_le_bytes(*word));
    if kind != ZLIB {
        return Err(BinaryError::Refused { what: "debugging information that is not compressed by zlib" });
    }
    if size > *left {
        return Err(too_large());
    }
    let mut inflated = Vec::new();
    flate2::read::ZlibDecoder::new(stream)
        .take(size)
        .read_to_end(&mut inflated)
        .map_err(|_io| damaged("a compressed section"))?;
    if inflated.len() as u64 != size {
        return Err(damaged("a compressed section is shorter than it says"));
    }
    *left -= size;
    Ok(inflated)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A unit of DWARF 4 with `struct p.T { a u64 at 0; b p.T at 8 }`, 16 bytes.
    fn sample() -> (Vec<u8>, Vec<u8>) {
        let abbreviations = [
            // 1: compile unit with children, nothing else.
            &[1, 0x11, 1, 0, 0][..],
            // 2: structure with children: name string, byte size data1.
            &[2, 0x13, 1, 0x03, 0x08, 0x0b, 0x0b, 0, 0],
            // 3: member: name string, location data1, type ref4.
            &[3, 0x0d, 0, 0x03, 0x08, 0x38, 0x0b, 0x49, 0x13, 0, 0],
            &[0],
        ]
        .concat();
        // The header is 11 bytes and the unit's own entry one: the structure is at 12.
        let body = [&[1][..], b"\x02p.T\0\x10", b"\x03a\0\x00\x0c\0\0\0", b"\x03b\0\x08\x0c\0\0\0", &[0, 0]]
            .concat();
        let mut info = ((body.len() + 7) as u32).to_le_bytes().to_vec();
        info.extend([4, 0, 0, 0, 0, 0, 8]);
        info.extend(body);
        (info, abbreviations)
    }

    #[test]
    fn paths_lead_to_offsets() {
        let (info, abbreviations) = sample();
        let found = Structures::of(info, abbreviations, |_| true).expect("sound");
        let check = |path: &str, offset| assert_eq!(found.offset(path), offset, "{path}");
        check("p.T.a", Some(0));
        check("p.T.b", Some(8));
        check("p.T.b.b", Some(16));
        check("p.T.sizeof", Some(16));
        check("p.T.b.sizeof", Some(16));
        check("p.T.c", None);
        check("p.T.len", None);
        check("p.U.a", None);
        check("p", None);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_answered(
            flips in proptest::collection::vec((0usize..60, proptest::num::u8::ANY), 0..6),
            cut in 0usize..60,
        ) {
            let (mut info, mut abbreviations) = sample();
            for (at, byte) in flips {
                let (into, at) = if at < 30 { (&mut info, at) } else { (&mut abbreviations, at - 30) };
                if let Some(b) = into.get_mut(at) {
                    *b = byte;
                }
            }
            info.truncate(cut.max(4));
            if let Some(found) = Structures::of(info, abbreviations, |_| true) {
                for path in ["p.T.a", "p.T.b.b.b", "p.T.sizeof", "p.T.a.len"] {
                    proptest::prop_assert_eq!(found.offset(path), found.offset(path));
                }
            }
        }
    }
}
