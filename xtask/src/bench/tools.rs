//! What is switched on and off beside a target: tracer, bpftrace, and a null tool that only wakes up.
//!
//! A tool is on from the moment `start` returns to the moment `stop` does, where nobody stops it by a signal in between.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::target::{Entries, Fixture, Owned, peak_kib};
use crate::project;

/// Longer than any session here.
const FOREVER: &str = "1h";
const STARTS_WITHIN: Duration = Duration::from_mins(1);
const REPORTS_WITHIN: Duration = Duration::from_secs(10);
/// Detaching takes tens of milliseconds.
const ASKED_AGAIN_AFTER: Duration = Duration::from_secs(5);

/// Sleeps as tracer's threads do without probes and reads nothing: the loop's 50 ms, the reader's 100 ms. It says when it runs, and
/// ends with the program that started it.
pub(super) fn null_tool() -> Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    writeln!(std::io::stdout(), "ready")?;
    thread::spawn(|| {
        loop {
            thread::sleep(Duration::from_millis(100));
        }
    });
    loop {
        thread::sleep(Duration::from_millis(50));
    }
}

/// A null tool that runs, watched as tracer is.
#[derive(Debug)]
pub(super) struct Null {
    child: Owned,
    peak: Receiver<u64>,
}

impl Null {
    pub(super) fn start() -> Result<Self> {
        let own = std::env::current_exe().context("cannot find this program's own file")?;
        let mut command = Command::new(own);
        command.args(["bench", "--null-tool"]).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let mut stdout = BufReader::new(child.stdout.take().context("stdout is a pipe")?);
        let child = Owned(child);
        let mut line = String::new();
        ensure!(stdout.read_line(&mut line)? > 0, "the null tool ended before it ran");
        let peak = watch_peak(child.pid());
        Ok(Self { child, peak })
    }

    pub(super) fn child(&self) -> &Owned {
        &self.child
    }

    pub(super) fn stop(self) -> Result<()> {
        drop(self.child);
        self.peak.recv().context("the peak is read until the end")?;
        Ok(())
    }
}

/// Reads a process's peak memory, in KiB, until it is gone; then says the last.
pub(super) fn watch_peak(pid: u32) -> Receiver<u64> {
    let (sender, peak) = channel();
    thread::spawn(move || {
        let mut last = 0;
        while let Some(kib) = peak_kib(pid) {
            last = kib;
            thread::sleep(Duration::from_millis(5));
        }
        // Nobody asked for it: then nobody needs it.
        sender.send(last).ok();
    });
    peak
}

/// A running session of tracer.
#[derive(Debug)]
pub(super) struct Tracer {
    child: Owned,
    begun: Instant,
    output: Receiver<(Instant, Vec<u8>)>,
    first_report: Receiver<Instant>,
    first_heap: Receiver<(Instant, String)>,
    peak: Receiver<u64>,
}

/// A session that ended.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) report: String,
    /// From the signal to the last byte of the report, and to the end of the process.
    pub(super) report_s: f64,
    pub(super) exit_s: f64,
    pub(super) peak_mib: f64,
}

impl Tracer {
    pub(super) fn start(pid: u32, arguments: &[&str]) -> Result<Self> {
        let mut command = Command::new(project::tracer());
        command.args(["--pid", &pid.to_string(), "--duration", FOREVER]).args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let begun = Instant::now();
        let mut child = command.spawn().context("cannot start tracer")?;
        let (mut stdout, stderr) = (
            child.stdout.take().context("stdout is a pipe")?,
            child.stderr.take().context("stderr is a pipe")?,
        );
        let child = Owned(child);
        let (sender, first_report) = channel();
        let (heap_sender, first_heap) = channel();
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if line.starts_with("first report") {
                    // Nobody asked for it: then nobody needs it.
                    sender.send(Instant::now()).ok();
                } else if line.starts_with("heap ") && line.contains(" live after GC") {
                    heap_sender.send((Instant::now(), line)).ok();
                } else if line.starts_with("tracer: ") && !line.contains("attached") {
                    eprintln!("{line}");
                }
            }
        });
        let (sender, output) = channel();
        thread::spawn(move || {
            let mut piece = vec![0; 1 << 16];
            while let Ok(length @ 1..) = stdout.read(&mut piece) {
                drop(sender.send((Instant::now(), piece[..length].to_vec())));
            }
        });
        let peak = watch_peak(child.pid());
        Ok(Self { child, begun, output, first_report, first_heap, peak })
    }

    pub(super) fn child(&self) -> &Owned {
        &self.child
    }

    /// Waits for the first report; seconds since the start of the program.
    pub(super) fn first_report(&self) -> Result<f64> {
        let at = self.first_report.recv_timeout(STARTS_WITHIN).context("tracer printed no first report")?;
        Ok((at - self.begun).as_secs_f64())
    }

    /// Waits for the first figures of the heap; seconds since the start of the program, and the live bytes they say.
    pub(super) fn first_figures(&self) -> Result<(f64, f64)> {
        let (at, line) = self.first_heap.recv_timeout(STARTS_WITHIN).context("tracer printed no figures")?;
        let live = printed_bytes(&line).with_context(|| format!("no bytes in {line:?}"))?;
        Ok(((at - self.begun).as_secs_f64(), live))
    }

    /// Asks a session with `--format json` for an interim report.
    pub(super) fn interim(&self) -> Result<Session> {
        let begun = Instant::now();
        send(&self.child, Signal::USR1)?;
        let mut report = Vec::new();
        // The brace that closes the document stands alone.
        while !report.ends_with(b"\n}\n") {
            let (_, piece) = self.output.recv_timeout(REPORTS_WITHIN).context("no interim report")?;
            report.extend(piece);
        }
        let report = String::from_utf8(report).context("the report is text")?;
        Ok(Session { report, report_s: begun.elapsed().as_secs_f64(), exit_s: f64::NAN, peak_mib: f64::NAN })
    }

    /// Ctrl-C, and everything until the end.
    pub(super) fn stop(mut self) -> Result<Session> {
        let begun = Instant::now();
        send(&self.child, Signal::INT)?;
        let status = self.child.0.wait()?;
        let exit_s = begun.elapsed().as_secs_f64();
        ensure!(status.success(), "tracer ended with {status}");
        let (mut report, mut report_s) = (Vec::new(), 0.0);
        for (at, piece) in &self.output {
            report_s = (at - begun).as_secs_f64();
            report.extend(piece);
        }
        let report = String::from_utf8(report).context("the report is text")?;
        ensure!(!report.is_empty(), "tracer printed no report");
        let peak = self.peak.recv().context("the peak is read until the end")?;
        Ok(Session { report, report_s, exit_s, peak_mib: peak as f64 / 1024.0 })
    }
}

impl Session {
    pub(super) fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.report).context("the report is JSON")
    }

    /// Allocations counted, by the report's sites.
    pub(super) fn allocations(&self) -> Result<f64> {
        let report = self.json()?;
        let rows = report["allocations"].as_array().context("the report has allocations")?;
        let objects = rows.iter().map(|row| row["allocated"]["objects"].as_f64().unwrap_or(0.0));
        Ok(objects.sum())
    }

    /// Seconds that hits of probes took from the target, by tracer's own estimate.
    pub(super) fn estimated_s(&self) -> Result<f64> {
        let report = self.json()?;
        let share = of(&report, "/session/cost/estimated")? - of(&report, "/session/cost/readings")?;
        Ok(share * of(&report, "/session/duration_s")?)
    }

    /// Seconds that hits and readings took so far, by the same estimate, and how long the session is.
    pub(super) fn taken_s(&self) -> Result<(f64, f64)> {
        let report = self.json()?;
        let duration_s = of(&report, "/session/duration_s")?;
        Ok((of(&report, "/session/cost/estimated")? * duration_s, duration_s))
    }

    /// The share of a processor that the session took from the target, by tracer's own estimate, readings included.
    pub(super) fn estimated_share(&self) -> Result<f64> {
        of(&self.json()?, "/session/cost/estimated")
    }

    /// The functions that were probed, as far as they belong to the allocator.
    pub(super) fn allocators(&self) -> Result<Vec<String>> {
        let report = self.json()?;
        let probes = report["session"]["probes"].as_array().context("the report names its probes")?;
        let names = probes.iter().filter_map(|probe| probe["symbol"].as_str());
        Ok(names.filter(|name| name.starts_with("runtime.mallocgc")).map(str::to_owned).collect())
    }
}

fn of(report: &Value, path: &str) -> Result<f64> {
    report.pointer(path).and_then(Value::as_f64).with_context(|| format!("the report has no {path}"))
}

/// The functions that stand for an allocation in a program, as a session names them.
pub(super) fn allocators(pid: u32) -> Result<Vec<String>> {
    let tracer = Tracer::start(pid, &["--sampler", "all", "--format", "json"])?;
    tracer.first_report()?;
    let functions = tracer.stop()?.allocators()?;
    ensure!(!functions.is_empty(), "tracer probed no allocator");
    Ok(functions)
}

/// bpftrace that counts the entries of functions.
#[derive(Debug)]
pub(super) struct Bpftrace {
    child: Owned,
    keeps: Keeps,
    output: JoinHandle<io::Result<String>>,
}

/// What it counts them by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Keeps {
    Count,
    Stacks,
}

impl Bpftrace {
    /// Starts it and waits until every entry shows its probe.
    pub(super) fn start(
        target: &Fixture,
        keeps: Keeps,
        functions: &[String],
        entries: &Entries,
    ) -> Result<Self> {
        let file = target.program().display();
        let probes: Vec<String> = functions.iter().map(|name| format!("uprobe:{file}:\"{name}\"")).collect();
        let program = format!("{} {{ {} }}", probes.join(","), keeps.action());
        let mut child = Command::new("bpftrace")
            .args(["-p", &target.pid().to_string(), "-e", &program])
            // Names of stacks take it ten seconds, after it is off.
            .env("BPFTRACE_NO_USER_SYMBOLS", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start bpftrace")?;
        let mut stdout = child.stdout.take().context("stdout is a pipe")?;
        let child = Owned(child);
        // Stacks are more than a pipe holds.
        let output = thread::spawn(move || {
            let mut output = String::new();
            stdout.read_to_string(&mut output).map(|_| output)
        });
        entries.wait(true, STARTS_WITHIN).context("bpftrace attached no probe")?;
        Ok(Self { child, keeps, output })
    }

    /// Ctrl-C; returns its count once every entry is as it was.
    pub(super) fn stop(mut self, entries: &Entries) -> Result<f64> {
        // bpftrace now and then forgets a signal that comes just as it begins to poll: it is sent again.
        while self.child.0.try_wait()?.is_none() {
            send(&self.child, Signal::INT)?;
            let again = Instant::now() + ASKED_AGAIN_AFTER;
            while Instant::now() < again && self.child.0.try_wait()?.is_none() {
                thread::sleep(Duration::from_millis(10));
            }
        }
        let output = self.output.join().ok().context("what bpftrace says is read")??;
        entries.wait(false, STARTS_WITHIN)?;
        self.keeps.counted(&output).with_context(|| format!("bpftrace said {output:?}"))
    }
}

impl Keeps {
    /// What it is told to do at each hit.
    fn action(self) -> &'static str {
        match self {
            Self::Count => "@hits = count();",
            Self::Stacks => "@hits[ustack] = count();",
        }
    }

    /// All hits by what bpftrace prints: `@hits: 12`, or `@hits[`, lines of a stack, `]: 12`, for each stack.
    fn counted(self, output: &str) -> Option<f64> {
        let before = match self {
            Self::Count => "@hits: ",
            Self::Stacks => "]: ",
        };
        let mut counts = output.lines().filter_map(|line| line.strip_prefix(before)?.trim().parse().ok());
        let first: f64 = counts.next()?;
        Some(first + counts.sum::<f64>())
    }
}

/// The bytes of a report's line such as `heap 3.2 MiB live after GC, ...`.
fn printed_bytes(line: &str) -> Option<f64> {
    let mut words = line.split_whitespace().skip(1);
    let figure: f64 = words.next()?.parse().ok()?;
    let unit = match words.next()? {
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        _ => return None,
    };
    Some(figure * f64::from(1 << unit))
}

pub(super) fn send(child: &Owned, signal: Signal) -> Result<()> {
    let pid = i32::try_from(child.pid()).ok().and_then(Pid::from_raw).context("a pid is positive")?;
    kill_process(pid, signal).with_context(|| format!("cannot signal process {}", child.pid()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_bpftrace_counted_is_read_back() {
        assert_eq!(Keeps::Count.counted("Attaching 1 probe...\n\n@hits: 12\n"), Some(12.0));
        let stacks = "@hits[\n    a+1\n    b+2\n]: 3\n@hits[\n]: 4\n";
        assert_eq!(Keeps::Stacks.counted(stacks), Some(7.0));
        assert_eq!(Keeps::Stacks.counted("Attaching 1 probe...\n"), None);
    }

    #[test]
    fn a_reports_heap_is_read_back() {
        assert_eq!(printed_bytes("heap 3.5 MiB live after GC, goal 6.6 MiB"), Some(3.5 * 1024.0 * 1024.0));
        assert_eq!(printed_bytes("heap 1 apple live after GC"), None);
    }
}
