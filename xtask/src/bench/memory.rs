//! The peak of tracer's resident set against what it may take: a fixed amount and the names of the program it looks at.
//!
//! Apart because a session, a single look and a replay are bounded in the same way. It starts one run at a time and ends none.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use object::{Object as _, ObjectSection as _};

use super::statistics::Estimate;
use super::table::{Bound, Row};
use super::tools::watch_peak;

const FIXED_MIB: f64 = 64.0;

/// What a peak must stay below.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Allowance {
    names_mib: f64,
    /// Which names these are.
    what: &'static str,
}

impl Allowance {
    /// For a look at a program: its function table, which tracer reads its names from, by the file's own account.
    pub(super) fn of_process(pid: u32) -> Result<Self> {
        Self::of_program(Path::new(&format!("/proc/{pid}/exe")))
    }

    fn of_program(program: &Path) -> Result<Self> {
        let bytes = fs::read(program).with_context(|| format!("cannot read {}", program.display()))?;
        let file = object::File::parse(&*bytes)?;
        // A program that is loaded anywhere has it among the relocated data.
        let table = [".gopclntab", ".data.rel.ro.gopclntab"]
            .iter()
            .find_map(|name| file.section_by_name(name))
            .with_context(|| format!("{} has no .gopclntab", program.display()))?;
        Ok(Self { names_mib: mib(table.size()), what: "of .gopclntab" })
    }

    /// For a replay: the names that are in the recording.
    pub(super) fn of_recorded(names: u64) -> Self {
        Self { names_mib: mib(names), what: "of names in the recording" }
    }

    pub(super) fn row(&self, what: String, peaks_mib: &[f64]) -> Row {
        let worst = peaks_mib.iter().copied().fold(0.0, f64::max);
        let show = |x: f64| format!("{x:.1} MiB");
        let Self { names_mib, what: which } = self;
        let text = format!("worst <= {FIXED_MIB} MiB + {names_mib:.1} MiB {which}");
        let holds = worst > 0.0 && worst <= FIXED_MIB + names_mib;
        Row::of(what, &Estimate::of(peaks_mib), show).worst(show(worst)).bounded(Bound { text, holds })
    }
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// A program that ran to its end.
pub(super) struct Run {
    pub(super) stdout: Vec<u8>,
    pub(super) seconds: f64,
    pub(super) peak_mib: f64,
}

/// Runs a program to its successful end, and says what it took.
pub(super) fn run(command: &mut Command) -> Result<Run> {
    let began = Instant::now();
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let child = child.with_context(|| format!("cannot start {}", command.get_program().display()))?;
    let peak = watch_peak(child.id());
    let Output { status, stdout, stderr } = child.wait_with_output()?;
    let seconds = began.elapsed().as_secs_f64();
    ensure!(status.success(), "{}", String::from_utf8_lossy(&stderr));
    let peak = peak.recv().context("the peak is read until the end")?;
    Ok(Run { stdout, seconds, peak_mib: peak as f64 / 1024.0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peak_above_fixed_and_names_is_missed() {
        let allowed = Allowance::of_recorded(3 << 20);
        let row = |peaks: &[f64]| allowed.row("m".into(), peaks).bound.expect("it has a bound");
        assert!(row(&[60.0, 66.9]).holds && !row(&[60.0, 67.1]).holds);
        assert!(!row(&[]).holds, "nothing was measured");
        assert_eq!(row(&[1.0]).text, "worst <= 64 MiB + 3.0 MiB of names in the recording");
    }
}
