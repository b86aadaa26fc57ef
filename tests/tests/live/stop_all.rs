//! The operator's ways to end all tracing on a host: `tracer stop-all`, and a file.

use std::fs;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tracer_tests::go::{Go, Mode};
use tracer_tests::instructions::{changed, wait_restored};
use tracer_tests::live;
use tracer_tests::report::text;
use tracer_tests::scratch::Scratch;
use tracer_tests::target::{Target, first_child, wait_exit};
use tracer_tests::tracer::{ATTACHED, Tracer, binary};

const END: Duration = Duration::from_mins(1);

fn stop_all(run: &str) -> Vec<String> {
    let ended = Tracer::run(&["stop-all", "--run-dir", run], END).success();
    ended.stdout.lines().map(str::to_owned).collect()
}

/// Entries of tracers, without what asks them.
fn entries(run: &str) -> Vec<String> {
    fs::read_dir(run)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect()
}

#[test]
fn every_tracer_lets_go_and_one_that_hangs_is_ended() {
    live!();
    let scratch = Scratch::new("stop-all");
    let run = scratch.path().to_str().unwrap();
    assert_eq!(stop_all(run), [format!("no tracer is at work in {run}")]);
    let program = Go::demo().build("allocs", Mode::Ordinary);
    let (target, other) = (Target::start(&program), Target::start(&program));
    let session = |target: &Target, sampler: &str| {
        let arguments = ["--run-dir", run, "--format", "json", "--duration", "1h", "--sampler", sampler];
        Tracer::attach(target.pid(), &arguments)
    };
    let (probing, reading) = (session(&target, "all"), session(&target, "none"));
    let hung = session(&other, "all");
    hung.signal(Signal::STOP);
    // Somebody else's process, and one that is gone: a file alone is no tracer.
    fs::write(scratch.file(&format!("1-{}", std::process::id())), "tracer\n").unwrap();
    assert_eq!(entries(run).len(), 4);
    let said = stop_all(run);
    let line = |tracer: &Tracer, what: &str| {
        let pid = tracer.pid();
        assert!(said.iter().any(|l| l.ends_with(&format!("-{pid} {what}"))), "{pid}: {said:?}");
    };
    line(&probing, "let go");
    line(&reading, "let go");
    line(&hung, "did not let go and was ended");
    assert_eq!(said.len(), 3, "{said:?}");
    for tracer in [probing, reading] {
        let report = tracer.wait(END).success().json();
        assert_eq!(text(&report["session"], "/ended_by"), "stop-all");
    }
    assert_eq!(hung.wait(END).status.code(), None);
    for target in [target, other] {
        wait_restored(target.pid(), "after stop-all");
    }
    assert_eq!(entries(run), Vec::<String>::new());
}

#[test]
fn the_operators_file_ends_all_and_none_starts_beside_it() {
    live!();
    let scratch = Scratch::new("stop-file");
    let run = scratch.path().to_str().unwrap();
    let target = Target::start(&Go::demo().build("allocs", Mode::Ordinary));
    let pid = target.pid().to_string();
    let mut session =
        Tracer::attach(target.pid(), &["--run-dir", run, "--sampler", "all", "--duration", "1h"]);
    assert!(!changed(target.pid()).is_empty());
    fs::write(scratch.file("stop"), "").unwrap();
    let asked = Instant::now();
    session.wait_for("asks all tracers to let go", END);
    while !changed(target.pid()).is_empty() {
        assert!(asked.elapsed() < END);
        thread::sleep(Duration::from_millis(10));
    }
    let ended = session.wait(END).success();
    assert!(ended.stdout.contains("tracing was stopped on this host"), "{}", ended.stdout);
    let of_host = ["tracing is stopped on this host", "stop: remove that file"];
    for command in [&[][..], &["heap"], &["goroutines"]] {
        let arguments = [command, &["--pid", &pid, "--run-dir", run]].concat();
        drop(Tracer::run(&arguments, END).refused(&of_host));
    }
    fs::remove_file(scratch.file("stop")).unwrap();
    let again = Tracer::run(&["--pid", &pid, "--run-dir", run, "--sampler", "none", "--duration", "1s"], END);
    drop(again.success());
}

#[test]
fn a_session_that_hangs_obeys_the_file_too() {
    live!();
    let scratch = Scratch::new("stop-hung");
    let run = scratch.path().to_str().unwrap();
    let target = Target::start(&Go::demo().build("allocs", Mode::Ordinary));
    let pid = target.pid().to_string();
    // Nobody reads what it prints: it waits for that for ever.
    let mut session = Command::new(binary())
        .args(["--pid", &pid, "--run-dir", run, "--sampler", "all", "--duration", "1h"])
        .args(["--format", "jsonl", "--interval", "100ms"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // One page of it.
    rustix::pipe::fcntl_setpipe_size(session.stdout.as_ref().unwrap(), 4096).unwrap();
    let state = || fs::read_to_string(format!("/proc/{}/task/{0}/wchan", session.id())).unwrap();
    let begun = Instant::now();
    while !state().contains("pipe_write") {
        assert!(begun.elapsed() < END, "it never waits: {}", state());
        thread::sleep(Duration::from_millis(10));
    }
    assert!(!changed(target.pid()).is_empty());
    fs::write(scratch.file("stop"), "").unwrap();
    let ended = wait_exit(&mut session, END).expect("it is ended");
    assert_eq!(ended.code(), Some(2));
    wait_restored(target.pid(), "after the file");
}

#[test]
fn a_program_that_was_started_goes_on_without_its_tracer() {
    live!();
    let scratch = Scratch::new("stop-child");
    let run = scratch.path().to_str().unwrap();
    let program = Go::demo().build("demo", Mode::Ordinary);
    let program = program.to_str().unwrap();
    let mut session =
        Tracer::start(["--run-dir", run, "--sampler", "all", "--duration", "1h", "--", program]);
    session.wait_for(ATTACHED, END);
    let said = stop_all(run);
    assert!(matches!(said.as_slice(), [one] if one.ends_with("let go")), "{said:?}");
    session.wait_for_output("tracing was stopped on this host", END);
    let child = first_child(session.pid());
    assert!(changed(child).is_empty());
    // Its exit status is still waited for.
    assert_eq!(stop_all(run), [format!("no tracer is at work in {run}")]);
    session.signal(Signal::TERM);
    assert_eq!(session.wait(END).status.code(), Some(128 + 15));
}

#[test]
fn a_session_that_is_refused_leaves_no_entry() {
    live!();
    let scratch = Scratch::new("stop-refused");
    let run = scratch.path().to_str().unwrap();
    let refused =
        Tracer::run(&["--run-dir", run, "--sampler", "none", "--", "there-is-no-such-command"], END);
    drop(refused.refused(&["command not found"]));
    assert_eq!(entries(run), Vec::<String>::new());
}
