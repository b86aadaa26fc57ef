//! `tracer heap`: every object of the heap, by type or by size; one reading, no probes.

use std::process::ExitCode;

use super::{
    arguments::{ByArgument, Format, HeapArguments},
    goroutines::pid_of,
    output::Destination,
};
use crate::{
    report::heap::{By, HeapText},
    session::{self, Once, Which},
};

pub(super) fn heap(arguments: &HeapArguments) -> anyhow::Result<ExitCode> {
    let pid = pid_of(&arguments.target)?;
    let mut destination = Destination::open(&arguments.output, Some(pid))?;
    let report = session::read_once(pid, Once::Heap)?;
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
        }
    }
}
