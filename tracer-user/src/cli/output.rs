//! Where reports go and in which form.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufWriter, IsTerminal as _, Write as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};

use super::arguments::{DiffArguments, DiffFormat, Format, OutputArguments, ProfileArgument};
use crate::{
    host::process::FileId,
    report::{
        Exporter, Report,
        folded::{Folded, Profile},
        json::Json,
        jsonl::Lines,
        pprof::Pprof,
        text::Text,
    },
    session::Which,
    units::Pid,
};

/// The reports' destination. The file is opened before the session starts, so that a bad path fails early.
pub(super) struct Destination {
    format: Format,
    profile: Option<Profile>,
    lines: Lines,
    file: Option<OutputFile>,
}

/// A session that is refused leaves no file behind, and one that was there as it was.
struct OutputFile {
    path: PathBuf,
    file: File,
    created: bool,
    /// It had a name when it was opened.
    named: bool,
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
        let named = file.metadata().is_ok_and(|meta| meta.nlink() > 0);
        Ok(Self { path, file, created, named, written: false })
    }

    fn write(&mut self, content: impl FnOnce(&mut dyn io::Write) -> io::Result<()>) -> io::Result<()> {
        self.filled(content).map_err(|e| self.told(&e))
    }

    fn filled(&mut self, content: impl FnOnce(&mut dyn io::Write) -> io::Result<()>) -> io::Result<()> {
        self.written = true;
        if self.file.metadata()?.is_file() {
            self.file.set_len(0)?;
        }
        let mut out = BufWriter::new(&self.file);
        let written = content(&mut out).and_then(|()| out.flush());
        drop(out.into_parts());
        match written {
            Ok(()) => self.still_there(),
            // What was written stays readable; what is empty says nothing.
            Err(e) => {
                self.written = self.file.metadata().is_ok_and(|meta| meta.len() > 0);
                Err(e)
            }
        }
    }

    /// The error with the file's name and what to do.
    fn told(&self, e: &io::Error) -> io::Error {
        io::Error::new(e.kind(), format!("{}: {e}; make room or give -o another path", self.path.display()))
    }

    /// Refuses to write over a file that the command reads or records into.
    fn spares(&self, other: &Path) -> anyhow::Result<()> {
        // A file that is not there yet is no other one's.
        if let (Ok(ours), Ok(theirs)) = (self.file.metadata(), fs::metadata(other))
            && ours.is_file()
            && FileId::from(&ours) == FileId::from(&theirs)
        {
            bail!("-o would write over {}; give it another path", other.display());
        }
        Ok(())
    }

    /// A file that somebody removed meanwhile takes a report along without a word.
    fn still_there(&self) -> io::Result<()> {
        if self.named && self.file.metadata()?.nlink() == 0 {
            return Err(io::Error::other("it was removed meanwhile"));
        }
        Ok(())
    }

    /// Adds to what this session has written; the first call begins anew.
    fn append(&mut self, text: &[u8]) -> io::Result<()> {
        if !self.written && self.file.metadata()?.is_file() {
            self.file.set_len(0)?;
        }
        self.written = true;
        (&self.file).write_all(text)?;
        self.still_there()
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
    pub(super) fn open(arguments: &OutputArguments, pid: Option<Pid>) -> anyhow::Result<Self> {
        let file = match &arguments.output {
            None => None,
            Some(name) => Some(OutputFile::open(named(name, pid))?),
        };
        let format = meant(arguments);
        if format == Format::Pprof && file.is_none() && io::stdout().is_terminal() {
            bail!("a pprof profile is no text; give it a file with -o");
        }
        Ok(Self {
            format,
            profile: arguments.profile.map(ProfileArgument::meant),
            lines: Lines::default(),
            file,
        })
    }

    /// The first report is for the person waiting, on stderr; the final one goes where it was asked to.
    pub(super) fn write(&mut self, report: &Report, which: Which) -> io::Result<()> {
        if which == Which::First {
            let mut err = io::stderr().lock();
            writeln!(err, "first report; findings follow as they firm up")?;
            Text.write(report, &mut err)?;
        }
        if self.format == Format::Jsonl {
            return self.write_lines(report, which == Which::Final);
        }
        match which {
            Which::First | Which::Point => return Ok(()),
            // Not in the midst of what a terminal or a pipe is to show as text.
            Which::Interim if self.format == Format::Pprof => return self.write_as(&Text, report, which),
            Which::Interim | Which::Final => {}
        }
        let profile = self.profile.unwrap_or_else(|| Profile::best_of(report));
        if matches!(self.format, Format::Folded | Format::Pprof)
            && let Err(why) = profile.is_in(report)
        {
            // What was seen must not be lost for what was not.
            to_stdout(|out| Text.write(report, out))?;
            return Err(io::Error::other(format!("{why}; the text report was printed instead")));
        }
        if which == Which::Final
            && matches!(self.format, Format::Folded | Format::Pprof)
            && self.profile.is_none()
            && profile == Profile::Goroutine
        {
            super::say(
                "the profile is of goroutines, as no allocation site is known; --sampler sampled tells what lives",
            );
        }
        let exporter: &dyn Exporter = match self.format {
            Format::Text => &Text,
            Format::Json | Format::Jsonl => &Json,
            Format::Folded => &Folded { profile },
            Format::Pprof => &Pprof { profile },
        };
        self.write_as(exporter, report, which)
    }

    /// What is new, as lines; each call leaves whole lines behind.
    fn write_lines(&mut self, report: &Report, last: bool) -> io::Result<()> {
        let mut text = Vec::new();
        self.lines.write(report, last, &mut text)?;
        let Some(file) = &mut self.file else {
            return to_stdout(|out| out.write_all(&text));
        };
        file.append(&text).map_err(|e| file.told(&e))
    }

    /// The final report, or an interim one, by a given exporter.
    pub(super) fn write_as(
        &mut self,
        exporter: &dyn Exporter,
        report: &Report,
        which: Which,
    ) -> io::Result<()> {
        if let (Which::Final, Some(file)) = (which, &mut self.file) {
            return file.write(|out| exporter.write(report, out));
        }
        to_stdout(|out| exporter.write(report, out))
    }

    /// Refuses to write a report over a file that this command reads or records into.
    pub(super) fn spares(&self, other: &Path) -> anyhow::Result<()> {
        self.file.as_ref().map_or(Ok(()), |own| own.spares(other))
    }

    pub(super) fn format(&self) -> Format {
        self.format
    }
}

/// Where a comparison goes and in which form. Opened before anything is read, so that a bad path fails early.
pub(super) struct DiffDestination {
    pub(super) format: DiffFormat,
    file: Option<OutputFile>,
}

impl DiffDestination {
    pub(super) fn open(arguments: &DiffArguments) -> anyhow::Result<Self> {
        let format = match (arguments.format, &arguments.output) {
            (Some(format), _) => format,
            (None, None) => DiffFormat::Text,
            (None, Some(path)) => match by_name(path) {
                Format::Text => DiffFormat::Text,
                Format::Json => DiffFormat::Json,
                Format::Jsonl | Format::Folded | Format::Pprof => bail!(
                    "a comparison is text or JSON, which {} is no name for; give --format too",
                    path.display()
                ),
            },
        };
        let file = arguments.output.clone().map(OutputFile::open).transpose()?;
        if let Some(own) = &file {
            for input in &arguments.files {
                own.spares(input)?;
            }
        }
        Ok(Self { format, file })
    }

    pub(super) fn write(
        &mut self,
        content: impl FnOnce(&mut dyn io::Write) -> io::Result<()>,
    ) -> io::Result<()> {
        if let Some(file) = &mut self.file {
            return file.write(content);
        }
        to_stdout(content)
    }
}

impl ProfileArgument {
    fn meant(self) -> Profile {
        match self {
            Self::InuseSpace => Profile::InuseSpace,
            Self::InuseObjects => Profile::InuseObjects,
            Self::AllocSpace => Profile::AllocSpace,
            Self::AllocObjects => Profile::AllocObjects,
            Self::Goroutine => Profile::Goroutine,
        }
    }
}

/// In large pieces: the standard library's own buffer is written line by line, and a report has a thousand.
fn to_stdout(content: impl FnOnce(&mut dyn io::Write) -> io::Result<()>) -> io::Result<()> {
    let mut out = BufWriter::new(io::stdout().lock());
    content(&mut out)?;
    out.flush()
}

/// The format that was asked for, by name or by the file's name.
fn meant(arguments: &OutputArguments) -> Format {
    let guessed = || arguments.output.as_ref().map_or(Format::Text, |path| by_name(path));
    arguments.format.unwrap_or_else(guessed)
}

/// Whether reports are wanted as figures are refreshed.
pub(super) fn streams(arguments: &OutputArguments) -> bool {
    meant(arguments) == Format::Jsonl
}

/// Whether the report is to be drawn as a profile.
pub(super) fn draws(arguments: &OutputArguments) -> bool {
    matches!(meant(arguments), Format::Folded | Format::Pprof)
}

/// The profile that is to be drawn, where one was asked for by name.
pub(super) fn drawn(arguments: &OutputArguments) -> Option<Profile> {
    arguments.profile.filter(|_| draws(arguments)).map(ProfileArgument::meant)
}

/// The format that a file's name asks for.
fn by_name(path: &Path) -> Format {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let ends = |endings: &[&str]| endings.iter().any(|ending| name.ends_with(ending));
    match () {
        () if ends(&[".json"]) => Format::Json,
        () if ends(&[".jsonl", ".ndjson"]) => Format::Jsonl,
        () if ends(&[".folded"]) => Format::Folded,
        () if ends(&[".pb.gz", ".pprof"]) => Format::Pprof,
        () => Format::Text,
    }
}

/// The path with `{pid}` filled in. A program that is yet to start has no pid to name a file by.
pub(super) fn named(name: &Path, pid: Option<Pid>) -> PathBuf {
    match (name.to_str(), pid) {
        (Some(text), Some(pid)) => PathBuf::from(text.replace("{pid}", &pid.to_string())),
        _ => name.to_owned(),
    }
}
