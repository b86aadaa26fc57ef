//! What was meant by what was typed: the settings of one session, with nothing left to parse.

use std::{ffi::OsString, path::PathBuf, sync::Arc, time::Duration};

use crate::{
    kernel::{AttachChoice, ring::DRAIN_EVERY},
    report::Report,
    units::Pid,
};

/// The share of one processor that tracing takes at most where nothing else was said.
pub(super) const OVERHEAD_BUDGET: f64 = 0.01;

/// One session's settings.
pub struct Setup {
    pub subject: Subject,
    pub sampler: Sampler,
    /// Mean bytes between two samples of [`Sampler::Sampled`].
    pub sample_bytes: u64,
    /// What to probe; `None` means what the sampler brings.
    pub events: Option<Events>,
    /// The share of one processor that tracing may take from the target; `None`: the default, which does not take away probes that
    /// were asked for by name.
    pub overhead_budget: Option<f64>,
    pub attach: AttachChoice,
    pub until: Until,
    /// How often figures are refreshed.
    pub interval: Duration,
    /// Where to keep the raw session.
    pub record: Option<PathBuf>,
    /// Where tracers are entered, and told to let go.
    pub run_dir: PathBuf,
    /// Whether each refresh is reported, as [`Which::Point`].
    pub stream: bool,
}

/// Whom to trace.
pub enum Subject {
    Pid(Pid),
    /// A program to start, and trace from its first instruction.
    Command {
        command: OsString,
        args: Vec<OsString>,
    },
}

impl Subject {
    /// The process, where it runs already.
    pub(super) fn pid(&self) -> Option<Pid> {
        match self {
            Self::Pid(pid) => Some(*pid),
            Self::Command { .. } => None,
        }
    }
}

/// Where figures come from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sampler {
    /// Readings, the runtime's own memory profile where it is on, and goroutine probes where they are possible.
    Auto,
    /// Readings only.
    None,
    /// The runtime's own memory profile, which must be on, and what `Auto` brings besides.
    Runtime,
    /// Every allocation.
    All,
    /// Some allocations, each followed to its death.
    Sampled,
}

impl Setup {
    /// What is to be probed, whether it was asked for or comes with the sampler.
    pub(super) fn probed(&self) -> Events {
        match self.sampler {
            Sampler::None => Events::default(),
            sampler => self.events.unwrap_or(Events::of(sampler)),
        }
    }
}

impl Setup {
    /// What tracing may take. Where every allocation, or some of them, was asked for and no budget, hits are counted and not bounded.
    pub(super) fn allowed(&self) -> Allowed {
        let asked_for = matches!(self.sampler, Sampler::All | Sampler::Sampled);
        Allowed {
            share: self.overhead_budget.unwrap_or(OVERHEAD_BUDGET),
            bounds_hits: self.overhead_budget.is_some() || !asked_for,
        }
    }

    /// Whether calls in the program's code may be probed under way.
    pub(super) fn may_pin(&self) -> bool {
        self.sampler == Sampler::Auto
    }
}

/// What tracing may take.
#[derive(Clone, Copy)]
pub(super) struct Allowed {
    /// Of one processor.
    pub(super) share: f64,
    /// Whether probes are taken away for it.
    pub(super) bounds_hits: bool,
}

impl Allowed {
    /// What tracer's own thread that looks at followed objects may take.
    pub(super) fn following(self) -> f64 {
        if self.bounds_hits { self.share } else { FOLLOWING_UNBOUNDED }
    }

    /// How long threads may sleep that look whether there is something new. Where allocations are sampled because that was asked
    /// for, what they miss is missing in the answer.
    pub(super) fn longest_pause(self) -> Duration {
        if self.bounds_hits { LONGEST_PAUSE } else { DRAIN_EVERY }
    }
}

/// A thousand looks a second are a percent or two of a processor for each thread.
const LONGEST_PAUSE: Duration = Duration::from_millis(20);

/// Where allocations are sampled because that was asked for, each cycle should be looked at.
const FOLLOWING_UNBOUNDED: f64 = 0.1;

impl Sampler {
    pub fn name(self) -> &'static str {
        match self {
            Sampler::Auto => "auto",
            Sampler::None => "none",
            Sampler::Runtime => "runtime",
            Sampler::All => "all",
            Sampler::Sampled => "sampled",
        }
    }
}

/// What is probed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "a set of independent kinds")]
pub struct Events {
    pub alloc: bool,
    /// Allocations of which some are followed; not together with `alloc`.
    pub sampled: bool,
    /// Every write to a map and every deletion.
    pub map: bool,
    /// Maps that make room: rare, and it finds them.
    pub map_growth: bool,
    pub goroutine: bool,
}

impl Events {
    /// What a sampler brings when nothing was asked for.
    pub fn of(sampler: Sampler) -> Self {
        match sampler {
            Sampler::None => Self::default(),
            Sampler::Auto | Sampler::Runtime => Self { goroutine: true, map_growth: true, ..Self::default() },
            Sampler::All => Self { alloc: true, goroutine: true, map_growth: true, ..Self::default() },
            Sampler::Sampled => Self { sampled: true, goroutine: true, map_growth: true, ..Self::default() },
        }
    }

    pub fn any(self) -> bool {
        self.alloc || self.sampled || self.map || self.map_growth || self.goroutine
    }
}

/// When the session ends, besides signals and the target's end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Until {
    /// Not by itself.
    Interrupted,
    Elapsed(Duration),
    /// Every rule has decided; not before `least`, not after `most`.
    Verdict {
        least: Duration,
        most: Duration,
    },
    /// So many GC cycles have ended since attach.
    GcCycles(u32),
}

/// Which report of a session one is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Which {
    /// As soon as everything was read once: before any trend.
    First,
    /// The figures were refreshed.
    Point,
    /// Asked for by SIGUSR1.
    Interim,
    /// At the end.
    Final,
}

/// Where a session's words go. The session itself writes to no stream.
pub struct Output<'a> {
    /// One line for the person who runs it (stderr).
    pub notice: Arc<dyn Fn(&str) + Send + Sync>,
    /// A report, and which one. An error ends the session.
    pub report: &'a mut dyn FnMut(&Report, Which) -> std::io::Result<()>,
}
