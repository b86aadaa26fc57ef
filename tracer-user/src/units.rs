//! Addresses, ids, sizes and times as types of their own, so that one is never taken for another.
//!
//! A bare `u64` in a signature is a review stop: an address in the target's memory, an address as linked
//! into the image and an offset in the file differ by the load bias and the segment table, and each mistake
//! between them reads plausible garbage. This file never does I/O and knows neither Go nor the kernel.

use std::fmt;

use serde::{Deserialize, Serialize};

/// An address in a running process's memory (after relocation).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct ProcAddr(pub u64);

/// An address as linked into an executable image (before the load bias is added).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct ImageAddr(pub u64);

/// An offset into an executable file.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct FileOffset(pub u64);

/// What is added to an [`ImageAddr`] to get a [`ProcAddr`]; 0 for position-dependent executables.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug, Serialize, Deserialize)]
pub struct LoadBias(pub u64);

impl LoadBias {
    /// The place in the process of a linked address.
    pub fn to_proc(self, addr: ImageAddr) -> ProcAddr {
        ProcAddr(addr.0.wrapping_add(self.0))
    }

    /// The linked address of a place in the process. Meaningless for addresses outside the image.
    pub fn to_image(self, addr: ProcAddr) -> ImageAddr {
        ImageAddr(addr.0.wrapping_sub(self.0))
    }
}

macro_rules! address {
    ($name:ident) => {
        impl $name {
            /// The address `bytes` further on; saturates, so that foreign values cannot overflow.
            #[must_use]
            pub fn plus(self, bytes: u64) -> Self {
                Self(self.0.saturating_add(bytes))
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:#x}", self.0)
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:#x}", self.0)
            }
        }
    };
}
address!(ProcAddr);
address!(ImageAddr);
address!(FileOffset);

/// A process id as the caller's pid namespace shows it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Pid(pub u32);

impl fmt::Display for Pid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A goroutine's id; never reused within one process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Goid(pub u64);

/// The 64-bit hash by which the kernel side names a user stack. 0 means "no stack".
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct StackId(pub u64);

/// Nanoseconds on `CLOCK_MONOTONIC`, the clock of `bpf_ktime_get_ns` and of Go's `nanotime`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct KTime(pub u64);

impl KTime {
    /// Seconds from `earlier` to `self`; 0 when `earlier` is later.
    pub fn seconds_since(self, earlier: KTime) -> f64 {
        std::time::Duration::from_nanos(self.0.saturating_sub(earlier.0)).as_secs_f64()
    }
}

/// An amount of memory in bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Bytes(pub u64);
