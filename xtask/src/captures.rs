//! `cargo xtask captures`: records a short session of each suitable fixture into tests/captures, with its report.
//!
//! The JSON beside a recording is what the live session itself wrote, until `--reports` replaces it by a replay's because the
//! report's form has changed; the text is the recording's replay. That a session and its replay agree to the byte is held by
//! tests/tests/live/recordings.rs, on fresh sessions. The programs
//! are built without paths and run from a neutral folder, so that nothing committed names a machine. It ends only
//! processes it started.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use crate::command::{self, is_root};
use crate::fixtures::Mode;
use crate::toolchains::{self, EVERY, Toolchain};
use crate::{demo, project};

/// Below the root of the checkout.
const CAPTURES: &str = "tests/captures";
/// Where the programs run. Its name is in the committed reports.
const NEUTRAL: &str = "/tmp/tracer-fixtures";

/// One session.
struct Session {
    /// Of the files, and of the program as it runs.
    name: &'static str,
    fixture: &'static str,
    /// The Go minor it is built with.
    minor: u32,
    mode: Mode,
    arguments: &'static [&'static str],
    seconds: u32,
    /// Told before the session begins.
    before: &'static [&'static str],
    /// Told again and again while it goes on, from when its probes are in place.
    during: &'static [&'static str],
    beside: Beside,
}

/// What a fixture needs beside itself.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Beside {
    Nothing,
    /// The same program once more, asking the first one.
    Load,
    /// The plugin, at [`PLUGIN`].
    Plugin,
}

/// What most sessions are.
const PLAIN: Session = Session {
    name: "",
    fixture: "",
    minor: 22,
    mode: Mode::Ordinary,
    arguments: &[],
    seconds: 3,
    before: &[],
    during: &[],
    beside: Beside::Nothing,
};

/// Below [`NEUTRAL`]; sessions tell it to the fixture.
const PLUGIN: &str = "leakplugin";

/// Fixtures without a session of their own, and why: there is nothing to watch, or nothing that a recording holds.
#[cfg(test)]
const LEFT_OUT: [(&str, &str); 9] = [
    ("again", "becomes another process image, which ends the session"),
    ("brief", "ends before anybody looks"),
    ("dwarf", "reads a file, prints and ends"),
    ("leakplugin", "is loaded by pluginhost"),
    ("mainless", "differs in how its memory is reached, which no record shows"),
    ("mill", "allocates for benchmarks, as allocs does for tests"),
    ("names", "prints and ends"),
    ("protocol", "is a package"),
    ("untyped", "shows windows on the allocator, which the session of pinned has too"),
];

/// Every other fixture, and all supported versions of Go among them.
const SESSIONS: [Session; 15] = [
    Session {
        name: "demo",
        fixture: "demo",
        minor: 26,
        arguments: &["--sampler", "all"],
        seconds: 15,
        ..PLAIN
    },
    Session {
        name: "goroutines",
        fixture: "goroutines",
        seconds: 4,
        before: &["start select 5", "start chan-receive 3", "start sleep 2"],
        during: &["churn 50", "start mutex 1", "collect"],
        ..PLAIN
    },
    // Two that grow in package variables while the collector runs, with each write and deletion: bucket maps.
    Session {
        name: "maps",
        fixture: "maps",
        minor: 23,
        mode: Mode::StrippedPie,
        arguments: &["--sampler", "all", "--events", "map"],
        seconds: 15,
        during: &["hold 400", "collect"],
        ..PLAIN
    },
    Session {
        name: "allocs",
        fixture: "allocs",
        minor: 27,
        mode: Mode::StrippedPie,
        arguments: &["--sampler", "all"],
        during: &["run 20 nolarge", "gc"],
        ..PLAIN
    },
    Session {
        name: "parked",
        fixture: "parked",
        arguments: &["--sampler", "none"],
        before: &["park 300"],
        during: &["park 7"],
        ..PLAIN
    },
    // Calls of the program's own code, probed under way.
    Session {
        name: "pinned",
        fixture: "pinned",
        minor: 25,
        mode: Mode::StrippedPie,
        seconds: 12,
        during: &["grow 40", "gc"],
        ..PLAIN
    },
    // Go's own profile at its default rate.
    Session {
        name: "profile",
        fixture: "profile",
        minor: 19,
        arguments: &["--sampler", "runtime"],
        before: &["run 1000", "gc"],
        during: &["run 100", "gc"],
        ..PLAIN
    },
    // Every allocation with its fate: what the accuracy of estimates is tested with.
    Session {
        name: "followed",
        fixture: "followed",
        minor: 27,
        mode: Mode::StrippedPie,
        arguments: &["--sampler", "sampled", "--sample-bytes", "1"],
        before: &["collect -1"],
        during: &["run 120", "gc"],
        ..PLAIN
    },
    // Some allocations with their fates, at the default distance.
    Session {
        name: "typed",
        fixture: "typed",
        minor: 25,
        mode: Mode::StrippedPie,
        arguments: &["--sampler", "sampled"],
        seconds: 4,
        before: &["keep 300"],
        during: &["churn 1", "keep 400"],
        ..PLAIN
    },
    Session {
        name: "stacks",
        fixture: "stacks",
        minor: 20,
        mode: Mode::StrippedPie,
        arguments: &["--sampler", "all"],
        during: &["alloc 50", "deep 90 5"],
        ..PLAIN
    },
    Session { name: "http", fixture: "http", minor: 19, beside: Beside::Load, ..PLAIN },
    // Goroutines that wait in every way there is. It takes its account at one line and tells it at the next.
    Session {
        name: "state",
        fixture: "state",
        minor: 21,
        mode: Mode::StrippedPie,
        during: &["take", "tell"],
        ..PLAIN
    },
    // The plugin comes while it is watched, and is there already when it is told again.
    Session {
        name: "pluginhost",
        fixture: "pluginhost",
        minor: 20,
        mode: Mode::CgoPie,
        arguments: &["--sampler", "runtime"],
        seconds: 4,
        before: &["gc"],
        during: &["load /tmp/tracer-fixtures/leakplugin", "grow 100", "park 2", "gc"],
        beside: Beside::Plugin,
    },
    // Memory that is not Go's.
    Session { name: "outside", fixture: "outside", minor: 19, during: &["map 3", "sys"], ..PLAIN },
    // Objects that are kept, and cycles enough to say so.
    Session {
        name: "heartbeat",
        fixture: "heartbeat",
        minor: 24,
        mode: Mode::StrippedPie,
        arguments: &["--sampler", "none"],
        seconds: 15,
        before: &["fill 4", "park 60"],
        during: &["fill 1", "beat 300"],
        ..PLAIN
    },
];

pub fn task(arguments: &[String]) -> Result<()> {
    match arguments {
        [] => {
            ensure!(is_root(), "run `cargo xtask captures` as root: attaching to another process needs it");
            demo::build_tracer()?;
            let folder = project::root().join(CAPTURES);
            fs::create_dir_all(&folder)?;
            fs::create_dir_all(NEUTRAL)?;
            for session in &SESSIONS {
                record(session, &folder)?;
            }
            Ok(())
        }
        [word] if !word.starts_with('-') => {
            ensure!(is_root(), "run `cargo xtask captures` as root: attaching to another process needs it");
            demo::build_tracer()?;
            fs::create_dir_all(NEUTRAL)?;
            let mut some = SESSIONS.iter().filter(|session| session.name.contains(word.as_str()));
            some.try_for_each(|session| record(session, &project::root().join(CAPTURES)))
        }
        [again] if again == "--reports" => {
            demo::build_tracer()?;
            for session in &SESSIONS {
                let file = project::root().join(CAPTURES).join(session.name);
                for format in ["json", "text"] {
                    replay(&file, format)?;
                }
            }
            Ok(())
        }
        _ => bail!(
            "say `cargo xtask captures [WORD]`, or `cargo xtask captures --reports` to print the reports again"
        ),
    }
}

fn record(session: &Session, folder: &Path) -> Result<()> {
    let pin = EVERY.into_iter().find(|pin| pin.minor() == session.minor);
    let toolchain = toolchains::bring(pin.context("a session's Go is one of the pinned ones")?)?;
    let program = build(&toolchain, session.fixture, session.name, session.mode)?;
    if session.beside == Beside::Plugin {
        build(&toolchain, "leakplugin", PLUGIN, Mode::Plugin)?;
    }
    let mut target = Target::start(Command::new(&program))?;
    for line in session.before {
        target.ask(line)?;
    }
    let load = (session.beside == Beside::Load).then(|| load(&program, &mut target)).transpose()?;
    let file = folder.join(session.name);
    let (recording, report) = (file.with_extension("trc"), file.with_extension("json"));
    let mut tracer = Command::new(project::tracer())
        .args(["--pid", &target.child.id().to_string(), "--duration", &format!("{}s", session.seconds)])
        .args(session.arguments)
        .arg("--record")
        .arg(&recording)
        .arg("-o")
        .arg(&report)
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start tracer")?;
    let mut said = BufReader::new(tracer.stderr.take().expect("stderr is a pipe")).lines();
    let attached = said.by_ref().any(|line| line.is_ok_and(|line| line.contains("attached")));
    // What it says later is in its report; the pipe must not fill.
    let rest = thread::spawn(move || said.for_each(drop));
    while attached && tracer.try_wait()?.is_none() {
        for line in session.during {
            target.ask(line)?;
        }
        thread::sleep(Duration::from_millis(200));
    }
    ensure!(tracer.wait()?.success(), "tracer failed on {}", session.name);
    drop(rest.join());
    drop(load);
    replay(&file, "text")?;
    let kib = |path: &Path| fs::metadata(path).map(|found| found.len() / 1024);
    eprintln!("{}: recording {} KiB, report {} KiB", session.name, kib(&recording)?, kib(&report)?);
    Ok(())
}

/// The fixture `http` once more, which asks the first one without a pause.
fn load(program: &Path, server: &mut Target) -> Result<Target> {
    let state = server.ask("state")?;
    let address = state.split("\"address\":\"").nth(1).and_then(|rest| rest.split('"').next());
    let mut command = Command::new(program);
    command.args(["load", address.context("the server tells no address")?, "2"]);
    Target::start(command)
}

/// Prints the report of the recording `file`, which has no ending yet, beside it.
fn replay(file: &Path, format: &str) -> Result<()> {
    let ending = if format == "text" { "txt" } else { format };
    command::run(
        Command::new(project::tracer())
            .arg("replay")
            .arg(file.with_extension("trc"))
            .args(["--format", format, "-o"])
            .arg(file.with_extension(ending)),
    )
}

/// The fixture as a program of that name, without the paths of this machine in it.
fn build(toolchain: &Toolchain, fixture: &str, name: &str, mode: Mode) -> Result<PathBuf> {
    let program = Path::new(NEUTRAL).join(name);
    let mut build = toolchain.command();
    build.args(["build", "-trimpath", "-buildvcs=false", "-o"]).arg(&program).args(mode.flags());
    // A recording is mostly the program's function table, and HTTP/2 a quarter of that of a program that serves HTTP.
    build.args(["-tags=nethttpomithttp2", "."]).current_dir(project::fixture(fixture));
    build.env("CGO_ENABLED", if mode.needs_c() { "1" } else { "0" });
    build.env("GO111MODULE", "on").env("GOPROXY", "off");
    command::quiet(&mut build).with_context(|| format!("cannot build the fixture {fixture}"))?;
    Ok(program)
}

/// A fixture, ended by its pid when this value goes.
struct Target {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Target {
    fn start(mut program: Command) -> Result<Self> {
        let mut child = program
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create("/dev/null")?)
            .current_dir("/")
            .spawn()
            .with_context(|| format!("cannot start {program:?}"))?;
        let stdin = child.stdin.take().expect("stdin is a pipe");
        let stdout = BufReader::new(child.stdout.take().expect("stdout is a pipe"));
        let mut target = Self { child, stdin, stdout };
        while target.line()? != "ready" {}
        Ok(target)
    }

    fn ask(&mut self, line: &str) -> Result<String> {
        writeln!(self.stdin, "{line}")?;
        let answer = self.line()?;
        ensure!(!answer.contains("\"error\""), "the fixture refused {line:?}: {answer}");
        Ok(answer)
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        ensure!(self.stdout.read_line(&mut line)? > 0, "the fixture ended");
        Ok(line.trim_end().to_owned())
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if let Err(error) = self.child.kill().and_then(|()| self.child.wait()) {
            eprintln!("cannot end a fixture: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fixture_has_its_session_or_a_reason() {
        let fixtures = project::fixture("");
        let mut missing = Vec::new();
        for entry in fs::read_dir(fixtures).expect("the fixtures are there") {
            let name = entry.expect("a folder is listed").file_name().to_string_lossy().into_owned();
            let recorded = SESSIONS.iter().any(|session| session.fixture == name);
            if recorded == LEFT_OUT.iter().any(|(out, _)| *out == name) {
                missing.push(name);
            }
        }
        assert!(missing.is_empty(), "neither recorded nor left out, or both: {missing:?}");
        for session in &SESSIONS {
            let file = project::root().join(CAPTURES).join(session.name).with_extension("trc");
            assert!(file.exists(), "run `cargo xtask captures {}`", session.name);
        }
    }
}
