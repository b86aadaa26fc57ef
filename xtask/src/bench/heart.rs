//! A target that beats once a millisecond, and how its slowest beats differ beside a tool from those beside one that reads nothing.
//!
//! Apart because more than one chapter asks whether a target's own memory calls notice that it is read.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::statistics::{Dice, Estimate};
use super::table::{Bound, Row};
use super::target::Owned;
use crate::project;

/// Beats of one toggle: the slowest of a thousand is its second slowest.
const BEATS: u64 = 3000;
/// Between two runs of a tool.
const PAUSE: Duration = Duration::from_millis(100);

/// A running target that answers lines.
pub(super) struct Heart {
    child: Owned,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Heart {
    pub(super) fn start(program: &Path) -> Result<Self> {
        let mut child = Command::new(program).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let stdin = child.stdin.take().context("stdin is a pipe")?;
        let stdout = BufReader::new(child.stdout.take().context("stdout is a pipe")?);
        let mut heart = Self { child: Owned(child), stdin, stdout };
        while heart.line()?.trim_end() != "ready" {}
        Ok(heart)
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        ensure!(self.stdout.read_line(&mut line)? > 0, "the target ended");
        Ok(line)
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.pid()
    }

    pub(super) fn ask(&mut self, command: &str) -> Result<Value> {
        writeln!(self.stdin, "{command}")?;
        serde_json::from_str(&self.line()?).context("the target answers in JSON")
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Beside {
    Reading,
    Null,
    NullAgain,
}

/// The slowest beats beside `tracer COMMAND` over and over against those beside programs that start, read nothing and end.
/// `what` says of which target.
pub(super) fn beside(
    heart: &mut Heart,
    command: &'static str,
    what: &str,
    rounds: usize,
    rows: &mut Vec<Row>,
) -> Result<()> {
    let mut dice = Dice::new(4);
    let (mut read, mut placebo, mut slowest) = (Vec::new(), Vec::new(), Vec::new());
    for round in 1..=rounds {
        let mut order = [Beside::Reading, Beside::Null, Beside::NullAgain];
        dice.shuffle(&mut order);
        let mut p999 = [0.0; 3];
        for beside in order {
            p999[beside as usize] = beat(heart, command, beside)?;
        }
        let [with, null, again] = p999;
        read.push((with, null));
        placebo.push((again, null));
        slowest.push(with);
        eprintln!(
            "heartbeat, round {round}: p99.9 {:.0}, null {:.0} and {:.0} us",
            with / 1e3,
            null / 1e3,
            again / 1e3
        );
    }
    let percent = |x: f64| format!("{:+.1} %", 100.0 * x);
    let micros = |x: f64| format!("{:.0} us", x / 1e3);
    let (read, placebo) = (Estimate::of_pairs(&read), Estimate::of_pairs(&placebo));
    let holds = read.low <= 0.0 || read.low <= placebo.high;
    rows.push(Row::of(
        format!("{what}: p99.9 of a 1 kHz heartbeat beside `tracer {command}`"),
        &Estimate::of(&slowest),
        micros,
    ));
    rows.push(
        Row::of(format!("{what}: the same against a null tool"), &read, percent).bounded(Bound {
            text: "the interval includes 0, or meets the second null tool's".into(),
            holds,
        }),
    );
    rows.push(Row::of(format!("{what}: a second null tool against the first"), &placebo, percent));
    Ok(())
}

fn beat(heart: &mut Heart, reading: &'static str, beside: Beside) -> Result<f64> {
    let over = Arc::new(AtomicBool::new(false));
    let (stop, pid) = (Arc::clone(&over), heart.child.pid().to_string());
    let tool = thread::spawn(move || -> Result<u32> {
        let mut runs = 0;
        while !stop.load(Ordering::Relaxed) {
            let mut command = Command::new(project::tracer());
            match beside {
                Beside::Reading => command.args([reading, "--pid", &pid, "--format", "json"]),
                Beside::Null | Beside::NullAgain => command.arg("--version"),
            };
            let status = command.stdin(Stdio::null()).stdout(Stdio::null()).status()?;
            ensure!(status.success(), "tracer ended with {status}");
            runs += 1;
            thread::sleep(PAUSE);
        }
        Ok(runs)
    });
    let beats = heart.ask(&format!("beat {BEATS}"));
    over.store(true, Ordering::Relaxed);
    let runs = tool.join().ok().context("the tool's thread ended")??;
    let beats = beats?;
    ensure!(runs > 1, "the tool ran only {runs} times beside the beats");
    ensure!(beats["n"].as_u64() == Some(BEATS), "beats are missing: {beats}");
    beats["p999"].as_f64().filter(|p| *p > 0.0).context("a beat takes some time")
}
