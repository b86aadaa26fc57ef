//! Builds the Go programs that the tests and the demo trace. Apart so that both build the same bytes.
//!
//! One build per Go version, mode and state of the sources, kept under target/fixtures. It never touches the sources.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
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
}

impl Mode {
    fn flags(self) -> &'static [&'static str] {
        match self {
            Self::Ordinary => &[],
            Self::StrippedPie => &["-buildmode=pie", "-ldflags=-s -w"],
        }
    }

    /// The word for this mode in file names and messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ordinary => "ordinary",
            Self::StrippedPie => "stripped-pie",
        }
    }
}

/// Builds the fixture `name` with the toolchain whose `go` is at that path, or finds it built.
pub fn build(go: &Path, name: &str, mode: Mode) -> Result<PathBuf> {
    let source = project::fixture(name);
    ensure!(source.join("go.mod").exists(), "there is no Go fixture called {name}");
    let version = command::output(go_command(go).arg("version"))?;
    let key = key(&source, &version, mode)?;
    let folder = project::target().join("fixtures");
    let program =
        folder.join(format!("{name}-{}-{}-{key}", version.split(' ').nth(2).unwrap_or("go"), mode.name()));
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
        .arg(".")
        .current_dir(&source);
    build.env("CGO_ENABLED", "0").env("GO111MODULE", "on").env("GOPROXY", "off");
    command::quiet(&mut build)
        .with_context(|| format!("cannot build the fixture {name} ({})", mode.name()))?;
    fs::rename(&unfinished, &program)?;
    forget_older(&folder, name, &version, mode, &program);
    Ok(program)
}

fn key(source: &Path, version: &str, mode: Mode) -> Result<String> {
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
    digest.update(mode.flags().join(" "));
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
fn forget_older(folder: &Path, name: &str, version: &str, mode: Mode, keep: &Path) {
    const DAY_SECONDS: u64 = 86_400;
    let prefix = format!("{name}-{}-{}-", version.split(' ').nth(2).unwrap_or("go"), mode.name());
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
