//! What a heap census takes: processor time per span, the wait for the first figures of a large heap, and whether the target's own
//! memory calls notice it.
//!
//! The target (tests/fixtures/go/heartbeat) is this chapter's own; it fills a gibibyte and beats.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::Effort;
use super::statistics::{Dice, Estimate};
use super::table::{Bound, Row};
use super::target::Owned;
use super::tools::Tracer;
use crate::fixtures::{self, Mode};
use crate::project;
use crate::toolchains::Toolchain;

/// A little more than a gibibyte with what the objects' list takes.
const HEAP_MIB: u64 = 960;
const SPAN_US: f64 = 0.5;
const FIRST_FIGURES_S: f64 = 0.5;
/// Beats of one toggle: the slowest of a thousand is its second slowest.
const BEATS: u64 = 3000;
/// Between two censuses, or two programs that only start and end.
const PAUSE: Duration = Duration::from_millis(100);

/// A running target that answers lines.
struct Heart {
    child: Owned,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Heart {
    fn start(program: &Path) -> Result<Self> {
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

    fn ask(&mut self, command: &str) -> Result<Value> {
        writeln!(self.stdin, "{command}")?;
        serde_json::from_str(&self.line()?).context("the target answers in JSON")
    }
}

pub(super) fn measure(toolchain: &Toolchain, effort: Effort, rows: &mut Vec<Row>) -> Result<()> {
    let program = fixtures::build(&toolchain.go, "heartbeat", Mode::Ordinary)?;
    let version = toolchain.pin.version;
    let small = Heart::start(&program)?;
    let mut large = Heart::start(&program)?;
    let filled = large.ask(&format!("fill {HEAP_MIB}"))?;
    let heap = filled["heap_inuse"].as_f64().context("the target says what its heap has")?;
    ensure!(heap >= (1_u64 << 30) as f64, "the target's heap has only {heap} bytes");

    // The same program with and without a heap: what opening it takes is in both.
    let mut per_span = Vec::new();
    for _ in 0..effort.censuses {
        let (empty_cpu, empty_spans) = census(small.child.pid())?;
        let (cpu, spans) = census(large.child.pid())?;
        ensure!(spans > 100_000.0, "only {spans} spans were counted");
        per_span.push((cpu - empty_cpu) / (spans - empty_spans) * 1e6);
        eprintln!("census: {spans:.0} spans in {:.1} ms, {:.1} ms without them", cpu * 1e3, empty_cpu * 1e3);
    }
    let estimate = Estimate::of(&per_span);
    let holds = estimate.high <= SPAN_US;
    rows.push(
        Row::of(format!("Go {version}, 1 GiB heap: CPU of a census with types, per span"), &estimate, |x| {
            format!("{x:.3} us")
        })
        .bounded(Bound { text: format!("<= {SPAN_US} us"), holds }),
    );

    let mut first = Vec::new();
    for _ in 0..effort.sessions {
        let tracer = Tracer::start(large.child.pid(), &["--sampler", "none"])?;
        first.push(tracer.first_report()?);
        thread::sleep(effort.session);
        tracer.stop()?;
    }
    eprintln!("first figures {first:.3?}");
    let worst = first.iter().copied().fold(0.0, f64::max);
    let seconds = |x: f64| format!("{x:.3} s");
    rows.push(
        Row::of(
            format!("Go {version}, 1 GiB heap: first figures after start"),
            &Estimate::of(&first),
            seconds,
        )
        .worst(seconds(worst))
        .bounded(Bound { text: format!("worst <= {FIRST_FIGURES_S} s"), holds: worst <= FIRST_FIGURES_S }),
    );
    heartbeat(&mut large, version, effort, rows)
}

/// Processor seconds and spans of one `tracer heap`.
fn census(pid: u32) -> Result<(f64, f64)> {
    let output = Command::new(project::tracer())
        .args(["heap", "--pid", &pid.to_string(), "--format", "json"])
        .stdin(Stdio::null())
        .output()
        .context("cannot start tracer")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).context("the report is JSON")?;
    let number =
        |path: &str| report.pointer(path).and_then(Value::as_f64).with_context(|| format!("no {path}"));
    ensure!(number("/heap/census/torn_spans")? == 0.0, "spans of a quiet target were torn");
    Ok((number("/session/cost/tracer_cpu_s")?, number("/heap/census/spans")?))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Beside {
    Census,
    Null,
    NullAgain,
}

/// The slowest beats beside censuses against those beside programs that start, read nothing and end.
fn heartbeat(heart: &mut Heart, version: &str, effort: Effort, rows: &mut Vec<Row>) -> Result<()> {
    let mut dice = Dice::new(4);
    let (mut read, mut placebo, mut slowest) = (Vec::new(), Vec::new(), Vec::new());
    for round in 1..=effort.beats {
        let mut order = [Beside::Census, Beside::Null, Beside::NullAgain];
        dice.shuffle(&mut order);
        let mut p999 = [0.0; 3];
        for beside in order {
            p999[beside as usize] = beat(heart, beside)?;
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
        format!("Go {version}, 1 GiB heap: p99.9 of a 1 kHz heartbeat beside censuses"),
        &Estimate::of(&slowest),
        micros,
    ));
    rows.push(
        Row::of(format!("Go {version}: the same against a null tool"), &read, percent).bounded(Bound {
            text: "the interval includes 0, or meets the second null tool's".into(),
            holds,
        }),
    );
    rows.push(Row::of(format!("Go {version}: a second null tool against the first"), &placebo, percent));
    Ok(())
}

fn beat(heart: &mut Heart, beside: Beside) -> Result<f64> {
    let over = Arc::new(AtomicBool::new(false));
    let (stop, pid) = (Arc::clone(&over), heart.child.pid().to_string());
    let tool = thread::spawn(move || -> Result<u32> {
        let mut runs = 0;
        while !stop.load(Ordering::Relaxed) {
            let mut command = Command::new(project::tracer());
            match beside {
                Beside::Census => command.args(["heap", "--pid", &pid, "--format", "json"]),
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
