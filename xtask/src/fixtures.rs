//! Builds the Go programs that the tests and the demo trace. Apart so that both build the same bytes.
//!
//! One build per Go version, mode and state of the sources, kept under target/fixtures. It never touches the sources.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use anyhow::{Context as _, Result, ensure};
use sha2::{Digest as _, Sha256};

use crate::toolchains::go_command;
use crate::{command, project};

/// How a program is linked.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Mode {
    /// As `go build` does it: symbols, DWARF, fixed address; static, so that it also runs in a guest without a C library.
    Ordinary,
    /// No symbol table, no DWARF, loaded anywhere.
    StrippedPie,
    /// Loaded anywhere, with symbols.
    Pie,
    /// Linked without symbol table and DWARF.
    Bare,
    /// Rid of both by strip(1) afterwards.
    Stripped,
    /// With C code of its own, linked by the C compiler.
    Cgo,
    /// The same, loaded anywhere.
    CgoPie,
    /// With the race detector.
    Race,
    /// Not a program: a plugin that a program with C code loads.
    Plugin,
}

impl Mode {
    /// What the matrix builds of each Go version.
    pub const MATRIX: [Self; 7] =
        [Self::Ordinary, Self::Pie, Self::Bare, Self::Stripped, Self::Cgo, Self::CgoPie, Self::Race];

    /// What `go build` is told for it.
    pub fn flags(self) -> &'static [&'static str] {
        match self {
            Self::Ordinary | Self::Stripped | Self::Cgo => &[],
            Self::StrippedPie => &["-buildmode=pie", "-ldflags=-s -w"],
            Self::Pie | Self::CgoPie => &["-buildmode=pie"],
            Self::Bare => &["-ldflags=-s -w"],
            Self::Race => &["-race"],
            Self::Plugin => &["-buildmode=plugin"],
        }
    }

    /// The word for this mode in file names and messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ordinary => "ordinary",
            Self::StrippedPie => "stripped-pie",
            Self::Pie => "pie",
            Self::Bare => "s-w",
            Self::Stripped => "strip",
            Self::Cgo => "cgo",
            Self::CgoPie => "cgo-pie",
            Self::Race => "race",
            Self::Plugin => "plugin",
        }
    }

    /// Whether the build needs a C compiler and library.
    pub fn needs_c(self) -> bool {
        matches!(self, Self::Cgo | Self::CgoPie | Self::Race | Self::Plugin)
    }
}

/// How programs of a Go minor that load plugins are linked: in both ways that exist where a form begins or is newest
/// (bucket maps and Swiss maps, types without and with headers, an experiment that is off, the two newest forms of module
/// data), and by turns on the others. Every supported Go builds plugins.
pub fn plugin_hosts(minor: u32) -> &'static [Mode] {
    match minor {
        19 | 23 => &[Mode::Cgo],
        21 | 24 => &[Mode::CgoPie],
        _ => &[Mode::Cgo, Mode::CgoPie],
    }
}

/// Builds the programs of that Go minor that load a plugin, and the plugin.
pub fn build_plugins(go: &Path, minor: u32) -> Result<()> {
    build(go, "leakplugin", Mode::Plugin)?;
    plugin_hosts(minor).iter().try_for_each(|mode| build(go, "pluginhost", *mode).map(drop))
}

/// How a program is built.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Variant {
    pub mode: Mode,
    /// The linker leaves the runtime's memory profiler in, because something refers to it.
    pub profiled: bool,
    /// GOEXPERIMENT; empty for the release's own.
    pub experiment: &'static str,
}

impl From<Mode> for Variant {
    fn from(mode: Mode) -> Self {
        Self { mode, profiled: false, experiment: "" }
    }
}

impl Variant {
    /// The words for this variant in file names and messages.
    pub fn name(self) -> String {
        let Self { mode, profiled, experiment } = self;
        let mut name = mode.name().to_owned();
        if profiled {
            name.push_str("+profiler");
        }
        if !experiment.is_empty() {
            name.push('+');
            name.push_str(experiment);
        }
        name
    }

    /// Build tags of tests/fixtures/go/protocol: what it takes in.
    fn tags(self) -> String {
        let tags = [(matches!(self.mode, Mode::Cgo | Mode::CgoPie), "withc"), (self.profiled, "profiled")];
        let tags: Vec<&str> = tags.iter().filter(|(wanted, _)| *wanted).map(|(_, tag)| *tag).collect();
        format!("-tags={}", tags.join(","))
    }
}

/// Builds the fixture `name` with the toolchain whose `go` is at that path, or finds it built.
pub fn build(go: &Path, name: &str, variant: impl Into<Variant>) -> Result<PathBuf> {
    let variant = variant.into();
    let mode = variant.mode;
    let source = project::fixture(name);
    ensure!(source.join("go.mod").exists(), "there is no Go fixture called {name}");
    let version = command::output(go_command(go).arg("version"))?;
    let key = key(&source, &version, variant)?;
    let folder = project::target().join("fixtures");
    let program =
        folder.join(format!("{name}-{}-{}-{key}", version.split(' ').nth(2).unwrap_or("go"), variant.name()));
    if program.exists() {
        return Ok(program);
    }
    fs::create_dir_all(&folder)?;
    // Tests run side by side: each builds under a name of its own, and the last rename wins with the same bytes.
    let unfinished =
        folder.join(format!(".{name}-{key}-{}-{:?}", std::process::id(), std::thread::current().id()));
    let mut build = go_command(go);
    build
        .args(["build", "-buildvcs=false", "-o"])
        .arg(&unfinished)
        .args(mode.flags())
        .arg(variant.tags())
        .arg(".")
        .current_dir(&source);
    build.env("CGO_ENABLED", if mode.needs_c() { "1" } else { "0" }).env("GO111MODULE", "on");
    build.env("GOPROXY", "off").env("GOEXPERIMENT", variant.experiment);
    command::quiet(&mut build)
        .with_context(|| format!("cannot build the fixture {name} ({})", variant.name()))?;
    if mode == Mode::Stripped {
        command::quiet(Command::new("strip").arg(&unfinished))
            .context("install binutils: the fixtures are stripped with it")?;
    }
    fs::rename(&unfinished, &program)?;
    forget_older(&folder, name, &version, variant, &program);
    Ok(program)
}

fn key(source: &Path, version: &str, variant: Variant) -> Result<String> {
    // Each fixture may use the protocol's package beside it.
    let mut files = Vec::new();
    for folder in [source, &project::fixture("protocol")] {
        for entry in fs::read_dir(folder)? {
            files.push(entry?.path());
        }
    }
    files.retain(|file| file.is_file());
    files.sort();
    let mut digest = Sha256::new();
    digest.update(version);
    digest.update(variant.mode.flags().join(" "));
    digest.update(variant.name());
    for file in files {
        digest.update(file.file_name().unwrap_or_default().as_encoded_bytes());
        digest.update(fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?);
    }
    let mut key = String::new();
    for byte in &digest.finalize()[..6] {
        write!(key, "{byte:02x}").expect("writing to a string does not fail");
    }
    Ok(key)
}

/// Builds of sources that changed since are dropped once they are a day old; a younger one may be in use by another test run.
fn forget_older(folder: &Path, name: &str, version: &str, variant: Variant, keep: &Path) {
    const DAY_SECONDS: u64 = 86_400;
    let prefix = format!("{name}-{}-{}-", version.split(' ').nth(2).unwrap_or("go"), variant.name());
    for file in fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()) {
        let ours =
            file.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&prefix)) && file != keep;
        let age = file
            .metadata()
            .and_then(|found| found.modified())
            .ok()
            .and_then(|then| SystemTime::now().duration_since(then).ok());
        if ours && age.is_some_and(|age| age.as_secs() > DAY_SECONDS) {
            // Only a cache: what cannot be removed now is removed another time.
            drop(fs::remove_file(&file));
        }
    }
}
