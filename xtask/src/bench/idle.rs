//! `--sampler none` beside the null tool: toggles on one target, in threes of a random order: tracer, the null tool, and the null tool
//! again, which shows what the instrument says of no difference at all.

use anyhow::{Result, ensure};

use super::Effort;
use super::statistics::{Dice, Estimate};
use super::table::{Bound, Row};
use super::target::Mill;
use super::tools::{Null, Tracer};
use crate::fixtures::{self, Mode};
use crate::toolchains::Toolchain;

/// About a fifth of a second of work. What disturbs lasts for seconds, so short toggles beside each other share it; two readings fall
/// into each.
const ROUNDS: u64 = 140_000;
/// An interval wider than this on each side says nothing.
const HALF_WIDTH: f64 = 0.02;

#[derive(Clone, Copy)]
enum Beside {
    Tracer,
    Null,
    NullAgain,
}

pub(super) fn measure(toolchain: &Toolchain, effort: Effort, rows: &mut Vec<Row>) -> Result<()> {
    let program = fixtures::build(&toolchain.go, "mill", Mode::Ordinary)?;
    let mut mill = Mill::start(&program)?;
    mill.run(ROUNDS, 1)?;
    let mut dice = Dice::new(60);
    let (mut traced, mut placebo) = (Vec::new(), Vec::new());
    for toggles in 1..=effort.idle_toggles {
        let mut order = [Beside::Tracer, Beside::Null, Beside::NullAgain];
        dice.shuffle(&mut order);
        let mut cpu = [0.0; 3];
        for beside in order {
            cpu[beside as usize] = toggle(&mut mill, beside)?;
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
    let percent = |x: f64| format!("{:+.2} %", 100.0 * x);
    let version = toolchain.pin.version;
    let (traced, placebo) = (Estimate::of_pairs(&traced), Estimate::of_pairs(&placebo));
    let holds = (traced.low..=traced.high).contains(&0.0) && traced.half_width() <= HALF_WIDTH;
    let bound = Bound { text: "the interval includes 0 and is at most 2 % to each side".into(), holds };
    rows.push(
        Row::of(format!("Go {version}: CPU added by tracer --sampler none"), &traced, percent).bounded(bound),
    );
    rows.push(Row::of(format!("Go {version}: CPU added by a second null tool"), &placebo, percent));
    Ok(())
}

/// Processor time per round of work, by the target's own account.
fn toggle(mill: &mut Mill, beside: Beside) -> Result<f64> {
    let work = match beside {
        Beside::Tracer => {
            let tracer = Tracer::start(mill.child.pid(), &["--sampler", "none", "--format", "json"])?;
            tracer.first_report()?;
            let work = mill.run(ROUNDS, 1)?;
            tracer.stop()?;
            work
        }
        Beside::Null | Beside::NullAgain => {
            let null = Null::start()?;
            let work = mill.run(ROUNDS, 1)?;
            null.stop()?;
            work
        }
    };
    ensure!(work.cpu_s > 0.0, "the mill took no time");
    Ok(work.cpu_s / work.rounds)
}
