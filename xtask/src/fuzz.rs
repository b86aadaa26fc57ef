//! `cargo xtask fuzz`: hostile bytes against every parser, by libFuzzer; what was run is kept in fuzz/runs.txt and printed as
//! docs/fuzzing.md.
//!
//! On the project's own stable compiler: the coverage that libFuzzer needs is a pass of LLVM (`-Cpasses=sancov-module`),
//! which needs no nightly. What only nightly gives is the address sanitizer; the parsers hold no unsafe code, and what they
//! may do wrong (panic, overflow, hang, take all memory) shows without it. It never changes the committed seeds.

mod page;
mod stats;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};

use self::stats::Run;
use crate::{apt, command, project};

/// One target: fuzz/fuzz_targets/NAME.rs and its seeds in fuzz/seeds/NAME.
pub struct Target {
    pub name: &'static str,
    /// What it feeds, in a table's words.
    pub what: &'static str,
    /// MiB of memory; more is a failure. The instrumented program itself takes some 50.
    pub rss_mb: u32,
    /// The longest input tried.
    pub max_len: u32,
}

/// CPU seconds for one input, with the start of the target and libFuzzer's bookkeeping; more is a failure. libFuzzer knows
/// the clock on the wall only: what is slow by that is run again alone, and judged by what it used.
pub const TIMEOUT_S: u32 = 10;
/// Seconds on the wall after which libFuzzer gives up an input: a process of low priority may get that little of a busy machine.
const GIVEN_UP_S: u32 = 12 * TIMEOUT_S;
/// Of a campaign, what is lost at most when it is cut off.
const SLICE_S: f64 = 180.0;
/// What libFuzzer exits with then (FuzzerOptions.h, TimeoutExitCode).
const GAVE_UP: i32 = 70;

const fn target(name: &'static str, what: &'static str, rss_mb: u32, max_len: u32) -> Target {
    Target { name, what, rss_mb, max_len }
}

pub const TARGETS: &[Target] = &[
    target("elf", "ELF headers, sections, notes, relocations, build info", 256, 16 << 10),
    target(
        "image",
        "a Go executable: build info, pclntab, moduledata, types, recipes, probe sites",
        512,
        256 << 10,
    ),
    target(
        "dwarf",
        "debugging information in an ELF file with right headers, and layouts made from it",
        512,
        16 << 10,
    ),
    target("types", "one type descriptor of a module", 256, 4 << 10),
    target("x86", "instructions and the choice of a probe site", 256, 4 << 10),
    target(
        "exits",
        "an allocator's code: control flow, and the places where each object is seen once",
        256,
        16 << 10,
    ),
    target("decode", "ring-buffer records and the ledger", 256, 16 << 10),
    target("recording", "recordings, raw and with right checksums, replayed into reports", 1024, 64 << 10),
    target(
        "records",
        "records of every kind made of arbitrary values, through a recording into reports",
        1024,
        16 << 10,
    ),
    target("diff", "what `diff` reads: JSON reports and pprof profiles", 512, 64 << 10),
    target("proc", "texts of /proc: maps, stat, status, cgroup, mountinfo", 256, 4 << 10),
    target("profile", "memory as the runtime's memory profile and lists of sampled objects", 256, 16 << 10),
    target("module", "a plugin in memory: module data, function table, inline trees, types", 512, 4 << 10),
    target(
        "state",
        "the memory of real processes with words changed: GC, classes, goroutines, maps, profile",
        512,
        4 << 10,
    ),
    target("heap", "the memory of real processes with words changed: heap census and types", 512, 4 << 10),
    target(
        "followed",
        "the memory of real processes with words changed: objects followed over collections",
        512,
        4 << 10,
    ),
];

const TRIPLE: &str = "x86_64-unknown-linux-gnu";
/// What cargo-fuzz passes too, less the sanitizer.
const FLAGS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing -Cdebug-assertions -Coverflow-checks \
    -Cdebuginfo=line-tables-only";

pub fn task(arguments: &[String]) -> Result<()> {
    let mut minutes = 1.0;
    let mut chosen: Vec<&Target> = Vec::new();
    let mut builds = true;
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--minutes" => minutes = words.next().context("--minutes N")?.parse().context("--minutes N")?,
            "--all" => chosen = TARGETS.iter().collect(),
            "--build" => return build(),
            "--no-build" => builds = false,
            "--page" => return page::write(),
            name => chosen.push(find(name)?),
        }
    }
    ensure!(
        !chosen.is_empty(),
        "cargo xtask fuzz [--minutes N] TARGET... | --all | --build | --page\ntargets: {}",
        TARGETS.iter().map(|t| t.name).collect::<Vec<_>>().join(" ")
    );
    if builds {
        build()?;
    }
    for target in chosen {
        let spent = campaign(target, minutes * 60.0)?;
        eprintln!(
            "{}: {} inputs in {:.1} CPU minutes of this build",
            target.name,
            spent.executions,
            spent.cpu_s / 60.0
        );
    }
    Ok(())
}

/// A short run of every target, for `cargo xtask test`: the seeds and some seconds beyond them.
pub fn short(seconds_each: f64) -> Result<()> {
    build()?;
    TARGETS.iter().try_for_each(|target| slice(target, seconds_each).map(drop))
}

fn find(name: &str) -> Result<&'static Target> {
    TARGETS.iter().find(|t| t.name == name).with_context(|| format!("there is no fuzz target `{name}`"))
}

fn folder() -> PathBuf {
    project::target().join("fuzz")
}

/// Builds all targets, instrumented.
fn build() -> Result<()> {
    if command::find("c++").is_none() {
        apt::ensure(&["g++"], "build libFuzzer")?;
    }
    command::run(
        Command::new("cargo")
            .args(["build", "--release", "--locked", "--bins", "--target", TRIPLE, "--target-dir"])
            .arg(folder())
            .current_dir(project::root().join("fuzz"))
            .env_remove("CARGO_TARGET_DIR")
            .env("RUSTFLAGS", FLAGS),
    )?;
    stats::built()
}

/// Runs until this build has had so much CPU time, as a busy machine gives less than it shows on the clock. What an earlier
/// campaign of the same build had counts, and each slice is kept as it ends: one that was cut off is gone on with.
fn campaign(target: &Target, cpu_s: f64) -> Result<Run> {
    let mut total = stats::had(target.name)?;
    while cpu_s - total.cpu_s > 1.0 {
        // Each start reads all of the corpus again: never for a moment only.
        let run = slice(target, (cpu_s - total.cpu_s).clamp(20.0, SLICE_S))?;
        ensure!(run.cpu_s > 0.0, "{} used no CPU time", target.name);
        stats::keep(target.name, &run)?;
        total.add(&run);
    }
    Ok(total)
}

/// One process of libFuzzer. A crash, a hang or too much memory is an error that names the input.
fn slice(target: &Target, seconds: f64) -> Result<Run> {
    let work = folder().join("corpus").join(target.name);
    let found = folder().join("found").join(target.name);
    for made in [&work, &found] {
        std::fs::create_dir_all(made).with_context(|| format!("create {}", made.display()))?;
    }
    let seeds = project::root().join("fuzz/seeds").join(target.name);
    let before = stats::children_cpu_s()?;
    let mut command = Command::new(folder().join(TRIPLE).join("release").join(target.name));
    command
        .arg(&work)
        .args(seeds.is_dir().then_some(&seeds))
        .arg(format!("-max_total_time={}", seconds.ceil().max(1.0)))
        .arg(format!("-rss_limit_mb={}", target.rss_mb))
        .arg(format!("-malloc_limit_mb={}", target.rss_mb))
        .arg(format!("-timeout={GIVEN_UP_S}"))
        .arg(format!("-report_slow_units={TIMEOUT_S}"))
        .arg(format!("-max_len={}", target.max_len))
        .arg(format!("-artifact_prefix={}/", found.display()))
        .args(["-print_final_stats=1", "-use_value_profile=0"])
        .current_dir(project::root().join("fuzz"))
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    let output = command.output().with_context(|| format!("start the target {}", target.name))?;
    let said = String::from_utf8_lossy(&output.stderr);
    let used = stats::children_cpu_s()? - before;
    let slow = slow(target, &found)?;
    ensure!(slow.is_empty(), "{}: more than {TIMEOUT_S} s of CPU time for {}", target.name, slow.join(" "));
    if !output.status.success() && output.status.code() != Some(GAVE_UP) {
        let from = said.lines().count().saturating_sub(40);
        let last: Vec<&str> = said.lines().skip(from).collect();
        bail!("{}: {}\n{}", target.name, output.status, last.join("\n"));
    }
    Run::read(&said, used)
        .with_context(|| format!("{}: its last words are not libFuzzer's:\n{said}", target.name))
}

/// Of the inputs that libFuzzer found slow those that are: the others are forgotten.
fn slow(target: &Target, found: &Path) -> Result<Vec<String>> {
    let mut slow = Vec::new();
    for entry in std::fs::read_dir(found).with_context(|| format!("list {}", found.display()))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with("slow-unit-") && !name.starts_with("timeout-") {
            continue;
        }
        let again = Command::new("prlimit")
            .arg(format!("--cpu={TIMEOUT_S}"))
            .arg(folder().join(TRIPLE).join("release").join(target.name))
            .arg(entry.path())
            .arg("-timeout=0")
            .stdin(Stdio::null())
            .output()
            .context("start prlimit, of util-linux")?;
        if again.status.success() {
            std::fs::remove_file(entry.path()).with_context(|| format!("remove {name}"))?;
        } else {
            slow.push(name);
        }
    }
    Ok(slow)
}
