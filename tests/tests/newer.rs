//! A Go newer than the newest that is known: read by its own debugging information, else on trial as the newest, else refused.
//!
//! There is no newer Go to build with, so real programs are made to say they are: their version text is changed in a copy, and they
//! run. What their structures are stays what their toolchain made; so a program of the newest Go resembles it, one of an older does not.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use tracer_tests::counting::Window;
use tracer_tests::go::{Go, Mode};
use tracer_tests::scratch::Scratch;
use tracer_tests::target::Target;
use tracer_tests::tracer::Tracer;
use tracer_tests::{live, table};
use xtask::toolchains::Pin;

/// The version the programs pretend.
const PRETENDED: &str = "1.99";

fn go(pin: impl Fn(&Pin) -> bool) -> Go {
    Go::every().into_iter().find(|go| pin(&go.pin)).expect("the test checked the toolchains")
}

/// A copy of a fixture that says it was built by a Go of a later minor.
fn pretending(scratch: &Scratch, go: &Go, fixture: &str, mode: Mode) -> PathBuf {
    let mut bytes = fs::read(go.build(fixture, mode)).unwrap();
    let own = format!("go{}", go.pin.version);
    // As long as the real one: `go1.99.3` for `go1.27.3`.
    let new = format!("go{PRETENDED}{}", &go.pin.version[PRETENDED.len()..]);
    let places: Vec<usize> =
        (0..bytes.len() - own.len()).filter(|at| bytes[*at..].starts_with(own.as_bytes())).collect();
    assert!(!places.is_empty(), "{own} is nowhere");
    for at in places {
        bytes[at..at + new.len()].copy_from_slice(new.as_bytes());
    }
    let file = scratch.file(&format!("{fixture}-{}", mode.name()));
    fs::write(&file, bytes).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    file
}

/// Counts and the table of goroutines are exact, and the report says what it rests on.
fn assert_read(scratch: &Scratch, go: &Go, mode: Mode, says: &str) {
    let what = format!("go {} as {PRETENDED}, {}", go.pin.version, mode.name());
    let window = Window::of(&pretending(scratch, go, "allocs", mode), what.clone(), "run 300");
    window.assert_exact();
    let remarks = window.report["session"]["remarks"].to_string();
    assert!(remarks.contains(says) && remarks.contains("go1.99"), "{what}: {remarks}");
    let mut target = table::started(&pretending(scratch, go, "goroutines", mode));
    let stack = target.ask("stack");
    let report = table::read(&target, "json").json();
    let theirs = table::from_runtime_stack(stack.as_str().expect("a text"));
    assert_eq!(table::from_report(&report), theirs, "{what}");
    assert!(report["session"]["remarks"].to_string().contains(says), "{what}");
}

#[test]
fn with_debugging_information_its_own_layout_is_read() {
    live!(Root, Uprobes, EveryGo, Tracer);
    // Not just the newest's: no offset of the table is used. What is no structure (which functions are wrappers) is taken to be
    // as in the newest, and has been so since 1.25.
    for minor in [25, 26, 27] {
        let scratch = Scratch::new(&format!("newer-debug-{minor}"));
        assert_read(&scratch, &go(|pin| pin.minor() == minor), Mode::Ordinary, "own debugging information");
    }
}

#[test]
fn without_it_the_newest_layout_is_tried_where_the_structures_allow() {
    live!(Root, Uprobes, EveryGo, Tracer);
    let newest = Go::every().pop().unwrap();
    let scratch = Scratch::new("newer-trial");
    for mode in [Mode::Bare, Mode::StrippedPie] {
        assert_read(&scratch, &newest, mode, "which they resemble");
    }
}

#[test]
fn structures_that_are_not_the_newests_are_refused_with_the_range() {
    live!(Root, Uprobes, EveryGo, Tracer);
    let mut every = Go::every();
    every.pop();
    for go in every {
        let scratch = Scratch::new(&format!("newer-refused-{}", go.pin.minor()));
        let target = Target::start(&pretending(&scratch, &go, "goroutines", Mode::Bare));
        let pid = target.pid().to_string();
        let ended = Tracer::run(&["--pid", &pid, "--sampler", "none"], Duration::from_secs(30));
        drop(ended.refused(&["go1.99", "go1.19 to go1.27", "use a newer tracer"]));
        assert!(target.finish().success());
    }
}
