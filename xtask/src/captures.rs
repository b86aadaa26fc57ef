//! `cargo xtask captures`: records a short session of each suitable fixture into tests/captures, with its report.
//!
//! The JSON beside a recording is what the live session itself wrote; the text is the recording's replay. The programs
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
use crate::toolchains::{self, PINS, Toolchain};
use crate::{demo, project};

/// Below the root of the checkout.
const CAPTURES: &str = "tests/captures";
/// Where the programs run. Its name is in the committed reports.
const NEUTRAL: &str = "/tmp/tracer-fixtures";

/// One session.
struct Session {
    fixture: &'static str,
    /// An index into the pinned toolchains.
    pin: usize,
    stripped: bool,
    arguments: &'static [&'static str],
    seconds: u32,
    /// Told before the session begins.
    before: &'static [&'static str],
    /// Told again and again while it goes on.
    during: &'static [&'static str],
}

const SESSIONS: [Session; 7] = [
    Session {
        fixture: "demo",
        pin: 1,
        stripped: false,
        arguments: &["--sampler", "all"],
        seconds: 15,
        before: &[],
        during: &[],
    },
    Session {
        fixture: "goroutines",
        pin: 0,
        stripped: false,
        arguments: &[],
        seconds: 4,
        before: &["start select 5", "start chan-receive 3", "start sleep 2"],
        during: &["churn 50", "start mutex 1", "collect"],
    },
    Session {
        fixture: "maps",
        pin: 0,
        stripped: true,
        arguments: &["--sampler", "all", "--events", "map"],
        seconds: 3,
        before: &[],
        during: &["run 200"],
    },
    Session {
        fixture: "allocs",
        pin: 2,
        stripped: true,
        arguments: &["--sampler", "all"],
        seconds: 3,
        before: &[],
        during: &["run 20 nolarge", "gc"],
    },
    Session {
        fixture: "parked",
        pin: 0,
        stripped: false,
        arguments: &["--sampler", "none"],
        seconds: 3,
        before: &["park 300"],
        during: &["park 7"],
    },
    Session {
        fixture: "profile",
        pin: 0,
        stripped: false,
        arguments: &[],
        seconds: 3,
        before: &["run 1000", "gc"],
        during: &["run 100", "gc"],
    },
    // Every allocation with its fate: what the accuracy of estimates is tested with.
    Session {
        fixture: "followed",
        pin: 2,
        stripped: true,
        arguments: &["--sampler", "sampled", "--sample-bytes", "1"],
        seconds: 3,
        before: &["collect -1"],
        during: &["run 120", "gc"],
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
            let mut some = SESSIONS.iter().filter(|session| session.fixture.contains(word.as_str()));
            some.try_for_each(|session| record(session, &project::root().join(CAPTURES)))
        }
        [again] if again == "--reports" => {
            demo::build_tracer()?;
            for session in &SESSIONS {
                let file = project::root().join(CAPTURES).join(session.fixture);
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
    let toolchain = toolchains::bring(PINS[session.pin])?;
    let program = build(&toolchain, session)?;
    let mut target = Target::start(&program)?;
    for line in session.before {
        target.ask(line)?;
    }
    let file = folder.join(session.fixture);
    let (recording, report) = (file.with_extension("trc"), file.with_extension("json"));
    let mut tracer = Command::new(project::tracer())
        .args(["--pid", &target.child.id().to_string(), "--duration", &format!("{}s", session.seconds)])
        .args(session.arguments)
        .arg("--record")
        .arg(&recording)
        .arg("-o")
        .arg(&report)
        .stderr(Stdio::null())
        .spawn()
        .context("cannot start tracer")?;
    while tracer.try_wait()?.is_none() {
        for line in session.during {
            target.ask(line)?;
        }
        thread::sleep(Duration::from_millis(200));
    }
    ensure!(tracer.wait()?.success(), "tracer failed on {}", session.fixture);
    replay(&file, "text")?;
    let kib = |path: &Path| fs::metadata(path).map(|found| found.len() / 1024);
    eprintln!("{}: recording {} KiB, report {} KiB", session.fixture, kib(&recording)?, kib(&report)?);
    Ok(())
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

/// The fixture without the paths of this machine in it.
fn build(toolchain: &Toolchain, session: &Session) -> Result<PathBuf> {
    let program = Path::new(NEUTRAL).join(session.fixture);
    let mut build = toolchain.command();
    build.args(["build", "-trimpath", "-buildvcs=false", "-o"]).arg(&program);
    if session.stripped {
        build.args(["-buildmode=pie", "-ldflags=-s -w"]);
    }
    build.arg(".").current_dir(project::fixture(session.fixture));
    build.env("CGO_ENABLED", "0").env("GO111MODULE", "on").env("GOPROXY", "off");
    command::quiet(&mut build).with_context(|| format!("cannot build the fixture {}", session.fixture))?;
    Ok(program)
}

/// A fixture, ended by its pid when this value goes.
struct Target {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Target {
    fn start(program: &Path) -> Result<Self> {
        let mut child = Command::new(program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create("/dev/null")?)
            .current_dir("/")
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let stdin = child.stdin.take().expect("stdin is a pipe");
        let stdout = BufReader::new(child.stdout.take().expect("stdout is a pipe"));
        let mut target = Self { child, stdin, stdout };
        while target.line()? != "ready" {}
        Ok(target)
    }

    fn ask(&mut self, line: &str) -> Result<()> {
        writeln!(self.stdin, "{line}")?;
        let answer = self.line()?;
        ensure!(!answer.contains("\"error\""), "the fixture refused {line:?}: {answer}");
        Ok(())
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
