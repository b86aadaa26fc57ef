//! What bad input gets: exit code 2, one line on stderr that says what was wrong and what to do, and nothing left behind.
//!
//! One test for each line of that promise. The bad inputs are made here, from real programs where there are some.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use tracer_tests::go::{Go, Mode};
use tracer_tests::live;
use tracer_tests::requirements::skip;
use tracer_tests::scratch::Scratch;
use tracer_tests::target::Target;
use tracer_tests::tracer::Tracer;

const END: Duration = Duration::from_mins(1);

/// Runs it and fails unless it is refused with one line that holds all of `says`.
fn refused(arguments: &[&str], says: &[&str]) {
    drop(Tracer::run(arguments, END).refused(says));
}

/// Each command that takes a pid refuses it the same way.
fn refused_everywhere(pid: u32, says: &[&str]) {
    let pid = pid.to_string();
    for command in
        [&["--pid"][..], &["--sampler", "none", "--pid"], &["check", "--pid"], &["goroutines", "--pid"]]
    {
        refused(&[command, &[pid.as_str()]].concat(), says);
    }
}

fn executable(file: &Path) {
    fs::set_permissions(file, fs::Permissions::from_mode(0o755)).unwrap();
}

/// Runs a build and returns whether the tools for it are here.
fn built(command: &mut Command) -> bool {
    let done = command.stdin(Stdio::null()).output().unwrap();
    if !done.status.success() {
        skip(&format!("{command:?}: {}", String::from_utf8_lossy(&done.stderr)));
    }
    done.status.success()
}

/// A program's source in a module of its own.
fn module(scratch: &Scratch, source: &str) -> PathBuf {
    fs::write(scratch.file("go.mod"), "module made/here\n\ngo 1.20\n").unwrap();
    fs::write(scratch.file("main.go"), source).unwrap();
    scratch.path().to_owned()
}

/// A copy of the demo program with some of its bytes changed.
fn patched(scratch: &Scratch, change: impl FnOnce(&mut Vec<u8>)) -> PathBuf {
    let mut bytes = fs::read(Go::demo().build("demo", Mode::Ordinary)).unwrap();
    change(&mut bytes);
    let file = scratch.file("patched");
    fs::write(&file, bytes).unwrap();
    executable(&file);
    file
}

fn find(bytes: &[u8], wanted: &[u8]) -> usize {
    bytes.windows(wanted.len()).position(|window| window == wanted).expect("the bytes are in the file")
}

#[test]
fn no_such_process() {
    live!(Root, Tracer);
    let mut ended = Command::new("true").spawn().unwrap();
    let pid = ended.id();
    ended.wait().unwrap();
    refused_everywhere(pid, &[&format!("no process {pid}"), "tracer list"]);
    refused_everywhere(u32::MAX, &["no process", "tracer list"]);
    refused(&["--name", "no-such-program-anywhere"], &["no-such-program-anywhere", "tracer list"]);
    // A kernel thread has no executable; pid 2 is kthreadd where the host's own processes are seen.
    if fs::read_to_string("/proc/2/comm").is_ok_and(|name| name.trim() == "kthreadd") {
        refused_everywhere(2, &["kernel thread"]);
    }
}

#[test]
fn not_a_go_program() {
    live!(Root, Tracer);
    let mut shell = Target::start_silent(Command::new("sh").args(["-c", "read line; exit 0"]));
    refused_everywhere(shell.pid(), &["not a Go program", "tracer list"]);
    assert!(shell.is_alive());
    refused(&["--", "sleep", "0"], &["not a Go program"]);
    let scratch = Scratch::new("not-go");
    let source = scratch.file("main.c");
    fs::write(&source, "int main(void) { return getchar(); }\n#include <stdio.h>\n").unwrap();
    let program = scratch.file("main");
    if built(Command::new("cc").args(["-w", "-o"]).arg(&program).arg(&source)) {
        let mut target = Target::start_silent(&mut Command::new(&program));
        refused_everywhere(target.pid(), &["not a Go program", "tracer list"]);
        assert!(target.is_alive());
    }
}

#[test]
fn go_inside_a_library_is_named() {
    live!(Root, Tracer, Go);
    let scratch = Scratch::new("c-shared");
    let source = "package main\n\nimport \"C\"\n\n//export Answer\nfunc Answer() int { return 42 }\n\nfunc main() {}\n";
    let folder = module(&scratch, source);
    let library = scratch.file("libgo.so");
    let mut build = xtask::toolchains::go_command(&Go::demo().path);
    build.args(["build", "-buildvcs=false", "-buildmode=c-shared", "-o"]).arg(&library).arg(".");
    if !built(build.env("CGO_ENABLED", "1").current_dir(&folder)) {
        return;
    }
    let main = scratch.file("main.c");
    fs::write(&main, "#include <stdio.h>\nextern long long Answer(void);\nint main(void) { Answer(); return getchar(); }\n")
        .unwrap();
    let host = scratch.file("host");
    if !built(Command::new("cc").arg("-o").arg(&host).arg(&main).arg(&library)) {
        return;
    }
    let mut target = Target::start_silent(Command::new(&host).env("LD_LIBRARY_PATH", scratch.path()));
    // Once the library is mapped: before, it is a C program like any other.
    wait_for_map(target.pid(), "libgo.so");
    refused_everywhere(target.pid(), &["Go inside a library", "libgo.so"]);
    assert!(target.is_alive());
    // The library itself as the command.
    executable(&library);
    refused(&["--", library.to_str().unwrap()], &["Go inside a library", "c-shared"]);
}

fn wait_for_map(pid: u32, name: &str) {
    for _ in 0..200 {
        if fs::read_to_string(format!("/proc/{pid}/maps")).unwrap().contains(name) {
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
    panic!("{name} was never mapped");
}

#[test]
fn a_upx_packed_program_is_named() {
    live!(Root, Tracer, Go);
    let scratch = Scratch::new("upx");
    let packed = scratch.file("packed");
    if xtask::command::find("upx").is_some() {
        let demo = Go::demo().build("demo", Mode::Ordinary);
        assert!(built(Command::new("upx").args(["-1", "-qq", "-o"]).arg(&packed).arg(&demo)));
    } else {
        // Debian 12 has no upx. What it leaves at the head of a packed file, in a program that is not Go.
        let mut bytes = fs::read(xtask::command::find("sleep").unwrap()).unwrap();
        let at = fs::read(Go::demo().build("brief", Mode::Ordinary)).unwrap().len().min(256);
        bytes[at..at + 4].copy_from_slice(b"UPX!");
        fs::write(&packed, bytes).unwrap();
        executable(&packed);
    }
    refused(&["--", packed.to_str().unwrap()], &["packed with UPX", "upx -d"]);
}

#[test]
fn an_older_go_is_named_with_the_supported_range() {
    live!(Root, Tracer, Go);
    let version = format!("go{}", Go::demo().pin.version);
    // A newer one may be read: tests/newer.rs.
    for other in ["go1.17.8", "go0.99.9"] {
        assert_eq!(other.len(), version.len());
        let scratch = Scratch::new("version");
        let file = patched(&scratch, |bytes| {
            // Behind the mark of the build information; the runtime's own copy does not matter to it.
            let mark = find(bytes, b"\xff Go buildinf:");
            let at = mark + find(&bytes[mark..], version.as_bytes());
            bytes[at..at + version.len()].copy_from_slice(other.as_bytes());
        });
        let mut target = Target::start_silent(&mut Command::new(&file));
        target.wait_for(END, |line| line == "ready");
        refused_everywhere(target.pid(), &[other.split_at(4).1, "go1.19 to go1.27"]);
        refused(&["--", file.to_str().unwrap()], &["go1.19 to go1.27"]);
        let list = Tracer::run(&["list"], END).success().stdout;
        let row = list.lines().find(|row| row.contains(&format!("{} ", target.pid())));
        assert!(row.is_some_and(|row| row.contains("no: ")), "{list}");
        assert!(target.is_alive());
    }
}

#[test]
fn a_32_bit_program_is_named() {
    live!(Root, Tracer, Go);
    let scratch = Scratch::new("386");
    let folder =
        module(&scratch, "package main\n\nimport \"os\"\n\nfunc main() { os.Stdin.Read(make([]byte, 1)) }\n");
    let program = scratch.file("program");
    let mut build = xtask::toolchains::go_command(&Go::demo().path);
    build.args(["build", "-buildvcs=false", "-o"]).arg(&program).arg(".").current_dir(folder);
    assert!(built(build.env("GOARCH", "386").env("CGO_ENABLED", "0")));
    refused(&["--", program.to_str().unwrap()], &["32-bit", "amd64"]);
    // A kernel without 32-bit support cannot run it at all.
    if let Ok(mut child) = Command::new(&program).stdin(Stdio::piped()).spawn() {
        thread::sleep(Duration::from_millis(100));
        if child.try_wait().unwrap().is_none() {
            refused_everywhere(child.id(), &["32-bit", "amd64"]);
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

#[test]
fn a_damaged_executable_names_the_place() {
    live!(Root, Tracer, Go);
    let scratch = Scratch::new("damaged");
    // Cut in the middle: the section headers at its end are gone.
    let file = patched(&scratch, |bytes| bytes.truncate(bytes.len() / 2));
    refused(&["--", file.to_str().unwrap()], &["damaged", "0x"]);
    // Half an ELF header.
    let file = patched(&scratch, |bytes| bytes.truncate(40));
    refused(&["--", file.to_str().unwrap()], &["damaged", "0x"]);
    // Its function table's first word, in a program that runs: Go itself looks at it only when it prints a stack.
    let file = patched(&scratch, |bytes| {
        let magic = [0xf1, 0xff, 0xff, 0xff, 0, 0, 1, 8];
        let at = find(bytes, &magic);
        bytes[at + 8..at + 16].fill(0xff);
    });
    let ended = Tracer::run(&["--sampler", "all", "--duration", "1s", "--", file.to_str().unwrap()], END);
    drop(ended.refused(&["damaged", "0x"]));
    assert!(!scratch.file("core").exists());
}

#[test]
fn a_process_that_ends_or_execs_while_we_attach() {
    live!();
    let brief = Go::demo().build("brief", Mode::Ordinary);
    let demo = Go::demo().build("demo", Mode::Ordinary);
    let mut outcomes = Vec::new();
    for round in 0..16_u32 {
        // A shell that turns into the Go program, which ends or is replaced once more within a few milliseconds.
        let wait = f64::from(round) * 0.02;
        let script = if round % 2 == 0 {
            format!("sleep {wait}; exec {}", brief.display())
        } else {
            format!("sleep {wait}; exec sleep 5")
        };
        let target = if round % 4 < 2 {
            Target::start_silent(Command::new("sh").args(["-c", &script]))
        } else {
            // A real session is under way when the program is gone.
            Target::start(&demo)
        };
        let tracer =
            Tracer::start(["--pid", &target.pid().to_string(), "--sampler", "all", "--duration", "1s"]);
        if round % 4 >= 2 {
            thread::sleep(Duration::from_millis(u64::from(50 * round)));
            drop(target);
        }
        let ended = tracer.wait(END);
        let code = ended.status.code();
        match code {
            Some(0) => assert!(ended.stdout.contains("watched"), "{ended:?}"),
            Some(2) => {
                let said = ended.refused(&[]).stderr;
                assert!(!said.contains("os error"), "{said}");
            }
            _ => panic!("{ended:?}"),
        }
        outcomes.push(code);
    }
    assert!(outcomes.contains(&Some(2)), "{outcomes:?}");
}

#[test]
fn what_a_session_cannot_give_is_refused_before_it_begins() {
    live!(Root, Tracer, Go);
    let target = Target::start(&Go::demo().build("demo", Mode::Ordinary));
    let pid = target.pid().to_string();
    let refused = |options: &str, says: &[&str]| {
        let words: Vec<&str> =
            ["--pid", &pid, "--duration", "1h"].into_iter().chain(options.split(' ')).collect();
        drop(Tracer::run(&words, END).refused(says));
    };
    refused("--sampler none --format folded --profile alloc_space", &["runtime, sampled or all"]);
    refused("--sampler all --format folded --profile inuse_objects", &["runtime or sampled"]);
    refused("--sampler none --attach multi", &["leave out --attach"]);
}

#[test]
fn a_report_is_not_written_over_a_recording() {
    live!(Root, Tracer, Go);
    let scratch = Scratch::new("over");
    let target = Target::start(&Go::demo().build("demo", Mode::Ordinary));
    let pid = target.pid().to_string();
    let (recording, link) = (scratch.path().join("a.trc"), scratch.path().join("b.json"));
    let (name, linked) = (recording.to_str().unwrap(), link.to_str().unwrap());
    let record = |output: &str| {
        let words = ["--pid", &pid, "--sampler", "none", "--duration", "1s", "--record", name, "-o", output];
        Tracer::run(&words, END)
    };
    drop(record(name).refused(&["-o would write over"]));
    assert!(!recording.exists(), "a session that was refused leaves nothing behind");
    drop(record("/dev/null").success());
    let held = std::fs::read(&recording).unwrap();
    // The same file by other names: another path, and a link.
    let dotted = format!("{}/./a.trc", scratch.path().display());
    drop(record(&dotted).refused(&["-o would write over"]));
    drop(Tracer::run(&["replay", name, "-o", &dotted], END).refused(&["-o would write over"]));
    std::os::unix::fs::symlink(&recording, &link).unwrap();
    drop(Tracer::run(&["replay", name, "-o", linked], END).refused(&["-o would write over"]));
    assert_eq!(std::fs::read(&recording).unwrap(), held);
}
