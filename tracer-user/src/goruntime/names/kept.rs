//! What of an image a recording must keep, so that a [`super::book::NameBook`] gives the same names without it.
//!
//! The function table and the inline trees as a whole: any address may turn up. Of the type descriptors only those
//! that records name, because they lie among the program's string constants, which are nobody's business.

use std::cell::RefCell;

use super::super::moduledata::Range;
use super::inlining::Inlining;
use super::types;
use crate::memory::{ReadAt, ReadFault};
use crate::units::ImageAddr;

/// Trees nearer to each other than this are kept with what lies between: an extent costs about as much.
const GAP: u64 = 64;

/// Bytes at a linked address.
pub type Piece = (ImageAddr, Vec<u8>);

/// The ranges that hold inline trees, in order and apart from each other.
pub fn inline_extents<R: ReadAt<ImageAddr> + ?Sized>(inlining: &Inlining<'_, R>) -> Vec<Range> {
    let mut extents: Vec<Range> = Vec::new();
    let mut trees = Vec::new();
    inlining.each_tree(|tree| trees.push(tree));
    trees.sort_unstable_by_key(|tree| (tree.start, tree.end));
    for tree in trees {
        match extents.last_mut() {
            Some(last) if tree.start <= last.end.plus(GAP) => last.end = last.end.max(tree.end),
            _ => extents.push(tree),
        }
    }
    extents
}

/// The bytes that reading the descriptor at `at` looks at; what it makes of them is not asked.
pub fn type_pieces<R: ReadAt<ImageAddr> + ?Sized>(memory: &R, range: Range, at: ImageAddr) -> Vec<Piece> {
    let noted = Noted { memory, seen: RefCell::default() };
    // What is no descriptor has no name, live or replayed: the bytes that showed it are kept all the same.
    drop(types::read(&noted, range, at));
    noted.seen.into_inner()
}

/// Memory that remembers what was read of it.
struct Noted<'a, R: ?Sized> {
    memory: &'a R,
    seen: RefCell<Vec<Piece>>,
}

impl<R: ReadAt<ImageAddr> + ?Sized> ReadAt<ImageAddr> for Noted<'_, R> {
    fn read(&self, addr: ImageAddr, buf: &mut [u8]) -> Result<(), ReadFault> {
        self.memory.read(addr, buf)?;
        self.seen.borrow_mut().push((addr, buf.to_vec()));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Flat;

    #[test]
    fn what_a_type_is_read_from_is_enough_to_read_it_again() {
        // abi.Type: size 16, pointers in 8, kind struct, name at +64; the name: flags, length, text.
        let mut bytes = vec![0; 96];
        bytes[0] = 16;
        bytes[8] = 8;
        bytes[23] = 25;
        bytes[40] = 64;
        bytes[64..71].copy_from_slice(b"\0\x05a.Key");
        let memory = Flat { base: 0x1000, bytes: &bytes };
        let range = Range { start: ImageAddr(0x1000), end: ImageAddr(0x1060) };
        let told = types::read(&memory, range, ImageAddr(0x1000)).unwrap();
        assert_eq!(told.name, "a.Key");
        let mut kept = vec![0xee; 96];
        let pieces = type_pieces(&memory, range, ImageAddr(0x1000));
        assert!(pieces.iter().map(|(_, bytes)| bytes.len()).sum::<usize>() < 60, "{pieces:?}");
        for (at, bytes) in pieces {
            let from = (at.0 - 0x1000) as usize;
            kept[from..from + bytes.len()].copy_from_slice(&bytes);
        }
        let again = types::read(&Flat { base: 0x1000, bytes: &kept }, range, ImageAddr(0x1000)).unwrap();
        assert_eq!(again, told);
    }
}
