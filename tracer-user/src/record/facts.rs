//! What a session says of itself and of its target: enough for a report's head, with nothing left to ask the host.
//!
//! Written down once as records, so that a live report and a replayed one are made of the same values.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::units::{Bytes, FileOffset, LoadBias, ProcAddr};

/// A session as it began.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Opening {
    pub tracer_version: String,
    /// The kernel's release.
    pub kernel: String,
    /// Wall-clock time, Unix milliseconds.
    pub began_unix_ms: u64,
    pub sampler: Sampler,
    /// Why figures come from where they come from: one clause.
    pub reason: String,
    pub events: Events,
    pub links: Links,
    /// Copies of code pages that the probes make in the target.
    pub copied: Bytes,
    /// The runtime's own memory profile is on and is read.
    pub profile: bool,
}

/// What was asked for. A new one goes to the end.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Sampler {
    Auto,
    None,
    All,
    Runtime,
    Sampled,
}

/// What is probed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Events {
    pub alloc: bool,
    pub map: bool,
    pub goroutine: bool,
}

/// How probes hang on the target. A new one goes to the end.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Links {
    None,
    Multi,
    Single,
}

/// The target.
#[expect(clippy::struct_excessive_bools, reason = "independent facts of a binary")]
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Subject {
    pub pid: u32,
    pub exe: String,
    pub build_id: Option<String>,
    pub go_version: String,
    pub arch: String,
    /// Wall-clock time, Unix milliseconds.
    pub started_unix_ms: u64,
    pub stripped: bool,
    pub pie: bool,
    pub cgo: bool,
    pub race: bool,
    pub container: Option<String>,
    /// Where its image was loaded.
    pub bias: LoadBias,
    /// Absent where the file has no executable segment.
    pub code: Option<CodeMapping>,
    /// In hex, from the file's `.note.gnu.build-id`.
    pub gnu_build_id: Option<String>,
}

/// Where the target's code is mapped: whole pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CodeMapping {
    pub start: ProcAddr,
    pub limit: ProcAddr,
    pub file_offset: FileOffset,
}

/// A memory limit of the target's cgroup.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Limit {
    pub bytes: Bytes,
    /// What all processes under the limit use of it together; absent where it cannot be read.
    pub used: Option<Bytes>,
}

/// What tracer's own process used since it started.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Cost {
    pub cpu_ns: u64,
    pub rss: Option<Bytes>,
}

/// What tracing took from the target so far.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Overhead {
    /// The greatest share of one processor that it may take, in millionths.
    pub budget_ppm: u32,
    /// Hits are bounded by it too: probes are taken away where they take too much. Readings are bounded in any case.
    pub bounds_hits: bool,
    pub elapsed_ns: u64,
    /// In traps and in the programs that run there; absent where what a hit costs is not known.
    pub hits_ns: Option<u64>,
    pub readings_ns: u64,
    /// While some probes were taken away for it.
    pub throttled_ns: u64,
    /// What a hit costs the target on this host before the program does anything, in nanoseconds, by kind of probed instruction.
    pub hit_costs: Vec<(Cow<'static, str>, u32)>,
}
