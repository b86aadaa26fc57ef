//! What the session says about itself: what was attached, what was lost, how it ended.

use tracer_common::counter::Counter;

use crate::units::{FileOffset, ImageAddr};

/// A fact about the session rather than the target.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Note {
    /// Probes were attached; `Counts::hits` follows this order.
    Attached { probes: Vec<Probe> },
    /// A function has no usable probe site and goes unprobed.
    SiteRefused { function: String, why: String },
    /// A site was attached, but its instruction in memory does not show it.
    SiteNotTaken { function: String, why: String },
    /// The program is of a Go newer than the tracer; how its structures are read all the same.
    NewerGo { how: String },
    /// A reading failed; counted and shown, the session goes on.
    ReadingFailed { what: &'static str, why: String },
    /// The process is no longer the target; what the target did since the last reading is not known.
    Replaced { why: String },
    /// What the session itself lost so far, cumulative.
    Lost { counter: Counter, count: u64 },
    /// The session ended.
    End(EndedBy),
}

/// One attached probe.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Probe {
    pub function: String,
    pub address: ImageAddr,
    pub file_offset: FileOffset,
    /// Offset of the probed instruction in the function.
    pub offset: u64,
    /// nop5, nop, push, call, jcc.
    pub instruction: &'static str,
}

/// Why a session ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EndedBy {
    Duration,
    Verdict,
    Signal,
    TargetExit,
}
