//! How long it takes to group a hundred thousand goroutines with their stacks, and whether their program notices.
//!
//! The target (tests/fixtures/go/heartbeat) parks them in three ways, at the end of stacks of ordinary depth, and beats.

use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::Effort;
use super::heart::{self, Heart};
use super::statistics::Estimate;
use super::table::{Bound, Row};
use crate::fixtures::{self, Mode};
use crate::project;
use crate::toolchains::Toolchain;

const GOROUTINES: u64 = 100_000;
const BOUND_S: f64 = 1.5;

pub(super) fn measure(toolchain: &Toolchain, effort: Effort, rows: &mut Vec<Row>) -> Result<()> {
    let program = fixtures::build(&toolchain.go, "heartbeat", Mode::Ordinary)?;
    let mut heart = Heart::start(&program)?;
    let parked = heart.ask(&format!("park {GOROUTINES}"))?;
    ensure!(parked["parked"].as_u64() == Some(GOROUTINES), "the target parked {parked}");
    let mut took = Vec::new();
    for _ in 0..effort.censuses {
        took.push(grouped(heart.pid())?);
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
    heart::beside(&mut heart, "goroutines", &what, effort.beats, rows)
}

/// Seconds of one `tracer goroutines`, all of whose rows hold a stack.
fn grouped(pid: u32) -> Result<f64> {
    let began = Instant::now();
    let output = Command::new(project::tracer())
        .args(["goroutines", "--pid", &pid.to_string(), "--format", "json"])
        .stdin(Stdio::null())
        .output()
        .context("cannot start tracer")?;
    let took = began.elapsed().as_secs_f64();
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).context("the report is JSON")?;
    let number = |name: &str| {
        report["goroutines"][name].as_u64().with_context(|| format!("the report has no goroutines.{name}"))
    };
    let (live, skipped) = (number("live")?, number("skipped")?);
    ensure!(live >= GOROUTINES && skipped == 0, "{live} goroutines were told, {skipped} skipped");
    Ok(took)
}
