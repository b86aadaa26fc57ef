//! Targets and tracers in namespaces of their own, and executables that are no longer where they were.
//!
//! The truth is the target's own count. Each namespace is made by unshare and goes with its processes.

use std::fs;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use tracer_tests::go::{Go, Mode};
use tracer_tests::instructions::{hits, wait_restored};
use tracer_tests::live;
use tracer_tests::scratch::Scratch;
use tracer_tests::target::Target;
use tracer_tests::tracer::{Tracer, binary};

const END: Duration = Duration::from_mins(1);

/// Every allocation the target counted is in the report, under the function that made it.
fn assert_counts(report: &Value, answer: &Value) {
    let sites = answer["sites"].as_array().unwrap();
    let calls: u64 = sites.iter().map(|site| site["calls"].as_u64().unwrap()).sum();
    let counted = hits(report, "runtime.mallocgc");
    assert!(counted >= calls, "{counted} hits, {calls} allocations by the target's own count");
    for site in sites {
        let (function, calls) = (&site["function"], site["calls"].as_u64().unwrap());
        let told: u64 = report["allocations"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|row| row["stack"].as_array().unwrap().iter().any(|frame| &frame["function"] == function))
            .map(|row| row["allocated"]["objects"].as_u64().unwrap())
            .sum();
        assert!(told >= calls, "{function}: {told} in the report, {calls} by the target's own count");
    }
}

/// Traces `pid` from here while the target works.
fn trace(pid: u32, target: &mut Target) {
    let tracer = Tracer::attach(pid, &["--sampler", "all", "--format", "json"]);
    let answer = target.ask("run 50");
    let report = tracer.interrupt().success().json();
    assert_eq!(report["target"]["pid"], pid);
    assert_counts(&report, &answer);
    wait_restored(pid, "after the session");
    target.ask("run 5");
}

/// The only child of a process, as our pid namespace numbers it.
fn child_of(pid: u32) -> u32 {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let children = fs::read_to_string(path).unwrap();
    children.split_whitespace().next().unwrap_or_else(|| panic!("{pid} has no child")).parse().unwrap()
}

/// `unshare`, whose child ends with it.
fn unshare(options: &[&str]) -> Command {
    let mut command = Command::new("unshare");
    command.args(options).arg("--kill-child");
    command
}

#[test]
fn both_inside_a_pid_namespace() {
    live!();
    let go = Go::demo();
    let program = go.build("allocs", Mode::Ordinary);
    let scratch = Scratch::new("pidns");
    let (report, tracer) = (scratch.file("report.json"), binary());
    // The pids that the shell, the target and tracer see are the inner ones.
    let script = format!(
        "mkfifo {dir}/in; {program} < {dir}/in > {dir}/out & target=$!; exec 3> {dir}/in; \
         until grep -q ready {dir}/out; do sleep 0.05; done; \
         {tracer} --pid $target --sampler all --format json -o {report} 2> {dir}/err & session=$!; \
         until grep -q attached {dir}/err; do sleep 0.05; kill -0 $session || exit 9; done; \
         echo 'run 50' >&3; until [ $(wc -l < {dir}/out) -ge 3 ]; do sleep 0.05; done; \
         kill -INT $session; wait $session || exit 8; \
         echo 'run 5' >&3; until [ $(wc -l < {dir}/out) -ge 4 ]; do sleep 0.05; done; \
         echo inner $target; exec 3>&-; wait $target",
        dir = scratch.path().display(),
        program = program.display(),
        tracer = tracer.display(),
        report = report.display(),
    );
    let ended =
        Tracer::start_command(unshare(&["-pf", "--mount-proc"]).args(["sh", "-c", &script])).wait(END);
    let err = fs::read_to_string(scratch.file("err")).unwrap_or_default();
    assert!(ended.status.success(), "{ended:?}\n{err}");
    let report: Value = serde_json::from_slice(&fs::read(report).unwrap()).unwrap();
    let out = fs::read_to_string(scratch.file("out")).unwrap();
    let answer: Value = serde_json::from_str(out.lines().nth(2).unwrap()).unwrap();
    assert_eq!(format!("inner {}", report["target"]["pid"]), ended.stdout.trim());
    assert!(report["target"]["pid"].as_u64() < Some(100), "an inner pid is small");
    assert_counts(&report, &answer);
}

#[test]
fn a_target_in_a_pid_namespace_from_outside() {
    live!();
    for go in Go::all() {
        let program = go.build("allocs", Mode::StrippedPie);
        let mut target = Target::start_command(unshare(&["-pf", "--mount-proc"]).arg(&program));
        let pid = child_of(target.pid());
        assert_eq!(fs::read_to_string(format!("/proc/{pid}/comm")).unwrap().trim().len().min(6), 6);
        trace(pid, &mut target);
    }
}

#[test]
fn a_deleted_executable() {
    live!();
    let scratch = Scratch::new("deleted");
    for mode in [Mode::Ordinary, Mode::StrippedPie] {
        let program = scratch.file("program");
        fs::copy(Go::demo().build("allocs", mode), &program).unwrap();
        let mut target = Target::start(&program);
        fs::remove_file(&program).unwrap();
        trace(target.pid(), &mut target);
        // Another file takes its name: what runs is still the first one.
        fs::write(&program, "not a program").unwrap();
        trace(target.pid(), &mut target);
        fs::remove_file(&program).unwrap();
    }
}

#[test]
fn a_target_in_another_mount_namespace() {
    live!();
    let program = Go::demo().build("allocs", Mode::Ordinary);
    let scratch = Scratch::new("mntns");
    let root = scratch.path().display();
    // Its file is on a file system that nobody else sees, and its root is there too.
    let script = format!(
        "mount -t tmpfs none {root} && cp {} {root}/program && exec chroot {root} /program",
        program.display()
    );
    let mut target = Target::start_command(Command::new("unshare").args(["-m", "sh", "-c", &script]));
    assert_eq!(scratch.entries(), 0);
    let pid = target.pid();
    assert_eq!(fs::read_link(format!("/proc/{pid}/exe")).unwrap().file_name().unwrap(), "program");
    trace(pid, &mut target);
}
