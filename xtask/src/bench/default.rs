//! A session with nothing but `--pid` on a server that answers JSON requests, on a worker that is all maps and on a server that hardly
//! anybody asks: processor time per unit of work and how long requests take, against a null tool's, and what tracer itself takes.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::Effort;
use super::memory::Allowance;
use super::statistics::{Dice, Estimate};
use super::table::{Bound, Row};
use super::toggles::{self, Pairs};
use super::tools::Tracer;
use super::work::{Grinds, Grist, Load, Mill, Serves, Works};
use crate::fixtures::{self, Mode, Variant};
use crate::toolchains::Toolchain;

/// The server is at work nearly all of the time.
pub(super) const BUSY: Load = Load { connections: 2, pause_ms: 0 };
/// Some forty requests a second.
pub(super) const IDLE: Load = Load { connections: 1, pause_ms: 25 };
/// About a quarter of a second of work on maps.
const ROUNDS: u64 = 250_000;
/// Sessions that the toggles are shared out to.
const SESSIONS: usize = 4;
/// Before the toggles of a session: its first readings come faster.
const ALONE: Duration = Duration::from_secs(20);
const MEASURED: Duration = Duration::from_millis(250);
/// An interval wider than this on each side says nothing.
const HALF_WIDTH: f64 = 0.02;
/// What hits and readings may take of a processor, of a program with the profiler and of one without.
const PROFILED: f64 = 0.01;
const UNPROFILED: f64 = 0.02;
/// What tracer itself may take of a processor, once its start is over.
const OWN: f64 = 0.02;
const OWN_FROM: Duration = Duration::from_secs(10);
const OWN_FOR: Duration = Duration::from_secs(30);

/// On a server under load, of both builds.
pub(super) fn served(toolchain: &Toolchain, effort: Effort, rows: &mut Vec<Row>) -> Result<()> {
    for (profiled, most) in [(true, PROFILED), (false, UNPROFILED)] {
        let variant = Variant { profiled, ..Mode::Ordinary.into() };
        let program = fixtures::build(&toolchain.go, "http", variant)?;
        let linked = if profiled { "in" } else { "out" };
        let what = format!("Go {}, profiler linked {linked}", toolchain.pin.version);
        let mut server = Serves::start(&program, BUSY, MEASURED)?;
        toggled(&mut server, &what, "request", most, effort, rows)?;
        whole(&mut server, &what, most, effort, rows)?;
    }
    Ok(())
}

/// On a worker that is all maps, and on a server that is hardly asked, without the profiler.
pub(super) fn others(toolchain: &Toolchain, effort: Effort, rows: &mut Vec<Row>) -> Result<()> {
    let version = toolchain.pin.version;
    let mill = Mill::start(&fixtures::build(&toolchain.go, "mill", Mode::Ordinary)?)?;
    let mut worker = Grinds { mill, grist: Grist::Maps, rounds: ROUNDS, at_least: Duration::ZERO };
    let what = format!("Go {version}, map worker");
    toggled(&mut worker, &what, "round", UNPROFILED, effort, rows)?;
    whole(&mut worker, &what, UNPROFILED, effort, rows)?;
    drop(worker);
    let program = fixtures::build(&toolchain.go, "http", Mode::Ordinary)?;
    let mut server = Serves::start(&program, IDLE, MEASURED)?;
    whole(&mut server, &format!("Go {version}, idle server"), UNPROFILED, effort, rows)
}

/// What readings take.
fn toggled(
    target: &mut impl Works,
    what: &str,
    unit: &str,
    most: f64,
    effort: Effort,
    rows: &mut Vec<Row>,
) -> Result<()> {
    let mut dice = Dice::new(11);
    let mut seen = Pairs::default();
    for _ in 0..SESSIONS.min(effort.default_toggles) {
        let tracer = Tracer::start(target.target().pid(), &["--format", "json"])?;
        tracer.first_report()?;
        target.work_for(ALONE)?;
        let toggles = effort.default_toggles.div_ceil(SESSIONS);
        toggles::session(target, tracer, toggles, &mut dice, &mut seen)?;
        seen.tell(what);
    }
    let percent = |x: f64| format!("{:+.2} %", 100.0 * x);
    let ratio = Estimate::of_pairs(&seen.cpu);
    let holds = ratio.low <= most && ratio.half_width() <= HALF_WIDTH;
    let text = format!("the interval reaches <= {} and is at most 2 % to each side", percent(most));
    rows.push(
        Row::of(format!("{what}: CPU per {unit} added by readings"), &ratio, percent)
            .bounded(Bound { text, holds }),
    );
    let null = Estimate::of_pairs(&seen.placebo);
    rows.push(Row::of(format!("{what}: CPU per {unit} added by a second null tool"), &null, percent));
    if !seen.slow.is_empty() {
        let slow = Estimate::of_pairs(&seen.slow);
        rows.push(Row::of(format!("{what}: p99 of a {unit}, added by readings"), &slow, percent));
    }
    Ok(())
}

/// Whole sessions that nobody stops: what they take from the target, and what tracer itself takes.
fn whole(target: &mut impl Works, what: &str, most: f64, effort: Effort, rows: &mut Vec<Row>) -> Result<()> {
    let (mut estimates, mut shares, mut peaks) = (Vec::new(), Vec::new(), Vec::new());
    let pid = target.target().pid();
    for _ in 0..effort.sessions {
        let tracer = Tracer::start(pid, &["--format", "json"])?;
        tracer.first_report()?;
        target.work_for(OWN_FROM)?;
        let (begun, before) = (Instant::now(), tracer.child().cpu_s()?);
        target.work_for(OWN_FOR)?;
        shares.push((tracer.child().cpu_s()? - before) / begun.elapsed().as_secs_f64());
        let ended = tracer.stop()?;
        peaks.push(ended.peak_mib);
        estimates.push(ended.estimated_share()?);
    }
    let share = |x: f64| format!("{:.2} %", 100.0 * x);
    let (estimate, of) = (Estimate::of(&estimates), Estimate::of(&shares));
    let worst = estimates.iter().copied().fold(0.0, f64::max);
    rows.push(
        Row::of(format!("{what}: hits and readings of a whole session, of a processor"), &estimate, share)
            .worst(share(worst))
            .bounded(Bound { text: format!("<= {}", share(most)), holds: estimate.high <= most }),
    );
    let bound = Bound { text: format!("<= {:.0} %", 100.0 * OWN), holds: of.high <= OWN };
    rows.push(Row::of(format!("{what}: tracer's own share of a processor"), &of, share).bounded(bound));
    let allowed = Allowance::of_process(pid)?;
    rows.push(allowed.row(format!("{what}: tracer's peak memory (VmHWM)"), &peaks));
    Ok(())
}
