//! The heap statistics as a reading: allocations and frees per size class.
//!
//! Apart from `heap_stats`, which gets them right; this only gives them the record's shape. Counts lag by what
//! the Ps hold in their caches (at most a span per class and P) and by what is not yet swept.

use super::heap_stats::{self, HeapStats};
use super::{StateError, StateVars};
use crate::goruntime::layout::{CLASS_TO_SIZE, Layout};
use crate::memory::ReadAt;
use crate::record::reading::{SizeClass, SizeClasses};
use crate::units::{Bytes, ProcAddr};

pub fn read(
    memory: &dyn ReadAt<ProcAddr>,
    layout: &Layout,
    vars: &StateVars,
) -> Result<SizeClasses, StateError> {
    heap_stats::read(memory, layout, vars).map(|stats| shape(&stats))
}

fn shape(stats: &HeapStats) -> SizeClasses {
    // Class 0 stands for large objects, which are counted apart.
    let small = CLASS_TO_SIZE
        .iter()
        .zip(stats.small_allocs.iter().zip(&stats.small_frees))
        .enumerate()
        .skip(1)
        .map(|(class, (&size, (&allocs, &frees)))| SizeClass {
            class: class as u8,
            size: Bytes(u64::from(size)),
            allocs,
            frees,
        })
        .collect();
    SizeClasses {
        small,
        large_allocs: stats.large_allocs,
        large_frees: stats.large_frees,
        large_alloc_bytes: stats.large_alloc_bytes,
        large_free_bytes: stats.large_free_bytes,
        tiny_allocs: stats.tiny_allocs,
    }
}
