//! Processor time added to the target by each allocation: tracer in `all` mode against bpftrace's count of the same functions.
//!
//! One target process for all of it; each round has every tool once, in an order of its own, so that what else the machine does
//! falls on all alike. The time is the target's own, and what a tool counted must be what the target made.

use std::time::Duration;

use anyhow::{Context as _, Result};

use super::Effort;
use super::statistics::{Dice, Estimate};
use super::table::{Bound, Row, figure};
use super::target::Entries;
use super::tools::{Bpftrace, Keeps, Null, Tracer, allocators};
use super::work::{Grist, Ground, Mill};
use crate::fixtures::{self, Mode};
use crate::toolchains::Toolchain;

/// Rounds of the mill under each tool, chosen so that each takes about the same time.
const NULL_ROUNDS: u64 = 120_000;
const TRACER_ROUNDS: u64 = 40_000;
const BPFTRACE_ROUNDS: u64 = 8_000;

/// What tracer may cost of what bpftrace costs.
const SHARE: f64 = 1.0 / 8.0;
/// How far tracer's count may be from the target's.
const COUNT_WITHIN: f64 = 0.001;
/// An entry may run again after the stack grew: bpftrace's count is close, not exact.
const BPFTRACE_WITHIN: f64 = 0.01;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Tool {
    Null,
    Tracer,
    Bpftrace,
}

/// What the rounds gave, one figure each.
#[derive(Default, Debug)]
struct Rounds {
    bare_ns: Vec<f64>,
    tracer_ns: Vec<f64>,
    bpftrace_ns: Vec<f64>,
    ratio: Vec<f64>,
    /// What tracer says that its hits took, per allocation.
    estimated_ns: Vec<f64>,
    estimate: Vec<f64>,
    count_error: Vec<f64>,
    bpftrace_error: Vec<f64>,
}

pub(super) fn measure(toolchain: &Toolchain, effort: Effort, rows: &mut Vec<Row>) -> Result<()> {
    let program = fixtures::build(&toolchain.go, "mill", Mode::Ordinary)?;
    for workers in [1, 4] {
        let mut mill = Mill::start(&program)?;
        let functions = allocators(mill.0.pid())?;
        let entries = Entries::of(&mill.0, toolchain, &functions)?;
        let mut dice = Dice::new(u64::from(workers) + 26);
        let mut rounds = Rounds::default();
        for round in 1..=effort.overhead_rounds {
            let mut order = [Tool::Null, Tool::Tracer, Tool::Bpftrace];
            dice.shuffle(&mut order);
            one_round(&mut mill, workers, order, &functions, &entries, &mut rounds)
                .with_context(|| format!("round {round} on Go {}", toolchain.pin.version))?;
            let last = |figures: &[f64]| figures.last().copied().unwrap_or(f64::NAN);
            eprintln!(
                "go {} x{workers} round {round}: alone {:.0} ns, tracer +{:.0} (estimated {:.0}), bpftrace +{:.0}, ratio 1/{:.1}",
                toolchain.pin.version,
                last(&rounds.bare_ns),
                last(&rounds.tracer_ns),
                last(&rounds.estimated_ns),
                last(&rounds.bpftrace_ns),
                1.0 / last(&rounds.ratio)
            );
        }
        write_rows(toolchain, workers, functions.len(), &rounds, rows);
    }
    Ok(())
}

fn one_round(
    mill: &mut Mill,
    workers: u32,
    order: [Tool; 3],
    functions: &[String],
    entries: &Entries,
    rounds: &mut Rounds,
) -> Result<()> {
    let each = |all: u64| all / u64::from(workers);
    let per_allocation = |work: &Ground| work.cpu_s * 1e9 / work.mallocs;
    let error = |count: f64, work: &Ground| (count - work.mallocs) / work.mallocs;
    let (mut bare, mut tracer_ns, mut bpftrace_ns, mut estimated_ns) = (0.0, 0.0, 0.0, 0.0);
    for tool in order {
        match tool {
            Tool::Null => {
                let null = Null::start()?;
                bare = per_allocation(&mill.run(Grist::Allocations, each(NULL_ROUNDS), workers)?);
                null.stop()?;
            }
            Tool::Tracer => {
                let arguments = ["--sampler", "all", "--events", "alloc", "--format", "json"];
                let tracer = Tracer::start(mill.0.pid(), &arguments)?;
                tracer.first_report()?;
                let work = mill.run(Grist::Allocations, each(TRACER_ROUNDS), workers)?;
                tracer_ns = per_allocation(&work);
                let report = tracer.stop()?;
                estimated_ns = report.estimated_s()? * 1e9 / work.mallocs;
                rounds.count_error.push(error(report.allocations()?, &work));
            }
            Tool::Bpftrace => {
                let bpftrace = Bpftrace::start(&mill.0, Keeps::Count, functions, entries)?;
                let work = mill.run(Grist::Allocations, each(BPFTRACE_ROUNDS), workers)?;
                bpftrace_ns = per_allocation(&work);
                rounds.bpftrace_error.push(error(bpftrace.stop(entries)?, &work));
            }
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    rounds.bare_ns.push(bare);
    rounds.tracer_ns.push(tracer_ns - bare);
    rounds.bpftrace_ns.push(bpftrace_ns - bare);
    rounds.estimated_ns.push(estimated_ns);
    rounds.estimate.push(estimated_ns / (tracer_ns - bare));
    rounds.ratio.push((tracer_ns - bare) / (bpftrace_ns - bare));
    Ok(())
}

fn write_rows(toolchain: &Toolchain, workers: u32, functions: usize, rounds: &Rounds, rows: &mut Vec<Row>) {
    let which =
        format!("Go {}, {workers} goroutine{}", toolchain.pin.version, if workers == 1 { "" } else { "s" });
    let mut plain = |what: &str, figures: &[f64]| {
        let estimate = Estimate::of(figures);
        rows.push(Row::of(format!("{which}: {what}"), &estimate, |x| format!("{} ns", figure(x))));
    };
    plain("an allocation alone", &rounds.bare_ns);
    plain("added by tracer --sampler all", &rounds.tracer_ns);
    plain("the same as tracer estimates it from its hits", &rounds.estimated_ns);
    plain(&format!("added by bpftrace counting {functions} entries"), &rounds.bpftrace_ns);
    let estimate = Estimate::of_ratios(&rounds.estimate);
    rows.push(
        Row::of(format!("{which}: tracer's estimate, of what it added"), &estimate, |x| format!("{x:.2}"))
            .bounded(Bound { text: "0.7 to 1.4".into(), holds: estimate.low >= 0.7 && estimate.high <= 1.4 }),
    );
    let ratio = Estimate::of_ratios(&rounds.ratio);
    rows.push(
        Row::of(format!("{which}: tracer's share of bpftrace's cost"), &ratio, |x| {
            format!("1/{:.1}", 1.0 / x)
        })
        .bounded(Bound { text: "<= 1/8".into(), holds: ratio.high <= SHARE }),
    );
    let worst = |errors: &[f64]| errors.iter().fold(0.0_f64, |worst, x| worst.max(x.abs()));
    let percent = |x: f64| format!("{:.4} %", 100.0 * x);
    let error = worst(&rounds.count_error);
    rows.push(
        Row::of(
            format!("{which}: tracer's count less the target's"),
            &Estimate::of(&rounds.count_error),
            percent,
        )
        .worst(percent(error))
        .bounded(Bound { text: "within 0.1 %".into(), holds: error <= COUNT_WITHIN }),
    );
    let error = worst(&rounds.bpftrace_error);
    rows.push(
        Row::of(
            format!("{which}: bpftrace's count less the target's"),
            &Estimate::of(&rounds.bpftrace_error),
            percent,
        )
        .worst(percent(error))
        .bounded(Bound { text: "within 1 % (it measured the same)".into(), holds: error <= BPFTRACE_WITHIN }),
    );
}
