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
use rustix::process::Signal;
use serde_json::Value;

use super::statistics::{Dice, Estimate};
use super::table::{Bound, Row};
use super::target::Owned;
use super::tools::{Tracer, send};
use crate::project;

/// Beats of one toggle over and over, a second: the slowest of a thousand but one. What disturbs lasts for seconds, so that short
/// toggles beside each other share it, and there are many of them.
const BEATS: u64 = 1000;
/// Beats of one toggle of a session, ten seconds: in as many it counts this heap once, at the share of a processor that it allows itself.
const SESSION_BEATS: u64 = 10 * BEATS;
/// How far the slowest beats may be above what the same instrument says of no difference: from upper end to upper end.
const FACTOR: f64 = 1.25;
/// An interval of the second null tool that is wider on each side says nothing, and excuses nothing.
const HALF_WIDTH: f64 = 0.25;
/// Before the toggles, in seconds.
const SETTLED_S: u64 = 10;
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
    /// The same tool reads another process: what it takes of the machine, and nothing of this target's locks.
    Elsewhere,
    Null,
    NullAgain,
}

/// How often the beats are compared.
#[derive(Clone, Copy)]
pub(super) struct Rounds {
    /// Over and over.
    pub(super) short: usize,
    pub(super) session: usize,
    /// The lock's part has a bound.
    pub(super) bounded: bool,
}

/// The slowest beats beside `tracer COMMAND` over and over against those beside programs that start, read nothing and end.
/// `what` says of which target; `twin` is another of the same.
pub(super) fn beside(
    heart: &mut Heart,
    twin: &Heart,
    command: &'static str,
    what: &str,
    rounds: Rounds,
    rows: &mut Vec<Row>,
) -> Result<()> {
    let mut dice = Dice::new(4);
    let within = within(heart, twin, command, rounds.session, &mut dice)?;
    let (mut read, mut elsewhere, mut placebo) = (Vec::new(), Vec::new(), Vec::new());
    let (mut locked, mut slowest, mut later) = (Vec::new(), Vec::new(), Vec::new());
    for round in 1..=rounds.short {
        let mut order = [Beside::Reading, Beside::Elsewhere, Beside::Null, Beside::NullAgain];
        dice.shuffle(&mut order);
        let mut p999 = [0.0; 4];
        for beside in order {
            heart.ask("gc")?;
            p999[beside as usize] = beat(heart, twin.pid(), command, beside, BEATS)?;
        }
        let [with, twin, null, again] = p999;
        read.push((with, null));
        elsewhere.push((twin, null));
        locked.push((with, twin));
        placebo.push((again, null));
        slowest.push(with);
        later.push(with - null);
        eprintln!(
            "heartbeat, round {round}: p99.9 {:.0}, of another process {:.0}, null {:.0} and {:.0} us",
            with / 1e3,
            twin / 1e3,
            null / 1e3,
            again / 1e3
        );
    }
    let percent = |x: f64| format!("{:+.1} %", 100.0 * x);
    let micros = |x: f64| format!("{:.0} us", x / 1e3);
    let estimates = [&read, &elsewhere, &locked, &within, &placebo].map(|pairs| Estimate::of_pairs(pairs));
    let [read, elsewhere, locked, within, placebo] = estimates;
    let nothing = |ratio: &Estimate| Bound {
        text: format!("the interval includes 0 and is at most {:.0} % to each side", 100.0 * HALF_WIDTH),
        holds: is_nothing(ratio),
    };
    let unnoticed = |ratio: &Estimate| Bound {
        text: format!(
            "upper end <= {FACTOR} x the second null tool's ({}), n = {}",
            percent(placebo.high),
            ratio.n
        ),
        holds: unnoticed(ratio, &placebo),
    };
    rows.push(
        Row::of(
            format!(
                "{what}: p99.9 of a 1 kHz heartbeat in a session of `--sampler none`, against a null tool"
            ),
            &within,
            percent,
        )
        .bounded(nothing(&within)),
    );
    rows.push(Row::of(
        format!("{what}: p99.9 of the same beside `tracer {command}` over and over"),
        &Estimate::of(&slowest),
        micros,
    ));
    let later = Estimate::of_differences(&later);
    rows.push(Row::of(format!("{what}: that less a null tool's"), &later, micros));
    rows.push(Row::of(format!("{what}: that against a null tool"), &read, percent));
    rows.push(Row::of(
        format!("{what}: beside `tracer {command}` of another such process, against a null tool"),
        &elsewhere,
        percent,
    ));
    let lock = Row::of(
        format!("{what}: beside `tracer {command}` against the same of another process: the lock's part"),
        &locked,
        percent,
    );
    rows.push(if rounds.bounded { lock.bounded(unnoticed(&locked)) } else { lock });
    rows.push(
        Row::of(format!("{what}: a second null tool against the first"), &placebo, percent)
            .bounded(nothing(&placebo)),
    );
    Ok(())
}

/// The slowest beats in a session that reads memory, as it does by itself, and beside nothing but the null tool.
fn within(
    heart: &mut Heart,
    twin: &Heart,
    command: &'static str,
    rounds: usize,
    dice: &mut Dice,
) -> Result<Vec<(f64, f64)>> {
    let session = Tracer::start(heart.pid(), &["--sampler", "none", "--format", "json"])?;
    session.first_report()?;
    // Its first readings come faster than the later ones.
    heart.ask(&format!("beat {}", SETTLED_S * BEATS))?;
    send(session.child(), Signal::STOP)?;
    let mut pairs = Vec::new();
    for round in 1..=rounds {
        let mut order = [true, false];
        dice.shuffle(&mut order);
        let mut p999 = [0.0; 2];
        for in_session in order {
            // A session counts the heap once a collection has news of it.
            heart.ask("gc")?;
            if in_session {
                send(session.child(), Signal::CONT)?;
            }
            p999[usize::from(in_session)] = beat(heart, twin.pid(), command, Beside::Null, SESSION_BEATS)?;
            if in_session {
                send(session.child(), Signal::STOP)?;
            }
        }
        let [null, with] = p999;
        pairs.push((with, null));
        eprintln!(
            "heartbeat, round {round}: p99.9 in a session {:.0}, null {:.0} us",
            with / 1e3,
            null / 1e3
        );
    }
    send(session.child(), Signal::CONT)?;
    session.stop()?;
    Ok(pairs)
}

/// Whether the ratio's whole interval is below what no difference looks like.
fn unnoticed(read: &Estimate, placebo: &Estimate) -> bool {
    read.high.is_finite() && placebo.high.is_finite() && 1.0 + read.high <= FACTOR * (1.0 + placebo.high)
}

/// No difference is seen, by an instrument that would see one; of two tools that are the same, that it can tell anything.
fn is_nothing(ratio: &Estimate) -> bool {
    (ratio.low..=ratio.high).contains(&0.0) && ratio.half_width() <= HALF_WIDTH
}

fn beat(heart: &mut Heart, twin: u32, reading: &'static str, beside: Beside, count: u64) -> Result<f64> {
    let over = Arc::new(AtomicBool::new(false));
    let read = if beside == Beside::Elsewhere { twin } else { heart.child.pid() };
    let (stop, pid) = (Arc::clone(&over), read.to_string());
    let tool = thread::spawn(move || -> Result<u32> {
        let mut runs = 0;
        while !stop.load(Ordering::Relaxed) {
            let mut command = Command::new(project::tracer());
            match beside {
                Beside::Reading | Beside::Elsewhere => {
                    command.args([reading, "--pid", &pid, "--format", "json"])
                }
                Beside::Null | Beside::NullAgain => command.arg("--version"),
            };
            let status = command.stdin(Stdio::null()).stdout(Stdio::null()).status()?;
            ensure!(status.success(), "tracer ended with {status}");
            runs += 1;
            thread::sleep(PAUSE);
        }
        Ok(runs)
    });
    let beats = heart.ask(&format!("beat {count}"));
    over.store(true, Ordering::Relaxed);
    let runs = tool.join().ok().context("the tool's thread ended")??;
    let beats = beats?;
    ensure!(runs > 0, "the tool did not run beside the beats");
    ensure!(beats["n"].as_u64() == Some(count), "beats are missing: {beats}");
    beats["p999"].as_f64().filter(|p| *p > 0.0).context("a beat takes some time")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn estimate(low: f64, high: f64) -> Estimate {
        Estimate { mean: f64::midpoint(low, high), low, high, n: 60 }
    }

    #[test]
    fn slow_beats_and_noise_both_miss_their_bounds() {
        let sharp = estimate(-0.1, 0.1);
        assert!(is_nothing(&sharp) && unnoticed(&estimate(-0.1, 0.3), &sharp));
        assert!(!unnoticed(&estimate(0.3, 0.5), &sharp), "the beats are slower");
        assert!(!unnoticed(&estimate(-0.9, 0.9), &sharp), "nobody knows");
        let infinite = estimate(f64::NEG_INFINITY, f64::INFINITY);
        assert!(!unnoticed(&infinite, &infinite) && !is_nothing(&infinite), "too few rounds");
        assert!(!is_nothing(&estimate(-0.5, 0.5)) && !is_nothing(&estimate(0.01, 0.1)));
    }
}
