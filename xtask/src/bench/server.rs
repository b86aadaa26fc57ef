//! A session with nothing but `--pid` on a server that answers JSON requests: processor time per request and how long requests take,
//! against a null tool's.

use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;

use super::Effort;
use super::heart::Heart;
use super::idle::cpu_s;
use super::memory::Allowance;
use super::statistics::{Dice, Estimate};
use super::table::{Bound, Row};
use super::tools::{Null, Tracer, send};
use crate::fixtures::{self, Mode, Variant};
use crate::toolchains::Toolchain;

/// Connections of the load: the server is at work nearly all of the time.
const CONNECTIONS: &str = "2";
/// Sessions that the toggles are shared out to.
const SESSIONS: usize = 4;
/// Before the toggles of a session: its first readings come faster.
const ALONE: Duration = Duration::from_secs(20);
const MEASURED: Duration = Duration::from_millis(250);
/// An interval wider than this on each side says nothing.
const HALF_WIDTH: f64 = 0.02;
/// What tracer itself may take of a processor, once its start is over.
const OWN: f64 = 0.02;
const OWN_FROM: Duration = Duration::from_secs(10);
const OWN_FOR: Duration = Duration::from_secs(30);

pub(super) fn measure(toolchain: &Toolchain, effort: Effort, rows: &mut Vec<Row>) -> Result<()> {
    for (profiled, most) in [(true, 0.01), (false, 0.02)] {
        let variant = Variant { profiled, ..Mode::Ordinary.into() };
        let program = fixtures::build(&toolchain.go, "http", variant)?;
        let what =
            format!("Go {}, profiler linked {}", toolchain.pin.version, if profiled { "in" } else { "out" });
        of_build(&program, &what, most, effort, rows)?;
    }
    Ok(())
}

fn of_build(program: &Path, what: &str, most: f64, effort: Effort, rows: &mut Vec<Row>) -> Result<()> {
    let mut server = Heart::start(program)?;
    let address = server.ask("state")?["address"].as_str().context("the server says where it is")?.to_owned();
    let mut load = Heart::started_by(Command::new(program).args(["load", &address, CONNECTIONS]))?;
    let mut dice = Dice::new(11);
    let mut seen = Seen::default();
    for _ in 0..SESSIONS.min(effort.server_toggles) {
        let toggles = effort.server_toggles.div_ceil(SESSIONS);
        session(&mut server, &mut load, toggles, &mut dice, &mut seen)?;
        let Estimate { mean, low, high, n } = Estimate::of_pairs(&seen.cpu);
        let [mean, low, high] = [mean, low, high].map(|x| 100.0 * x);
        eprintln!("{what}, toggle {n}: {mean:+.2} % [{low:+.2}, {high:+.2}]");
    }
    let percent = |x: f64| format!("{:+.2} %", 100.0 * x);
    let ratio = Estimate::of_pairs(&seen.cpu);
    let holds = ratio.low <= most && ratio.half_width() <= HALF_WIDTH;
    let text = format!("the interval reaches <= {} and is at most 2 % to each side", percent(most));
    rows.push(
        Row::of(format!("{what}: CPU per request added by readings"), &ratio, percent)
            .bounded(Bound { text, holds }),
    );
    let null = Estimate::of_pairs(&seen.placebo);
    rows.push(Row::of(format!("{what}: CPU per request added by a second null tool"), &null, percent));
    let slow = Estimate::of_pairs(&seen.slow);
    rows.push(Row::of(format!("{what}: p99 of a request, added by readings"), &slow, percent));
    whole(&server, what, most, effort, rows)
}

/// What toggles gave: with tracer, or with a second null tool, and with the first null tool.
#[derive(Default)]
struct Seen {
    cpu: Vec<(f64, f64)>,
    placebo: Vec<(f64, f64)>,
    slow: Vec<(f64, f64)>,
}

/// A session and two null tools, all but one of them stopped.
fn session(
    server: &mut Heart,
    load: &mut Heart,
    toggles: usize,
    dice: &mut Dice,
    seen: &mut Seen,
) -> Result<()> {
    let tracer = Tracer::start(server.pid(), &["--format", "json"])?;
    tracer.first_report()?;
    thread::sleep(ALONE);
    let (null, again) = (Null::start()?, Null::start()?);
    let tools = [tracer.child(), null.child(), again.child()];
    for tool in tools {
        send(tool, Signal::STOP)?;
    }
    for _ in 0..toggles {
        let mut order = [0, 1, 2];
        dice.shuffle(&mut order);
        let mut served = [Served::default(); 3];
        for beside in order {
            send(tools[beside], Signal::CONT)?;
            thread::sleep(Duration::from_millis(dice.below(100)));
            served[beside] = serve(server, load)?;
            send(tools[beside], Signal::STOP)?;
        }
        let [with, null, again] = served;
        seen.cpu.push((with.cpu_s, null.cpu_s));
        seen.placebo.push((again.cpu_s, null.cpu_s));
        seen.slow.push((with.p99_ns, null.p99_ns));
    }
    for tool in tools {
        send(tool, Signal::CONT)?;
    }
    tracer.stop()?;
    null.stop()?;
    again.stop()
}

/// What was served in a moment: processor time per request, and how long the slowest in a hundred took.
#[derive(Clone, Copy, Debug, Default)]
struct Served {
    cpu_s: f64,
    p99_ns: f64,
}

fn serve(server: &mut Heart, load: &mut Heart) -> Result<Served> {
    load.ask("latency")?;
    let before = state(server)?;
    thread::sleep(MEASURED);
    let after = state(server)?;
    let slow = load.ask("latency")?;
    let units = after.0 - before.0;
    ensure!(units > 0.0, "the server answered nothing");
    let p99_ns =
        slow["p99"].as_f64().filter(|ns| *ns > 0.0).context("the load says how long requests took")?;
    Ok(Served { cpu_s: (after.1 - before.1) / units, p99_ns })
}

/// Requests answered so far, and processor time taken.
fn state(server: &mut Heart) -> Result<(f64, f64)> {
    let told = server.ask("state")?;
    let number = |name: &str| told[name].as_f64().with_context(|| format!("no {name} in {told}"));
    Ok((number("units")?, number("cpu_s")?))
}

/// Whole sessions that nobody stops: what they take from the target, and what tracer itself takes.
fn whole(server: &Heart, what: &str, most: f64, effort: Effort, rows: &mut Vec<Row>) -> Result<()> {
    let (mut estimates, mut shares, mut peaks) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..effort.sessions {
        let tracer = Tracer::start(server.pid(), &["--format", "json"])?;
        tracer.first_report()?;
        thread::sleep(OWN_FROM);
        let (begun, before) = (Instant::now(), cpu_s(tracer.child())?);
        thread::sleep(OWN_FOR);
        shares.push((cpu_s(tracer.child())? - before) / begun.elapsed().as_secs_f64());
        let ended = tracer.stop()?;
        peaks.push(ended.peak_mib);
        estimates.push(ended.estimated_share()?);
    }
    let share = |x: f64| format!("{:.2} %", 100.0 * x);
    let (estimate, of) = (Estimate::of(&estimates), Estimate::of(&shares));
    let worst = estimates.iter().copied().fold(0.0, f64::max);
    rows.push(
        Row::of(format!("{what}: hits and readings of a whole session, of a processor"), &estimate, share)
            .worst(share(worst))
            .bounded(Bound { text: format!("<= {}", share(most)), holds: estimate.high <= most }),
    );
    let bound = Bound { text: format!("<= {:.0} %", 100.0 * OWN), holds: of.high <= OWN };
    rows.push(Row::of(format!("{what}: tracer's own share of a processor"), &of, share).bounded(bound));
    let allowed = Allowance::of_process(server.pid())?;
    rows.push(allowed.row(format!("{what}: tracer's peak memory (VmHWM)"), &peaks));
    Ok(())
}
