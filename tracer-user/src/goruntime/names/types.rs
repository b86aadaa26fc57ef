//! Type descriptors: what a pointer to one means, in the program's own words.
//!
//! Apart because a descriptor's address arrives from outside (a probe's register, a heap word) and may be
//! anything: it is checked against the module's range before a byte is read. Only what never changed between
//! go1.19 and go1.27 is read (internal/abi/type.go); runtime-made types (reflect) are not in the file.

use super::super::error::GoError;
use super::super::moduledata::Range;
use crate::memory::ReadAt;
use crate::units::{Bytes, ImageAddr};

/// Size of abi.Type.
const DESCRIPTOR: u64 = 48;
/// Longer names exist (anonymous structs) and are cut; nobody reads on.
const MAX_NAME: usize = 1024;
/// abi.TFlagExtraStar: the stored name has a `*` in front.
const EXTRA_STAR: u8 = 2;
/// abi.KindMask.
const KIND_MASK: u8 = 31;

/// What a type descriptor says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TypeInfo {
    pub name: String,
    pub size: Bytes,
    /// How far into a value pointers may lie; 0 means that it holds none.
    pub ptr_bytes: Bytes,
    pub kind: Kind,
}

/// reflect.Kind, in its numbering.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Kind {
    Bool,
    Int,
    Int8,
    Int16,
    Int32,
    Int64,
    Uint,
    Uint8,
    Uint16,
    Uint32,
    Uint64,
    Uintptr,
    Float32,
    Float64,
    Complex64,
    Complex128,
    Array,
    Chan,
    Func,
    Interface,
    Map,
    Pointer,
    Slice,
    String,
    Struct,
    UnsafePointer,
}

impl Kind {
    const ALL: [Self; 26] = [
        Self::Bool,
        Self::Int,
        Self::Int8,
        Self::Int16,
        Self::Int32,
        Self::Int64,
        Self::Uint,
        Self::Uint8,
        Self::Uint16,
        Self::Uint32,
        Self::Uint64,
        Self::Uintptr,
        Self::Float32,
        Self::Float64,
        Self::Complex64,
        Self::Complex128,
        Self::Array,
        Self::Chan,
        Self::Func,
        Self::Interface,
        Self::Map,
        Self::Pointer,
        Self::Slice,
        Self::String,
        Self::Struct,
        Self::UnsafePointer,
    ];

    pub(super) fn from_bits(bits: u8) -> Option<Self> {
        Self::ALL.get(usize::from(bits & KIND_MASK).checked_sub(1)?).copied()
    }
}

/// Reads the descriptor at `at`; `types` is the module's range of descriptors and names.
pub fn read<R: ReadAt<ImageAddr> + ?Sized>(
    memory: &R,
    types: Range,
    at: ImageAddr,
) -> Result<TypeInfo, GoError> {
    let broken = |what| GoError::Broken { what, at: at.0 };
    if at < types.start || at.plus(DESCRIPTOR) > types.end || !at.0.is_multiple_of(8) {
        return Err(broken("no type descriptor can be there"));
    }
    let mut raw = [0; DESCRIPTOR as usize];
    memory.read(at, &mut raw)?;
    let word = |o: usize| u64::from_le_bytes(raw[o..o + 8].try_into().expect("eight bytes of a fixed array"));
    let name_offset = i32::from_le_bytes([raw[40], raw[41], raw[42], raw[43]]);
    let name_at = u64::try_from(name_offset)
        .ok()
        .filter(|o| *o > 0)
        .map(|o| types.start.plus(o))
        .filter(|n| *n < types.end)
        .ok_or(broken("a type's name lies outside the types"))?;
    let mut name = read_name(memory, types, name_at).ok_or(broken("a type's name"))?;
    if raw[20] & EXTRA_STAR != 0 && name.starts_with('*') {
        name.remove(0);
    }
    let (size, ptr_bytes) = (word(0), word(8));
    // A value's pointers lie inside it; anything else is not a descriptor.
    if ptr_bytes > size || !ptr_bytes.is_multiple_of(8) {
        return Err(broken("a type's pointers reach past its size"));
    }
    let kind = Kind::from_bits(raw[23]).ok_or(broken("a type's kind"))?;
    Ok(TypeInfo { name, size: Bytes(size), ptr_bytes: Bytes(ptr_bytes), kind })
}

/// abi.Name: a flag byte, the length as uvarint, the text.
fn read_name<R: ReadAt<ImageAddr> + ?Sized>(memory: &R, types: Range, at: ImageAddr) -> Option<String> {
    let mut cursor = at.plus(1);
    let mut len = 0usize;
    for shift in (0..21).step_by(7) {
        let byte = memory.read_u8(cursor).ok()?;
        cursor = cursor.plus(1);
        len |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            if len == 0 || cursor.plus(len as u64) > types.end {
                return None;
            }
            let mut text = memory.read_vec(cursor, len.min(MAX_NAME), Bytes(MAX_NAME as u64)).ok()?;
            // A cut must not leave half a character.
            while text.len() < len && text.last().is_some_and(|b| *b >= 0x80) {
                text.pop();
            }
            return String::from_utf8(text).ok();
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Flat;

    const BASE: u64 = 0x5000;

    fn image(name: &[u8], flags: u8, kind: u8, size: u64, ptr_bytes: u64) -> Vec<u8> {
        let mut b = vec![0; 8];
        b.extend(size.to_le_bytes());
        b.extend(ptr_bytes.to_le_bytes());
        b.extend([0, 0, 0, 0, flags, 8, 8, kind]);
        b.extend([0; 16]);
        b.extend(56u32.to_le_bytes());
        b.extend([0; 4]);
        b.extend([1, name.len() as u8]);
        b.extend(name);
        b
    }

    fn info(bytes: &[u8], at: u64) -> Result<TypeInfo, GoError> {
        let types = Range { start: ImageAddr(BASE), end: ImageAddr(BASE + bytes.len() as u64) };
        read(&Flat { base: BASE, bytes }, types, ImageAddr(at))
    }

    #[test]
    fn a_named_struct_loses_its_extra_star() {
        let bytes = image(b"*main.Session", EXTRA_STAR | 4, 0x39, 64, 24);
        let t = info(&bytes, BASE + 8).expect("reads");
        assert_eq!(
            (t.name.as_str(), t.size, t.ptr_bytes, t.kind),
            ("main.Session", Bytes(64), Bytes(24), Kind::Struct)
        );
        // A pointer type keeps the star that is its own.
        let bytes = image(b"*main.Session", 0, 22, 8, 8);
        assert_eq!(info(&bytes, BASE + 8).expect("reads").name, "*main.Session");
    }

    #[test]
    fn what_is_no_descriptor() {
        let good = image(b"int", 0, 2, 8, 0);
        assert!(info(&good, BASE + 8).is_ok());
        for at in [0, BASE - 8, BASE + 9, BASE + 64, u64::MAX] {
            assert!(info(&good, at).is_err(), "{at:#x}");
        }
        assert!(info(&image(b"int", 0, 0, 8, 0), BASE + 8).is_err());
        assert!(info(&image(b"int", 0, 31, 8, 0), BASE + 8).is_err());
        assert!(info(&image(b"int", 0, 2, 8, 16), BASE + 8).is_err());
        assert!(info(&image(b"", 0, 2, 8, 0), BASE + 8).is_err());
        assert!(info(&good[..good.len() - 1], BASE + 8).is_err());
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200), at in 0u64..300) {
            drop(info(&bytes, BASE + at));
        }
    }
}
