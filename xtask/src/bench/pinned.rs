//! A type that leaks a thousand objects a second at one place, whose calls a default session comes to probe: processor time per unit of
//! work against a null tool's, what the probes take by tracer's own account, and whether it counts what the target counts.
//!
//! A toggle is a session of its own: probes stay where they are in one that is stopped.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::Value;

use super::Effort;
use super::statistics::Estimate;
use super::table::{Bound, Row};
use super::target::{Fixture, told};
use super::tools::{Null, Tracer};
use crate::fixtures::{self, Mode};
use crate::toolchains::Toolchain;

/// The place that keeps what it makes.
const PLACE: &str = "main.keep";
/// Objects that are there before a measure, about as many as a session needs until it probes the place.
const BEFORE: u64 = 8_000;
/// Units of a measure: a millisecond each, and one object.
const UNITS: u64 = 4_000;
/// Units between two looks at whether the place is probed.
const BETWEEN: u64 = 1_000;
const PROBED_WITHIN: Duration = Duration::from_mins(1);
/// Cycles after which what lives is known of all that was made before them.
const CYCLES: u32 = 3;
const CYCLE: Duration = Duration::from_millis(500);
/// What it may add.
const MOST: f64 = 0.005;
const HALF_WIDTH: f64 = 0.02;

/// What a session said of a measure, less what the target said.
#[derive(Default)]
struct Seen {
    pairs: Vec<(f64, f64)>,
    placebo: Vec<(f64, f64)>,
    /// Of a processor, by tracer's own account.
    estimated: Vec<f64>,
    rates: Vec<f64>,
    calls: Vec<f64>,
    live: Vec<f64>,
}

pub(super) fn measure(toolchain: &Toolchain, effort: Effort, rows: &mut Vec<Row>) -> Result<()> {
    let program = fixtures::build(&toolchain.go, "pinned", Mode::Ordinary)?;
    let mut seen = Seen::default();
    let mut target = Target::start(&program)?;
    let mut before = target.alone()?;
    for round in 1..=effort.pinned {
        let with = target.traced(&mut seen)?;
        let after = target.alone()?;
        seen.pairs.push((with, (before * after).sqrt()));
        seen.placebo.push((after, before));
        before = after;
        let of = Estimate::of_pairs(&seen.pairs);
        let last = |figures: &[f64]| figures.last().copied().unwrap_or(f64::NAN);
        eprintln!(
            "pinned, round {round}: {:+.2} % [{:+.2}, {:+.2}], estimated {:.3} %; calls {:+}, live {:+}",
            100.0 * of.mean,
            100.0 * of.low,
            100.0 * of.high,
            100.0 * last(&seen.estimated),
            last(&seen.calls),
            last(&seen.live)
        );
    }
    seen.rows(&format!("Go {}, {UNITS} objects", toolchain.pin.version), rows);
    Ok(())
}

struct Target(Fixture);

impl Target {
    fn start(program: &Path) -> Result<Self> {
        Ok(Self(Fixture::start(program)?))
    }

    /// Processor time of a unit beside a null tool.
    fn alone(&mut self) -> Result<f64> {
        self.0.ask("forget")?;
        self.0.ask(&format!("keep {BEFORE}"))?;
        let null = Null::start()?;
        let worked = self.work(UNITS)?;
        null.stop()?;
        Ok(told(&worked, "cpu_s")? / told(&worked, "units")?)
    }

    /// Processor time of a unit in a session that has come to probe the place.
    fn traced(&mut self, seen: &mut Seen) -> Result<f64> {
        self.0.ask("forget")?;
        let tracer = Tracer::start(self.0.pid(), &["--format", "json"])?;
        tracer.first_report()?;
        let begun = Instant::now();
        while calls(&tracer.interim()?.json()?).is_none() {
            ensure!(begun.elapsed() < PROBED_WITHIN, "the place was not probed in {PROBED_WITHIN:?}");
            self.work(BETWEEN)?;
        }
        self.settle()?;
        let first = tracer.interim()?;
        let worked = self.work(UNITS)?;
        let then = tracer.interim()?;
        self.settle()?;
        let last = tracer.stop()?.json()?;
        let took_s = then.taken_s()?.0 - first.taken_s()?.0;
        let of_s = then.taken_s()?.1 - first.taken_s()?.1;
        let first = first.json()?;
        let units = told(&worked, "units")?;
        seen.estimated.push(took_s / of_s);
        seen.rates.push(units / told(&worked, "wall_s")?);
        seen.calls.push(calls(&last).unwrap_or(0.0) - calls(&first).unwrap_or(0.0) - units);
        seen.live.push(live(&last) - live(&first) - units);
        Ok(told(&worked, "cpu_s")? / units)
    }

    fn work(&mut self, units: u64) -> Result<Value> {
        self.0.ask(&format!("work {units}"))
    }

    fn settle(&mut self) -> Result<()> {
        for _ in 0..CYCLES {
            self.0.ask("gc")?;
            thread::sleep(CYCLE);
        }
        Ok(())
    }
}

/// Rows of a report that are of the place.
fn of_place<'a>(report: &'a Value, rows: &str) -> impl Iterator<Item = &'a Value> {
    let rows = report[rows].as_array().into_iter().flatten();
    rows.filter(|row| row.pointer("/stack/0/function").and_then(Value::as_str) == Some(PLACE))
}

/// Calls of the place that were counted; `None` where it is not probed.
fn calls(report: &Value) -> Option<f64> {
    of_place(report, "pins").filter_map(|pin| pin["calls"].as_f64()).reduce(|a, b| a + b)
}

/// Objects of the place that live, as far as they are known.
fn live(report: &Value) -> f64 {
    let objects = of_place(report, "allocations").filter_map(|row| row.pointer("/live/objects"));
    objects.filter_map(Value::as_f64).sum()
}

impl Seen {
    fn rows(&self, what: &str, rows: &mut Vec<Row>) {
        let percent = |x: f64| format!("{:+.2} %", 100.0 * x);
        let ratio = Estimate::of_pairs(&self.pairs);
        let holds = ratio.low <= MOST && ratio.half_width() <= HALF_WIDTH;
        let text = format!("the interval reaches <= {} and is at most 2 % to each side", percent(MOST));
        rows.push(
            Row::of(format!("{what}: CPU per unit added by the session"), &ratio, percent)
                .bounded(Bound { text, holds }),
        );
        let placebo = Estimate::of_pairs(&self.placebo);
        rows.push(Row::of(format!("{what}: the null tool against itself"), &placebo, percent));
        let estimate = Estimate::of(&self.estimated);
        let text = format!("<= {:.1} %", 100.0 * MOST);
        rows.push(
            Row::of(format!("{what}: hits and readings, of a processor"), &estimate, |x| {
                format!("{:.3} %", 100.0 * x)
            })
            .bounded(Bound { text, holds: estimate.high <= MOST }),
        );
        let rate = Estimate::of(&self.rates);
        rows.push(Row::of(format!("{what}: made in a second"), &rate, |x| format!("{x:.0}")));
        for (of, errors) in [("calls counted", &self.calls), ("live objects more", &self.live)] {
            let worst = errors.iter().fold(0.0_f64, |worst, x| worst.max(x.abs()));
            rows.push(
                Row::of(format!("{what}: {of}, less the target's"), &Estimate::of(errors), |x| {
                    format!("{x:.1}")
                })
                .worst(format!("{worst}"))
                .bounded(Bound { text: "exact".into(), holds: worst == 0.0 }),
            );
        }
    }
}
