//! Where reports go and in which form.

use std::{
    fs::File,
    io::{self, Write as _},
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

/// The reports' destination. The file is created before the session starts, so that a bad path fails early.
pub(super) struct Destination {
    format: Format,
    profile: ProfileArgument,
    file: Option<(PathBuf, File)>,
}

impl Destination {
    pub(super) fn open(arguments: &OutputArguments, pid: Option<Pid>, all: bool) -> anyhow::Result<Self> {
        let file = match &arguments.output {
            None => None,
            Some(name) => {
                let path = named(name, pid);
                let file = File::create(&path).with_context(|| {
                    format!("cannot create {}; give -o a path that can be written", path.display())
                })?;
                Some((path, file))
            }
        };
        let guessed = || match file.as_ref().and_then(|(path, _)| path.extension()?.to_str()) {
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
        if let (Which::Final, Some((path, file))) = (which, &mut self.file) {
            let written = exporter.write(report, file).and_then(|()| file.flush());
            return written.map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", path.display())));
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
fn named(name: &Path, pid: Option<Pid>) -> PathBuf {
    match (name.to_str(), pid) {
        (Some(text), Some(pid)) => PathBuf::from(text.replace("{pid}", &pid.to_string())),
        _ => name.to_owned(),
    }
}
