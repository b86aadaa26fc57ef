//! A Go newer than the newest that is known: read by its own debugging information, else on trial as the newest, else refused.
//!
//! There is no newer Go to build with. So the newest row of the table is hidden, and its programs are read by what is left, as a tracer
//! did before that Go. And real programs are made to say they are newer: their version text is changed in a copy, and they run. What
//! their structures are stays what their toolchain made; so a program of the newest Go resembles it, one of an older does not.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use tracer_tests::counting::Window;
use tracer_tests::go::{Go, Mode};
use tracer_tests::report::number;
use tracer_tests::scratch::Scratch;
use tracer_tests::target::Target;
use tracer_tests::tracer::Tracer;
use tracer_tests::{live, table};
use tracer_user::goruntime::layout::{Basis, Known, Layout};
use tracer_user::goruntime::state::StateError;
use tracer_user::goruntime::state::profile::{self, Limits};
use tracer_user::record::note::Note;
use tracer_user::session;
use tracer_user::units::Pid;
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
    let window = Window::of(go, &pretending(scratch, go, "allocs", mode), what.clone(), "run 300");
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

/// The minor before the newest: where the table ends for the tests below.
const HIDDEN_AFTER: u32 = 26;

fn newest() -> Go {
    go(|pin| pin.minor() == HIDDEN_AFTER + 1)
}

/// A program of the newest Go that samples all it allocates and keeps some of it.
fn keeping(mode: Mode) -> Target {
    let mut target =
        Target::start_command(Command::new(newest().build("typed", mode)).env("TYPED_RATE", "1"));
    target.ask("keep 2000");
    target
}

fn opened(target: &Target, known: Known) -> Result<session::Target, session::TargetError> {
    session::Target::open_knowing(Pid(target.pid()), known)
}

#[test]
fn with_the_newest_row_hidden_debugging_information_takes_its_place() {
    live!(Root, EveryGo);
    assert_eq!(Known::all().range(), format!("go1.19 to go1.{}", HIDDEN_AFTER + 1));
    let mut target = keeping(Mode::Ordinary);
    let theirs = target.ask("memprofile");
    let account = target.ask("memstats");
    let ours = opened(&target, Known::until(HIDDEN_AFTER)).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(ours.image.basis(), Basis::Debug);
    let Some(Note::NewerGo { how }) = ours.caveat() else { panic!("it must be said") };
    let version = newest().pin.version;
    assert_eq!(
        how,
        format!(
            "go{version} is newer than this tracer, which knows go1.19 to go1.26: its structures are read by its own \
             debugging information"
        )
    );
    // The row that is hidden is what was found, and it is not the newest that is left.
    assert_eq!(ours.layout.fields(), Layout::for_minor(HIDDEN_AFTER + 1).unwrap().fields());
    assert_ne!(ours.layout.fields(), Layout::for_minor(HIDDEN_AFTER).unwrap().fields());
    let gc = ours.state.gc(&ours.memory, None).unwrap();
    assert_eq!(u64::from(gc.cycles), number(&account, "/num_gc"));
    // The profile's records, which are others than in the row before.
    let vars = ours.profile.expect("the fixture links the profiler");
    let found = profile::read(&ours.memory, ours.layout, &vars, Limits::default()).unwrap();
    let mut held: BTreeMap<u64, u64> = BTreeMap::new();
    for bucket in &found.profile.buckets {
        let now = bucket.now();
        *held.entry(bucket.size.0).or_default() += now.allocs - now.frees;
    }
    let mut compared = 0;
    for row in
        theirs.as_array().expect("a list of sizes").iter().filter(|row| number(row, "/objects") >= 2000)
    {
        let (size, told) = (number(row, "/size"), number(row, "/objects"));
        let held = held.get(&size).copied().unwrap_or(0);
        // What the runtime and the profile itself allocated since.
        assert!(held.abs_diff(told) <= 200, "{held} of {size} bytes, its profile has {told}");
        compared += 1;
    }
    assert!(compared >= 8, "only {compared} sizes: {theirs}");
    // The row before, had it been taken for this process, is refused by the same records.
    let before = Layout::for_minor(HIDDEN_AFTER).unwrap();
    let refused = profile::read(&ours.memory, before, &vars, Limits::default());
    assert!(
        matches!(refused, Err(StateError::Layout { check: "buckets do not overlap", .. })),
        "{:?}",
        refused.map(|found| found.profile.buckets.len())
    );
}

#[test]
fn with_the_newest_row_hidden_a_stripped_program_is_refused_with_the_range_that_is_left() {
    live!(Root, EveryGo);
    for mode in [Mode::Bare, Mode::Stripped, Mode::StrippedPie] {
        let target = keeping(mode);
        let all = opened(&target, Known::all()).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!((all.image.basis(), all.layout.minor), (Basis::Table, HIDDEN_AFTER + 1));
        let refused = opened(&target, Known::until(HIDDEN_AFTER)).err().expect("its module data is another");
        let said = refused.to_string();
        let newer = format!(
            "go{} is newer than this tracer, which knows go1.19 to go1.{HIDDEN_AFTER}, and its runtime is another: ",
            newest().pin.version
        );
        for words in [newer.as_str(), "moduledata", "; use a newer tracer"] {
            assert!(said.contains(words), "{}: {said}", mode.name());
        }
    }
}
