//! `cargo xtask test`: every check and test there is; all of CI.
//!
//! One phase after the other, each with its seconds, so that it is seen where the time goes. It stops at the first that fails.

use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};

use crate::command::{self, is_root};
use crate::toolchains::{PINS, Toolchain};
use crate::{demo, fixtures, fuzz, go_matrix, project, setup, tidy};

/// The fixtures the live tests trace; they are built before the tests so that no test waits for a compiler.
const FIXTURES: [&str; 9] =
    ["demo", "allocs", "goroutines", "maps", "parked", "pinned", "stacks", "http", "untyped"];

/// For each fuzz target: its seeds and then some, minutes for all of them.
const FUZZ_SECONDS: f64 = 10.0;

pub fn task(arguments: &[String]) -> Result<()> {
    ensure!(arguments.is_empty(), "`cargo xtask test` takes no arguments; use `cargo test` for a part");
    if std::env::var_os("CI").is_some() {
        ensure!(
            is_root(),
            "run `cargo xtask test` as root: with CI set a live test that cannot run is a failure"
        );
    }
    if !is_root() {
        eprintln!("not root: live tests will say why they are skipped");
    }
    let begun = Instant::now();
    phase("format", || cargo(&["fmt", "--all", "--check"], &[]))?;
    phase("tidy", tidy_is_clean)?;
    let toolchains = phase("set-up", setup::bring)?;
    phase("lints", || {
        cargo(&["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"], &[])
    })?;
    phase("release build", demo::build_tracer)?;
    phase("fixtures", || build_fixtures(&toolchains))?;
    phase("hostile bytes", || fuzz::short(FUZZ_SECONDS))?;
    // Live tests share two or more cores with the programs they trace: one at a time keeps their time limits honest.
    phase("unit tests", || {
        cargo(&["test", "--workspace", "--exclude", "tracer-tests", "--locked"], &toolchains)
    })?;
    phase("live tests", || {
        cargo(&["test", "--package", "tracer-tests", "--locked", "--", "--test-threads=1"], &toolchains)
    })?;
    eprintln!("all of it in {:.0} s", begun.elapsed().as_secs_f64());
    Ok(())
}

/// A full disk kills linkers with a bus error: each phase says what it left.
fn phase<T>(name: &str, run: impl FnOnce() -> Result<T>) -> Result<T> {
    eprintln!("== {name}");
    let begun = Instant::now();
    let done = run().with_context(|| {
        format!(
            "phase `{name}` failed after {:.1} s, with {:.1} GiB of disk free",
            begun.elapsed().as_secs_f64(),
            free_gib()
        )
    })?;
    eprintln!("== {name}: {:.1} s, {:.1} GiB of disk free", begun.elapsed().as_secs_f64(), free_gib());
    Ok(done)
}

/// Of the disk that the checkout is on; unknown is not a number.
fn free_gib() -> f64 {
    rustix::fs::statvfs(project::root())
        .map_or(f64::NAN, |disk| (disk.f_bavail * disk.f_frsize) as f64 / f64::from(1 << 30))
}

fn tidy_is_clean() -> Result<()> {
    tidy::task(&[])
}

/// What the checks of one cell of the matrix trace.
const CELL_FIXTURES: [&str; 4] = ["allocs", "goroutines", "maps", "stacks"];

fn build_fixtures(toolchains: &[Toolchain]) -> Result<()> {
    for cell in go_matrix::cells::part() {
        let toolchain = toolchains.iter().find(|toolchain| toolchain.pin == cell.pin);
        let toolchain = toolchain.context("every toolchain of the matrix was brought")?;
        for name in CELL_FIXTURES {
            fixtures::build(&toolchain.go, name, cell.variant)?;
        }
    }
    for toolchain in toolchains {
        fixtures::build_plugins(&toolchain.go, toolchain.pin.minor())?;
    }
    for toolchain in toolchains.iter().filter(|toolchain| PINS.contains(&toolchain.pin)) {
        for name in FIXTURES {
            for mode in [fixtures::Mode::Ordinary, fixtures::Mode::StrippedPie] {
                fixtures::build(&toolchain.go, name, mode)?;
            }
        }
    }
    Ok(())
}

fn cargo(arguments: &[&str], toolchains: &[Toolchain]) -> Result<()> {
    let mut command = Command::new("cargo");
    command.args(arguments).current_dir(project::root()).env("TRACER_BIN", project::tracer());
    for Toolchain { pin, go } in toolchains {
        command.env(pin.variable, go);
    }
    command::run(&mut command)
}
