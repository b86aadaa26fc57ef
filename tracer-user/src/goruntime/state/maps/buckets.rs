//! Deleted slots of a map of buckets (Go up to 1.23), from the marks of its slots.
//!
//! Apart because it reads more than a header: of each bucket the eight marks and the pointer to the bucket it overflows
//! to, never keys or values. A slot that was deleted is marked as empty with others behind it (runtime/map.go, emptyOne);
//! where none are behind it any more, the runtime makes it one that was never used, and it is not counted here.

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
    let (mut marks, mut next) = (vec![[0; 8]; at.len()], vec![[0; 8]; at.len()]);
    let mut requests: Vec<(ProcAddr, &mut [u8])> = Vec::with_capacity(2 * at.len());
    for ((at, marks), next) in at.iter().zip(&mut marks).zip(&mut next) {
        requests.push((*at, marks.as_mut_slice()));
        requests.push((at.plus(size - 8), next.as_mut_slice()));
    }
    memory.read_many(&mut requests).into_iter().all(|answer| answer.is_ok()).then_some((marks, next))
}
