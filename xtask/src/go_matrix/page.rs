//! docs/support.md: what came of every check, as tables. It writes text and runs nothing.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;

use super::{Outcome, cells};
use crate::fixtures::{Mode, Variant};
use crate::toolchains::EVERY;

/// Checks of one cell: how many there were, and the names of those that failed.
#[derive(Default)]
struct Told {
    checks: usize,
    failed: Vec<String>,
}

impl Told {
    fn text(&self) -> String {
        let Self { checks, failed } = self;
        match checks {
            0 => "-".to_owned(),
            _ if failed.is_empty() => format!("{checks}/{checks}"),
            _ => format!("{}/{checks}, not {}", checks - failed.len(), failed.join(", ")),
        }
    }
}

pub(super) fn page(commit: &str, outcomes: &[Outcome]) -> String {
    let mut told: BTreeMap<&str, Told> = BTreeMap::new();
    for Outcome { cell, check, failure } in outcomes {
        let told = told.entry(cell).or_default();
        told.checks += 1;
        if failure.is_some() {
            told.failed.push(check.clone());
        }
    }
    let text = |cell: &cells::Cell| told.get(cell.name().as_str()).map_or("-".to_owned(), Told::text);

    let mut page = HEAD.to_owned();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let failed = outcomes.iter().filter(|outcome| outcome.failure.is_some()).count();
    let mut line = |text: String| writeln!(page, "{text}").expect("writing to a string does not fail");
    line("| | |\n|---|---|".to_owned());
    line(format!("| commit | {commit} |"));
    line(format!("| kernel | {} |", kernel.trim()));
    line(format!("| cells | {} |", told.len()));
    line(format!("| checks | {}, of which {failed} failed |", outcomes.len()));

    for (title, profiled) in
        [("Without the runtime's memory profiler, as most programs are", false), ("With it linked in", true)]
    {
        line(format!("\n## {title}\n"));
        line(format!("| Go | {} |", Mode::MATRIX.map(title_of).join(" | ")));
        line(format!("|---|{}", "---|".repeat(Mode::MATRIX.len())));
        for pin in EVERY {
            let row = Mode::MATRIX
                .map(|mode| text(&cells::Cell { pin, variant: Variant { profiled, ..mode.into() } }));
            line(format!("| {} | {} |", pin.version, row.join(" | ")));
        }
    }
    line("\n## Experiments, linked with `-s -w`\n\n| Go | GOEXPERIMENT | |\n|---|---|---|".to_owned());
    for cell in cells::all().iter().filter(|cell| !cell.variant.experiment.is_empty()) {
        line(format!("| {} | {} | {} |", cell.pin.version, cell.variant.experiment, text(cell)));
    }
    if failed > 0 {
        line("\n## What failed\n".to_owned());
        for Outcome { cell, check, failure } in outcomes {
            if let Some(failure) = failure {
                let short: String = failure.chars().take(LONGEST).collect();
                line(format!("- {cell}, {check}: {short}"));
            }
        }
    }
    page
}

/// Characters of a failure that are shown.
const LONGEST: usize = 300;

fn title_of(mode: Mode) -> &'static str {
    match mode {
        Mode::Ordinary => "ordinary",
        Mode::StrippedPie => "stripped PIE",
        Mode::Pie => "PIE",
        Mode::Bare => "`-s -w`",
        Mode::Stripped => "`strip`",
        Mode::Cgo => "cgo",
        Mode::CgoPie => "cgo PIE",
        Mode::Race => "race",
        Mode::Plugin => "a plugin",
    }
}

const HEAD: &str = "\
# Supported Go versions

Written by `cargo xtask go-matrix` (root): every Go minor that is supported, built every way, traced as it runs. Nobody writes here by
hand. linux/amd64. One patch release stands for its minor; no other was checked.

Each cell is seven programs under trace, against their own account of themselves:

| check | what must hold |
|---|---|
| recognised | version, PIE, stripped, cgo, race and the profiler are told as built |
| attach | probes go in, and every instruction equals the file again afterwards |
| counts | allocations in `--sampler all` are MemStats.Mallocs' change within 0.1 %, and each site's objects and bytes exactly; nothing is lost but, before Go 1.26, a few stacks of what the runtime allocates for itself during a collection |
| goroutines | births and ends per place, exactly |
| maps | map writes per function and type, exactly |
| stacks | a known chain of calls is what runtime.CallersFrames tells, inlined frames included |
| gc | the number of the newest cycle and the heap goal are MemStats', live bytes are HeapAlloc within 64 KiB |
| classes | live objects per size class are MemStats.BySize within one span |
| census | the same by the census of the heap, without a probe |
| types | the types of 95 % of the bytes that a program keeps are told, below 1 % wrong; before Go 1.22 of objects up to 512 bytes |
| contents | entries of maps in package variables, without a probe, exactly |
| profile | the runtime's own profile at rate 1: live objects of each site exactly, and their type |
| sampled | every allocation sampled and followed: what lives per site is what the program keeps |
| table | goroutines by creator, wait and stack are runtime.Stack's |

";
