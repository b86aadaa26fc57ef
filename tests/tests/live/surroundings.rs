//! What a session says and leaves behind where the machine, the shell or another tool stands in its way.
//!
//! Each is refused in one line that says what to do, or goes on with what works and says what is missing.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use tracer_tests::go::{Go, Mode};
use tracer_tests::instructions::{changed, hits, wait_restored};
use tracer_tests::live;
use tracer_tests::requirements::skip;
use tracer_tests::scratch::Scratch;
use tracer_tests::target::Target;
use tracer_tests::tracer::{ATTACHED, Ended, Tracer, binary};

const END: Duration = Duration::from_mins(1);

/// Runs it and fails unless it is refused with one line that holds all of `says`.
fn refused(arguments: &[&str], says: &[&str]) {
    drop(Tracer::run(arguments, END).refused(says));
}

fn executable(file: &Path) {
    fs::set_permissions(file, fs::Permissions::from_mode(0o755)).unwrap();
}

/// Runs tracer without some capabilities.
fn without(capabilities: &str, arguments: &[&str]) -> Ended {
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set", capabilities, "--inh-caps", capabilities]).arg(binary()).args(arguments);
    Tracer::start_command(&mut command).wait(END)
}

#[test]
fn a_missing_capability_is_named() {
    live!();
    let mut target = Target::start(&Go::demo().build("allocs", Mode::Ordinary));
    let pid = target.pid().to_string();
    for arguments in [
        &["--pid", &pid][..],
        &["--pid", &pid, "--sampler", "none"],
        &["check", "--pid", &pid],
        &["goroutines", "--pid", &pid],
    ] {
        let ended = as_nobody(arguments);
        drop(ended.refused(&["CAP_SYS_PTRACE"]));
    }
    // Readings without probes: `all` is refused, `auto` goes on and says so.
    let no_bpf = "-bpf,-perfmon,-sys_admin";
    let ended = without(no_bpf, &["--pid", &pid, "--sampler", "all", "--duration", "1s"]);
    drop(ended.refused(&["CAP_BPF", "--sampler none"]));
    let ended = without(no_bpf, &["--pid", &pid, "--duration", "1s"]).success();
    assert!(ended.stdout.contains("CAP_BPF") && ended.stdout.contains("memory is read only"), "{ended:?}");
    let ended = without(no_bpf, &["check", "--pid", &pid]).success();
    assert!(ended.stdout.contains("CAP_BPF no"), "{ended:?}");
    assert!(changed(target.pid()).is_empty());
    target.ask("memstats");
}

/// Runs tracer as a user who may do nothing.
fn as_nobody(arguments: &[&str]) -> Ended {
    // Below the target folder others may not go: the binary is run from where everyone may.
    let folder = std::env::temp_dir().join(format!("tracer-nobody-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let copy = folder.join("tracer");
    fs::copy(binary(), &copy).unwrap();
    executable(&copy);
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]).arg(&copy).args(arguments);
    let ended = Tracer::start_command(command.current_dir("/")).wait(END);
    fs::remove_dir_all(folder).unwrap();
    ended
}

#[test]
fn a_full_disk_keeps_what_was_written() {
    live!();
    let mut target = Target::start(&Go::demo().build("allocs", Mode::Ordinary));
    let pid = target.pid().to_string();
    let session = ["--pid", &pid, "--sampler", "none", "--duration", "1s", "--format", "json", "-o"];
    let ended = Tracer::run(&[&session[..], &["/dev/full"]].concat(), END);
    let last = ended.stderr.lines().last().unwrap().to_owned();
    assert_eq!(ended.status.code(), Some(2), "{ended:?}");
    assert!(
        last.contains("/dev/full") && last.contains("No space left") && last.contains("make room"),
        "{last}"
    );

    // A file system of its own that holds one page; it goes with the command.
    let scratch = Scratch::new("full");
    let script = format!(
        "mount -t tmpfs -o size=4k none {0} && {1} {2} {0}/report.json; status=$?; cp {0}/report.json {3}; exit $status",
        scratch.path().display(),
        binary().display(),
        session.join(" "),
        scratch.path().with_extension("json").display(),
    );
    let ended = Tracer::start_command(Command::new("unshare").args(["-m", "sh", "-c", &script])).wait(END);
    let kept = fs::read_to_string(scratch.path().with_extension("json")).unwrap();
    fs::remove_file(scratch.path().with_extension("json")).unwrap();
    assert_eq!(ended.status.code(), Some(2), "{ended:?}");
    assert!(ended.stderr.lines().last().unwrap().contains("No space left"), "{ended:?}");
    assert!(kept.starts_with("{\n  \"schema\"") && kept.len() == 4096, "{} bytes: {kept}", kept.len());

    // Where there is no room for anything, no empty file stays.
    let script = format!(
        "mount -t tmpfs -o size=4k none {0} && head -c 4096 /dev/zero >{0}/fills && {1} {2} {0}/report.json; status=$?; ls {0}; exit $status",
        scratch.path().display(),
        binary().display(),
        session.join(" "),
    );
    let ended = Tracer::start_command(Command::new("unshare").args(["-m", "sh", "-c", &script])).wait(END);
    assert_eq!((ended.status.code(), ended.stdout.as_str()), (Some(2), "fills\n"), "{}", ended.stderr);
    assert!(target.is_alive());
}

#[test]
fn a_bad_output_leaves_nothing_behind() {
    live!(Root, Tracer);
    let scratch = Scratch::new("output");
    let missing = scratch.file("no/such/report.json");
    let own = std::process::id().to_string();
    refused(&["--pid", &own, "-o", missing.to_str().unwrap()], &["report.json", "-o"]);
    // This test is no Go program: no empty report may be left, and one that is there stays as it is.
    let file = scratch.file("report.json");
    for command in [&["--pid", &own][..], &["goroutines", "--pid", &own]] {
        refused(&[command, &["-o", file.to_str().unwrap()]].concat(), &["not a Go program"]);
        assert_eq!(scratch.entries(), 0);
    }
    fs::write(&file, "mine").unwrap();
    refused(&["--pid", &own, "-o", file.to_str().unwrap()], &["not a Go program"]);
    assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
}

#[test]
fn what_is_typed_wrong_is_told_in_its_own_words() {
    live!(Tracer);
    for (arguments, says) in [
        (&["--pid", "abc"][..], "abc"),
        (&["--pid", "0"], "0"),
        (&["--pid", "-1"], "-1"),
        (&["--no-such-option"], "--no-such-option"),
        (&["--pid", "1", "--duration", "soon"], "soon"),
        (&["--pid", "1", "--until", "10"], "gc"),
        (&["--pid", "1", "--name", "x"], "--name"),
        (&["--pid", "1", "--format", "nice"], "json"),
        (&["check"], "--pid"),
        (&["completions", "nosuchshell"], "bash"),
        (&["--pid", "1", "--sampler", "none", "--events", "map"], "--sampler all"),
        (&["--pid", "1", "--events", "map"], "--sampler all"),
        (&[], "--pid"),
    ] {
        let ended = Tracer::run(arguments, END);
        assert_eq!(ended.status.code(), Some(2), "{arguments:?} {ended:?}");
        assert!(ended.stderr.contains(says) && ended.stdout.is_empty(), "{arguments:?} {ended:?}");
    }
}

#[test]
fn several_processes_of_a_name_are_listed_and_refused() {
    live!(Root, Tracer, Go);
    let scratch = Scratch::new("several");
    let program = scratch.file(&format!("twin-{}", std::process::id()));
    fs::copy(Go::demo().build("demo", Mode::Ordinary), &program).unwrap();
    let twins = [Target::start(&program), Target::start(&program)];
    let name = program.file_name().unwrap().to_str().unwrap();
    let pids = twins.each_ref().map(|twin| twin.pid().to_string());
    for command in [&["--name"][..], &["check", "--name"], &["goroutines", "--name"]] {
        refused(&[command, &[name]].concat(), &["2 processes", &pids[0], &pids[1], "--pid"]);
    }
    let [one, other] = twins;
    drop(other);
    let report = Tracer::run(&["goroutines", "--format", "json", "--name", name], END).success().json();
    assert_eq!(report["target"]["pid"], one.pid());
}

#[test]
fn a_closed_pipe_is_a_normal_end() {
    live!(Root, Tracer, Go);
    let target = Target::start(&Go::demo().build("demo", Mode::Ordinary));
    let pid = target.pid();
    let tracer = binary();
    let tracer = tracer.display();
    for command in [
        format!("{tracer} list | head -n 1"),
        format!("{tracer} --help | head -n 1"),
        format!("{tracer} completions zsh | true"),
        format!("{tracer} check --pid {pid} | head -n 1"),
        format!("{tracer} goroutines --pid {pid} | true"),
        format!("{tracer} --pid {pid} --sampler none --duration 1s --format json | true"),
        format!("{tracer} --pid {pid} --sampler none --duration 1s 2>&1 | head -n 1"),
        format!("{tracer} --no-such-option 2>&1 | true; exit 0"),
    ] {
        let done =
            Command::new("bash").args(["-c", &format!("set -o pipefail; {command}")]).output().unwrap();
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success() && !said.contains("panicked"), "{command}: {} {said}", done.status);
    }
}

#[test]
fn two_tracers_on_one_target_do_not_harm_it() {
    live!();
    let mut target = Target::start(&Go::demo().build("allocs", Mode::Ordinary));
    let pid = target.pid().to_string();
    let first = Tracer::attach(target.pid(), &["--sampler", "all", "--format", "json"]);
    // Where the instruction shows somebody else's probe, what it was cannot be proven.
    let ended = Tracer::run(&["--pid", &pid, "--sampler", "all", "--duration", "1s"], END);
    drop(ended.refused(&["another tool", "--sampler none"]));
    let check = Tracer::run(&["check", "--pid", &pid], END).success().stdout;
    assert!(check.contains("is another tool attached?"), "{check}");
    // Without probes both work, and the second says why it has none.
    let ended = Tracer::run(&["--pid", &pid, "--duration", "1s"], END).success();
    assert!(ended.stdout.contains("memory is read only"), "{}", ended.stdout);
    target.ask("run 20");
    let report = first.interrupt().success().json();
    assert!(hits(&report, "runtime.mallocgc") > 0);
    wait_restored(target.pid(), "after two tracers");
    target.ask("run 20");
}

#[test]
fn a_probe_of_another_kind_is_named() {
    live!(Root, Uprobes, Go, Tracer, Packages);
    xtask::apt::ensure(&["bpftrace"], "trace beside another tool")
        .unwrap_or_else(|error| panic!("{error:#}"));
    let program = Go::demo().build("allocs", Mode::Ordinary);
    let mut target = Target::start(&program);
    let pid = target.pid().to_string();
    // A uprobe at the entry of the function, which is another instruction than ours: both may stay.
    let script = format!("uprobe:{}:runtime.mallocgc {{ @ = count(); }}", program.display());
    let mut other = Tracer::start_command(Command::new("bpftrace").args(["-p", &pid, "-e", &script]));
    for _ in 0..300 {
        if !changed(target.pid()).is_empty() {
            break;
        }
        thread::sleep(Duration::from_millis(50));
    }
    if changed(target.pid()).is_empty() {
        skip("bpftrace attaches no probe here");
        return;
    }
    let mut tracer = Tracer::start(["--pid", &pid, "--sampler", "all", "--format", "json"]);
    tracer.wait_for(ATTACHED, END);
    let answer = target.ask("run 20");
    let report = tracer.interrupt().success().json();
    let calls: u64 =
        answer["sites"].as_array().unwrap().iter().map(|site| site["calls"].as_u64().unwrap()).sum();
    assert!(hits(&report, "runtime.mallocgc") >= calls);
    // bpftrace 0.17 looks whether it was interrupted only where that cuts short a wait (src/bpftrace.cpp, poll_perf_events): a
    // signal in between is for nothing.
    let counted = (0..60).any(|_| {
        other.signal(rustix::process::Signal::INT);
        other.prints("@", Duration::from_secs(1))
    });
    assert!(counted, "bpftrace did not say what it counted");
    drop(other);
    wait_restored(target.pid(), "after bpftrace");
    target.ask("run 20");
}
