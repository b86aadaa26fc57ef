//! A target that beats once a millisecond, and how its slowest beats differ beside a tool from those beside one that reads nothing.
//!
//! Apart because more than one chapter asks whether a target's own memory calls notice that it is read.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;

use super::statistics::{Dice, Estimate};
use super::table::{Bound, Row};
use super::target::Fixture;
use super::tools::{Tracer, send};
use crate::project;

/// Beats between two quantiles, a second: the slowest of a thousand but one.
const BEATS: u64 = 1000;
/// Seconds of one toggle of a session. In as many a session of a heap like this counts it about once.
const SESSION_S: usize = 10;
/// An interval that is wider on each side says nothing.
const HALF_WIDTH: f64 = 0.25;
/// Before the toggles, in seconds.
const SETTLED_S: u64 = 10;
/// Between two runs of a tool.
const PAUSE: Duration = Duration::from_millis(100);

/// What runs beside the beats, once more 100 ms after it has ended.
#[derive(Clone, Copy)]
pub(super) enum Beside {
    /// `tracer COMMAND` of the process with this pid.
    Tracer { command: &'static str, pid: u32 },
    /// A session of a third of a second with probes on its allocator.
    Probes { pid: u32 },
    /// A program that starts, reads nothing and ends.
    Null,
}

/// How often the beats are compared.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rounds {
    pub(super) session: usize,
    /// Over and over.
    pub(super) short: usize,
}

/// The slowest beats in a session, and beside `tracer COMMAND` over and over, against those beside programs that start, read nothing
/// and end. `what` says of which target; `twin` is another of the same.
pub(super) fn beside(
    heart: &mut Fixture,
    twin: &Fixture,
    command: &'static str,
    what: &str,
    rounds: Rounds,
    rows: &mut Vec<Row>,
) -> Result<()> {
    let mut dice = Dice::new(4);
    within(heart, what, rounds.session, &mut dice, rows)?;
    over_and_over(heart, twin, (command, what), rounds.short, &mut dice, rows)
}

/// The slowest beats in a session that reads memory, as it does by itself, and beside nothing but the null tool, which is there too.
fn within(
    heart: &mut Fixture,
    what: &str,
    rounds: usize,
    dice: &mut Dice,
    rows: &mut Vec<Row>,
) -> Result<()> {
    let session = Tracer::start(heart.pid(), &["--sampler", "none", "--format", "json"])?;
    session.first_report()?;
    // What a start reads is behind it.
    heart.ask(&format!("beat {}", SETTLED_S * BEATS))?;
    send(session.child(), Signal::STOP)?;
    let (mut with, mut placebo) = (Vec::new(), Vec::new());
    for round in 1..=rounds {
        const SESSION: usize = 2;
        let mut order = [0, 1, SESSION];
        dice.shuffle(&mut order);
        let mut p999 = [0.0; 3];
        for toggle in order {
            // A session counts the heap once a collection has news of it.
            heart.ask("gc")?;
            if toggle == SESSION {
                send(session.child(), Signal::CONT)?;
            }
            // Each second weighs the same, the one in which the heap is counted, too.
            let mut logs = 0.0;
            for _ in 0..SESSION_S {
                logs += beat(heart, Beside::Null)?.ln();
            }
            p999[toggle] = (logs / SESSION_S as f64).exp();
            if toggle == SESSION {
                send(session.child(), Signal::STOP)?;
            }
        }
        let [null, again, session] = p999;
        with.push((session, null));
        placebo.push((again, null));
        let [null, again, session] = p999.map(|ns| ns / 1e3);
        eprintln!(
            "heartbeat, round {round}: p99.9 in a session {session:.0}, null {null:.0} and {again:.0} us"
        );
    }
    send(session.child(), Signal::CONT)?;
    session.stop()?;
    for (of, pairs) in [("in a session of `--sampler none`", &with), ("of a second null tool", &placebo)] {
        let ratio = Estimate::of_pairs(pairs);
        let holds = is_nothing(&ratio);
        let text = format!("the interval includes 0 and is at most {:.0} % to each side", 100.0 * HALF_WIDTH);
        rows.push(
            Row::of(format!("{what}: p99.9 of a 1 kHz heartbeat {of}, against a null tool"), &ratio, percent)
                .bounded(Bound { text, holds }),
        );
    }
    Ok(())
}

/// The same beside one reading after the other, of this target and of another one.
fn over_and_over(
    heart: &mut Fixture,
    twin: &Fixture,
    (command, what): (&'static str, &str),
    rounds: usize,
    dice: &mut Dice,
    rows: &mut Vec<Row>,
) -> Result<()> {
    let of = |pid| Beside::Tracer { command, pid };
    let toggles = [of(heart.pid()), of(twin.pid()), Beside::Null, Beside::Null];
    let (mut read, mut elsewhere, mut placebo) = (Vec::new(), Vec::new(), Vec::new());
    let (mut locked, mut slowest, mut later) = (Vec::new(), Vec::new(), Vec::new());
    for round in 1..=rounds {
        let mut order = [0, 1, 2, 3];
        dice.shuffle(&mut order);
        let mut p999 = [0.0; 4];
        for toggle in order {
            heart.ask("gc")?;
            p999[toggle] = beat(heart, toggles[toggle])?;
        }
        let [with, twin, null, again] = p999;
        read.push((with, null));
        elsewhere.push((twin, null));
        locked.push((with, twin));
        placebo.push((again, null));
        slowest.push(with);
        later.push(with - null);
        let [with, twin, null, again] = p999.map(|ns| ns / 1e3);
        eprintln!(
            "heartbeat, round {round}: p99.9 {with:.0}, of another process {twin:.0}, null {null:.0} and {again:.0} us"
        );
    }
    let micros = |x: f64| format!("{:.0} us", x / 1e3);
    let tool = format!("`tracer {command}`");
    let slowest = Estimate::of(&slowest);
    rows.push(Row::of(format!("{what}: p99.9 beside {tool} over and over"), &slowest, micros));
    let later = Estimate::of_differences(&later);
    rows.push(Row::of(format!("{what}: that less a null tool's"), &later, micros));
    for (of, pairs) in [
        ("that against a null tool".to_owned(), &read),
        (format!("beside {tool} of another such process, against a null tool"), &elsewhere),
        (format!("beside {tool} against the same of another process: the lock's part"), &locked),
        ("a second null tool against the first".to_owned(), &placebo),
    ] {
        rows.push(Row::of(format!("{what}: {of}"), &Estimate::of_pairs(pairs), percent));
    }
    Ok(())
}

fn percent(x: f64) -> String {
    format!("{:+.1} %", 100.0 * x)
}

/// No difference is seen, by an instrument that would see one; of two tools that are the same, that it can tell anything.
fn is_nothing(ratio: &Estimate) -> bool {
    (ratio.low..=ratio.high).contains(&0.0) && ratio.half_width() <= HALF_WIDTH
}

/// The slowest of a second's beats but one, in nanoseconds.
fn beat(heart: &mut Fixture, beside: Beside) -> Result<f64> {
    let beats = beside_it(beside, || heart.ask(&format!("beat {BEATS}")))?;
    ensure!(beats["n"].as_u64() == Some(BEATS), "beats are missing: {beats}");
    beats["p999"].as_f64().filter(|p| *p > 0.0).context("a beat takes some time")
}

/// Does something while a tool runs, over and over.
pub(super) fn beside_it<T>(beside: Beside, does: impl FnOnce() -> Result<T>) -> Result<T> {
    let over = Arc::new(AtomicBool::new(false));
    let stop = Arc::clone(&over);
    let tool = thread::spawn(move || -> Result<u32> {
        let mut runs = 0;
        while !stop.load(Ordering::Relaxed) {
            let mut command = Command::new(project::tracer());
            match beside {
                Beside::Tracer { command: reading, pid } => {
                    command.args([reading, "--pid", &pid.to_string(), "--format", "json"])
                }
                Beside::Probes { pid } => command
                    .args(["--pid", &pid.to_string(), "--sampler", "sampled", "--duration", "300ms"])
                    .args(["--format", "json"])
                    .stderr(Stdio::null()),
                Beside::Null => command.arg("--version"),
            };
            let status = command.stdin(Stdio::null()).stdout(Stdio::null()).status()?;
            ensure!(status.success(), "tracer ended with {status}");
            runs += 1;
            thread::sleep(PAUSE);
        }
        Ok(runs)
    });
    let done = does();
    over.store(true, Ordering::Relaxed);
    let runs = tool.join().ok().context("the tool's thread ended")??;
    let done = done?;
    ensure!(runs > 0, "the tool did not run beside it");
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn estimate(low: f64, high: f64) -> Estimate {
        Estimate { mean: f64::midpoint(low, high), low, high, n: 60 }
    }

    #[test]
    fn slow_beats_and_noise_both_miss_their_bounds() {
        assert!(
            is_nothing(&estimate(-0.1, 0.1)) && !is_nothing(&estimate(0.01, 0.1)),
            "the beats are slower"
        );
        assert!(!is_nothing(&estimate(-0.5, 0.5)), "nobody knows");
        assert!(!is_nothing(&estimate(f64::NEG_INFINITY, f64::INFINITY)), "too few rounds");
    }
}
