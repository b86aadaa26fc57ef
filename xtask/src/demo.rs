//! `cargo xtask demo`: builds tracer and a Go program that leaks, traces it as it runs, prints the report on stdout.
//!
//! The main job from nothing, as a stranger would try it. It ends the program it started, and no other.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use crate::command::{self, is_root};
use crate::fixtures::{self, Mode};
use crate::{project, toolchains};

/// Long enough for more than ten GC cycles of the demo program, and for half a minute's worth of its goroutines.
const DURATION: &str = "30s";

pub fn task(arguments: &[String]) -> Result<()> {
    ensure!(arguments.is_empty(), "`cargo xtask demo` takes no arguments");
    ensure!(is_root(), "run `cargo xtask demo` as root: attaching to another process needs it");
    let go = toolchains::bring(toolchains::DEMO)?;
    eprintln!("building tracer");
    build_tracer()?;
    let built = fixtures::build(&go.go, "demo", Mode::Ordinary)?;
    // Under its own name, which the report says. Another demo may be at it: the copy takes its place in one step.
    let program = project::target().join("demo");
    let fresh = project::target().join(format!("demo.{}", std::process::id()));
    std::fs::copy(built, &fresh)
        .and_then(|_| std::fs::rename(&fresh, &program))
        .context("copy the demo program")?;
    let leaking = Running::start(Command::new(program).stdin(Stdio::null()))?;
    // A live process has a past: a first collection has run and the caches are full.
    thread::sleep(Duration::from_secs(2));
    eprintln!("tracing the demo program (pid {}) for {DURATION}", leaking.0.id());
    let status = Command::new(project::tracer())
        .args(["--pid", &leaking.0.id().to_string(), "--sampler", "all", "--duration", DURATION])
        .status()
        .context("cannot start tracer")?;
    drop(leaking);
    if !status.success() {
        bail!("tracer ended with {status}");
    }
    Ok(())
}

/// A release build of the `tracer` binary, as a user would have it.
pub fn build_tracer() -> Result<()> {
    command::run(
        Command::new("cargo")
            .args(["build", "--release", "--locked", "--package", "tracer-user", "--bin", "tracer"])
            .current_dir(project::root()),
    )
}

/// A program that is ended, by its pid, when this value goes.
struct Running(Child);

impl Running {
    /// Starts it and waits for its line `ready`.
    fn start(command: &mut Command) -> Result<Self> {
        let mut child = command.stdout(Stdio::piped()).spawn().context("cannot start the demo program")?;
        let stdout = child.stdout.take().expect("stdout is a pipe");
        let running = Self(child);
        let mut lines = BufReader::new(stdout).lines();
        for line in &mut lines {
            if line? == "ready" {
                // Its later output is not looked at, but a closed pipe would end it.
                thread::spawn(move || lines.count());
                return Ok(running);
            }
        }
        bail!("the demo program ended before it was ready")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Err(error) = self.0.kill().and_then(|()| self.0.wait()) {
            eprintln!("cannot end the demo program: {error}");
        }
    }
}
