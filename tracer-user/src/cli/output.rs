//! Where reports go and in which form.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufWriter, Write as _},
    path::{Path, PathBuf},
};

use anyhow::Context as _;

use super::arguments::{Format, OutputArguments, ProfileArgument};
use crate::{
    report::{
        Exporter, Report,
        folded::{Folded, Profile},
        json::Json,
        text::Text,
    },
    session::Which,
    units::Pid,
};

/// The reports' destination. The file is opened before the session starts, so that a bad path fails early.
pub(super) struct Destination {
    format: Format,
    profile: ProfileArgument,
    file: Option<OutputFile>,
}

/// A session that is refused leaves no file behind, and one that was there as it was.
struct OutputFile {
    path: PathBuf,
    file: File,
    created: bool,
    written: bool,
}

impl OutputFile {
    fn open(path: PathBuf) -> anyhow::Result<Self> {
        let new = OpenOptions::new().write(true).create_new(true).open(&path);
        let (opened, created) = match new {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                (OpenOptions::new().write(true).open(&path), false)
            }
            new => (new, true),
        };
        let file = opened.with_context(|| {
            format!("cannot create {}; give -o a path that can be written", path.display())
        })?;
        Ok(Self { path, file, created, written: false })
    }

    fn write(&mut self, exporter: &dyn Exporter, report: &Report) -> io::Result<()> {
        self.written = true;
        if self.file.metadata()?.is_file() {
            self.file.set_len(0)?;
        }
        let mut out = BufWriter::new(&self.file);
        exporter.write(report, &mut out)?;
        out.flush()
    }
}

impl Drop for OutputFile {
    fn drop(&mut self) {
        if self.created && !self.written {
            // It is empty: one that cannot be removed misleads nobody.
            drop(fs::remove_file(&self.path));
        }
    }
}

impl Destination {
    pub(super) fn open(arguments: &OutputArguments, pid: Option<Pid>, all: bool) -> anyhow::Result<Self> {
        let file = match &arguments.output {
            None => None,
            Some(name) => Some(OutputFile::open(named(name, pid))?),
        };
        let guessed = || match file.as_ref().and_then(|file| file.path.extension()?.to_str()) {
            Some("json") => Format::Json,
            Some("folded") => Format::Folded,
            _ => Format::Text,
        };
        let profile = if all { ProfileArgument::AllocSpace } else { ProfileArgument::Goroutine };
        Ok(Self {
            format: arguments.format.unwrap_or_else(guessed),
            profile: arguments.profile.unwrap_or(profile),
            file,
        })
    }

    /// The first report is for the person waiting, on stderr; the final one goes where it was asked to.
    pub(super) fn write(&mut self, report: &Report, which: Which) -> io::Result<()> {
        if which == Which::First {
            let mut err = io::stderr().lock();
            writeln!(err, "first report; findings follow as they firm up")?;
            return Text.write(report, &mut err);
        }
        let text: &dyn Exporter = match self.format {
            Format::Text => &Text,
            Format::Json => &Json,
            Format::Folded => &Folded { profile: self.profile.meant() },
        };
        self.write_as(text, report, which)
    }

    /// The final report, or an interim one, by a given exporter.
    pub(super) fn write_as(
        &mut self,
        exporter: &dyn Exporter,
        report: &Report,
        which: Which,
    ) -> io::Result<()> {
        if let (Which::Final, Some(file)) = (which, &mut self.file) {
            return file.write(exporter, report).map_err(|e| {
                let path = file.path.display();
                io::Error::new(e.kind(), format!("{path}: {e}; make room or give -o another path"))
            });
        }
        let mut out = io::stdout().lock();
        exporter.write(report, &mut out)?;
        out.flush()
    }

    pub(super) fn format(&self) -> Format {
        self.format
    }
}

impl ProfileArgument {
    fn meant(self) -> Profile {
        match self {
            Self::AllocSpace => Profile::AllocSpace,
            Self::AllocObjects => Profile::AllocObjects,
            Self::Goroutine => Profile::Goroutine,
        }
    }
}

/// The path with `{pid}` filled in. A program that is yet to start has no pid to name a file by.
pub(super) fn named(name: &Path, pid: Option<Pid>) -> PathBuf {
    match (name.to_str(), pid) {
        (Some(text), Some(pid)) => PathBuf::from(text.replace("{pid}", &pid.to_string())),
        _ => name.to_owned(),
    }
}
