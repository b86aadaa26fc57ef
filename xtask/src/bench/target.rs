//! The programs that are measured: started here, ended by their pid when the value goes, never another process.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::command;
use crate::toolchains::{Toolchain, go_command};

/// A child that is ended, by its pid, when this value goes.
#[derive(Debug)]
pub(super) struct Owned(pub(super) Child);

impl Owned {
    pub(super) fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        // Already ended is as good as ended now.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// The fixture `mill`: grinds on command and says what it took.
#[derive(Debug)]
pub(super) struct Mill {
    pub(super) child: Owned,
    pub(super) program: PathBuf,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

/// What one run took, by the target's own account.
#[derive(Clone, Copy, Debug)]
pub(super) struct Work {
    pub(super) rounds: f64,
    pub(super) mallocs: f64,
    pub(super) cpu_s: f64,
}

impl Mill {
    pub(super) fn start(program: &Path) -> Result<Self> {
        let mut child = Command::new(program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let stdin = child.stdin.take().context("stdin is a pipe")?;
        let mut stdout = BufReader::new(child.stdout.take().context("stdout is a pipe")?);
        let child = Owned(child);
        let mut line = String::new();
        while line.trim_end() != "ready" {
            line.clear();
            ensure!(stdout.read_line(&mut line)? > 0, "the mill ended before it was ready");
        }
        Ok(Self { child, program: program.to_owned(), stdin, stdout })
    }

    /// `rounds` rounds of sixteen allocations on each of `workers` goroutines.
    pub(super) fn run(&mut self, rounds: u64, workers: u32) -> Result<Work> {
        writeln!(self.stdin, "run {rounds} {workers}")?;
        let mut line = String::new();
        ensure!(self.stdout.read_line(&mut line)? > 0, "the mill ended while it worked");
        let answer: Value = serde_json::from_str(&line).context("the mill answers in JSON")?;
        let number = |name: &str| answer[name].as_f64().with_context(|| format!("no {name} in {line}"));
        Ok(Work { rounds: number("rounds")?, mallocs: number("mallocs")?, cpu_s: number("cpu_s")? })
    }
}

/// Where some functions of a running program begin, and what their first bytes were without any probe.
#[derive(Debug)]
pub(super) struct Entries {
    memory: File,
    first: Vec<(u64, u8)>,
}

const INT3: u8 = 0xcc;

impl Entries {
    /// For a program at a fixed address: what `go tool nm` says is where it lies in memory.
    pub(super) fn of(mill: &Mill, toolchain: &Toolchain, functions: &[String]) -> Result<Self> {
        let names = command::output(go_command(&toolchain.go).args(["tool", "nm"]).arg(&mill.program))?;
        let memory = File::open(format!("/proc/{}/mem", mill.child.pid()))?;
        let mut first = Vec::new();
        for function in functions {
            let address = names
                .lines()
                .filter_map(|line| {
                    let mut words = line.split_whitespace();
                    Some((words.next()?, words.nth(1)?))
                })
                .find(|(_, name)| name == function)
                .and_then(|(address, _)| u64::from_str_radix(address, 16).ok())
                .with_context(|| format!("the program has no symbol {function}"))?;
            let mut byte = [0];
            memory.read_exact_at(&mut byte, address)?;
            ensure!(byte[0] != INT3, "another tool has a probe on {function}");
            first.push((address, byte[0]));
        }
        Ok(Self { memory, first })
    }

    /// Waits until each entry has a probe, or none has.
    pub(super) fn wait(&self, probed: bool, limit: Duration) -> Result<()> {
        let begun = Instant::now();
        loop {
            let mut there = 0;
            for &(address, byte) in &self.first {
                let mut found = [0];
                self.memory.read_exact_at(&mut found, address)?;
                there += usize::from((found[0] != byte) == probed);
            }
            if there == self.first.len() {
                return Ok(());
            }
            if begun.elapsed() > limit {
                bail!("after {limit:?} {there} of {} entries were as awaited", self.first.len());
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// The largest resident size a process has had so far, in KiB; `None` once it is gone.
pub(super) fn peak_kib(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}
