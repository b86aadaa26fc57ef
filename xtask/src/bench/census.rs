//! What a heap census takes: processor time per span, the wait for the first figures of a large heap, and whether the target's own
//! memory calls notice it.
//!
//! The target (tests/fixtures/go/heartbeat) is this chapter's own; it fills a gibibyte and beats.

use std::process::Command;
use std::thread;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::Effort;
use super::heart;
use super::memory::{self, Allowance};
use super::statistics::Estimate;
use super::table::{Bound, Row};
use super::target::Fixture;
use super::tools::Tracer;
use crate::fixtures::{self, Mode};
use crate::project;
use crate::toolchains::Toolchain;

/// A little more than a gibibyte with what the objects' list takes.
const HEAP_MIB: u64 = 960;
const SPAN_US: f64 = 0.5;
const FIRST_FIGURES_S: f64 = 0.5;
/// The live heap that tracer tells and that of the target itself differ by less.
const SAME: f64 = 0.05;

pub(super) fn measure(toolchain: &Toolchain, effort: Effort, rows: &mut Vec<Row>) -> Result<()> {
    let program = fixtures::build(&toolchain.go, "heartbeat", Mode::Ordinary)?;
    let version = toolchain.pin.version;
    let small = Fixture::start(&program)?;
    let mut large = Fixture::start(&program)?;
    let filled = large.ask(&format!("fill {HEAP_MIB}"))?;
    let heap = filled["heap_inuse"].as_f64().context("the target says what its heap has")?;
    let live = filled["heap_alloc"].as_f64().context("the target says what lives in its heap")?;
    ensure!(heap >= (1_u64 << 30) as f64, "the target's heap has only {heap} bytes");

    // The same program with and without a heap: what opening it takes is in both.
    let (mut per_span, mut peaks) = (Vec::new(), Vec::new());
    for _ in 0..effort.censuses {
        let Counted { cpu_s: empty_cpu, spans: empty_spans, .. } = census(small.pid())?;
        let Counted { cpu_s: cpu, spans, bytes, peak_mib } = census(large.pid())?;
        same("a census", bytes, live)?;
        peaks.push(peak_mib);
        ensure!(spans > 100_000.0, "only {spans} spans were counted");
        per_span.push((cpu - empty_cpu) / (spans - empty_spans) * 1e6);
        eprintln!("census: {spans:.0} spans in {:.1} ms, {:.1} ms without them", cpu * 1e3, empty_cpu * 1e3);
    }
    let estimate = Estimate::of(&per_span);
    let holds = estimate.high <= SPAN_US;
    rows.push(
        Row::of(format!("Go {version}, 1 GiB heap: CPU of a census with types, per span"), &estimate, |x| {
            format!("{x:.3} us")
        })
        .bounded(Bound { text: format!("<= {SPAN_US} us"), holds }),
    );

    let mut first = Vec::new();
    for _ in 0..effort.sessions {
        let tracer = Tracer::start(large.pid(), &["--sampler", "none"])?;
        let (seconds, told) = tracer.first_figures()?;
        same("the first report", told, live)?;
        first.push(seconds);
        thread::sleep(effort.session);
        tracer.stop()?;
    }
    eprintln!("first figures {first:.3?}");
    let worst = first.iter().copied().fold(0.0, f64::max);
    let seconds = |x: f64| format!("{x:.3} s");
    rows.push(
        Row::of(
            format!("Go {version}, 1 GiB heap: first figures after start"),
            &Estimate::of(&first),
            seconds,
        )
        .worst(seconds(worst))
        .bounded(Bound { text: format!("worst <= {FIRST_FIGURES_S} s"), holds: worst <= FIRST_FIGURES_S }),
    );
    let allowed = Allowance::of_process(large.pid())?;
    rows.push(allowed.row(format!("Go {version}, 1 GiB heap: `tracer heap`, peak memory (VmHWM)"), &peaks));
    let mut twin = Fixture::start(&program)?;
    twin.ask(&format!("fill {HEAP_MIB}"))?;
    heart::beside(&mut large, &twin, "heap", &format!("Go {version}, 1 GiB heap"), effort.beats, rows)
}

/// One `tracer heap`.
struct Counted {
    cpu_s: f64,
    spans: f64,
    /// What survived the target's last collection.
    bytes: f64,
    peak_mib: f64,
}

fn census(pid: u32) -> Result<Counted> {
    let mut command = Command::new(project::tracer());
    let run = memory::run(command.args(["heap", "--pid", &pid.to_string(), "--format", "json"]))?;
    let report: Value = serde_json::from_slice(&run.stdout).context("the report is JSON")?;
    let number =
        |path: &str| report.pointer(path).and_then(Value::as_f64).with_context(|| format!("no {path}"));
    ensure!(number("/heap/census/torn_spans")? == 0.0, "spans of a quiet target were torn");
    Ok(Counted {
        cpu_s: number("/session/cost/tracer_cpu_s")?,
        spans: number("/heap/census/spans")?,
        bytes: number("/heap/census/bytes")?,
        peak_mib: run.peak_mib,
    })
}

/// What was told is what the target itself says.
fn same(who: &str, told: f64, live: f64) -> Result<()> {
    ensure!((told / live - 1.0).abs() <= SAME, "{who} told {told} live bytes where the target has {live}");
    Ok(())
}
