//! `cargo xtask go-matrix [WORD|--page]`: every supported Go, built every way, against the promises of the tool; writes docs/support.md.
//!
//! Apart from the checks, which are the live test `matrix` of the tests crate: this runs it on all cells and makes a page of what it
//! wrote down. The page holds results of one run and nothing else.

pub mod cells;
mod page;

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use crate::command::{self, is_root};
use crate::toolchains::{self, Toolchain};
use crate::{demo, project};

/// Says to the live test which cells to check: `all`, or those whose name holds the text.
pub const CELLS: &str = "TRACER_MATRIX";
/// Says to the live test where to write what came of each check.
pub const RESULTS: &str = "TRACER_MATRIX_RESULTS";

const PAGE: &str = "docs/support.md";

/// What came of one check of one cell.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outcome {
    pub cell: String,
    pub check: String,
    /// Why it failed.
    pub failure: Option<String>,
}

impl Outcome {
    /// As one line of the results, in which only the last column is free text.
    pub fn line(&self) -> String {
        let Self { cell, check, failure } = self;
        let failure = failure.as_deref().unwrap_or_default().replace(['\n', '\t'], " ");
        format!("{cell}\t{check}\t{failure}\n")
    }

    fn parse(line: &str) -> Option<Self> {
        let mut columns = line.splitn(3, '\t');
        let (cell, check, failure) = (columns.next()?, columns.next()?, columns.next()?);
        let failure = (!failure.is_empty()).then(|| failure.to_owned());
        Some(Self { cell: cell.to_owned(), check: check.to_owned(), failure })
    }
}

pub fn task(arguments: &[String]) -> Result<()> {
    let only = match arguments {
        [] => None,
        [word] if word == "--page" => return write_page(&results_file()),
        [word] => Some(word.as_str()),
        _ => bail!("say `cargo xtask go-matrix [WORD]`, a word of the names of cells such as 1.19 or race"),
    };
    ensure!(is_root(), "run `cargo xtask go-matrix` as root: attaching to another process needs it");
    let toolchains = toolchains::all()?;
    demo::build_tracer()?;
    let results = results_file();
    fs::write(&results, format!("{COMMIT}{}\n", project::commit()))
        .with_context(|| format!("cannot write {}", results.display()))?;
    let mut test = Command::new("cargo");
    test.args([
        "test",
        "--package",
        "tracer-tests",
        "--locked",
        "--test",
        "live",
        "--",
        "matrix::",
        "--nocapture",
    ])
    .current_dir(project::root())
    .env("CI", "1")
    .env("TRACER_BIN", project::tracer())
    .env(CELLS, only.unwrap_or("all"))
    .env(RESULTS, &results);
    for Toolchain { pin, go } in &toolchains {
        test.env(pin.variable, go);
    }
    let ran = command::run(&mut test);
    let page = page_of(&results)?;
    std::io::stdout().write_all(page.as_bytes())?;
    if only.is_none() {
        write_page(&results)?;
    }
    ran
}

/// Begins the first line of the results: what was checked.
const COMMIT: &str = "# ";

fn page_of(results: &Path) -> Result<String> {
    let text = fs::read_to_string(results).with_context(|| format!("cannot read {}", results.display()))?;
    let commit = text.lines().next().and_then(|line| line.strip_prefix(COMMIT)).unwrap_or("unknown");
    let mut outcomes: Vec<Outcome> = text.lines().filter_map(Outcome::parse).collect();
    outcomes.sort_by(|a, b| a.cell.cmp(&b.cell));
    ensure!(!outcomes.is_empty(), "no cell was checked: is there one with that word in its name?");
    Ok(page::page(commit, &outcomes))
}

/// Writes the page of the last run.
fn write_page(results: &Path) -> Result<()> {
    fs::write(project::root().join(PAGE), page_of(results)?).with_context(|| format!("cannot write {PAGE}"))
}

fn results_file() -> PathBuf {
    project::target().join("xtask/go-matrix")
}
