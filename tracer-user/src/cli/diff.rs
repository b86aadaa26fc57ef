//! `tracer diff A B`: what grew between two reports or profiles.

use std::{
    fs::File,
    io::{self, Read as _},
    path::Path,
    process::ExitCode,
};

use anyhow::Context as _;

use super::arguments::{DiffArguments, DiffFormat};
use crate::report::{
    diff::Diff,
    diff_input::{Input, MAX_BYTES},
};

pub(super) fn diff(arguments: &DiffArguments) -> anyhow::Result<ExitCode> {
    let (before, after) = (input(&arguments.before)?, input(&arguments.after)?);
    let diff = Diff::between(&before, &after);
    let mut out = io::stdout().lock();
    match arguments.format {
        DiffFormat::Text => diff.write_text(&mut out)?,
        DiffFormat::Json => diff.write_json(&mut out)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn input(path: &Path) -> anyhow::Result<Input> {
    let cannot = || format!("cannot compare {}", path.display());
    let mut bytes = Vec::new();
    // One more than fits is enough to know that it does not.
    File::open(path)
        .and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes))
        .with_context(cannot)?;
    Input::read(&bytes).with_context(cannot)
}
