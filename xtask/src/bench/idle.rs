//! `--sampler none` beside the null tool: toggles on one target, in threes of a random order: tracer, the null tool, and the null tool
//! again, which shows what the instrument says of no difference at all.
//!
//! All three are there throughout, and all but one of them are stopped: a session that begins anew for each toggle is all start. What
//! tracer missed while it was stopped is due when it goes on, and a reading that was stopped midway counts as a long one and is not due
//! again for a while, so that what it reads is not what it reads alone: both shares of a processor are told, and in its toggles it must be
//! nearly as busy as alone, or more ([`AS_BUSY`]).

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;

use super::Effort;
use super::statistics::{Dice, Estimate};
use super::table::{Bound, Row};
use super::target::{Mill, Owned};
use super::tools::{Null, Tracer, send};
use crate::fixtures::{self, Mode};
use crate::toolchains::Toolchain;

/// About a fifth of a second of work. What disturbs lasts for seconds, so short toggles beside each other share it.
const ROUNDS: u64 = 140_000;
/// An interval wider than this on each side says nothing.
const HALF_WIDTH: f64 = 0.02;

/// Sessions that the toggles are shared out to: how the kernel places one is in all of its toggles.
const SESSIONS: usize = 8;
/// Before the toggles of a session, with tracer alone: its first readings, which come faster than the later ones, are over then.
const ALONE: Duration = Duration::from_secs(20);
/// After [`ALONE`]: what tracer takes by itself is measured.
const SETTLED: Duration = Duration::from_secs(4);
/// Least share of a processor in the toggles, of what it is alone.
const AS_BUSY: f64 = 0.8;

pub(super) fn measure(toolchain: &Toolchain, effort: Effort, rows: &mut Vec<Row>) -> Result<()> {
    let program = fixtures::build(&toolchain.go, "mill", Mode::Ordinary)?;
    let mut dice = Dice::new(60);
    let mut seen = Seen::default();
    for _ in 0..SESSIONS.min(effort.idle_toggles) {
        session(&program, effort.idle_toggles.div_ceil(SESSIONS), &mut dice, &mut seen)?;
    }
    let percent = |x: f64| format!("{:+.2} %", 100.0 * x);
    let share = |x: f64| format!("{:.2} %", 100.0 * x);
    let version = toolchain.pin.version;
    let [traced, placebo] = [&seen.traced, &seen.placebo].map(|pairs| Estimate::of_pairs(pairs));
    let [on, alone] = [&seen.on, &seen.alone].map(|shares| Estimate::of(shares));
    // It worked whenever it was on, or the comparison is of two null tools.
    ensure!(
        on.mean >= AS_BUSY * alone.mean,
        "tracer took {} of a processor in its toggles and {} alone: it was stopped too often to read",
        share(on.mean),
        share(alone.mean)
    );
    let holds = (traced.low..=traced.high).contains(&0.0) && traced.half_width() <= HALF_WIDTH;
    let bound = Bound { text: "the interval includes 0 and is at most 2 % to each side".into(), holds };
    rows.push(
        Row::of(format!("Go {version}: CPU added by tracer --sampler none"), &traced, percent).bounded(bound),
    );
    rows.push(Row::of(format!("Go {version}: CPU added by a second null tool"), &placebo, percent));
    rows.push(Row::of(format!("Go {version}: tracer's own share of a processor in its toggles"), &on, share));
    rows.push(Row::of(format!("Go {version}: the same where it is never stopped"), &alone, share));
    rows.push(Row::of(
        format!("Go {version}: tracer's own processor time for its start and the first second"),
        &Estimate::of(&seen.starts_ms),
        |x| format!("{x:.0} ms"),
    ));
    Ok(())
}

/// What the sessions gave.
#[derive(Default)]
struct Seen {
    traced: Vec<(f64, f64)>,
    placebo: Vec<(f64, f64)>,
    /// Tracer's share of a processor, of each session.
    on: Vec<f64>,
    alone: Vec<f64>,
    starts_ms: Vec<f64>,
}

/// A target and the three beside it.
fn session(program: &Path, toggles: usize, dice: &mut Dice, seen: &mut Seen) -> Result<()> {
    let mut mill = Mill::start(program)?;
    mill.run(ROUNDS, 1)?;
    let tracer = Tracer::start(mill.child.pid(), &["--sampler", "none", "--format", "json"])?;
    tracer.first_report()?;
    work_for(&mut mill, Duration::from_secs(1))?;
    seen.starts_ms.push(1e3 * cpu_s(tracer.child())?);
    work_for(&mut mill, ALONE)?;
    let before = (Instant::now(), cpu_s(tracer.child())?);
    work_for(&mut mill, SETTLED)?;
    seen.alone.push((cpu_s(tracer.child())? - before.1) / before.0.elapsed().as_secs_f64());

    let (null, again) = (Null::start()?, Null::start()?);
    let tools = [tracer.child(), null.child(), again.child()];
    for tool in tools {
        send(tool, Signal::STOP)?;
    }
    let (begun, mut on) = (cpu_s(tracer.child())?, Duration::ZERO);
    for _ in 0..toggles {
        let mut order = [0, 1, 2];
        dice.shuffle(&mut order);
        let mut cpu = [0.0; 3];
        for beside in order {
            let since = Instant::now();
            cpu[beside] = one(&mut mill, tools[beside], dice)?;
            on += if beside == 0 { since.elapsed() } else { Duration::ZERO };
        }
        let [with, null, again] = cpu;
        seen.traced.push((with, null));
        seen.placebo.push((again, null));
    }
    let Estimate { mean, low, high, n } = Estimate::of_pairs(&seen.traced);
    let [mean, low, high] = [mean, low, high].map(|x| 100.0 * x);
    eprintln!("--sampler none, toggle {n}: {mean:+.3} % [{low:+.3}, {high:+.3}]");
    seen.on.push((cpu_s(tracer.child())? - begun) / on.as_secs_f64());
    for tool in tools {
        send(tool, Signal::CONT)?;
    }
    tracer.stop()?;
    null.stop()?;
    again.stop()
}

fn work_for(mill: &mut Mill, time: Duration) -> Result<()> {
    let begun = Instant::now();
    while begun.elapsed() < time {
        mill.run(ROUNDS, 1)?;
    }
    Ok(())
}

/// Processor time that a process took so far, of all its threads.
pub(super) fn cpu_s(tool: &Owned) -> Result<f64> {
    let mut nanoseconds = 0.0;
    for thread in std::fs::read_dir(format!("/proc/{}/task", tool.pid()))? {
        let told = std::fs::read_to_string(thread?.path().join("schedstat"))?;
        let word = told.split_whitespace().next().context("schedstat has three words")?;
        nanoseconds += word.parse::<f64>()?;
    }
    Ok(nanoseconds / 1e9)
}

/// Processor time per round of work, by the target's own account.
fn one(mill: &mut Mill, beside: &Owned, dice: &mut Dice) -> Result<f64> {
    send(beside, Signal::CONT)?;
    // The mill collects its garbage before it looks at the clock: what is due at once must not always fall into that.
    thread::sleep(Duration::from_millis(dice.below(100)));
    let work = mill.run(ROUNDS, 1).context("the mill beside a tool")?;
    send(beside, Signal::STOP)?;
    ensure!(work.cpu_s > 0.0, "the mill took no time");
    Ok(work.cpu_s / work.rounds)
}
