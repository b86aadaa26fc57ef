//! `tracer heap`: every object of the heap, by type, by size or by site; one reading, no probes.

use std::process::ExitCode;

use anyhow::bail;

use super::{
    arguments::{ByArgument, Format, HeapArguments},
    goroutines::pid_of,
    output::{self, Destination},
};
use crate::{
    host::registry::refuse_stopped,
    report::{
        folded::Profile,
        heap::{By, HeapText},
    },
    session::{self, Once, Which},
};

pub(super) fn heap(arguments: &HeapArguments) -> anyhow::Result<ExitCode> {
    if output::drawn(&arguments.output) == Some(Profile::Goroutine) {
        bail!("the heap has no profile of goroutines; `tracer goroutines` draws it");
    }
    let pid = pid_of(&arguments.target)?;
    refuse_stopped(&arguments.run.run_dir)?;
    let report = session::read_once(pid, Once::Heap)?;
    // Before the output is opened: a refusal leaves nothing behind.
    let per_site = arguments.by == ByArgument::Site || output::draws(&arguments.output);
    if per_site && report.heap_profile.is_none() {
        bail!(
            "what lives per site is not known; try `tracer --pid {} --sampler sampled` ({})",
            report.target.pid,
            report.session.sampler_reason
        );
    }
    let mut destination = Destination::open(&arguments.output, Some(pid))?;
    match destination.format() {
        Format::Text => {
            destination.write_as(&HeapText { by: arguments.by.meant() }, &report, Which::Final)?;
        }
        Format::Json | Format::Jsonl | Format::Folded | Format::Pprof => {
            destination.write(&report, Which::Final)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

impl ByArgument {
    fn meant(self) -> By {
        match self {
            Self::Type => By::Type,
            Self::Size => By::Size,
            Self::Site => By::Site,
        }
    }
}
