//! `tracer goroutines`: every goroutine, grouped; one reading, no probes.

use std::process::ExitCode;

use super::{
    arguments::{Format, GoroutineArguments, TargetArguments},
    output::{self, Destination},
    sessions::by_name,
};
use crate::{
    host::registry::refuse_stopped,
    report::{folded::Profile, goroutines::GoroutineText},
    session::{self, Once, Which},
    units::Pid,
};

pub(super) fn goroutines(arguments: &GoroutineArguments) -> anyhow::Result<ExitCode> {
    if let Some(other) = output::drawn(&arguments.output).filter(|p| *p != Profile::Goroutine) {
        anyhow::bail!("goroutines have no {} profile; `tracer heap` draws it", other.name());
    }
    let pid = pid_of(&arguments.target)?;
    refuse_stopped(&arguments.run.run_dir)?;
    let mut destination = Destination::open(&arguments.output, Some(pid))?;
    let report = session::read_once(pid, Once::Goroutines)?;
    match destination.format() {
        Format::Text => destination.write_as(&GoroutineText, &report, Which::Final)?,
        Format::Json | Format::Jsonl | Format::Folded | Format::Pprof => {
            destination.write(&report, Which::Final)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The process that was meant.
pub(super) fn pid_of(target: &TargetArguments) -> anyhow::Result<Pid> {
    match (target.pid, &target.name) {
        (Some(pid), _) => Ok(Pid(pid)),
        (None, Some(name)) => by_name(name),
        (None, None) => anyhow::bail!("give --pid N or --name EXE"),
    }
}
