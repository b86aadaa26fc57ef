//! Deleted slots of a map of buckets (Go up to 1.23), from the marks of its slots.
//!
//! Apart because it reads more than a header: of each bucket the eight marks and the pointer to the bucket it overflows
//! to. Keys and values lie between them: they are copied along and never looked at. A slot that was deleted is marked as empty with others behind it (runtime/map.go, emptyOne);
//! where none are behind it any more, the runtime makes it one that was never used, and it is not counted here.

use super::blocks;
use crate::memory::ReadAt;
use crate::units::ProcAddr;

/// runtime/map.go, emptyOne; evacuatedX to evacuatedEmpty.
const EMPTY_ONE: u8 = 1;
const EVACUATED: std::ops::RangeInclusive<u8> = 2..=4;
/// internal/abi/type.go, MapType.BucketSize (runtime/type.go, maptype.bucketsize, before 1.21): 16 bits.
const BUCKET_SIZE: u64 = 82;
/// Marks, eight keys and eight values of at least nothing, the overflow pointer; and of at most 128 bytes each.
const SIZES: std::ops::RangeInclusive<u64> = 16..=8 + 8 * (128 + 128) + 8;
/// Buckets read together.
const BATCH: usize = 512;

/// `None`: it cannot be read, is none, or goes beyond the budget.
pub(super) fn deleted(
    memory: &dyn ReadAt<ProcAddr>,
    storage: ProcAddr,
    buckets: u64,
    map_type: ProcAddr,
    budget: &mut u64,
) -> Option<u64> {
    if buckets > *budget {
        return None;
    }
    let mut size = [0; 2];
    memory.read(map_type.plus(BUCKET_SIZE), &mut size).ok()?;
    let size = u64::from(u16::from_le_bytes(size));
    if !SIZES.contains(&size) || !size.is_multiple_of(8) {
        return None;
    }
    let mut all: Vec<ProcAddr> = (0..buckets).map(|n| storage.plus(n * size)).collect();
    let mut deleted = 0;
    while !all.is_empty() {
        *budget = budget.checked_sub(all.len() as u64)?;
        let mut overflowing = Vec::new();
        for batch in all.chunks(BATCH) {
            let (marks, next) = read(memory, batch, size)?;
            // It began to grow as we read.
            if marks.iter().flatten().any(|mark| EVACUATED.contains(mark)) {
                return None;
            }
            deleted += marks.iter().flatten().map(|mark| u64::from(*mark == EMPTY_ONE)).sum::<u64>();
            let next = next.into_iter().map(u64::from_le_bytes).filter(|at| *at != 0);
            overflowing.extend(next.map(ProcAddr));
        }
        all = overflowing;
    }
    Some(deleted)
}

/// What is read of a bucket: a word for each.
type Words = Vec<[u8; 8]>;

/// The marks of each bucket, and where it leads.
fn read(memory: &dyn ReadAt<ProcAddr>, at: &[ProcAddr], size: u64) -> Option<(Words, Words)> {
    let words: Vec<ProcAddr> = at.iter().flat_map(|at| [*at, at.plus(size - 8)]).collect();
    let words: Words = blocks(memory, &words).into_iter().collect::<Option<_>>()?;
    Some(words.chunks_exact(2).map(|of| (of[0], of[1])).unzip())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::{Counted, Flat};

    const TYPE: u64 = 0x10_000;
    const STORAGE: u64 = TYPE + 128;
    const SIZE: u64 = 208;
    const BUCKETS: u64 = 1024;

    /// A map type whose buckets have [`SIZE`] bytes, and its buckets; one slot was deleted in every fourth.
    fn map() -> Vec<u8> {
        let mut bytes = vec![0; (128 + BUCKETS * SIZE) as usize];
        bytes[BUCKET_SIZE as usize..][..2].copy_from_slice(&(SIZE as u16).to_le_bytes());
        for n in 0..BUCKETS {
            let marks = if n % 4 == 0 { [9, EMPTY_ONE, 7, 0, 0, 0, 0, 0] } else { [9, 5, 7, 0, 0, 0, 0, 0] };
            bytes[(128 + n * SIZE) as usize..][..8].copy_from_slice(&marks);
        }
        bytes
    }

    #[test]
    fn a_large_map_is_read_in_few_pieces() {
        let bytes = map();
        let memory = Counted::new(TYPE, &bytes);
        let mut budget = BUCKETS;
        let found = deleted(&memory, ProcAddr(STORAGE), BUCKETS, ProcAddr(TYPE), &mut budget);
        assert_eq!((found, budget), (Some(BUCKETS / 4), 0));
        assert!(memory.reads() < 10, "{} reads: each is a turn at the target's lock", memory.reads());
        assert_eq!(deleted(&memory, ProcAddr(STORAGE), BUCKETS, ProcAddr(TYPE), &mut budget), None);
    }

    #[test]
    fn a_bucket_that_moved_says_nothing() {
        let mut bytes = map();
        bytes[128 + 5 * SIZE as usize] = *EVACUATED.start();
        let flat = Flat { base: TYPE, bytes: &bytes };
        assert_eq!(deleted(&flat, ProcAddr(STORAGE), BUCKETS, ProcAddr(TYPE), &mut { BUCKETS }), None);
    }
}
