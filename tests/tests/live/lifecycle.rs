//! However a session ends, the target goes on and every instruction in its memory equals its file again.
//!
//! The truth is /proc/PID/mem beside the file, and what the target itself says it did meanwhile.

use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::process::Signal;
use tracer_tests::go::{Go, Mode};
use tracer_tests::instructions::{assert_probed, changed, hits, planned, wait_restored};
use tracer_tests::live;
use tracer_tests::scratch::Scratch;
use tracer_tests::target::{Target, first_child};
use tracer_tests::tracer::{ATTACHED, Tracer, binary};

const END: Duration = Duration::from_mins(1);

/// The smallest piece of work: some milliseconds, thousands of allocations.
const WORK: &str = "run 20 nolarge";

fn busy(go: &Go, mode: Mode) -> Target {
    Target::start(&go.build("allocs", mode))
}

/// The target does its work and accounts for it as always.
fn works(target: &mut Target) {
    let answer = target.ask(WORK);
    let sites = answer["sites"].as_array().unwrap();
    assert!(sites.len() > 20 && sites.iter().all(|site| site["calls"].as_u64() > Some(0)), "{answer}");
}

/// A sequence that its seed alone decides (Knuth's MMIX constants).
struct Moments(u64);

impl Moments {
    fn new() -> Self {
        let seed = std::env::var("TRACER_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
        let clock = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
        Self(seed.unwrap_or_else(clock))
    }

    fn next(&mut self, within: Duration) -> Duration {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        within.mul_f64((self.0 >> 11) as f64 / (1u64 << 53) as f64)
    }
}

#[test]
fn a_killed_tracer_leaves_every_instruction_as_the_file_has_it() {
    live!();
    let mut moments = Moments::new();
    let seed = moments.0;
    let mut attached = 0;
    for (go, mode) in [(Go::demo(), Mode::Ordinary), (Go::all().pop().unwrap(), Mode::StrippedPie)] {
        let mut target = busy(&go, mode);
        let sites = planned(target.pid());
        for round in 0..10 {
            let when =
                format!("go {} {}, round {round}, TRACER_TEST_SEED={seed}", go.pin.version, mode.name());
            target.tell("run 2000 nolarge");
            // Every fifth one detaches link by link while it is killed.
            let kind = if round % 5 == 4 { "single" } else { "auto" };
            let tracer =
                Tracer::start(["--pid", &target.pid().to_string(), "--sampler", "all", "--attach", kind]);
            if round % 3 == 0 {
                // However long attaching takes here: while its probes go in, or soon after.
                let begun = Instant::now();
                while changed(target.pid()).is_empty() && begun.elapsed() < END {
                    thread::sleep(Duration::from_millis(1));
                }
                thread::sleep(moments.next(Duration::from_millis(100)));
            } else {
                // Attaching takes about half a second: moments before, in it and after.
                thread::sleep(moments.next(Duration::from_millis(1500)));
            }
            if !changed(target.pid()).is_empty() {
                attached += 1;
                assert_probed(target.pid(), &sites);
            }
            tracer.kill();
            wait_restored(target.pid(), &when);
            target.answer();
            works(&mut target);
            assert!(target.is_alive(), "{when}");
        }
        // The next session finds nothing in its way.
        let report =
            Tracer::attach(target.pid(), &["--sampler", "all", "--format", "json"]).interrupt().success();
        assert_eq!(report.json()["session"]["ended_by"], "signal");
        assert!(target.finish().success());
    }
    assert!(
        attached >= 8,
        "only {attached} of 20 were killed while probes were in place, TRACER_TEST_SEED={seed}"
    );
}

#[test]
fn a_session_that_ends_by_itself_or_by_ctrl_c_lets_go() {
    live!();
    let mut target = busy(&Go::demo(), Mode::Ordinary);
    let pid = target.pid();
    let sites = planned(pid);
    let arguments = ["--sampler", "all", "--events", "alloc,map,goroutine", "--format", "json"];

    let mut tracer = Tracer::attach(pid, &arguments);
    assert_probed(pid, &sites);
    works(&mut target);
    tracer.wait_for("interim report", END);
    let ended = tracer.interrupt().success();
    assert_eq!(ended.json()["session"]["ended_by"], "signal");
    wait_restored(pid, "after Ctrl-C");

    let tracer = Tracer::attach(pid, &[&arguments[..], &["--duration", "1s"]].concat());
    works(&mut target);
    let report = tracer.wait(END).success().json();
    assert_eq!(report["session"]["ended_by"], "duration");
    assert!(report["session"]["duration_s"].as_f64() >= Some(1.0));
    wait_restored(pid, "after --duration");

    let tracer = Tracer::attach(pid, &[&arguments[..], &["--until", "3gc"]].concat());
    for _ in 0..4 {
        target.ask("gc");
        thread::sleep(Duration::from_millis(150));
    }
    let report = tracer.wait(END).success().json();
    assert_eq!(report["session"]["ended_by"], "verdict");
    assert!(report["gc"]["cycles"].as_u64() >= Some(3), "{}", report["gc"]);
    wait_restored(pid, "after --until 3gc");
    works(&mut target);
}

#[test]
fn a_second_ctrl_c_prints_what_there_is() {
    live!();
    let mut target = busy(&Go::demo(), Mode::Ordinary);
    let tracer = Tracer::attach(target.pid(), &["--sampler", "all", "--format", "json"]);
    works(&mut target);
    tracer.signal(Signal::INT);
    let ended = tracer.interrupt().success();
    assert_eq!(ended.json()["session"]["ended_by"], "signal");
    wait_restored(target.pid(), "after two Ctrl-C");
    works(&mut target);
}

#[test]
fn sigusr1_prints_an_interim_report_and_goes_on() {
    live!();
    let mut target = busy(&Go::demo(), Mode::Ordinary);
    // After the first, no readings by themselves: what the report knows was read for it.
    let mut tracer = Tracer::attach(target.pid(), &["--sampler", "all", "--interval", "1h"]);
    tracer.wait_for("interim report", END);
    works(&mut target);
    for _ in 0..2 {
        tracer.signal(Signal::USR1);
        tracer.wait_for_output("interim report", END);
        tracer.wait_for_output("main.newPlain2048", END);
    }
    works(&mut target);
    let ended = tracer.interrupt().success();
    let (interim, last) = ended.stdout.rsplit_once("interim report").unwrap();
    assert!(interim.contains("interim report"), "{interim}");
    assert!(last.contains("main.newPlain2048"), "the last report has no sites:\n{last}");
}

#[test]
fn a_target_that_ends_has_its_report() {
    live!();
    for signal in [None, Some(Signal::KILL)] {
        let mut target = busy(&Go::demo(), Mode::Ordinary);
        let mut tracer = Tracer::attach(target.pid(), &["--sampler", "all", "--format", "json"]);
        works(&mut target);
        tracer.wait_for("interim report", END);
        match signal {
            None => assert!(target.finish().success()),
            Some(signal) => {
                target.signal(signal);
                assert_eq!(target.wait_exit(END).signal(), Some(signal.as_raw()));
            }
        }
        let report = tracer.wait(END).success().json();
        assert_eq!(report["session"]["ended_by"], "target-exit");
        // Everything the target did was counted, whoever read the tables last.
        let sites = report["allocations"].as_array().unwrap();
        assert!(sites.len() > 20, "{} sites", sites.len());
    }
}

#[test]
fn a_target_that_executes_itself_again_has_its_report() {
    live!();
    for mode in [Mode::Ordinary, Mode::StrippedPie] {
        let mut target = Target::start(&Go::demo().build("again", mode));
        let pid = target.pid();
        let mut tracer = Tracer::attach(pid, &["--sampler", "all", "--format", "json"]);
        tracer.wait_for("interim report", END);
        target.ask("gc 20");
        target.tell("again");
        target.wait_for(END, |line| line == "ready");
        // Far more of everything in the second life: none of it may be in the report of the first.
        let second = target.ask("gc 500")["Cycles"].as_u64().unwrap();
        tracer.wait_for("executed a program again", END);
        let report = tracer.wait(END).success().json();
        assert_eq!(report["session"]["ended_by"], "target-lost", "{}", mode.name());
        // What came between the last reading and the new program is lost, and the report says so.
        assert_eq!(report["session"]["complete"], false, "{}", report["session"]);
        assert_eq!(report["session"]["counters"]["target_replaced"], 1);
        let remarks = report["session"]["remarks"].to_string();
        assert!(remarks.contains("executed a program again"), "{remarks}");
        // Readings come ten times a second: it may have seen some of the first life's cycles or none.
        if let Some(cycles) = report["gc"]["cycles"].as_u64() {
            assert!(cycles <= 20, "{cycles} cycles, {second} in the second life");
        }
        wait_restored(pid, "after it executed itself again");
        target.ask("gc");
        assert!(target.finish().success());
    }
}

#[test]
fn a_target_that_loses_its_main_thread_is_not_called_ended() {
    live!(Root, Uprobes, Tracer, Go);
    let mut target = Target::start(&Go::demo().build("mainless", Mode::Ordinary));
    let pid = target.pid();
    let mut tracer = Tracer::attach(pid, &["--sampler", "all", "--format", "json"]);
    tracer.wait_for("first report", END);
    target.ask("lose");
    tracer.wait_for("goes on without its main thread", END);
    let report = tracer.wait(END).success().json();
    assert_eq!(report["session"]["ended_by"], "target-lost");
    assert_eq!(report["session"]["complete"], false, "{}", report["session"]);
    let again = Tracer::run(&["--pid", &pid.to_string(), "--duration", "1s"], END);
    drop(again.refused(&["goes on without its main thread", "restart the process"]));
    assert!(target.is_alive());
    let allocated = target.ask("allocate");
    assert_eq!(allocated, 1000, "its other threads work as before");
}

/// The kernel's verifier gives up when a signal waits: that must not change how probes are attached.
#[test]
fn a_signal_while_it_attaches_ends_it_as_at_any_other_time() {
    live!(Root, Uprobes, Tracer, Go);
    let target = busy(&Go::demo(), Mode::Ordinary);
    let mut attached = 0;
    for step in 0..24 {
        let tracer = Tracer::start(["--pid", &target.pid().to_string(), "--sampler", "all"]);
        std::thread::sleep(Duration::from_millis(20 * step));
        tracer.signal(Signal::USR1);
        std::thread::sleep(Duration::from_millis(5));
        let ended = tracer.interrupt();
        // Before its handlers are in place a signal ends it as it ends any program.
        if ended.status.code() == Some(0) {
            assert!(ended.stderr.contains(" links"), "{}", ended.stderr);
            attached += 1;
        }
    }
    assert!(attached > 0, "no session got as far as attaching");
    wait_restored(target.pid(), "after the last");
}

#[test]
fn single_links_do_the_same() {
    live!();
    let mut target = busy(&Go::demo(), Mode::Ordinary);
    let pid = target.pid();
    let sites = planned(pid);
    let tracer = Tracer::attach(pid, &["--attach", "single", "--sampler", "all", "--format", "json"]);
    assert_probed(pid, &sites);
    let answer = target.ask("run 200");
    let report = tracer.interrupt().success().json();
    assert_eq!(report["session"]["attach"], "single");
    let calls: u64 =
        answer["sites"].as_array().unwrap().iter().map(|site| site["calls"].as_u64().unwrap()).sum();
    let hits = hits(&report, "runtime.mallocgc");
    assert!(hits >= calls, "{hits} hits, {calls} allocations by the target's own count");
    wait_restored(pid, "after single links");
    works(&mut target);
}

/// A session on a program that it starts itself.
fn launch(options: &[&str], command: &[&str]) -> Tracer {
    Tracer::start(options.iter().chain(&["--"]).chain(command))
}

#[test]
fn a_command_is_probed_from_its_first_allocation() {
    live!();
    for go in Go::all() {
        let program = go.build("allocs", Mode::Ordinary);
        // Its stdin is empty, so that it ends after the work it does at its start: run(10).
        let options = ["--sampler", "all", "--format", "json", "-o"];
        let scratch = Scratch::new("command");
        let file = scratch.file("report.json");
        let ended = launch(&[&options[..], &[file.to_str().unwrap()]].concat(), &[program.to_str().unwrap()])
            .wait(END)
            .success();
        let report: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        assert_eq!(ended.stdout.lines().nth(1), Some("ready"), "the program's stdout is its own: {ended:?}");
        assert_eq!(ended.stdout.lines().count(), 2, "{ended:?}");
        assert_eq!(report["session"]["ended_by"], "target-exit");
        // main.main's own start and what the runtime does before it: both are in the count.
        let functions = report["allocations"].to_string();
        for function in ["main.newScan64", "runtime.schedinit", "main.makeClosure"] {
            assert!(functions.contains(function), "go {}: no {function} in {functions}", go.pin.version);
        }
        let created = report["goroutines"]["created"].as_u64().unwrap();
        // The first goroutine, its finalizers and collectors, four workers and one that collects.
        assert!(created >= 10, "go {}: {created} goroutines created", go.pin.version);
    }
}

#[test]
fn a_commands_exit_status_and_signals_are_its_own() {
    live!();
    let demo = Go::demo().build("demo", Mode::Ordinary);
    let mut tracer =
        launch(&["--sampler", "all", "--format", "json", "-o", "/dev/null"], &[demo.to_str().unwrap()]);
    tracer.wait_for(ATTACHED, END);
    tracer.wait_for("interim report", END);
    tracer.signal(Signal::TERM);
    let ended = tracer.wait(END);
    assert_eq!(ended.status.code(), Some(128 + Signal::TERM.as_raw()), "{ended:?}");
}

#[test]
fn a_signal_before_the_session_begins_leaves_no_program_behind() {
    live!();
    let demo = Go::demo().build("demo", Mode::Ordinary);
    for signal in [Signal::TERM, Signal::INT] {
        // A background job ignores interrupts, and what it starts does too: here nothing is ignored.
        let mut command = Command::new("env");
        command.arg("--default-signal=INT").arg(binary()).args(["--sampler", "all", "-o", "/dev/null", "--"]);
        let tracer = Tracer::start_command(command.arg(&demo));
        let child = first_child(tracer.pid());
        tracer.signal(signal);
        let ended = tracer.wait(END);
        // Not tracer's own death by the signal: it passed the program's end on.
        assert_eq!(ended.status.code(), Some(128 + signal.as_raw()), "{ended:?}");
        assert!(!Path::new(&format!("/proc/{child}")).exists(), "{child} was left behind: {ended:?}");
    }
}

#[test]
fn an_interrupt_for_the_tracer_alone_reaches_the_command() {
    live!();
    let demo = Go::demo().build("demo", Mode::Ordinary);
    // In a session of its own: there is no terminal that could have sent it to both.
    // A background job ignores interrupts, and what it starts does too: here nothing is ignored.
    let mut command = Command::new("setsid");
    command
        .args(["env", "--default-signal=INT"])
        .arg(binary())
        .args(["--sampler", "none", "-o", "/dev/null", "--"])
        .arg(demo);
    let mut tracer = Tracer::start_command(&mut command);
    tracer.wait_for("interim report", END);
    tracer.signal(Signal::INT);
    let ended = tracer.wait(END);
    assert_eq!(ended.status.code(), Some(128 + Signal::INT.as_raw()), "{ended:?}");
}

#[test]
fn a_report_that_cannot_be_written_leaves_no_command_behind() {
    live!();
    let brief = Go::demo().build("brief", Mode::Ordinary);
    let brief = brief.to_str().unwrap();
    for status in [7, 0] {
        let command = [brief, &status.to_string(), "3"];
        let options = ["--sampler", "all", "--duration", "1s"];

        // Its status is known only to who waited for it; where it succeeded, the failure is ours.
        let ended = launch(&[&options[..], &["-o", "/dev/full"]].concat(), &command).wait(END);
        assert_eq!(ended.status.code(), Some(if status == 0 { 2 } else { status }), "{ended:?}");
        let told: Vec<&str> = ended.stderr.lines().filter(|line| line.contains("cannot write")).collect();
        assert_eq!(told.len(), 1, "{ended:?}");
        assert_eq!(told[0].matches("No space left").count(), 1, "{ended:?}");

        // A reader that went away is a normal end.
        let mut tracer = Command::new(binary());
        tracer.args(options).arg("--").args(command);
        let (read, write) = std::io::pipe().unwrap();
        drop(read);
        let ended = tracer.stdout(write).output().unwrap();
        let said = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(status), "{said}");
        assert!(!said.contains("cannot write") && !said.contains("roken pipe"), "{said}");
    }
}

#[test]
fn a_command_that_is_refused_is_not_run() {
    live!(Root, Tracer);
    let scratch = Scratch::new("refused");
    let (mark, script) = (scratch.file("mark"), scratch.file("script"));
    std::fs::write(&script, format!("#!/bin/sh\ntouch {}\n", mark.display())).unwrap();
    let run = |arguments: &[&str]| assert!(Command::new("chmod").args(arguments).status().unwrap().success());
    run(&["755", script.to_str().unwrap()]);
    for (command, says) in [
        (vec![script.to_str().unwrap()], "script"),
        (vec!["touch", mark.to_str().unwrap()], "Go"),
        (vec!["/no/such/program"], "not found"),
        (vec!["no-such-program-anywhere"], "not found"),
    ] {
        let ended = launch(&["--sampler", "all"], &command).wait(END);
        assert_eq!(ended.status.code(), Some(2), "{ended:?}");
        assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
        assert!(ended.stderr.contains(says) && ended.stdout.is_empty(), "{ended:?}");
        assert!(!Path::new(&mark).exists(), "{command:?} was run");
    }
}

#[test]
fn a_command_that_ends_at_once_keeps_its_exit_status() {
    live!();
    let program = Go::demo().build("brief", Mode::Ordinary);
    // It may end before or while it is read: then there is one line, or a report of what was seen until then.
    for status in [7, 1, 0, 7, 0] {
        let ended =
            launch(&["--sampler", "all"], &[program.to_str().unwrap(), &status.to_string()]).wait(END);
        let reported = ended.stdout.contains("the target exited");
        // Its own failure wins; where it succeeded, a missing report is ours.
        let expected = if status == 0 && !reported { 2 } else { status };
        assert_eq!(ended.status.code(), Some(expected), "{ended:?}");
        if !reported {
            assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
            assert!(ended.stderr.contains("ended before anything of it could be read"), "{ended:?}");
        }
    }
}
