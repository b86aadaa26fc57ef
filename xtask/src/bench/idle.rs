//! `--sampler none` beside the null tool: toggles on one target.
//!
//! In its toggles it must be nearly as busy as alone, or more ([`AS_BUSY`]).

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::Effort;
use super::statistics::{Dice, Estimate};
use super::table::{Bound, Row};
use super::toggles::{self, Pairs};
use super::tools::Tracer;
use super::work::{Grinds, Grist, Mill, Works as _};
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
    let [traced, placebo] = [&seen.pairs.cpu, &seen.pairs.placebo].map(|pairs| Estimate::of_pairs(pairs));
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
    pairs: Pairs,
    /// Tracer's share of a processor, of each session.
    on: Vec<f64>,
    alone: Vec<f64>,
    starts_ms: Vec<f64>,
}

/// A target and the three beside it.
fn session(program: &Path, toggles: usize, dice: &mut Dice, seen: &mut Seen) -> Result<()> {
    let mill = Mill::start(program)?;
    let mut target = Grinds { mill, grist: Grist::Allocations, rounds: ROUNDS, at_least: Duration::ZERO };
    target.work()?;
    let tracer = Tracer::start(target.target().pid(), &["--sampler", "none", "--format", "json"])?;
    tracer.first_report()?;
    target.work_for(Duration::from_secs(1))?;
    seen.starts_ms.push(1e3 * tracer.child().cpu_s()?);
    target.work_for(ALONE)?;
    let before = (Instant::now(), tracer.child().cpu_s()?);
    target.work_for(SETTLED)?;
    seen.alone.push((tracer.child().cpu_s()? - before.1) / before.0.elapsed().as_secs_f64());
    seen.on.push(toggles::session(&mut target, tracer, toggles, dice, &mut seen.pairs)?);
    seen.pairs.tell("--sampler none");
    Ok(())
}
