//! The harness itself: what it says when a program dies, hangs or refuses is what a person reads when a live test fails.
//! A shell stands in for tracer here; nothing is traced.

use std::process::Command;
use std::time::{Duration, Instant};

use tracer_tests::target::Target;
use tracer_tests::tracer::Tracer;

/// A shell cannot trap a signal that was ignored when it started, as Ctrl-C is in a background job.
fn shell(script: &str) -> Command {
    let mut command = Command::new("env");
    command.args(["--default-signal=INT", "sh", "-c", script]);
    command
}

#[test]
fn a_session_is_waited_for_interrupted_and_collected() {
    let script = "trap 'echo report; echo bye >&2; exit 0' INT; echo starting >&2; echo attached >&2; while :; do sleep 0.05; done";
    let mut tracer = Tracer::start_command(&mut shell(script));
    tracer.wait_for("attached", Duration::from_secs(10));
    let ended = tracer.interrupt().success();
    assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("report\n", "starting\nattached\nbye\n"));
}

#[test]
fn a_failure_keeps_its_words() {
    let ended =
        Tracer::start_command(&mut shell("echo 'no such process' >&2; exit 2")).wait(Duration::from_secs(10));
    assert_eq!((ended.status.code(), ended.stderr.as_str()), (Some(2), "no such process\n"));
}

#[test]
#[should_panic(expected = "the output ended; seen:\nrefused")]
fn waiting_for_a_line_that_never_comes_shows_what_came() {
    Tracer::start_command(&mut shell("echo refused >&2")).wait_for("attached", Duration::from_secs(10));
}

#[test]
#[should_panic(expected = "still ran after")]
fn a_tracer_that_hangs_is_ended() {
    drop(Tracer::start_command(&mut shell("exec sleep 60")).wait(Duration::from_millis(200)));
}

#[test]
fn a_target_ends_with_its_test() {
    let target = Target::start_command(&mut shell("echo pid $$; echo ready; exec sleep 60"));
    let process = format!("/proc/{}", target.pid());
    assert!(std::path::Path::new(&process).exists());
    let begun = Instant::now();
    drop(target);
    assert!(!std::path::Path::new(&process).exists());
    assert!(begun.elapsed() < Duration::from_secs(10));
}

#[test]
#[should_panic(expected = "the target refused")]
fn a_refused_command_fails_the_test() {
    let mut target = Target::start_command(&mut shell(
        "echo ready; read line; echo '{\"error\": \"no\"}'; cat >/dev/null",
    ));
    target.ask("anything");
}
