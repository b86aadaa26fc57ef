//! The `tracer` binary under test: started, waited for, interrupted, its output collected within a time limit.
//! It is the built binary, never the library.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::lines::Lines;
use crate::target::{send, wait_exit};

/// What the line on stderr holds once every probe is in place, or none is wanted.
pub const ATTACHED: &str = "attached";

const ATTACH_LIMIT: Duration = Duration::from_secs(30);

/// For the end of a session after Ctrl-C: forty single probes take seconds to detach.
const END_LIMIT: Duration = Duration::from_mins(1);

/// Where the binary is: `TRACER_BIN`, else the release build, else the debug build.
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("TRACER_BIN") {
        return PathBuf::from(path);
    }
    let release = xtask::project::tracer();
    if release.exists() { release } else { xtask::project::target().join("debug/tracer") }
}

/// A running tracer.
#[derive(Debug)]
pub struct Tracer {
    child: Child,
    stdout: Lines,
    stderr: Lines,
}

/// A tracer that ended.
#[derive(Clone, Debug)]
pub struct Ended {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
    /// From the moment the caller began to wait.
    pub took: Duration,
}

impl Ended {
    /// Fails the test, with everything that was said, unless the session ended well.
    #[must_use]
    pub fn success(self) -> Self {
        assert!(self.status.success(), "tracer ended with {}\n{}\n{}", self.status, self.stderr, self.stdout);
        self
    }

    /// Fails the test unless it was refused as a user may expect: exit code 2, nothing on stdout, one line on stderr, which holds
    /// all of `says`.
    #[must_use]
    pub fn refused(self, says: &[&str]) -> Self {
        assert_eq!(self.status.code(), Some(2), "{self:?}");
        assert_eq!(self.stdout, "", "{self:?}");
        assert_eq!(self.stderr.lines().count(), 1, "{self:?}");
        assert!(self.stderr.starts_with("tracer: "), "{self:?}");
        for word in says {
            assert!(self.stderr.contains(word), "no {word:?} in {self:?}");
        }
        self
    }

    /// The report as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("stdout is not JSON: {error}\n{}", self.stdout))
    }

    /// The last of several reports in JSON.
    pub fn last_json(&self) -> serde_json::Value {
        last_document(&self.stdout)
    }
}

fn last_document(text: &str) -> serde_json::Value {
    let documents = serde_json::Deserializer::from_str(text).into_iter();
    let last = documents.last().unwrap_or_else(|| panic!("no document"));
    last.unwrap_or_else(|error| panic!("stdout is not JSON: {error}\n{text}"))
}

impl Tracer {
    /// Starts it with these arguments.
    pub fn start<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Self {
        Self::start_command(Command::new(binary()).args(arguments))
    }

    /// The same by a command of the caller's, such as one that enters a namespace first.
    pub fn start_command(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        let stdout = Lines::read(child.stdout.take().expect("stdout is a pipe"));
        let stderr = Lines::read(child.stderr.take().expect("stderr is a pipe"));
        Self { child, stdout, stderr }
    }

    /// Starts a session on a process and waits until its probes are in place.
    pub fn attach(pid: u32, arguments: &[&str]) -> Self {
        let pid = pid.to_string();
        let mut tracer = Self::start(["--pid", &pid].iter().chain(arguments));
        tracer.wait_for(ATTACHED, ATTACH_LIMIT);
        tracer
    }

    /// Runs a command that ends by itself.
    pub fn run(arguments: &[&str], limit: Duration) -> Ended {
        Self::start(arguments).wait(limit)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a line on stderr that holds the text.
    pub fn wait_for(&mut self, text: &str, limit: Duration) -> String {
        self.stderr
            .wait(limit, |line| line.contains(text))
            .unwrap_or_else(|seen| panic!("waiting for {text:?}: {seen}"))
    }

    /// Waits for a line on stdout that holds the text.
    pub fn wait_for_output(&mut self, text: &str, limit: Duration) -> String {
        self.stdout
            .wait(limit, |line| line.contains(text))
            .unwrap_or_else(|seen| panic!("waiting for {text:?}: {seen}"))
    }

    /// Asks a session with `--format json` for an interim report.
    pub fn interim(&mut self, limit: Duration) -> serde_json::Value {
        self.signal(Signal::USR1);
        // The brace that closes the document stands alone.
        self.stdout
            .wait(limit, |line| line == "}")
            .unwrap_or_else(|seen| panic!("no interim report: {seen}"));
        last_document(&self.stdout.text())
    }

    /// Whether it prints a line on stdout that holds the text within that time.
    pub fn prints(&mut self, text: &str, limit: Duration) -> bool {
        self.stdout.wait(limit, |line| line.contains(text)).is_ok()
    }

    pub fn signal(&self, signal: Signal) {
        send(self.pid(), signal);
    }

    /// Ctrl-C, and everything until the end.
    pub fn interrupt(self) -> Ended {
        self.signal(Signal::INT);
        self.wait(END_LIMIT)
    }

    /// SIGKILL: no chance to clean up.
    pub fn kill(mut self) {
        self.signal(Signal::KILL);
        wait_exit(&mut self.child, END_LIMIT).expect("a killed process ends");
    }

    /// Waits for its end and collects what it said.
    pub fn wait(mut self, limit: Duration) -> Ended {
        let begun = Instant::now();
        let Some(status) = wait_exit(&mut self.child, limit) else {
            let (stdout, stderr) = (self.stdout.rest(Duration::ZERO), self.stderr.rest(Duration::ZERO));
            panic!("tracer still ran after {limit:?}\n{stderr}\n{stdout}");
        };
        let took = begun.elapsed();
        // The pipes close with the process; a moment for the readers.
        let rest = Duration::from_secs(5);
        Ended { status, stdout: self.stdout.rest(rest), stderr: self.stderr.rest(rest), took }
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        // Already ended is as good as ended now.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
