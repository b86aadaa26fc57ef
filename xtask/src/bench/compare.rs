//! All tools beside each other on every target: tracer in each engine, bpftrace that counts or stacks the same allocations, the profiler's
//! own endpoint in the program, and a null tool. It compares and sets no bound: those are in the chapters on tracer.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::Effort;
use super::default::{BUSY, IDLE};
use super::statistics::{Dice, Estimate};
use super::table::{Row, figure};
use super::target::Entries;
use super::tools::{Bpftrace, Keeps, Null, Tracer, allocators};
use super::work::{Grinds, Grist, Mill, Serves, Work, Works};
use crate::fixtures::{self, Mode, Variant};
use crate::toolchains::Toolchain;

/// Work beside a tool, at least.
const TIME: Duration = Duration::from_secs(1);
/// So few that the slowest tool is not on for much longer.
const ROUNDS: u64 = 4_000;
/// Between two requests for a profile.
const FETCHED_EACH: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Tool {
    Null,
    Tracer(&'static str),
    Bpftrace(Keeps),
    /// Asks the program for its own profile.
    Endpoint,
    /// The null tool beside a program that has switched its profiler off.
    Unprofiled,
}

const UNPROFILED: [Tool; 7] = [
    Tool::Null,
    Tool::Tracer("none"),
    Tool::Tracer("auto"),
    Tool::Tracer("sampled"),
    Tool::Tracer("all"),
    Tool::Bpftrace(Keeps::Count),
    Tool::Bpftrace(Keeps::Stacks),
];
const PROFILED: [Tool; 4] = [Tool::Null, Tool::Tracer("auto"), Tool::Endpoint, Tool::Unprofiled];

impl Tool {
    fn name(self) -> String {
        match self {
            Self::Null => "null tool".to_owned(),
            Self::Tracer(sampler) => format!("tracer --sampler {sampler}"),
            Self::Bpftrace(Keeps::Count) => "bpftrace, count".to_owned(),
            Self::Bpftrace(Keeps::Stacks) => "bpftrace, stacks".to_owned(),
            Self::Endpoint => "pprof endpoint".to_owned(),
            Self::Unprofiled => "its profiler switched off".to_owned(),
        }
    }
}

pub(super) fn measure(toolchain: &Toolchain, effort: Effort, rows: &mut Vec<Row>) -> Result<()> {
    for (profiled, tools) in [(false, &UNPROFILED[..]), (true, &PROFILED)] {
        let variant = Variant { profiled, ..Mode::Ordinary.into() };
        let linked = if profiled { "in" } else { "out" };
        let what = |target: &str| format!("Go {}, {target}, profiler {linked}", toolchain.pin.version);
        let [mill, http] = ["mill", "http"].map(|name| fixtures::build(&toolchain.go, name, variant));
        let (mill, http) = (mill?, http?);
        for (name, grist) in [("allocation mill", Grist::Allocations), ("map worker", Grist::Maps)] {
            let mill = Mill::start(&mill)?;
            let mut target = Grinds { mill, grist, rounds: ROUNDS, at_least: TIME };
            beside(&mut target, tools, toolchain, &what(name), effort, rows)?;
        }
        for (name, load) in [("server under load", BUSY), ("idle server", IDLE)] {
            let mut target = Serves::start(&http, load, TIME)?;
            beside(&mut target, tools, toolchain, &what(name), effort, rows)?;
        }
    }
    Ok(())
}

/// All tools on one target, in rounds.
fn beside(
    target: &mut impl Works,
    tools: &[Tool],
    toolchain: &Toolchain,
    what: &str,
    effort: Effort,
    rows: &mut Vec<Row>,
) -> Result<()> {
    let functions = allocators(target.target().pid())?;
    let entries = Entries::of(target.target(), toolchain, &functions)?;
    let mut dice = Dice::new(31);
    let mut done: Vec<Vec<Work>> = vec![Vec::new(); tools.len()];
    for round in 1..=effort.compared {
        let mut order: Vec<usize> = (0..tools.len()).collect();
        dice.shuffle(&mut order);
        for tool in order {
            let work = on(tools[tool], target, &functions, &entries)
                .with_context(|| format!("{what}: {} in round {round}", tools[tool].name()))?;
            done[tool].push(work);
        }
        eprintln!("{what}: round {round}");
    }
    let null = &done[0];
    let each: Vec<f64> = null.iter().map(Work::each_s).collect();
    let alone = Estimate::of(&each);
    rows.push(Row::of(format!("{what}: a unit beside a null tool"), &alone, |s| {
        format!("{} us", figure(1e6 * s))
    }));
    for (tool, done) in tools.iter().zip(&done).skip(1) {
        let tool = tool.name();
        let pairs = done.iter().zip(null);
        let cpu: Vec<(f64, f64)> = pairs.clone().map(|(with, null)| (with.each_s(), null.each_s())).collect();
        rows.push(Row::of(format!("{what}: {tool}, CPU"), &Estimate::of_pairs(&cpu), times));
        let slow: Vec<(f64, f64)> = pairs.filter_map(|(with, null)| with.p99_ns.zip(null.p99_ns)).collect();
        if !slow.is_empty() {
            rows.push(Row::of(format!("{what}: {tool}, p99"), &Estimate::of_pairs(&slow), times));
        }
    }
    Ok(())
}

/// A ratio less 1, as people say it.
fn times(more: f64) -> String {
    let ratio = 1.0 + more;
    if ratio < 2.0 { format!("x {ratio:.3}") } else { format!("x {}", figure(ratio)) }
}

/// A while of work beside a tool.
fn on(tool: Tool, target: &mut impl Works, functions: &[String], entries: &Entries) -> Result<Work> {
    let pid = target.target().pid();
    match tool {
        Tool::Null => {
            let null = Null::start()?;
            let work = target.work()?;
            null.stop()?;
            Ok(work)
        }
        Tool::Tracer(sampler) => {
            let tracer = Tracer::start(pid, &["--sampler", sampler, "--format", "json"])?;
            tracer.first_report()?;
            let work = target.work()?;
            tracer.stop()?;
            Ok(work)
        }
        Tool::Bpftrace(keeps) => {
            let bpftrace = Bpftrace::start(target.target(), keeps, functions, entries)?;
            let work = target.work()?;
            bpftrace.stop(entries)?;
            Ok(work)
        }
        Tool::Endpoint => {
            let answer = target.target().ask("endpoint")?;
            let address = answer.as_str().context("the target says where its endpoint is")?.to_owned();
            let (stop, stopped) = channel::<()>();
            let fetches = thread::spawn(move || -> Result<()> {
                loop {
                    fetch(&address)?;
                    if stopped.recv_timeout(FETCHED_EACH) != Err(RecvTimeoutError::Timeout) {
                        return Ok(());
                    }
                }
            });
            let work = target.work();
            drop(stop);
            fetches.join().ok().context("profiles are fetched")??;
            work
        }
        Tool::Unprofiled => {
            target.target().ask("rate 0")?;
            let work = on(Tool::Null, target, functions, entries);
            target.target().ask(&format!("rate {}", 512 << 10))?;
            work
        }
    }
}

/// The program's heap profile, as `go tool pprof` asks for it.
fn fetch(address: &str) -> Result<()> {
    let mut stream = TcpStream::connect(address).context("cannot reach the target's endpoint")?;
    write!(stream, "GET /debug/pprof/heap HTTP/1.0\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    ensure!(
        answer.starts_with(b"HTTP/1.0 200"),
        "{:?}",
        String::from_utf8_lossy(&answer[..answer.len().min(80)])
    );
    Ok(())
}
