//! What tracer must be allowed, tested with everything else taken away, and what it gives up of what it is given.
//!
//! The truth is the kernel's: what it refuses, and what it says each thread holds.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;
use tracer_tests::go::{Go, Mode};
use tracer_tests::instructions::wait_restored;
use tracer_tests::live;
use tracer_tests::privileges::{
    BPF, Held, Open, PERFMON, SYS_ADMIN, SYS_PTRACE, TARGET, TRACER, contained_root, may_gain, user,
};
use tracer_tests::report::{assert_nothing_lost, list, text};
use tracer_tests::requirements::skip;
use tracer_tests::target::Target;
use tracer_tests::tracer::{ATTACHED, Tracer, binary};

const END: Duration = Duration::from_mins(1);

const PROBING: [&str; 3] = ["sys_ptrace", "bpf", "perfmon"];
const READING: [&str; 1] = ["sys_ptrace"];

/// tracer by a command that says who it is.
fn session(mut who: Command, open: &Open, arguments: &[&str]) -> Tracer {
    Tracer::start_command(who.arg(open.program(&binary())).args(arguments))
}

/// A fixture as another user.
fn target(open: &Open, program: &Path) -> Target {
    Target::start_command(user(TARGET, &[]).arg(open.program(program)))
}

/// What the threads of a process hold together. Fails where one of them could get more by what it executes.
fn holds(pid: u32, what: &str) -> u64 {
    let mut threads = Held::of_threads(pid);
    // A thread that starts first of all gives up its own as soon as it has a processor.
    let begun = Instant::now();
    while threads.iter().any(|(_, held)| !held.no_new_privs) && begun.elapsed() < END {
        std::thread::sleep(Duration::from_millis(20));
        threads = Held::of_threads(pid);
    }
    assert!(threads.len() > 3, "{what}: {threads:?}");
    for (name, held) in &threads {
        let Held { effective, permitted, inheritable, bounding: _, ambient, no_new_privs } = *held;
        assert_eq!(effective, permitted, "{what}: {name}");
        assert_eq!((inheritable, ambient, no_new_privs), (0, 0, true), "{what}: {name}");
    }
    threads.iter().fold(0, |sum, (_, held)| sum | held.permitted)
}

/// What a session that has its probes by these links still holds.
fn holds_with(report: &Value) -> u64 {
    match text(report, "/session/attach") {
        "none" => SYS_PTRACE,
        "multi" => SYS_PTRACE | BPF | PERFMON,
        "single" => SYS_PTRACE | BPF | PERFMON | SYS_ADMIN,
        other => panic!("attach is {other}"),
    }
}

#[test]
fn three_capabilities_do_for_a_session_and_the_calls_it_pins() {
    live!(Root, Uprobes, EveryGo, Tracer);
    let all = Go::every();
    for (minor, mode) in
        [(22, Mode::StrippedPie), (24, Mode::Ordinary), (26, Mode::StrippedPie), (27, Mode::Ordinary)]
    {
        let go = all.iter().find(|go| go.pin.minor() == minor).expect("it is supported");
        let what = format!("go{} {}", go.pin.version, mode.name());
        let open = Open::new("probing");
        let mut target = target(&open, &go.build("pinned", mode));
        let pid = target.pid();
        let arguments = ["--pid", &pid.to_string(), "--format", "json"];
        // A container's root, and a user with nothing but these.
        let who = if minor % 2 == 0 { user(TRACER, &PROBING) } else { contained_root(&PROBING) };
        let mut tracer = session(who, &open, &arguments);
        tracer.wait_for(ATTACHED, END);
        // Probes are attached under way, too.
        let begun = Instant::now();
        while !tracer.interim(END)["pins"].is_array() {
            assert!(begun.elapsed() < END, "{what}: nothing is pinned");
            for _ in 0..4 {
                target.ask("grow 30");
                target.ask("gc");
                std::thread::sleep(Duration::from_millis(300));
            }
        }
        assert_eq!(holds(tracer.pid(), &what), SYS_PTRACE | BPF | PERFMON, "{what}");
        let ended = tracer.interrupt().success();
        let report = ended.last_json();
        assert_eq!(text(&report, "/session/attach"), "multi", "{what}");
        assert!(list(&report, "/pins").iter().all(|pin| pin["type"] == "main.session"), "{what}");
        assert!(report["heap"]["types"].is_array() && report["goroutines"]["created"].is_u64(), "{what}");
        assert_nothing_lost(&report, &what);
        if minor % 2 == 0 {
            // What it may not write it does without, and says so.
            assert!(ended.stderr.contains("`tracer stop-all` will not find this session"), "{ended:?}");
        }
        wait_restored(pid, &what);
        assert!(target.finish().success(), "{what}");
    }
}

#[test]
fn one_capability_does_for_readings() {
    live!(Root, EveryGo, Tracer);
    let all = Go::every();
    for minor in [22, 24, 26, 27] {
        let go = all.iter().find(|go| go.pin.minor() == minor).expect("it is supported");
        let what = format!("go{}", go.pin.version);
        let open = Open::new("reading");
        let target = target(&open, &go.build("demo", Mode::StrippedPie));
        let pid = target.pid().to_string();
        let none = ["--pid", &pid, "--sampler", "none", "--format", "json"];
        let mut tracer = session(user(TRACER, &READING), &open, &none);
        tracer.wait_for(ATTACHED, END);
        assert_eq!(holds(tracer.pid(), &what), SYS_PTRACE, "{what}");
        let report = tracer.interrupt().success().json();
        assert!(report["heap"]["types"].is_array(), "{what}: {report:#}");
        assert_eq!(report["session"]["complete"], true, "{what}: {}", report["session"]);
        for command in ["heap", "goroutines"] {
            let who = contained_root(&READING);
            let ended = session(who, &open, &[command, "--pid", &pid, "--format", "json"]).wait(END);
            assert_eq!(ended.success().json()["target"]["pid"], target.pid(), "{what}: {command}");
        }
        // A session of its own choice goes on without probes, and says what they would have needed.
        let ended = session(user(TRACER, &READING), &open, &["--pid", &pid, "--duration", "1s"]).wait(END);
        let report = ended.success().stdout;
        assert!(report.contains("memory is read only") && report.contains("CAP_PERFMON"), "{report}");
    }
}

#[test]
fn with_one_capability_less_the_missing_one_is_named() {
    live!();
    let open = Open::new("less");
    let target = target(&open, &Go::demo().build("allocs", Mode::Ordinary));
    let pid = target.pid().to_string();
    let all = &["--sampler", "all"][..];
    for (held, arguments, missing) in [
        (&["bpf", "perfmon"][..], all, "CAP_SYS_PTRACE"),
        (&["sys_ptrace", "bpf"], all, "CAP_PERFMON is missing"),
        (&["sys_ptrace", "perfmon"], all, "CAP_BPF is missing"),
        (&["sys_ptrace"], all, "CAP_BPF with CAP_PERFMON is missing"),
        (&PROBING, &["--sampler", "all", "--attach", "single"], "CAP_SYS_ADMIN is missing"),
        (&[], &["--sampler", "none"], "CAP_SYS_PTRACE"),
    ] {
        for who in [user(TRACER, held), contained_root(held)] {
            let arguments = [&["--pid", &pid][..], arguments].concat();
            drop(session(who, &open, &arguments).wait(END).refused(&[missing]));
        }
    }
}

#[test]
fn what_an_administrator_has_is_given_up() {
    live!();
    let open = Open::new("given-up");
    let mut target = target(&open, &Go::demo().build("allocs", Mode::Ordinary));
    let pid = target.pid();
    let report = open.file("report.json");
    for arguments in [
        &["--sampler", "none"][..],
        &["--sampler", "auto"],
        &["--sampler", "sampled"],
        &["--sampler", "all"],
        &["--sampler", "all", "--attach", "single"],
    ] {
        let what = arguments.join(" ");
        let record = open.file("session.trc");
        let files = ["-o", report.to_str().unwrap(), "--record", record.to_str().unwrap()];
        let tracer = Tracer::attach(pid, &[arguments, &files, &["--format", "json"]].concat());
        target.ask("run 5");
        let held = holds(tracer.pid(), &what);
        let threads = Held::of_threads(tracer.pid());
        assert!(threads.iter().all(|(_, held)| held.bounding == 0), "{what}: {threads:x?}");
        // What was opened before is still written.
        drop(tracer.interrupt().success());
        let told: Value = serde_json::from_slice(&fs::read(&report).unwrap()).unwrap();
        assert_eq!(held, holds_with(&told), "{what}: {threads:x?}");
        assert!(Tracer::run(&["replay", record.to_str().unwrap()], END).status.success(), "{what}");
        wait_restored(pid, &what);
    }
}

#[test]
fn a_program_that_is_started_keeps_what_the_user_had() {
    live!();
    let program = Go::demo().build("demo", Mode::Ordinary);
    let plain = Target::start_silent(&mut Command::new(&program));
    for sampler in ["none", "auto"] {
        let arguments = ["--sampler", sampler, "--duration", "1h", "--", program.to_str().unwrap()];
        let mut tracer = Tracer::start(arguments);
        let line = tracer.wait_for(ATTACHED, END);
        let (_, behind) = line.split_once("to process ").expect("it says whom");
        let pid = behind.split(|c: char| !c.is_ascii_digit()).next().unwrap().parse().unwrap();
        let (started, as_ever) = (Held::of_threads(pid), Held::of_threads(plain.pid()));
        assert!(
            started.iter().all(|(_, held)| *held == as_ever[0].1),
            "{sampler}: {started:x?} {as_ever:x?}"
        );
        let held = holds(tracer.pid(), sampler);
        // And CAP_KILL, to pass on signals whoever it becomes.
        let probing = if sampler == "none" { 0 } else { BPF | PERFMON };
        assert_eq!(held & !SYS_ADMIN, SYS_PTRACE | probing | 1 << 5, "{sampler}");
        let ended = tracer.interrupt();
        assert_eq!(ended.status.code(), Some(130), "the program ends by the signal: {ended:?}");
    }
}

#[test]
fn where_equal_rights_are_what_counts_none_is_given_up() {
    live!(Root, Go, Tracer);
    let scope = fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope").unwrap_or_default();
    if !matches!(scope.trim(), "" | "0") {
        skip("Yama lets nobody read without CAP_SYS_PTRACE");
        return;
    }
    // A container's usual set: no CAP_SYS_PTRACE, and the target beside us holds the same.
    let usual = ["chown", "dac_override", "fowner", "kill", "setgid", "setuid", "net_bind_service"];
    let open = Open::new("equal");
    let program = open.program(&Go::demo().build("demo", Mode::Ordinary));
    let target = Target::start_command(contained_root(&usual).arg(program));
    let pid = target.pid().to_string();
    let none = ["--pid", &pid, "--sampler", "none", "--duration", "1s", "--format", "json"];
    let report = session(contained_root(&usual), &open, &none).wait(END).success().json();
    assert!(report["heap"]["types"].is_array(), "{report:#}");
    let heap = session(contained_root(&usual), &open, &["heap", "--pid", &pid]).wait(END);
    drop(heap.success());
}

#[test]
fn targets_closed_to_their_own_user_and_in_namespaces_of_theirs_are_read() {
    live!();
    let go = Go::demo();
    let open = Open::new("closed");
    // A program that gains a capability as it starts cannot be dumped: its /proc belongs to root (fs/proc/base.c, task_dump_owner).
    let gaining = open.program(&go.build("allocs", Mode::Ordinary));
    // struct vfs_cap_data, revision 2, effective: CAP_NET_BIND_SERVICE is permitted.
    let data = [0x0200_0001_u32, 1 << 10, 0, 0, 0].map(u32::to_le_bytes).concat();
    rustix::fs::setxattr(&gaining, "security.capability", &data, rustix::fs::XattrFlags::empty()).unwrap();
    let closed = Target::start_command(may_gain(TARGET, &["net_bind_service"]).arg(&gaining));
    let owner = fs::metadata(format!("/proc/{}/stat", closed.pid())).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&owner), 0, "it can be dumped");
    let program = open.program(&go.build("goroutines", Mode::Ordinary));
    let apart = Target::start_command(user(TARGET, &[]).args(["unshare", "-U"]).arg(program));
    // And one whose file is for its owner alone.
    let program = open.program(&go.build("demo", Mode::Ordinary));
    std::os::unix::fs::chown(&program, Some(TARGET), Some(TARGET)).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).unwrap();
    let unreadable = Target::start_silent(user(TARGET, &[]).arg(&program));
    let pid = unreadable.pid().to_string();
    let all = ["--pid", &pid, "--sampler", "all", "--duration", "1s"];
    for who in [user(TRACER, &PROBING), contained_root(&PROBING)] {
        drop(session(who, &open, &all).wait(END).refused(&["CAP_DAC_READ_SEARCH"]));
    }
    let besides = [&PROBING[..], &["dac_read_search"]].concat();
    for who in [user(TRACER, &besides), contained_root(&besides), Command::new("env")] {
        drop(session(who, &open, &all).wait(END).success());
    }
    for mut target in [closed, apart] {
        let pid = target.pid();
        let all = ["--pid", &pid.to_string(), "--sampler", "all", "--format", "json"];
        let mut tracer = session(user(TRACER, &PROBING), &open, &all);
        tracer.wait_for(ATTACHED, END);
        let report = tracer.interrupt().success().json();
        assert_eq!(report["target"]["pid"], pid);
        assert!(report["heap"]["types"].is_array(), "{report:#}");
        wait_restored(pid, "after the session");
        assert!(target.is_alive());
    }
}

#[test]
fn stop_all_is_heard_in_a_folder_of_somebody_else() {
    live!(Root, Go, Tracer);
    let open = Open::new("heard");
    let folder = open.file("theirs");
    fs::create_dir(&folder).unwrap();
    std::os::unix::fs::chown(&folder, Some(TARGET), Some(TARGET)).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).unwrap();
    let run = folder.join("run");
    let target = Target::start(&Go::demo().build("demo", Mode::Ordinary));
    let tracer = Tracer::attach(
        target.pid(),
        &["--sampler", "none", "--format", "json", "--run-dir", run.to_str().unwrap()],
    );
    drop(Tracer::run(&["stop-all", "--run-dir", run.to_str().unwrap()], END).success());
    let report = tracer.wait(END).success().json();
    assert_eq!(report["session"]["ended_by"], "stop-all");
}
