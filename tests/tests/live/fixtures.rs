//! The fixtures keep their own word: what they count equals what the runtime says, on every pinned Go.
//! These tests trace nothing; they make sure that a live test has a truth to be compared with.

use std::time::Duration;

use serde_json::Value;
use tracer_tests::go::{Go, Mode, matrix};
use tracer_tests::target::Target;
use tracer_tests::{live, real_programs};

fn number(value: &Value, path: &str) -> u64 {
    value.pointer(path).and_then(Value::as_u64).unwrap_or_else(|| panic!("no number {path} in {value}"))
}

#[test]
fn allocation_sites_account_for_the_runtimes_mallocs() {
    live!(Go);
    for (go, mode) in matrix() {
        let mut target = Target::start(&go.build("allocs", mode));
        for command in ["run 500", "run 500 notiny", "run 2000 notiny nolarge"] {
            let answer = target.ask(command);
            let mallocs = number(&answer, "/after/mallocs") - number(&answer, "/before/mallocs");
            let sites = answer["sites"].as_array().unwrap();
            assert!(sites.len() >= 20, "{} sites", sites.len());
            let calls: u64 = sites.iter().map(|site| number(site, "/calls")).sum();
            // What is beside the sites is the run's own: its goroutines and stacks.
            let beside = mallocs - calls;
            assert!(beside < 400, "go {} {}: {command}: {beside} of {mallocs}", go.pin.version, mode.name());
            assert!(number(&answer, "/after/num_gc") > number(&answer, "/before/num_gc"));
        }
        assert!(target.finish().success());
    }
}

#[test]
fn goroutines_start_wait_and_end() {
    live!(Go);
    for (go, mode) in matrix() {
        let mut target = Target::start(&go.build("goroutines", mode));
        let base = target.ask("count").as_u64().unwrap();
        let churned = target.ask("churn 50");
        assert_eq!(number(&churned, "/living"), base);
        let kinds =
            "chan-receive chan-send select select-empty mutex rwmutex waitgroup cond sleep nil-chan io-wait";
        for kind in kinds.split(' ') {
            target.ask(&format!("start {kind} 3"));
        }
        let stack = target.ask("stack");
        for state in [
            "[chan receive]",
            "[chan send]",
            "[select]",
            "[select (no cases)]",
            "[sleep]",
            "[IO wait]",
            "[chan receive (nil chan)]",
        ] {
            assert_eq!(
                stack.as_str().unwrap().matches(state).count(),
                3,
                "go {}: {state} in {stack}",
                go.pin.version
            );
        }
        let profile = target.ask("profile");
        assert!(profile.as_str().unwrap().starts_with("goroutine profile: total "), "{profile}");
        for kind in
            ["chan-receive", "chan-send", "select", "mutex", "rwmutex", "waitgroup", "cond", "io-wait"]
        {
            assert_eq!(number(&target.ask(&format!("end {kind}")), "/count"), 3);
        }
        assert_eq!(target.ask("count").as_u64(), Some(base + 9));
    }
}

#[test]
fn maps_hold_what_was_written() {
    live!(Go);
    for (go, mode) in matrix() {
        let mut target = Target::start(&go.build("maps", mode));
        let answer = target.ask("run 999");
        let families = answer.as_array().unwrap();
        assert_eq!(families.len(), 7);
        assert!(
            families
                .iter()
                .all(|family| number(family, "/writes") == 999 && number(family, "/entries") == 666),
            "{answer}"
        );
    }
}

#[test]
fn the_chain_has_inlined_frames() {
    live!(Go);
    for (go, mode) in matrix() {
        let mut target = Target::start(&go.build("stacks", mode));
        let answer = target.ask("alloc 10");
        let frames: Vec<(String, bool)> = answer["frames"]
            .as_array()
            .unwrap()
            .iter()
            .map(|frame| {
                (frame["function"].as_str().unwrap().to_owned(), frame["inlined"].as_bool().unwrap())
            })
            .collect();
        let inlined = frames.iter().filter(|(_, inlined)| *inlined).count();
        assert_eq!(frames[0].0, "main.leaf", "go {}", go.pin.version);
        assert!(inlined >= 3, "go {}: {frames:?}", go.pin.version);
    }
}

#[test]
fn the_server_answers_its_load() {
    live!(Go);
    let program = Go::demo().build("http", Mode::Ordinary);
    let mut server = Target::start(&program);
    let address = server.ask("state")["address"].as_str().unwrap().to_owned();
    let mut load = Target::start_command(std::process::Command::new(&program).args(["load", &address, "2"]));
    let begun = std::time::Instant::now();
    while number(&server.ask("state"), "/units") < 100 {
        assert!(begun.elapsed() < Duration::from_secs(20), "no hundred requests in 20 s");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(load.is_alive() && server.is_alive());
}

#[test]
fn real_programs_are_fetched_and_serve() {
    live!(Go, Root, Packages);
    for program in real_programs::ALL {
        let mut running = program.start().unwrap_or_else(|error| panic!("{error:#}"));
        assert_eq!(running.load(20), 20, "{}", program.name());
        assert!(running.target.is_alive());
    }
}
