//! All type descriptors of an image with the shape of their values: which word is a pointer, a string, an interface.
//!
//! Apart from `types`, which reads one descriptor that something named: this finds every one, by looking at each
//! aligned place of the module's types and believing only what holds up as a descriptor in all its fields
//! (internal/abi/type.go). No list is needed, which releases keep in different ways or not at all. It reads the file
//! alone; types made while a program runs (reflect) are not in it.

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::Arc;

use crate::goruntime::error::GoError;
use crate::goruntime::image::GoImage;
use crate::goruntime::moduledata::Range;
use crate::goruntime::modules::Module;
use crate::goruntime::names::types::Kind;
use crate::memory::ReadAt as _;
use crate::units::{Bytes, ImageAddr, LoadBias, ProcAddr};

/// Values larger than this carry their type in the heap: no shape is needed.
pub const MAX_SHAPE: u64 = 512;
/// The largest types section that is read. Very large programs have 30 MiB.
const MAX_SECTION: u64 = 256 << 20;
/// Types kept; a program of 100 MB has some 30 000.
const MAX_TYPES: usize = 1 << 18;
/// Parts of one value; more than a word each cannot be below [`MAX_SHAPE`] but for bytes and bools.
const MAX_PARTS: usize = 192;
/// Fields and elements looked at for one shape: a descriptor that lies must not keep us.
const MAX_STEPS: u32 = 4096;
/// Structs in structs; Go's own limit is far away.
const MAX_DEPTH: usize = 24;
/// Code is looked through in windows of this size.
const WINDOW: u64 = 1 << 20;
/// Size of abi.Type; kinds have their own fields behind it.
const DESCRIPTOR: usize = 48;

/// Number of a type in the table.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TypeId(pub u32);

/// What lies at one place of a value.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Part {
    /// Absent where the pointee's descriptor is not in the table.
    Pointer(Option<TypeId>),
    Unsafe,
    Map,
    Chan,
    /// A func value: points to a closure, whose first word is code.
    Func,
    /// Two words: where, and how long.
    String,
    /// Three words: where, how long, how much room.
    Slice(Option<TypeId>),
    /// Two words: a type and a pointer.
    Empty,
    /// Two words: a method table and a pointer.
    Interface(ImageAddr),
    /// One byte, 0 or 1.
    Bool,
    /// The first word of a closure: an address in the text.
    Code,
}

/// One type.
#[derive(Clone, Debug)]
pub struct TypeEntry {
    pub at: ImageAddr,
    pub size: u64,
    pub kind: Kind,
    /// It holds pointers.
    pub pointers: bool,
    /// Bit n: the n-th word is a pointer. Only for sizes up to [`MAX_SHAPE`].
    pub mask: u64,
    /// By offset; empty for types without pointers and above [`MAX_SHAPE`].
    pub parts: Vec<(u16, Part)>,
    /// Of an array of more than one.
    pub element: Option<TypeId>,
    /// Code or static data refers to it: something may allocate it.
    pub referenced: bool,
}

/// Every type of an image.
pub struct TypeTable {
    entries: Vec<TypeEntry>,
    by_address: HashMap<ImageAddr, TypeId>,
    /// Those with a shape, by their whole words and their mask, kin together: a large program has 26 000 types of pointers,
    /// and two thousand shapes of what they point to.
    by_shape: HashMap<(u64, u64), Vec<Vec<TypeId>>>,
    /// The map type of each type of buckets or groups.
    by_storage: HashMap<ImageAddr, Vec<ImageAddr>>,
    /// Where descriptors and their names lie; the program's own first.
    ranges: Vec<Range>,
}

impl TypeTable {
    /// Reads the table from the file: some tens of milliseconds for a large program.
    pub fn read(image: &GoImage) -> Result<Self, GoError> {
        Self::with_modules(image, &[], LoadBias(0))
    }

    /// The same with the types of plugins, which refer to each other's and the program's.
    pub fn with_modules(image: &GoImage, modules: &[Arc<Module>], bias: LoadBias) -> Result<Self, GoError> {
        let mut section = Section::read(image)?;
        let is_mapped =
            |at| image.elf().is_mapped(at) || modules.iter().any(|module| module.extent().contains(at));
        for module in modules {
            section.add(module, &is_mapped, bias);
        }
        let mut table = section.table(&is_mapped);
        table.mark_code(image);
        table.mark_data(image);
        modules.iter().flat_map(|module| module.references()).for_each(|at| table.mark(*at));
        table.mark_map_storage(&section);
        Ok(table)
    }

    /// A table of bytes at hand.
    #[cfg(test)]
    pub(in crate::goruntime) fn of_bytes(start: ImageAddr, bytes: Vec<u8>) -> Self {
        let end = start.plus(bytes.len() as u64);
        Section { parts: vec![(Range { start, end }, 0)], bytes }.table(&|_| true)
    }

    pub fn get(&self, id: TypeId) -> &TypeEntry {
        &self.entries[id.0 as usize]
    }

    /// The type whose descriptor is there.
    pub fn at(&self, addr: ImageAddr) -> Option<TypeId> {
        self.by_address.get(&addr).copied()
    }

    /// Whether an address lies among the descriptors and their names.
    pub fn is_inside(&self, addr: ImageAddr) -> bool {
        self.ranges.iter().any(|range| range.contains(addr))
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many types have a shape.
    pub fn shapes(&self) -> usize {
        self.by_shape.values().flatten().map(Vec::len).sum()
    }

    /// All types with a shape whose values have so many whole words and this mask, kin together: types whose values differ
    /// in nothing but the names of what they point to.
    pub fn shaped(&self, words: u64, mask: u64) -> impl Iterator<Item = &[TypeId]> {
        self.by_shape.get(&(words, mask)).into_iter().flatten().map(Vec::as_slice)
    }

    fn mark(&mut self, at: ImageAddr) {
        if let Some(id) = self.at(at) {
            self.entries[id.0 as usize].referenced = true;
        }
    }

    /// `lea type(%rip), %reg`: how code passes a type to the allocator and to conversions.
    fn mark_code(&mut self, image: &GoImage) {
        const LEA: u64 = 7;
        let text = image.module().text;
        let memory = image.memory();
        let mut at = text.start;
        let mut window = vec![0; WINDOW as usize];
        while at < text.end {
            let len = (text.end.0 - at.0).min(WINDOW);
            let part = &mut window[..len as usize];
            if memory.read(at, part).is_err() {
                break;
            }
            for (n, w) in part.windows(LEA as usize).enumerate() {
                // REX.W or REX.WR, lea, and no base register but the instruction pointer.
                if w[1] != 0x8d || w[0] & 0xfb != 0x48 || w[2] & 0xc7 != 5 {
                    continue;
                }
                let displacement = i32::from_le_bytes([w[3], w[4], w[5], w[6]]);
                let next = at.0 + n as u64 + LEA;
                self.mark(ImageAddr(next.wrapping_add_signed(i64::from(displacement))));
            }
            if len < WINDOW {
                break;
            }
            // An instruction may lie across the border.
            at = at.plus(len - (LEA - 1));
        }
    }

    /// Words of static data that are types: the dictionaries of generic functions, mostly.
    fn mark_data(&mut self, image: &GoImage) {
        let mut relocated = Vec::new();
        let Some(own) = self.ranges.first().copied() else { return };
        let inside = |a: ImageAddr| own.contains(a);
        let read = image.relocations(|place, addend| {
            if inside(addend) && !inside(place) {
                relocated.push(addend);
            }
        });
        for addend in relocated {
            self.mark(addend);
        }
        if read.is_err() || image.is_pie() {
            return;
        }
        let memory = image.memory();
        let mut window = vec![0; WINDOW as usize];
        for segment in image.elf().segments().iter().filter(|s| !s.executable) {
            let mut done = 0;
            while done < segment.file_size {
                let len = (segment.file_size - done).min(WINDOW);
                let part = &mut window[..len as usize];
                let from = segment.start.plus(done);
                if memory.read(from, part).is_err() {
                    break;
                }
                for (n, word) in part.chunks_exact(8).enumerate() {
                    let value = ImageAddr(word.try_into().map_or(0, u64::from_le_bytes));
                    if inside(value) && !inside(from.plus(8 * n as u64)) {
                        self.mark(value);
                    }
                }
                done += len;
            }
        }
    }

    /// A map type that is referenced stands for the buckets or groups that its growth allocates.
    fn mark_map_storage(&mut self, section: &Section) {
        let maps = self.entries.iter().filter(|e| e.kind == Kind::Map && e.referenced);
        let storage: Vec<ImageAddr> = maps.filter_map(|e| section.storage(section.offset(e.at)?)).collect();
        for at in storage {
            self.mark(at);
        }
    }

    /// The map types whose buckets or groups are of this type: of several the one without a name of its own comes first.
    pub fn maps_of_storage(&self, storage: ImageAddr) -> &[ImageAddr] {
        self.by_storage.get(&storage).map_or(&[], Vec::as_slice)
    }
}

/// The bytes of all descriptors, as linked; those of plugins behind the program's.
struct Section {
    /// Each module's range, and where its bytes begin.
    parts: Vec<(Range, usize)>,
    bytes: Vec<u8>,
}

/// A place that holds up as a descriptor.
#[derive(Clone, Copy)]
struct Raw {
    offset: usize,
    size: u64,
    ptr_bytes: u64,
    kind: Kind,
    named: bool,
}

impl Section {
    fn read(image: &GoImage) -> Result<Self, GoError> {
        let types = image.module().types;
        let len = types.end.0.saturating_sub(types.start.0);
        if len > MAX_SECTION {
            return Err(GoError::Broken {
                what: "the types are larger than any program's",
                at: types.start.0,
            });
        }
        let mut bytes = image.memory().read_vec(types.start, len as usize, Bytes(MAX_SECTION))?;
        image.relocations(|place, addend| {
            let offset = place.0.wrapping_sub(types.start.0);
            if let Some(word) = usize::try_from(offset).ok().and_then(|o| bytes.get_mut(o..o.checked_add(8)?))
            {
                word.copy_from_slice(&addend.0.to_le_bytes());
            }
        })?;
        Ok(Self { parts: vec![(types, 0)], bytes })
    }

    /// Adds a plugin's. Its pointers are the process's: those into a plugin or the program become addresses of
    /// the one space that all modules share.
    fn add(&mut self, module: &Module, is_mapped: &dyn Fn(ImageAddr) -> bool, bias: LoadBias) {
        // Words are aligned in a module, so they stay aligned here.
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
        let from = self.bytes.len();
        self.bytes.extend_from_slice(module.type_bytes());
        for word in self.bytes[from..].chunks_exact_mut(8) {
            let value = word.iter().rev().fold(0, |all, byte| all << 8 | u64::from(*byte));
            let at = bias.to_image(ProcAddr(value));
            if is_mapped(at) {
                word.copy_from_slice(&at.0.to_le_bytes());
            }
        }
        self.parts.push((module.data.types, from));
    }

    /// The module whose bytes hold an offset.
    fn part(&self, offset: usize) -> Option<(Range, usize)> {
        self.parts.iter().rev().find(|(_, from)| *from <= offset).copied()
    }

    fn word(&self, offset: usize) -> Option<u64> {
        let bytes = self.bytes.get(offset..offset.checked_add(8)?)?;
        bytes.try_into().ok().map(u64::from_le_bytes)
    }

    /// The type of buckets or groups of the map type at an offset.
    fn storage(&self, map: usize) -> Option<ImageAddr> {
        /// `Bucket` of maptype, `Group` of the Swiss map type: the same place in all releases.
        const STORAGE: usize = 64;
        self.word(map + STORAGE).map(ImageAddr)
    }

    fn offset(&self, at: ImageAddr) -> Option<usize> {
        let (range, from) = self.parts.iter().find(|(range, _)| range.contains(at))?;
        let offset = from.checked_add(usize::try_from(at.0.checked_sub(range.start.0)?).ok()?)?;
        (offset < self.bytes.len()).then_some(offset)
    }

    fn address(&self, offset: usize) -> ImageAddr {
        self.part(offset).map_or(ImageAddr(0), |(range, from)| range.start.plus((offset - from) as u64))
    }

    /// Every descriptor, then their shapes, which refer to each other.
    fn table(&self, is_mapped: &dyn Fn(ImageAddr) -> bool) -> TypeTable {
        let mut raws = Vec::new();
        let mut by_address = HashMap::new();
        for offset in (0..self.bytes.len().saturating_sub(DESCRIPTOR - 1)).step_by(8) {
            if raws.len() == MAX_TYPES {
                break;
            }
            if let Some(raw) = self.raw(offset, is_mapped) {
                by_address.insert(self.address(offset), TypeId(raws.len() as u32));
                raws.push(raw);
            }
        }
        let shapes = Shapes { section: self, raws: &raws, by_address: &by_address, steps: Cell::new(0) };
        let entries = raws.iter().map(|raw| {
            let (parts, mask) = shapes.shape(raw).unwrap_or_default();
            TypeEntry {
                at: self.address(raw.offset),
                size: raw.size,
                kind: raw.kind,
                pointers: raw.ptr_bytes > 0,
                mask,
                parts,
                element: shapes.element(raw),
                referenced: false,
            }
        });
        let entries: Vec<TypeEntry> = entries.collect();
        let by_shape = by_shape(&entries);
        let mut maps: Vec<&Raw> = raws.iter().filter(|raw| raw.kind == Kind::Map).collect();
        maps.sort_by_key(|raw| (raw.named, raw.offset));
        let mut by_storage: HashMap<ImageAddr, Vec<ImageAddr>> = HashMap::new();
        for raw in maps {
            if let Some(storage) = self.storage(raw.offset) {
                by_storage.entry(storage).or_default().push(self.address(raw.offset));
            }
        }
        let ranges = self.parts.iter().map(|(range, _)| *range).collect();
        TypeTable { entries, by_address, by_shape, by_storage, ranges }
    }

    /// The descriptor at an offset, if all its fields can be one's.
    fn raw(&self, offset: usize, is_mapped: &dyn Fn(ImageAddr) -> bool) -> Option<Raw> {
        let b = self.bytes.get(offset..offset.checked_add(DESCRIPTOR)?)?;
        // Cheap ones first: most places are no descriptor.
        let (flags, align, field_align, kind_bits) = (b[20], b[21], b[22], b[23]);
        let is_alignment = |a: u8| a.is_power_of_two() && a <= 8;
        if flags > 0x3f || kind_bits & 0x80 != 0 || !is_alignment(align) || !is_alignment(field_align) {
            return None;
        }
        let kind = Kind::from_bits(kind_bits)?;
        let (size, ptr_bytes) = (self.word(offset)?, self.word(offset + 8)?);
        if ptr_bytes > size || !ptr_bytes.is_multiple_of(8) || size > 1 << 47 || !has_size(kind, size) {
            return None;
        }
        let (equal, gc_data) = (self.word(offset + 24)?, self.word(offset + 32)?);
        let place = |w: u64| w == 0 || is_mapped(ImageAddr(w));
        if !place(equal) || !place(gc_data) || (ptr_bytes > 0 && gc_data == 0) {
            return None;
        }
        let half = |at: usize| i32::from_le_bytes([b[at], b[at + 1], b[at + 2], b[at + 3]]);
        let (range, from) = self.part(offset)?;
        let name = usize::try_from(half(40)).ok().filter(|n| *n > 0)?;
        let pointer_type = u64::try_from(half(44)).ok()?;
        if pointer_type >= range.len() || !self.is_name(from.checked_add(name)?) {
            return None;
        }
        Some(Raw { offset, size, ptr_bytes, kind, named: flags & 4 != 0 })
    }

    /// A flag byte, a length and text that begins like a type's.
    fn is_name(&self, offset: usize) -> bool {
        let Some([flags, first, second, ..]) = self.bytes.get(offset..) else {
            return false;
        };
        let (len, text) = if first & 0x80 == 0 {
            (usize::from(*first), offset + 2)
        } else {
            (usize::from(first & 0x7f) | usize::from(second & 0x7f) << 7, offset + 3)
        };
        let text = self.bytes.get(text..text.saturating_add(len));
        flags & 0xf0 == 0
            && text.is_some_and(|t| {
                t.first().is_some_and(|c| c.is_ascii_alphabetic() || *c >= 0x80 || b"*[<_".contains(c))
            })
    }
}

/// What a value shows of one of its parts.
#[derive(PartialEq, Eq, Hash)]
enum Look {
    Pointer(Option<Pointed>),
    Slice(Option<Pointed>),
    Other(Part),
}

/// What is asked of a pointee's type: size, pointers, mask, and whether it has a shape.
type Pointed = (u64, bool, u64, bool);

fn by_shape(entries: &[TypeEntry]) -> HashMap<(u64, u64), Vec<Vec<TypeId>>> {
    let pointed = |to: Option<TypeId>| {
        let entry = entries.get(to?.0 as usize)?;
        Some((entry.size, entry.pointers, entry.mask, !entry.parts.is_empty()))
    };
    let look = |part: Part| match part {
        Part::Pointer(to) => Look::Pointer(pointed(to)),
        Part::Slice(of) => Look::Slice(pointed(of)),
        other => Look::Other(other),
    };
    let mut by_shape: HashMap<(u64, u64), Vec<Vec<TypeId>>> = HashMap::new();
    let mut kin = HashMap::new();
    for (n, entry) in entries.iter().enumerate().filter(|(_, entry)| !entry.parts.is_empty()) {
        let looks: Vec<(u16, Look)> = entry.parts.iter().map(|(at, part)| (*at, look(*part))).collect();
        let alike = by_shape.entry((entry.size / 8, entry.mask)).or_default();
        let place = *kin.entry((entry.size, looks)).or_insert(alike.len());
        if place == alike.len() {
            alike.push(Vec::new());
        }
        alike[place].push(TypeId(n as u32));
    }
    by_shape
}

/// Kinds that come in one size only.
fn has_size(kind: Kind, size: u64) -> bool {
    let one = match kind {
        Kind::Bool | Kind::Int8 | Kind::Uint8 => 1,
        Kind::Int16 | Kind::Uint16 => 2,
        Kind::Int32 | Kind::Uint32 | Kind::Float32 => 4,
        Kind::Complex128 | Kind::Interface | Kind::String => 16,
        Kind::Slice => 24,
        Kind::Array | Kind::Struct => return true,
        _ => 8,
    };
    size == one
}

/// Shapes under construction.
struct Shapes<'a> {
    section: &'a Section,
    raws: &'a [Raw],
    by_address: &'a HashMap<ImageAddr, TypeId>,
    steps: Cell<u32>,
}

type Parts = Vec<(u16, Part)>;

impl Shapes<'_> {
    fn shape(&self, raw: &Raw) -> Option<(Parts, u64)> {
        if raw.ptr_bytes == 0 || raw.size > MAX_SHAPE {
            return None;
        }
        let mut parts = Vec::new();
        self.steps.set(0);
        self.parts(raw, 0, 0, &mut parts)?;
        if self.is_closure(raw) && !parts.iter().any(|(at, _)| *at == 0) {
            parts.insert(0, (0, Part::Code));
        }
        let mut mask = 0_u64;
        for (at, part) in &parts {
            let word = at / 8;
            let pointer = match part {
                Part::Bool | Part::Code => continue,
                // The first word of an interface is not for the collector (cmd/compile/internal/typebits).
                Part::Empty | Part::Interface(_) => word + 1,
                _ => word,
            };
            mask |= 1_u64.checked_shl(u32::from(pointer))?;
        }
        // Its pointers end where the descriptor says.
        let words = 64 - u64::from(mask.leading_zeros());
        (8 * words == raw.ptr_bytes).then_some((parts, mask))
    }

    fn element(&self, raw: &Raw) -> Option<TypeId> {
        let behind = |n: usize| self.section.word(raw.offset + DESCRIPTOR + 8 * n);
        (raw.kind == Kind::Array && behind(2)? > 1).then(|| self.target(behind(0)?)).flatten()
    }

    fn target(&self, at: u64) -> Option<TypeId> {
        self.by_address.get(&ImageAddr(at)).copied()
    }

    fn parts(&self, raw: &Raw, at: u64, depth: usize, out: &mut Parts) -> Option<()> {
        self.steps.set(self.steps.get() + 1);
        if depth > MAX_DEPTH
            || self.steps.get() > MAX_STEPS
            || at + raw.size > MAX_SHAPE
            || out.len() > MAX_PARTS
        {
            return None;
        }
        let behind = |n: usize| self.section.word(raw.offset + DESCRIPTOR + 8 * n);
        let part = match raw.kind {
            Kind::Bool => Part::Bool,
            Kind::Pointer => Part::Pointer(self.target(behind(0)?)),
            Kind::UnsafePointer => Part::Unsafe,
            Kind::Map => Part::Map,
            Kind::Chan => Part::Chan,
            Kind::Func => Part::Func,
            Kind::String => Part::String,
            Kind::Slice => Part::Slice(self.target(behind(0)?)),
            // PkgPath, then the methods.
            Kind::Interface if behind(2)? == 0 => Part::Empty,
            Kind::Interface => Part::Interface(self.section.address(raw.offset)),
            Kind::Array => {
                let element = self.raws.get(self.target(behind(0)?)?.0 as usize)?;
                let len = behind(2)?;
                if len.checked_mul(element.size)? != raw.size {
                    return None;
                }
                if element.size > 0 && (element.ptr_bytes > 0 || element.kind == Kind::Bool) {
                    for n in 0..len {
                        self.parts(element, at + n * element.size, depth + 1, out)?;
                    }
                }
                return Some(());
            }
            Kind::Struct => return self.fields(raw, at, depth, out),
            _ => return Some(()),
        };
        out.push((at as u16, part));
        Some(())
    }

    /// `StructType`: PkgPath, then the fields as a slice of {name, type, offset}.
    fn fields(&self, raw: &Raw, at: u64, depth: usize, out: &mut Parts) -> Option<()> {
        const FIELD: usize = 24;
        let head = raw.offset + DESCRIPTOR;
        let (list, len) = (self.section.word(head + 8)?, self.section.word(head + 16)?);
        if len == 0 {
            return Some(());
        }
        let list = self.section.offset(ImageAddr(list))?;
        if len > MAX_SHAPE {
            return None;
        }
        for n in 0..len as usize {
            let field = list + n * FIELD;
            let (ty, offset) = (self.section.word(field + 8)?, self.section.word(field + 16)?);
            let ty = self.raws.get(self.target(ty)?.0 as usize)?;
            if offset.checked_add(ty.size)? > raw.size {
                return None;
            }
            if ty.ptr_bytes > 0 || ty.kind == Kind::Bool {
                self.parts(ty, at + offset, depth + 1, out)?;
            }
        }
        Some(())
    }

    /// The compiler's closures are structs without a name whose first field is `F uintptr`.
    fn is_closure(&self, raw: &Raw) -> bool {
        let first = || -> Option<bool> {
            let list = self.section.offset(ImageAddr(self.section.word(raw.offset + DESCRIPTOR + 8)?))?;
            let name = self.section.offset(ImageAddr(self.section.word(list)?))?;
            let ty = self.raws.get(self.target(self.section.word(list + 8)?)?.0 as usize)?;
            let text = self.section.bytes.get(name + 1..name + 3)?;
            Some(text == [1, b'F'] && ty.kind == Kind::Uintptr)
        };
        raw.kind == Kind::Struct && !raw.named && first() == Some(true)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const START: u64 = 0x5000;

    /// A section with a word type, a pointer to it, and a struct of both.
    struct Builder(Vec<u8>);

    impl Builder {
        fn new() -> Self {
            let mut b = vec![0; 8];
            b.extend([1, 3]);
            b.extend(b"int");
            b.resize(16, 0);
            Self(b)
        }

        fn descriptor(&mut self, size: u64, ptr_bytes: u64, kind: u8, behind: &[u64]) -> u64 {
            let at = START + self.0.len() as u64;
            self.0.extend(size.to_le_bytes());
            self.0.extend(ptr_bytes.to_le_bytes());
            self.0.extend([1, 2, 3, 4, 4, 8, 8, kind]);
            self.0.extend(0_u64.to_le_bytes());
            self.0.extend(START.to_le_bytes());
            self.0.extend(8_u32.to_le_bytes());
            self.0.extend(0_u32.to_le_bytes());
            for word in behind {
                self.0.extend(word.to_le_bytes());
            }
            at
        }

        fn table(self) -> TypeTable {
            TypeTable::of_bytes(ImageAddr(START), self.0)
        }
    }

    #[test]
    fn descriptors_are_found_and_their_values_taken_apart() {
        let mut b = Builder::new();
        let int = b.descriptor(8, 0, 2, &[]);
        let pointer = b.descriptor(8, 8, 22, &[int]);
        let text = b.descriptor(16, 8, 24, &[]);
        let any = b.descriptor(16, 16, 20, &[0, 0, 0, 0]);
        let fields = START + b.0.len() as u64;
        for (ty, offset) in [(int, 0_u64), (pointer, 8), (text, 16), (any, 32)] {
            for word in [START + 8, ty, offset] {
                b.0.extend(word.to_le_bytes());
            }
        }
        let all = b.descriptor(48, 48, 25, &[0, fields, 4, 4]);
        let array = b.descriptor(96, 96, 17, &[all, 0, 2]);
        let table = b.table();
        let entry = |at| table.get(table.at(ImageAddr(at)).unwrap());
        assert!(entry(int).parts.is_empty() && !entry(int).pointers);
        let to_int = Part::Pointer(table.at(ImageAddr(int)));
        assert_eq!(entry(all).parts, [(8, to_int), (16, Part::String), (32, Part::Empty)]);
        assert_eq!(entry(all).mask, 0b10_0110);
        assert_eq!(entry(array).mask, 0b1001_1010_0110);
        assert_eq!((table.len(), table.shapes()), (6, 5));
    }

    #[test]
    fn a_type_that_contains_itself_ends() {
        let mut b = Builder::new();
        let fields = START + b.0.len() as u64;
        let own = fields + 24;
        for word in [START + 8, own, 0] {
            b.0.extend(word.to_le_bytes());
        }
        assert_eq!(b.descriptor(64, 64, 25, &[0, fields, 1, 1]), own);
        assert_eq!(b.table().shapes(), 0);
    }

    proptest! {
        #[test]
        fn any_bytes_make_a_table(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
            drop(TypeTable::of_bytes(ImageAddr(START), bytes));
        }

        #[test]
        fn descriptors_that_lie_make_a_table(
            kinds in proptest::collection::vec((1_u8..=26, 0_u64..80, proptest::array::uniform4(0_u64..1200)), 1..12),
        ) {
            let mut b = Builder::new();
            for (kind, size, behind) in kinds {
                b.descriptor(size * 8, size * 8, kind, &behind.map(|w| START + w));
            }
            drop(b.table());
        }
    }
}
