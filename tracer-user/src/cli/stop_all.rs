//! `tracer stop-all`: every tracer of the run directory lets go of its target.

use std::{
    io::{self, Write as _},
    process::ExitCode,
    time::Duration,
};

use super::arguments::RunDirArguments;
use crate::host::registry::{self, How, Stopped};

/// What a tracer has to let go by itself: single links take some seconds.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) fn stop_all(arguments: &RunDirArguments) -> anyhow::Result<ExitCode> {
    let stopped = registry::stop_all(&arguments.run_dir, PATIENCE)?;
    let mut out = io::stdout().lock();
    if stopped.is_empty() {
        writeln!(out, "no tracer is at work in {}", arguments.run_dir.display())?;
    }
    let mut all = true;
    for Stopped { name, how } in stopped {
        match how {
            How::LetGo => writeln!(out, "{name} let go")?,
            How::Killed => writeln!(out, "{name} did not let go and was ended")?,
            How::Remains(why) => {
                all = false;
                super::say(&format!("{name} goes on: {why}"));
            }
        }
    }
    Ok(if all { ExitCode::SUCCESS } else { ExitCode::from(super::ERROR) })
}
