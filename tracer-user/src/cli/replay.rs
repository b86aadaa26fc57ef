//! `tracer replay`: the report of a recorded session, from its recording alone.

use std::{
    fs::File,
    io::{BufReader, Write as _},
    process::ExitCode,
};

use anyhow::Context as _;

use super::{arguments::ReplayArguments, output::Destination};
use crate::session::{self, Which};

/// Blocks are some ten kilobytes.
const BUFFER: usize = 256 << 10;

pub(super) fn replay(arguments: &ReplayArguments) -> anyhow::Result<ExitCode> {
    let path = &arguments.recording;
    let name = path.display();
    let file = File::open(path).with_context(|| format!("cannot open {name}; give what --record wrote"))?;
    let told = session::replay(BufReader::with_capacity(BUFFER, file)).with_context(|| name.to_string())?;
    let mut destination = Destination::open(&arguments.output, Some(told.pid))?;
    destination.spares(path)?;
    destination.write(&told.report, Which::Final)?;
    std::io::stdout().flush()?;
    Ok(ExitCode::SUCCESS)
}
