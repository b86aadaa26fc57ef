//! `tracer diff A B [C...]`: what grew from one report, recording or profile to another.

use std::{
    fs::File,
    io::{BufReader, Read as _, Seek as _},
    path::Path,
    process::ExitCode,
};

use anyhow::{Context as _, bail};

use super::{
    arguments::{DiffArguments, DiffFormat},
    output::DiffDestination,
};
use crate::{
    capture::format::MAGIC,
    report::{
        Exporter as _,
        diff::Diff,
        diff_input::{Input, MAX_BYTES},
        json::Json,
    },
    session,
};

pub(super) fn diff(arguments: &DiffArguments) -> anyhow::Result<ExitCode> {
    let mut destination = DiffDestination::open(arguments)?;
    let files: Vec<Input> = arguments.files.iter().map(|file| input(file)).collect::<Result<_, _>>()?;
    let diff = Diff::of(&files);
    if diff.sections.is_empty() {
        bail!(
            "they have nothing in common that could be compared; take them with the same --sampler or format"
        );
    }
    let format = destination.format;
    destination.write(|out| match format {
        DiffFormat::Text => diff.write_text(out),
        DiffFormat::Json => diff.write_json(out),
    })?;
    Ok(ExitCode::SUCCESS)
}

fn input(path: &Path) -> anyhow::Result<Input> {
    let cannot = || format!("cannot compare {}", path.display());
    let mut file = File::open(path).with_context(cannot)?;
    let mut bytes = Vec::new();
    // A recording is replayed as it is read, however long it is.
    file.by_ref().take(MAGIC.len() as u64).read_to_end(&mut bytes).with_context(cannot)?;
    if bytes == MAGIC {
        file.rewind().with_context(cannot)?;
        let told = session::replay(BufReader::new(file)).with_context(cannot)?;
        let mut report = Vec::new();
        Json.write(&told.report, &mut report)?;
        return Input::read(&report).with_context(cannot);
    }
    // One more than fits is enough to know that it does not.
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).with_context(cannot)?;
    Input::read(&bytes).with_context(cannot)
}
