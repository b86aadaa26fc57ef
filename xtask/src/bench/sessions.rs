//! What a person waits for, and what tracer itself takes: first report, last report, prompt, peak memory.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::Effort;
use super::memory::Allowance;
use super::statistics::Estimate;
use super::table::{Bound, Row};
use super::target::Owned;
use super::tools::Tracer;
use crate::fixtures::{self, Mode};
use crate::project;
use crate::toolchains::Toolchain;

const FIRST_REPORT_S: f64 = 2.0;
const LAST_REPORT_S: f64 = 0.5;

/// One way to hold a session.
struct Way {
    name: &'static str,
    arguments: &'static [&'static str],
    /// One link lets go at once; many take their time behind the report.
    prompt_is_bounded: bool,
}

const WAYS: [Way; 5] = [
    Way { name: "none", arguments: &["--sampler", "none"], prompt_is_bounded: true },
    Way { name: "auto", arguments: &["--sampler", "auto"], prompt_is_bounded: true },
    Way { name: "sampled", arguments: &["--sampler", "sampled"], prompt_is_bounded: true },
    Way { name: "all", arguments: &["--sampler", "all"], prompt_is_bounded: true },
    Way {
        name: "all, single links",
        arguments: &["--sampler", "all", "--attach", "single"],
        prompt_is_bounded: false,
    },
];

pub(super) fn measure(toolchain: &Toolchain, effort: Effort, rows: &mut Vec<Row>) -> Result<()> {
    let demo = fixtures::build(&toolchain.go, "demo", Mode::Ordinary)?;
    on("demo", &mut Command::new(demo), effort, rows)?;
    match prometheus() {
        Some((program, folder)) => {
            let mut command = Command::new(program);
            command.current_dir(&folder).args([
                "--web.listen-address=127.0.0.1:0",
                "--storage.tsdb.path=data",
                "--config.file=bench.yml",
            ]);
            std::fs::write(folder.join("bench.yml"), "global: {}\n")?;
            on("prometheus", &mut command, effort, rows)?;
        }
        None => eprintln!("prometheus is not there: its rows are left out; `cargo xtask test` fetches it"),
    }
    Ok(())
}

/// Debian's prometheus as the tests fetched it, 100 MB, and a folder for its data.
fn prometheus() -> Option<(PathBuf, PathBuf)> {
    let program = project::target().join("real/prometheus/prometheus");
    let folder = project::target().join("bench");
    (program.exists() && std::fs::create_dir_all(&folder).is_ok()).then_some((program, folder))
}

fn on(name: &str, command: &mut Command, effort: Effort, rows: &mut Vec<Row>) -> Result<()> {
    let target = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let target = Owned(target.with_context(|| format!("cannot start {name}"))?);
    thread::sleep(Duration::from_secs(2));
    let allowed = Allowance::of_process(target.pid())?;
    for way in &WAYS {
        let (mut first, mut last, mut exit, mut peak) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for _ in 0..effort.sessions {
            let tracer = Tracer::start(target.pid(), way.arguments)?;
            first.push(tracer.first_report()?);
            thread::sleep(effort.session);
            let ended = tracer.stop()?;
            last.push(ended.report_s);
            exit.push(ended.exit_s);
            peak.push(ended.peak_mib);
        }
        eprintln!("{name}, {}: first {first:.3?} last {last:.3?} exit {exit:.3?} peak {peak:.0?}", way.name);
        let mut row = |what: &str, figures: &[f64], unit: &str, digits: usize, most: Option<f64>| {
            let worst = figures.iter().copied().fold(0.0, f64::max);
            let show = |x: f64| format!("{x:.digits$} {unit}");
            let row = Row::of(format!("{name}, {}: {what}", way.name), &Estimate::of(figures), show)
                .worst(show(worst));
            rows.push(match most {
                Some(most) => {
                    row.bounded(Bound { text: format!("worst <= {most} {unit}"), holds: worst <= most })
                }
                None => row,
            });
        };
        row("first report after start", &first, "s", 3, Some(FIRST_REPORT_S));
        row("report printed after Ctrl-C", &last, "s", 3, Some(LAST_REPORT_S));
        row("prompt back after Ctrl-C", &exit, "s", 3, way.prompt_is_bounded.then_some(LAST_REPORT_S));
        rows.push(allowed.row(format!("{name}, {}: tracer's peak memory (VmHWM)", way.name), &peak));
    }
    Ok(())
}
