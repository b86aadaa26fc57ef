//! A Go program under test: started, driven by lines, ended by its pid when the test is done with it.
//!
//! The protocol is in tests/fixtures/go/protocol. It touches no process it did not start.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::lines::Lines;

const START_LIMIT: Duration = Duration::from_secs(20);

/// For one command of a fixture. Single-stepped probes under emulation are slow.
const ANSWER_LIMIT: Duration = Duration::from_mins(2);

/// A running target.
#[derive(Debug)]
pub struct Target {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: Lines,
}

impl Target {
    /// Starts a fixture and waits until it is ready.
    pub fn start(program: &Path) -> Self {
        Self::start_command(&mut Command::new(program))
    }

    /// The same with arguments, environment or a wrapper of the caller's.
    pub fn start_command(command: &mut Command) -> Self {
        let mut target = Self::start_silent(command);
        if let Err(seen) = target.stdout.wait(START_LIMIT, |line| line == "ready") {
            panic!("{command:?} did not become ready: {seen}");
        }
        target
    }

    /// Starts a program that does not speak the protocol, such as one nobody here wrote.
    pub fn start_silent(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        let stdin = child.stdin.take();
        let stdout = Lines::read(child.stdout.take().expect("stdout is a pipe"));
        Self { child, stdin, stdout }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends one command and returns the JSON it answers with. A fixture that answers with an error fails the test.
    pub fn ask(&mut self, line: &str) -> Value {
        self.tell(line);
        self.answer()
    }

    /// Sends one command without waiting; `answer` takes what comes back.
    pub fn tell(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().expect("the target's stdin is open");
        writeln!(stdin, "{line}")
            .unwrap_or_else(|error| panic!("the target takes no more commands: {error}"));
    }

    pub fn answer(&mut self) -> Value {
        let line = self
            .stdout
            .wait(ANSWER_LIMIT, |_| true)
            .unwrap_or_else(|seen| panic!("the target did not answer: {seen}"));
        let value: Value =
            serde_json::from_str(&line).unwrap_or_else(|error| panic!("not JSON: {error}: {line}"));
        assert!(value.get("error").is_none(), "the target refused: {value}");
        value
    }

    /// Waits for a line of its stdout.
    pub fn wait_for(&mut self, limit: Duration, wanted: impl Fn(&str) -> bool) -> String {
        self.stdout.wait(limit, wanted).unwrap_or_else(|seen| panic!("{seen}"))
    }

    /// Everything it has said on stdout by now.
    pub fn said(&mut self) -> String {
        self.stdout.rest(Duration::ZERO)
    }

    pub fn is_alive(&mut self) -> bool {
        self.child.try_wait().expect("the target is this process's child").is_none()
    }

    /// Sends a signal by pid.
    pub fn signal(&self, signal: Signal) {
        send(self.pid(), signal);
    }

    /// Waits for its end.
    pub fn wait_exit(&mut self, limit: Duration) -> ExitStatus {
        wait_exit(&mut self.child, limit).unwrap_or_else(|| panic!("the target still ran after {limit:?}"))
    }

    /// Lets a fixture end by itself: its commands end with its stdin.
    pub fn finish(mut self) -> ExitStatus {
        self.stdin = None;
        self.wait_exit(START_LIMIT)
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        // Already ended is as good as ended now.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

pub(crate) fn send(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("the kernel gives positive pids");
    match kill_process(pid, signal) {
        // A process that ended meanwhile is what the caller finds out by waiting for it.
        Ok(()) | Err(rustix::io::Errno::SRCH) => {}
        Err(error) => panic!("cannot send {signal:?} to {pid:?}: {error}"),
    }
}

pub fn wait_exit(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("the process is this one's child") {
            return Some(status);
        }
        if begun.elapsed() > limit {
            return None;
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// The first process that a thread of `pid` started.
pub fn first_child(pid: u32) -> u32 {
    const LIMIT: Duration = Duration::from_mins(1);
    let began = Instant::now();
    while began.elapsed() < LIMIT {
        for task in fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten() {
            let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            if let Some(child) = children.split_whitespace().next() {
                return child.parse().unwrap();
            }
        }
        thread::sleep(Duration::from_millis(1));
    }
    panic!("process {pid} started nothing");
}
