//! The runtime's own memory profile as it was found in the target: raw counts of sampled objects per stack and size.
//!
//! Apart from the other readings because it is the only one that is a sample. Nothing is scaled here: `sampling`
//! does that, from the rate and the exact size.

use serde::{Deserialize, Serialize};

use super::census::Candidate;
use crate::units::{Bytes, ProcAddr};

/// The profile at one moment.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Profile {
    /// Mean bytes between two samples, as the target had it when read. Older samples may have been taken at another.
    pub rate: u64,
    /// The profiler's own number of the GC cycle; it wraps around.
    pub cycle: u32,
    /// Stacks with the sizes allocated there, newest first. Those that hold only zeros are left out.
    pub buckets: Vec<Bucket>,
    /// The oldest buckets were beyond the limits of one reading and are left out.
    pub cut: bool,
}

/// Sampled objects of one size, allocated by one stack, since the process started.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Bucket {
    /// Innermost first, one address per frame, inlined ones included: the first function of an address is meant.
    pub stack: Vec<ProcAddr>,
    /// Bytes one of the objects takes.
    pub size: Bytes,
    /// What `runtime.MemProfile` would say: up to the last GC whose sweep is known to be complete.
    pub published: Sampled,
    /// What the last GC adds: allocated before it marked, freed by its sweep as far as that went.
    pub last_gc: Sampled,
    /// What was allocated since the last GC marked; nothing of it can have been freed yet.
    pub since_gc: Sampled,
}

/// Numbers of sampled objects.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Sampled {
    pub allocs: u64,
    pub frees: u64,
}

/// What the objects are that the profile counts as live, of the profile read just before.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct LiveSampled {
    /// Objects found in the lists of specials.
    pub sampled: u64,
    /// Of them, those whose types were looked for.
    pub looked_at: u64,
    /// Spans whose list changed while it was read: their objects are left out.
    pub torn: u64,
    /// Spans in pages that are swapped out.
    pub swapped: u64,
    /// Spans or objects were beyond the limits.
    pub cut: bool,
    pub rows: Vec<LiveRow>,
}

/// Objects of one bucket that may be of the same types.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LiveRow {
    /// Its place among the profile's buckets.
    pub bucket: u32,
    /// They hold no pointers: nothing says their type.
    pub noscan: bool,
    /// One type, several that cannot be told apart, or none that is known.
    pub candidates: Vec<Candidate>,
    pub objects: u64,
    /// One of them.
    pub example: ProcAddr,
}

impl Sampled {
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            allocs: self.allocs.saturating_add(other.allocs),
            frees: self.frees.saturating_add(other.frees),
        }
    }

    /// Allocated and not freed.
    pub fn live(self) -> u64 {
        self.allocs.saturating_sub(self.frees)
    }
}

impl Bucket {
    /// As the last GC left it. What its sweep has not reached yet counts as live.
    pub fn as_of_gc(&self) -> Sampled {
        self.published.plus(self.last_gc)
    }

    /// Up to the moment of reading. Garbage since the last GC counts as live.
    pub fn now(&self) -> Sampled {
        self.as_of_gc().plus(self.since_gc)
    }
}
