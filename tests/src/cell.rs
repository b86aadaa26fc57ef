//! Everything that is checked of one cell of the matrix of Go versions.
//!
//! Apart from the test so that it reads as the list of promises it is. A check that fails does not keep the others from being made.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use xtask::go_matrix::Outcome;
use xtask::go_matrix::cells::Cell;

use crate::counting::Window;
use crate::go::{Go, Mode};
use crate::image::image;
use crate::report::{list, text};
use crate::target::Target;
use crate::tracer::Tracer;
use crate::{chain, classes, events, instructions, readings, table};

/// Rounds of four workers with thirty sites each.
const ROUNDS: u32 = 500;

/// Makes every check of a cell and says what came of each.
pub fn check(cell: &Cell) -> Vec<Outcome> {
    let go = Go::every().into_iter().find(|go| go.pin == cell.pin).expect("the test checked the toolchains");
    let what = cell.name();
    let build = |fixture: &str| go.build(fixture, cell.variant);
    let mut outcomes = Vec::new();
    let mut attempt = |check: &str, run: &mut dyn FnMut()| {
        let failure = catch_unwind(AssertUnwindSafe(run)).err().map(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
                .unwrap_or_else(|| "it failed without a word".to_owned())
        });
        outcomes.push(Outcome { cell: what.clone(), check: check.to_owned(), failure });
    };
    attempt("recognised", &mut || assert_recognised(cell, &build("allocs")));
    attempt("attach", &mut || assert_attached(&build("allocs")));
    attempt("counts", &mut || {
        Window::of(&go, &build("allocs"), what.clone(), &format!("run {ROUNDS}")).assert_exact();
    });
    attempt("goroutines", &mut || {
        let (report, answer) =
            events::traced(&build("goroutines"), &what, "churn 300", &["--sampler", "all"]);
        events::assert_churned(&report, &answer, &what);
    });
    attempt("maps", &mut || {
        let arguments = ["--sampler", "all", "--events", "map"];
        let (report, answer) = events::traced(&build("maps"), &what, "run 300", &arguments);
        events::assert_written(&report, &answer, &what);
    });
    attempt("stacks", &mut || chain::assert_chain(&build("stacks"), &what, "auto"));
    attempt("gc", &mut || classes::assert_gc_as_told(&build("allocs"), &what));
    attempt("classes", &mut || {
        let mut target = Target::start(&build("allocs"));
        target.ask("run 300");
        target.ask("gc");
        let account = target.ask("memstats");
        classes::assert_as_told(&table::read(&target, "json").json(), &account, &go, &what);
    });
    let typed = || build("typed");
    // The heap names the types of objects above 512 bytes since Go 1.22.
    let large_too = cell.pin.minor() >= 22 && cell.variant.experiment != "noallocheaders";
    attempt("census", &mut || readings::assert_census(&go, &typed(), &what));
    attempt("types", &mut || readings::assert_types(&typed(), large_too, &what));
    attempt("contents", &mut || readings::assert_maps(&build("maps"), &what));
    attempt("profile", &mut || readings::assert_profile(&build("profile"), large_too, &what));
    attempt("sampled", &mut || drop(readings::assert_sampled(&build("followed"), &[], &what)));
    attempt("table", &mut || {
        let mut target = table::started(&build("goroutines"));
        let stack = target.ask("stack");
        let ours = table::from_report(&table::read(&target, "json").json());
        let theirs = table::from_runtime_stack(stack.as_str().expect("a text"));
        assert_eq!(ours, theirs, "{what}");
        assert!(theirs.len() >= table::KINDS.len(), "{what}");
    });
    outcomes
}

/// What a report says of its target is how it was built.
fn assert_recognised(cell: &Cell, program: &Path) {
    let what = cell.name();
    let mode = cell.variant.mode;
    let target = Target::start(program);
    let report = table::read(&target, "json").json();
    let said = &report["target"];
    let version = text(said, "/go_version");
    let wanted = format!("go{}", cell.pin.version);
    assert!(
        version == wanted || version.strip_prefix(&wanted).is_some_and(|rest| rest.starts_with([' ', '-'])),
        "{what}: {version}"
    );
    let is = |field: &str| said[field].as_bool().unwrap_or_else(|| panic!("{what}: no {field}: {said}"));
    assert_eq!(is("pie"), matches!(mode, Mode::Pie | Mode::CgoPie), "{what}: pie");
    assert_eq!(is("stripped"), matches!(mode, Mode::Bare | Mode::Stripped), "{what}: stripped");
    assert_eq!(is("cgo"), mode.needs_c(), "{what}: cgo");
    assert_eq!(is("race"), mode == Mode::Race, "{what}: race");
    let image = image(program);
    // Go 1.23 took the function that the linker looks for out of MemProfile.
    let names = ["runtime.memProfileInternal", "runtime.MemProfile"];
    let profiled = names.iter().any(|name| image.function(name).is_some());
    assert_eq!(profiled, cell.variant.profiled, "{what}: the profiler is linked");
}

/// Probes go in, and out again.
fn assert_attached(program: &Path) {
    let target = Target::start(program);
    let tracer = Tracer::attach(target.pid(), &["--sampler", "all", "--format", "json"]);
    assert!(!instructions::changed(target.pid()).is_empty(), "no instruction shows a probe");
    let report = tracer.interrupt().success().json();
    assert!(list(&report, "/session/probes").len() >= 3, "{}", report["session"]);
    instructions::wait_restored(target.pid(), "after the session");
    assert!(target.finish().success());
}
