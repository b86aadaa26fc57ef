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

    /// Processor time that it took so far, of all its threads.
    pub(super) fn cpu_s(&self) -> Result<f64> {
        let mut nanoseconds = 0.0;
        for thread in fs::read_dir(format!("/proc/{}/task", self.pid()))? {
            let told = fs::read_to_string(thread?.path().join("schedstat"))?;
            let word = told.split_whitespace().next().context("schedstat has three words")?;
            nanoseconds += word.parse::<f64>()?;
        }
        Ok(nanoseconds / 1e9)
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        // Already ended is as good as ended now.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// A fixture that runs: it obeys lines and answers each in JSON.
#[derive(Debug)]
pub(super) struct Fixture {
    child: Owned,
    program: PathBuf,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Fixture {
    pub(super) fn start(program: &Path) -> Result<Self> {
        Self::start_with(program, &[])
    }

    pub(super) fn start_with(program: &Path, arguments: &[&str]) -> Result<Self> {
        let mut command = Command::new(program);
        let mut child = command
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let stdin = child.stdin.take().context("stdin is a pipe")?;
        let stdout = BufReader::new(child.stdout.take().context("stdout is a pipe")?);
        let mut fixture = Self { child: Owned(child), program: program.to_owned(), stdin, stdout };
        while fixture.line()?.trim_end() != "ready" {}
        Ok(fixture)
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        ensure!(self.stdout.read_line(&mut line)? > 0, "{} ended", self.program.display());
        Ok(line)
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.pid()
    }

    pub(super) fn program(&self) -> &Path {
        &self.program
    }

    pub(super) fn ask(&mut self, command: &str) -> Result<Value> {
        writeln!(self.stdin, "{command}")?;
        serde_json::from_str(&self.line()?).context("the target answers in JSON")
    }
}

/// A number of an answer.
pub(super) fn told(answer: &Value, name: &str) -> Result<f64> {
    answer[name].as_f64().with_context(|| format!("no {name} in {answer}"))
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
    pub(super) fn of(target: &Fixture, toolchain: &Toolchain, functions: &[String]) -> Result<Self> {
        let names = command::output(go_command(&toolchain.go).args(["tool", "nm"]).arg(target.program()))?;
        let memory = File::open(format!("/proc/{}/mem", target.pid()))?;
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
