//! What the session says about itself: what was attached, what was lost, how it ended.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use tracer_common::counter::Counter;

use super::call_sites::CallSite;
use super::facts::{Cost, Limit, Opening, Overhead, Subject};
use super::losses;
use crate::units::{FileOffset, ImageAddr, ProcAddr};

/// A fact about the session. Recordings know the variants by their place: a new one goes to the end.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Note {
    /// Probes were attached; `Counts::hits` follows this order.
    Attached { probes: Vec<Probe> },
    /// A function has no usable probe site and goes unprobed.
    SiteRefused { function: String, why: String },
    /// A site was attached, but its instruction in memory does not show it.
    SiteNotTaken { function: String, why: String },
    /// A reading failed; counted and shown, the session goes on.
    ReadingFailed { what: Cow<'static, str>, why: String },
    /// The process is no longer the target; what the target did since the last reading is not known.
    Replaced { why: String },
    /// What the session itself lost so far, cumulative.
    Lost {
        #[serde(with = "losses::one")]
        counter: Counter,
        count: u64,
    },
    /// The session ended.
    End(EndedBy),
    /// The session began, at this record's time: the first record of each target.
    Opening(Box<Opening>),
    /// Whom it watches.
    Subject(Box<Subject>),
    /// The target's memory limit as of a report; `None`: no limit is set, or none can be seen.
    Limit(Option<Limit>),
    /// What tracer itself used, as of a report.
    Cost(Cost),
    /// Said by a session that records, of its recording: what is not in it, cumulative. Never in a recording.
    Unrecorded { records: u64, why: String },
    /// Said by a replay, of its recording: it lacks something. Never in a recording.
    RecordingCut { why: String },
    /// The program is of a Go newer than the tracer; how its structures are read all the same.
    NewerGo { how: String },
    /// Allocations are sampled: mean bytes between two.
    Sampling { mean: u64 },
    /// Calls in the program's code were probed under way; their probes come behind those that were attached before. A call that is told
    /// again, by its probe, has another mean from now on.
    Pinned { calls: Vec<PinnedCall>, probes: Vec<Probe> },
    /// The probes on some of those calls were taken away again.
    Unpinned { probes: Vec<u32>, why: String },
    /// Probes of one kind were taken away for a while, because tracing took more than it may.
    Throttled { what: Cow<'static, str> },
    /// They are back.
    Resumed { what: Cow<'static, str> },
    /// What tracing took from the target, as of a report.
    Overhead(Box<Overhead>),
    /// The allocator was probed for a moment, to see who allocates; its probes come behind those that were attached before, and are told
    /// with the first such moment. 0 us: it came to nothing.
    Window { probes: Vec<Probe>, open_us: u64, mean: u64 },
}

/// What [`Note::Throttled`] calls the probes that count goroutines.
pub const BIRTHS: &str = "goroutine births and ends";

/// A call that is probed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PinnedCall {
    /// The descriptor of the type it passes; absent where it passes none, or it is not known.
    pub type_addr: Option<ProcAddr>,
    pub site: CallSite,
    /// Mean calls between two whose objects are followed; 0: none is, calls are counted. 1: each is.
    pub mean: u64,
    /// Which of the session's probes counts it.
    pub probe: u32,
}

/// One attached probe.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Probe {
    pub function: String,
    pub address: ImageAddr,
    pub file_offset: FileOffset,
    /// Offset of the probed instruction in the function.
    pub offset: u64,
    /// nop5, nop, push, call, jcc.
    pub instruction: Cow<'static, str>,
}

/// Why a session ended. A new reason goes to the end.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum EndedBy {
    Duration,
    Verdict,
    Signal,
    TargetExit,
    /// Not known: the recording it is read from ends before the session did.
    RecordingCut,
    /// The process goes on and cannot be followed: it runs another program, or its main thread ended.
    TargetLost,
    /// The operator wanted every tracer to let go.
    StopAll,
}
