//! `tracer replay` on two recordings: one as a long session under load leaves it, and a real one of the demo program.
//! A run is the whole command, from start to the last byte of its report, on one core.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};

use super::Effort;
use super::statistics::Estimate;
use super::table::{Bound, Row};
use crate::{command, project};

/// Enough that the start of the process and the report at the end are small beside it.
const RECORDS: u64 = 4_000_000;
const BOUND: f64 = 1e6;

pub(super) fn measure(effort: Effort, rows: &mut Vec<Row>) -> Result<()> {
    let scratch = Scratch::new()?;
    let long = scratch.0.join("long.trc");
    let mut make = Command::new("cargo");
    make.args(["run", "--locked", "--quiet", "--package", "tracer-user", "--example"]);
    make.arg("long_recording").arg("--").arg(&long).arg(RECORDS.to_string()).current_dir(project::root());
    let told = command::output(&mut make)?;
    let records: u64 = told.trim().parse().with_context(|| format!("it wrote {told:?} records"))?;
    let size = fs::metadata(&long)?.len();
    let rate = runs(&long, effort)?.into_iter().map(|seconds| records as f64 / seconds);
    let rate = Estimate::of(&rate.collect::<Vec<_>>());
    let show = |x: f64| format!("{:.2} M/s", x / 1e6);
    let bound = Bound { text: ">= 1 M/s".to_owned(), holds: rate.mean >= BOUND && rate.low >= BOUND };
    let what = format!("records replayed, {} M in {} MB", records / 1_000_000, size / 1_000_000);
    rows.push(Row::of(what, &rate, show).bounded(bound));
    let real = project::root().join("tests/captures/demo.trc");
    let whole = Estimate::of(&runs(&real, effort)?);
    let what = "a session of 15 s of the demo program, whole replay".to_owned();
    rows.push(Row::of(what, &whole, |x| format!("{:.1} ms", x * 1e3)));
    Ok(())
}

/// Seconds of each run. What the machine reads from its disk is read before.
fn runs(recording: &Path, effort: Effort) -> Result<Vec<f64>> {
    (0..=effort.replays).map(|_| run(recording)).skip(1).collect()
}

fn run(recording: &Path) -> Result<f64> {
    let mut replay = Command::new("taskset");
    replay.args(["--cpu-list", "0"]).arg(project::tracer()).arg("replay").arg(recording);
    let began = Instant::now();
    let status = replay.stdout(Stdio::null()).status().context("cannot start taskset")?;
    let took = began.elapsed().as_secs_f64();
    ensure!(status.success(), "the replay of {} failed", recording.display());
    Ok(took)
}

/// A folder that goes with its value.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Self> {
        let folder = project::target().join(format!("tmp/bench-replay-{}", std::process::id()));
        fs::create_dir_all(&folder)?;
        Ok(Self(folder))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What is left lies below the target folder.
        drop(fs::remove_dir_all(&self.0));
    }
}
