//! `--sampler none` beside the null tool: pairs of toggles on one target, each pair in a random order.

use anyhow::{Result, ensure};

use super::Effort;
use super::statistics::{Dice, Estimate};
use super::table::{Bound, Row};
use super::target::Mill;
use super::tools::{self, Tracer};
use crate::fixtures::{self, Mode};
use crate::toolchains::Toolchain;

/// About a second of work.
const ROUNDS: u64 = 700_000;
/// An interval wider than this on each side says nothing.
const HALF_WIDTH: f64 = 0.02;

pub(super) fn measure(toolchain: &Toolchain, effort: Effort, rows: &mut Vec<Row>) -> Result<()> {
    let program = fixtures::build(&toolchain.go, "mill", Mode::Ordinary)?;
    let mut mill = Mill::start(&program)?;
    mill.run(ROUNDS / 4, 1)?;
    let mut dice = Dice::new(60);
    let mut differences = Vec::new();
    for pair in 1..=effort.idle_pairs {
        let mut order = [false, true];
        dice.shuffle(&mut order);
        let mut cpu = [0.0; 2];
        for traced in order {
            cpu[usize::from(traced)] = toggle(&mut mill, traced)?;
        }
        let [alone, traced] = cpu;
        let difference = (traced - alone) / alone;
        differences.push(difference);
        if pair % 10 == 0 {
            let so_far = Estimate::of_pairs(&differences);
            eprintln!(
                "--sampler none, pair {pair}: {:+.3} % [{:+.3}, {:+.3}]",
                100.0 * so_far.mean,
                100.0 * so_far.low,
                100.0 * so_far.high
            );
        }
    }
    let estimate = Estimate::of_pairs(&differences);
    let holds = (estimate.low..=estimate.high).contains(&0.0) && estimate.half_width() <= HALF_WIDTH;
    rows.push(
        Row::of(
            format!("Go {}: CPU added by tracer --sampler none", toolchain.pin.version),
            &estimate,
            |x| format!("{:+.2} %", 100.0 * x),
        )
        .bounded(Bound { text: "the interval includes 0 and is at most 2 % to each side".into(), holds }),
    );
    Ok(())
}

/// Processor time per round of work, by the target's own account.
fn toggle(mill: &mut Mill, traced: bool) -> Result<f64> {
    let work = if traced {
        let tracer = Tracer::start(mill.child.pid(), &["--sampler", "none", "--format", "json"])?;
        tracer.first_report()?;
        let work = mill.run(ROUNDS, 1)?;
        tracer.stop()?;
        work
    } else {
        let null = tools::start_null()?;
        let work = mill.run(ROUNDS, 1)?;
        drop(null);
        work
    };
    ensure!(work.cpu_s > 0.0, "the mill took no time");
    Ok(work.cpu_s / work.rounds)
}
