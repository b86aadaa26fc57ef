//! The three atomic instructions of BPF that Rust's core does not offer for this target.
//!
//! `lock xadd` is as old as eBPF; `xchg` and the addition that returns need kernel 5.12 (5ffa25502b5a "bpf: Add instructions for
//! atomic_[cmp]xchg").

use core::arch::asm;

/// Adds `n` to the word at `word`.
///
/// # Safety
/// `word` is aligned and points into a map value.
#[inline(always)]
pub unsafe fn add(word: *mut u64, n: u64) {
    // SAFETY: the caller's promise.
    unsafe { asm!("lock *(u64 *)({word} + 0) += {n}", word = in(reg) word, n = in(reg) n) }
}

/// Writes `new` to the word at `word` and returns what was there.
///
/// # Safety
/// `word` is aligned and points into a map value.
#[inline(always)]
pub unsafe fn swap(word: *mut u64, new: u64) -> u64 {
    let mut value = new;
    // SAFETY: the caller's promise.
    unsafe { asm!("{value} = xchg_64({word} + 0, {value})", word = in(reg) word, value = inout(reg) value) }
    value
}

/// Adds `n` to the word at `word` and returns what was there. Kernel 5.12, as [`swap`].
///
/// # Safety
/// `word` is aligned and points into a map value.
#[inline(always)]
pub unsafe fn fetch_add(word: *mut u64, n: u64) -> u64 {
    let mut value = n;
    // SAFETY: the caller's promise.
    unsafe { asm!("{value} = atomic_fetch_add((u64 *)({word} + 0), {value})", word = in(reg) word, value = inout(reg) value) }
    value
}
