//! How long it takes to group a hundred thousand goroutines with their stacks, and whether their program notices.
//!
//! The target (tests/fixtures/go/heartbeat) parks them in three ways, at the end of stacks of ordinary depth, and beats.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::Effort;
use super::heart;
use super::memory::{self, Allowance, Run};
use super::statistics::Estimate;
use super::table::{Bound, Row};
use super::target::Fixture;
use crate::fixtures::{self, Mode};
use crate::project;
use crate::toolchains::Toolchain;

const GOROUTINES: u64 = 100_000;
const BOUND_S: f64 = 1.5;
/// The target's stacks: so many calls of a function that calls itself, at the outer end, and what it waits in above them.
const DEEP: (&str, usize) = ("main.deep", 7);
const FUNCTIONS: usize = DEEP.1 + 1;

pub(super) fn measure(toolchain: &Toolchain, effort: Effort, rows: &mut Vec<Row>) -> Result<()> {
    let program = fixtures::build(&toolchain.go, "heartbeat", Mode::Ordinary)?;
    let mut heart = Fixture::start(&program)?;
    let parked = heart.ask(&format!("park {GOROUTINES}"))?;
    ensure!(parked["parked"].as_u64() == Some(GOROUTINES), "the target parked {parked}");
    let (mut took, mut peaks) = (Vec::new(), Vec::new());
    for _ in 0..effort.censuses {
        let run = grouped(heart.pid())?;
        took.push(run.seconds);
        peaks.push(run.peak_mib);
    }
    eprintln!("goroutines {took:.3?}");
    let worst = took.iter().copied().fold(0.0, f64::max);
    let seconds = |x: f64| format!("{x:.3} s");
    let what = format!("Go {}, 100 000 goroutines", toolchain.pin.version);
    rows.push(
        Row::of(format!("{what}: `tracer goroutines`, start to end"), &Estimate::of(&took), seconds)
            .worst(seconds(worst))
            .bounded(Bound { text: format!("worst <= {BOUND_S} s"), holds: worst <= BOUND_S }),
    );
    let allowed = Allowance::of_process(heart.pid())?;
    rows.push(allowed.row(format!("{what}: `tracer goroutines`, peak memory (VmHWM)"), &peaks));
    let mut twin = Fixture::start(&program)?;
    twin.ask(&format!("park {GOROUTINES}"))?;
    heart::beside(&mut heart, &twin, "goroutines", &what, effort.beats, rows)
}

/// One `tracer goroutines`, which told all of them with their stacks.
fn grouped(pid: u32) -> Result<Run> {
    let mut command = Command::new(project::tracer());
    let run = memory::run(command.args(["goroutines", "--pid", &pid.to_string(), "--format", "json"]))?;
    let report: Value = serde_json::from_slice(&run.stdout).context("the report is JSON")?;
    check(&report["goroutines"])?;
    Ok(run)
}

/// None is left out, none is without its stack, and the parked ones are in groups of the stacks that the target gave them.
fn check(told: &Value) -> Result<()> {
    let number =
        |name: &str| told[name].as_u64().with_context(|| format!("the report has no goroutines.{name}"));
    let (live, skipped, stackless) = (number("live")?, number("skipped")?, number("stackless")?);
    ensure!(live >= GOROUTINES && skipped == 0, "{live} goroutines were told, {skipped} skipped");
    ensure!(stackless == 0, "{stackless} goroutines were told without their stack");
    let sites = told["sites"].as_array().context("the report has sites")?;
    let groups = sites.iter().filter_map(|site| site["groups"].as_array()).flatten();
    let (mut parked, mut ways) = (0, 0);
    for group in groups {
        let frames = group["stack"].as_array().map_or(&[][..], Vec::as_slice);
        let names: Vec<&str> = frames.iter().filter_map(|frame| frame["function"].as_str()).collect();
        let deep = names.iter().rev().take_while(|name| **name == DEEP.0).count();
        if deep == DEEP.1 && names.len() >= FUNCTIONS {
            parked += group["count"].as_u64().context("a group has a count")?;
            ways += 1;
        }
    }
    ensure!(
        parked == GOROUTINES && ways == 3,
        "{parked} goroutines in {ways} groups have the {FUNCTIONS} functions of the target's stacks"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told(deep: usize, stackless: u64) -> Value {
        let group = |waits: &str, count: u64| {
            let names = std::iter::once(waits).chain(std::iter::repeat_n(DEEP.0, deep));
            let stack: Vec<Value> = names.map(|name| json!({ "function": name })).collect();
            json!({ "count": count, "stack": stack })
        };
        let groups =
            [group("main.park.func1", 33_334), group("main.park.func2", 33_333), group("lock", 33_333)];
        json!({ "live": GOROUTINES + 5, "skipped": 0, "stackless": stackless, "sites": [{ "groups": groups }] })
    }

    #[test]
    fn goroutines_without_their_stacks_are_no_groups() {
        check(&told(DEEP.1, 0)).expect("these are the target's");
        check(&told(DEEP.1, 1)).expect_err("one has no stack");
        check(&told(DEEP.1 - 1, 0)).expect_err("the stacks are cut");
        check(&told(0, 0)).expect_err("there are no stacks");
    }
}
