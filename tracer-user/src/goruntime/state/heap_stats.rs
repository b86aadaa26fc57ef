//! `memstats.heapStats`: what the heap has allocated and freed, summed over the runtime's three slots.
//!
//! Apart from `size_classes` because the GC reading needs a part of it. Writers add to one of three slots and
//! the runtime's own reader folds one into another and clears it (runtime/mstats.go, consistentHeapStats.read),
//! so a slot alone may go below zero and two may hold the same numbers for a moment. The sum is believed only
//! when it agrees with the GC controller's own totals, which are kept by other code.

use super::StateError;
use super::StateVars;
use super::block::Block;
use crate::goruntime::layout::{CLASS_TO_SIZE, Layout};
use crate::memory::ReadAt;
use crate::units::{Bytes, ProcAddr};

/// Number of size classes, class 0 included.
pub const CLASSES: usize = CLASS_TO_SIZE.len();

/// The three slots summed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HeapStats {
    pub in_heap: Bytes,
    pub in_stacks: Bytes,
    pub tiny_allocs: u64,
    pub large_allocs: u64,
    pub large_alloc_bytes: Bytes,
    pub large_frees: u64,
    pub large_free_bytes: Bytes,
    pub small_allocs: [u64; CLASSES],
    pub small_frees: [u64; CLASSES],
}

/// The GC controller's own totals, read before and after.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Totals {
    allocated: u64,
    freed: u64,
}

const WHAT: &str = "memstats.heapStats";
const SLOTS: u32 = 3;
/// Bytes between the controller's totals at most: they stand side by side from go1.19 to go1.27.
const APART: u32 = 64;
/// A writer is between two updates for some ten nanoseconds per span: even with many threads a few tries do.
const ATTEMPTS: usize = 16;

/// Reads until the sum agrees with the controller's totals.
pub fn read(
    memory: &dyn ReadAt<ProcAddr>,
    layout: &Layout,
    vars: &StateVars,
) -> Result<HeapStats, StateError> {
    for _ in 0..ATTEMPTS {
        let Looks { before, slots, after } = look(memory, layout, vars)?;
        if let Some(stats) = decode(&slots, layout)
            && agrees(&stats, before, after)
        {
            return Ok(stats);
        }
    }
    Err(StateError::Torn { what: WHAT })
}

/// Bytes in goroutine stacks, as two reads in a row agree on: the GC reading must not fail because many threads
/// allocate, and stacks change far more rarely than counts do.
pub(super) fn in_stacks(
    memory: &dyn ReadAt<ProcAddr>,
    layout: &Layout,
    vars: &StateVars,
) -> Result<Bytes, StateError> {
    let mut last = None;
    for _ in 0..ATTEMPTS {
        let now = sum(&slots(memory, layout, vars)?, layout, layout.delta_in_stacks);
        if let Some(bytes) = now
            && now == last
        {
            return Ok(Bytes(bytes));
        }
        last = now;
    }
    Err(StateError::Torn { what: WHAT })
}

fn slots(memory: &dyn ReadAt<ProcAddr>, layout: &Layout, vars: &StateVars) -> Result<Vec<u8>, StateError> {
    let mut slots = empty(layout);
    memory.read(at(layout, vars), &mut slots).map_err(StateError::reading(WHAT))?;
    Ok(slots)
}

fn at(layout: &Layout, vars: &StateVars) -> ProcAddr {
    vars.memstats.plus(u64::from(layout.memstats_heap_stats))
}

fn empty(layout: &Layout) -> Vec<u8> {
    vec![0; (layout.delta_size * SLOTS) as usize]
}

/// The slots between two looks at the totals.
struct Looks {
    before: Totals,
    slots: Vec<u8>,
    after: Totals,
}

/// In one call: it reads one after the other, and the less time lies between them, the less has changed.
fn look(memory: &dyn ReadAt<ProcAddr>, layout: &Layout, vars: &StateVars) -> Result<Looks, StateError> {
    let mut slots = empty(layout);
    let (first, last) =
        (layout.gc_total_alloc.min(layout.gc_total_free), layout.gc_total_alloc.max(layout.gc_total_free));
    // Of a Go that is not in the table yet the program itself says where they are.
    if last - first > APART {
        let (minor, check) = (layout.minor, "gcController.totalAlloc and totalFree lie together");
        return Err(StateError::Layout { minor, check, found: format!("{} bytes apart", last - first) });
    }
    let controller = vars.gc_controller.plus(u64::from(first));
    let words = vec![0; (last - first + 8) as usize];
    let (mut before, mut after) = (words.clone(), words);
    let answers = memory.read_many(&mut [
        (controller, &mut before[..]),
        (at(layout, vars), &mut slots[..]),
        (controller, &mut after[..]),
    ]);
    for (what, answer) in
        ["gcController.totalAlloc", WHAT, "gcController.totalAlloc"].into_iter().zip(answers)
    {
        answer.map_err(StateError::reading(what))?;
    }
    let totals = |words: &[u8]| {
        let word = |offset: u32| Block(words).u64(offset - first).ok_or(StateError::Torn { what: WHAT });
        Ok(Totals { allocated: word(layout.gc_total_alloc)?, freed: word(layout.gc_total_free)? })
    };
    Ok(Looks { before: totals(&before)?, slots, after: totals(&after)? })
}

/// One field summed over the three slots; absent when the block is short or the sum is below zero. Fields are
/// differences of uintptr: they wrap in a slot, and only their sum means something.
fn sum(slots: &[u8], layout: &Layout, offset: u32) -> Option<u64> {
    let mut total = 0_u64;
    for slot in 0..SLOTS {
        total = total.wrapping_add(Block(slots).u64(slot * layout.delta_size + offset)?);
    }
    i64::try_from(total).is_ok().then_some(total)
}

/// All fields; absent when one of them is.
fn decode(slots: &[u8], layout: &Layout) -> Option<HeapStats> {
    let sum = |offset: u32| sum(slots, layout, offset);
    let per_class = |offset: u32| -> Option<[u64; CLASSES]> {
        let mut counts = [0; CLASSES];
        for (class, count) in counts.iter_mut().enumerate() {
            *count = sum(offset + 8 * class as u32)?;
        }
        Some(counts)
    };
    Some(HeapStats {
        in_heap: Bytes(sum(layout.delta_in_heap)?),
        in_stacks: Bytes(sum(layout.delta_in_stacks)?),
        tiny_allocs: sum(layout.delta_tiny_alloc_count)?,
        large_allocs: sum(layout.delta_large_alloc_count)?,
        large_alloc_bytes: Bytes(sum(layout.delta_large_alloc)?),
        large_frees: sum(layout.delta_large_free_count)?,
        large_free_bytes: Bytes(sum(layout.delta_large_free)?),
        small_allocs: per_class(layout.delta_small_alloc_count)?,
        small_frees: per_class(layout.delta_small_free_count)?,
    })
}

/// Whether the sums lie between the controller's totals before and after, and no class freed more than it had.
fn agrees(stats: &HeapStats, before: Totals, after: Totals) -> bool {
    let Some(allocated) = bytes(&stats.small_allocs, stats.large_alloc_bytes) else {
        return false;
    };
    let Some(freed) = bytes(&stats.small_frees, stats.large_free_bytes) else {
        return false;
    };
    (before.allocated..=after.allocated).contains(&allocated)
        && (before.freed..=after.freed).contains(&freed)
        && stats.large_frees <= stats.large_allocs
        && stats.small_frees.iter().zip(&stats.small_allocs).all(|(frees, allocs)| frees <= allocs)
}

/// Bytes of all classes, absent on overflow.
fn bytes(per_class: &[u64; CLASSES], large: Bytes) -> Option<u64> {
    per_class
        .iter()
        .zip(CLASS_TO_SIZE)
        .try_fold(large.0, |sum, (&count, size)| sum.checked_add(count.checked_mul(u64::from(size))?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn layout() -> &'static Layout {
        Layout::for_minor(27).unwrap()
    }

    fn put(slots: &mut [u8], slot: u32, offset: u32, value: i64) {
        let at = (slot * layout().delta_size + offset) as usize;
        slots[at..at + 8].copy_from_slice(&value.to_le_bytes());
    }

    fn empty() -> Vec<u8> {
        super::empty(layout())
    }

    #[test]
    fn slots_below_zero_are_summed_and_a_sum_below_zero_is_refused() {
        let mut slots = empty();
        put(&mut slots, 0, layout().delta_in_stacks, 1 << 20);
        put(&mut slots, 1, layout().delta_in_stacks, -4096);
        assert_eq!(decode(&slots, layout()).unwrap().in_stacks, Bytes((1 << 20) - 4096));
        put(&mut slots, 2, layout().delta_in_stacks, -(1 << 20));
        assert_eq!(decode(&slots, layout()), None);
    }

    #[test]
    fn a_slot_counted_twice_does_not_agree_with_the_totals() {
        let mut slots = empty();
        let class_48 = layout().delta_small_alloc_count + 8 * 5;
        put(&mut slots, 0, class_48, 100);
        let once = decode(&slots, layout()).unwrap();
        let totals = Totals { allocated: 4800, freed: 0 };
        assert!(agrees(&once, totals, totals));
        // The runtime merged slot 0 into slot 1 and has not cleared slot 0 yet.
        put(&mut slots, 1, class_48, 100);
        assert!(!agrees(&decode(&slots, layout()).unwrap(), totals, totals));
        assert!(!agrees(&once, Totals { allocated: 4801, freed: 0 }, Totals { allocated: 5000, freed: 0 }));
        assert!(agrees(&once, Totals { allocated: 4000, freed: 0 }, Totals { allocated: 5000, freed: 0 }));
    }

    const VARS: StateVars = StateVars {
        memstats: ProcAddr(0x10_000),
        gc_controller: ProcAddr(0x20_000),
        work: ProcAddr(0),
        allgs: ProcAddr(0),
        allglen: ProcAddr(0),
        allgptr: ProcAddr(0),
        mheap: ProcAddr(0),
        wait_reason_strings: None,
    };

    /// A program that allocates an object of 48 bytes between any two reads.
    struct Allocating(std::cell::Cell<u64>);

    impl ReadAt<ProcAddr> for Allocating {
        fn read(&self, addr: ProcAddr, buf: &mut [u8]) -> Result<(), crate::memory::ReadFault> {
            let objects = self.0.replace(self.0.get() + 1);
            buf.fill(0);
            if addr == at(layout(), &VARS) {
                let at = (layout().delta_small_alloc_count + 8 * 5) as usize;
                buf[at..at + 8].copy_from_slice(&objects.to_le_bytes());
            } else {
                let first = layout().gc_total_alloc.min(layout().gc_total_free);
                let at = (layout().gc_total_alloc - first) as usize;
                buf[at..at + 8].copy_from_slice(&(48 * objects).to_le_bytes());
            }
            Ok(())
        }
    }

    #[test]
    fn the_totals_stand_before_and_behind_the_slots() {
        let looks = look(&Allocating(std::cell::Cell::new(10)), layout(), &VARS).unwrap();
        assert_eq!((looks.before.allocated, looks.after.allocated), (480, 576));
        assert_eq!(decode(&looks.slots, layout()).unwrap().small_allocs[5], 11);
        assert!(read(&Allocating(std::cell::Cell::new(10)), layout(), &VARS).is_ok());
    }

    #[test]
    fn a_short_block_is_refused() {
        assert_eq!(decode(&empty()[..100], layout()), None);
        assert_eq!(decode(&[], layout()), None);
    }

    proptest! {
        #[test]
        fn any_bytes_decode_or_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..4000), minor in 19_u32..=27) {
            let layout = Layout::for_minor(minor).unwrap();
            if let Some(stats) = decode(&bytes, layout) {
                agrees(&stats, Totals { allocated: 0, freed: 0 }, Totals { allocated: u64::MAX, freed: u64::MAX });
            }
        }
    }
}
