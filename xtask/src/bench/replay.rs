//! `tracer replay` on two recordings: one as a long session under load leaves it, and a real one of the demo program.
//! A run is the whole command, from start to the last byte of its report, on one core.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use super::Effort;
use super::memory::{self, Allowance, Run};
use super::statistics::Estimate;
use super::table::{Bound, Row};
use crate::{command, project};

/// Enough that the start of the process and the report at the end are small beside it.
const RECORDS: u64 = 4_000_000;
const BOUND: f64 = 1e6;

pub(super) fn measure(effort: Effort, rows: &mut Vec<Row>) -> Result<()> {
    let scratch = Scratch::new()?;
    let long = scratch.0.join("long.trc");
    let made = example(&[long.as_os_str(), RECORDS.to_string().as_ref()])?;
    let size = fs::metadata(&long)?.len();
    let found = runs(&long, effort)?;
    let what = format!("records replayed, {:.1} M in {} MB", made.records / 1e6, size / 1_000_000);
    let rate = rate(&made, &found);
    let bound = Bound { text: ">= 1 M/s".to_owned(), holds: rate.mean >= BOUND && rate.low >= BOUND };
    rows.push(Row::of(what, &rate, millions).bounded(bound));
    rows.push(peak("the same, peak memory (VmHWM)", &made, &found));
    let real = project::root().join("tests/captures/demo.trc");
    let kept = example(&["--count".as_ref(), real.as_os_str()])?;
    let found = runs(&real, effort)?;
    let seconds: Vec<f64> = found.iter().map(|run| run.seconds).collect();
    let what = "a session of 15 s of the demo program, whole replay".to_owned();
    rows.push(Row::of(what, &Estimate::of(&seconds), |x| format!("{:.1} ms", x * 1e3)));
    let what = format!("the same, its {:.0} records with start, names and report", kept.records);
    rows.push(Row::of(what, &self::rate(&kept, &found), millions));
    rows.push(peak("the same, peak memory (VmHWM)", &kept, &found));
    Ok(())
}

/// What the example says of a recording.
struct Recording {
    records: f64,
    /// Bytes of names.
    names: u64,
}

fn example(arguments: &[&OsStr]) -> Result<Recording> {
    let mut run = Command::new("cargo");
    run.args(["run", "--release", "--locked", "--quiet", "--package", "tracer-user", "--example"]);
    run.arg("long_recording").arg("--").args(arguments).current_dir(project::root());
    let told = command::output(&mut run)?;
    let numbers =
        told.split_once(' ').and_then(|(records, names)| Some((records.parse().ok()?, names.parse().ok()?)));
    let (records, names) = numbers.with_context(|| format!("it said {told:?}"))?;
    Ok(Recording { records, names })
}

fn rate(recording: &Recording, runs: &[Run]) -> Estimate {
    let rates: Vec<f64> = runs.iter().map(|run| recording.records / run.seconds).collect();
    Estimate::of(&rates)
}

fn millions(x: f64) -> String {
    format!("{:.2} M/s", x / 1e6)
}

fn peak(what: &str, recording: &Recording, runs: &[Run]) -> Row {
    let peaks: Vec<f64> = runs.iter().map(|run| run.peak_mib).collect();
    Allowance::of_recorded(recording.names).row(what.to_owned(), &peaks)
}

/// What the machine reads from its disk is read before.
fn runs(recording: &Path, effort: Effort) -> Result<Vec<Run>> {
    (0..=effort.replays).map(|_| run(recording)).skip(1).collect()
}

fn run(recording: &Path) -> Result<Run> {
    let mut replay = Command::new("taskset");
    replay.args(["--cpu-list", "0"]).arg(project::tracer()).arg("replay").arg(recording);
    memory::run(&mut replay).with_context(|| format!("the replay of {} failed", recording.display()))
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
