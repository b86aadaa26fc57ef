//! Since when goroutines wait, as a reading: all of them, where their groups keep the oldest only.
//!
//! The runtime notes the start of a wait at the first GC that sees the goroutine parked: so there are few different
//! moments, and each says "at least since".

use serde::{Deserialize, Serialize};

use crate::units::{KTime, ProcAddr};

/// Waiting goroutines by creation site and moment.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Waits {
    pub sites: Vec<SiteWaits>,
    /// Goroutines in no row, because there are too many different moments.
    pub over: u64,
}

/// The waiting goroutines of one `go` statement; those that no GC has seen yet are left out.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SiteWaits {
    /// Return address of the `go` statement; absent for the first goroutine.
    pub created_at: Option<ProcAddr>,
    /// The moment and how many wait since then, the oldest first.
    pub since: Vec<(KTime, u64)>,
}
