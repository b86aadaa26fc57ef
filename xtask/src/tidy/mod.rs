//! The rules that a program can check: file docs, size, names, who may import whom, and the invariants that can be grepped.
//!
//! Apart from the tests so that it is a task too. It only reads; each rule names the file, the line and the sentence it breaks.

mod imports;
mod invariants;
mod names;
pub mod source;

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{digest, project};
use source::Source;

/// One broken rule at one place.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Violation {
    /// From the root of the checkout.
    pub file: String,
    pub line: usize,
    pub rule: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.rule)
    }
}

/// The folders that hold Rust of ours.
const CRATES: [&str; 6] = ["tracer-common", "tracer-ebpf", "tracer-user", "tests", "xtask", "fuzz"];

pub fn task(arguments: &[String]) -> Result<()> {
    ensure!(arguments.is_empty(), "`cargo xtask tidy` takes no arguments");
    let violations = check(project::root())?;
    for violation in &violations {
        eprintln!("{violation}");
    }
    if !violations.is_empty() {
        bail!("{} rules are broken", violations.len());
    }
    Ok(())
}

/// Everything that is wrong in the checkout at `root`, sorted by place.
pub fn check(root: &Path) -> Result<Vec<Violation>> {
    let table = fs::read_to_string(root.join("ARCHITECTURE.md"))
        .context("ARCHITECTURE.md holds the table of rooms")?;
    let table = imports::Table::parse(&table).map_err(anyhow::Error::msg)?;
    let mut violations = Vec::new();
    for file in rust_files(root)? {
        let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let name = file
            .strip_prefix(root)
            .expect("every file was found below the root")
            .to_string_lossy()
            .into_owned();
        let source = Source::new(&name, &text);
        names::check(&source, &mut violations);
        invariants::check(&source, &mut violations);
        imports::check(&source, &table, &mut violations);
    }
    for file in digest::stale(root)? {
        violations.push(Violation {
            file,
            line: 1,
            rule: "the eBPF objects are older than this: run `cargo xtask ebpf`".into(),
        });
    }
    violations.sort();
    Ok(violations)
}

fn rust_files(root: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for name in CRATES {
        let folder = root.join(name);
        if folder.exists() {
            walk(&folder, &mut files)?;
        }
    }
    Ok(files)
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            if path.file_name().is_some_and(|name| name != "target") {
                walk(&path, files)?;
            }
        } else if path.extension().is_some_and(|end| end == "rs") {
            files.push(path);
        }
    }
    Ok(())
}
