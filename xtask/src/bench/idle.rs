//! `--sampler none` beside the null tool: toggles on one target, in threes of a random order: tracer, the null tool, and the null tool
//! again, which shows what the instrument says of no difference at all.
//!
//! All three are there throughout, and all but one of them are stopped. What tracer missed meanwhile is due at once when it goes on, so
//! that it reads more often than in a session of its own. What it does once, at its start, is told apart.

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
const ARGUMENTS: [&str; 4] = ["--sampler", "none", "--format", "json"];

pub(super) fn measure(toolchain: &Toolchain, effort: Effort, rows: &mut Vec<Row>) -> Result<()> {
    let program = fixtures::build(&toolchain.go, "mill", Mode::Ordinary)?;
    let mut mill = Mill::start(&program)?;
    mill.run(ROUNDS, 1)?;
    let mut starts = Vec::new();
    for _ in 0..effort.sessions {
        let tracer = Tracer::start(mill.child.pid(), &ARGUMENTS)?;
        tracer.first_report()?;
        mill.run(3 * ROUNDS, 1)?;
        starts.push(1e3 * tracer.stop()?.cpu_s()?);
    }

    let tracer = Tracer::start(mill.child.pid(), &ARGUMENTS)?;
    tracer.first_report()?;
    let (null, again) = (Null::start()?, Null::start()?);
    let tools = [tracer.child(), null.child(), again.child()];
    // Its first census is over by then.
    mill.run(5 * ROUNDS, 1)?;
    for tool in tools {
        send(tool, Signal::STOP)?;
    }
    let mut dice = Dice::new(60);
    let (mut traced, mut placebo, mut on) = (Vec::new(), Vec::new(), Duration::ZERO);
    for toggles in 1..=effort.idle_toggles {
        let mut order = [0, 1, 2];
        dice.shuffle(&mut order);
        let mut cpu = [0.0; 3];
        for beside in order {
            let begun = Instant::now();
            cpu[beside] = toggle(&mut mill, tools[beside])?;
            on += if beside == 0 { begun.elapsed() } else { Duration::ZERO };
        }
        let [with, null, again] = cpu;
        traced.push((with, null));
        placebo.push((again, null));
        if toggles % 32 == 0 {
            let Estimate { mean, low, high, .. } = Estimate::of_pairs(&traced);
            let [mean, low, high] = [mean, low, high].map(|x| 100.0 * x);
            eprintln!("--sampler none, toggle {toggles}: {mean:+.3} % [{low:+.3}, {high:+.3}]");
        }
    }
    for tool in tools {
        send(tool, Signal::CONT)?;
    }
    let cpu_s = tracer.stop()?.cpu_s()?;
    null.stop()?;
    again.stop()?;

    let percent = |x: f64| format!("{:+.2} %", 100.0 * x);
    let version = toolchain.pin.version;
    let (traced, placebo) = (Estimate::of_pairs(&traced), Estimate::of_pairs(&placebo));
    let holds = (traced.low..=traced.high).contains(&0.0) && traced.half_width() <= HALF_WIDTH;
    let bound = Bound { text: "the interval includes 0 and is at most 2 % to each side".into(), holds };
    rows.push(
        Row::of(format!("Go {version}: CPU added by tracer --sampler none"), &traced, percent).bounded(bound),
    );
    rows.push(Row::of(format!("Go {version}: CPU added by a second null tool"), &placebo, percent));
    let start_ms = Estimate::of(&starts);
    // It worked whenever it was on, or the comparison is of two null tools.
    let share = (cpu_s - start_ms.mean / 1e3) / on.as_secs_f64();
    ensure!(share > 0.001, "tracer took {share:.5} of a processor while it was on: it read nothing");
    rows.push(Row::of(
        format!("Go {version}: tracer's own share of a processor meanwhile"),
        &Estimate::of(&[share]),
        percent,
    ));
    rows.push(Row::of(
        format!("Go {version}: tracer's own processor time for its start and the first half second"),
        &start_ms,
        |x| format!("{x:.0} ms"),
    ));
    Ok(())
}

/// Processor time per round of work, by the target's own account.
fn toggle(mill: &mut Mill, beside: &Owned) -> Result<f64> {
    send(beside, Signal::CONT)?;
    let work = mill.run(ROUNDS, 1).context("the mill beside a tool")?;
    send(beside, Signal::STOP)?;
    ensure!(work.cpu_s > 0.0, "the mill took no time");
    Ok(work.cpu_s / work.rounds)
}
