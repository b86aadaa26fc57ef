//! Allocations in a window, as the tracer and as the target itself saw them.
//!
//! Apart because the tests of counts and the matrix of Go versions ask the same. The truth is runtime.MemStats; nothing here knows
//! how the counting is done.

use std::path::Path;

use serde_json::Value;

use crate::go::Go;
use crate::report::{self, list, number, text};
use crate::target::Target;
use crate::tracer::Tracer;

/// Before this minor a collection may move a goroutine's stack while it runs on the system stack (runtime/stack.go,
/// isShrinkStackSafe). What the runtime allocates for itself there (a new thread), or behind it in the function that went there
/// and has the old frame pointer still (gcAssistAlloc), has a cut stack then; the fixture forces a hundred collections and more.
const NEVER_MOVED: u32 = 26;
/// Share of all allocations; 15 of 60 000 were seen.
const MOST_CUT: f64 = 0.001;

/// A window in which the fixture answered `command`, as the tracer and as the target itself saw it.
#[derive(Clone, Debug)]
pub struct Window {
    /// Begins each message.
    pub what: String,
    moved: bool,
    pub report: Value,
    /// The fixture's answer.
    pub answer: Value,
    /// By how much the runtime's own counters moved.
    pub mallocs: u64,
    pub total_alloc: u64,
}

impl Window {
    /// Traces the fixture while it obeys `command`.
    ///
    /// Both accounts span the same work. The runtime's begins and ends inside the command `memstats`, the tracer's
    /// between two commands: each contains the rest of one such answer. An answer costs the same every time, once
    /// the JSON encoder has met its types, so that the two sums are of equal lengths of work.
    pub fn of(go: &Go, program: &Path, what: String, command: &str) -> Self {
        let mut target = Target::start(program);
        target.ask("memstats");
        let before = target.ask("memstats");
        let tracer = Tracer::attach(target.pid(), &["--sampler", "all", "--format", "json"]);
        let answer = target.ask(command);
        let after = target.ask("memstats");
        let report = tracer.interrupt().success().json();
        assert!(target.finish().success(), "{what}");
        let change = |path| number(&after, path) - number(&before, path);
        Self {
            what,
            moved: go.pin.minor() < NEVER_MOVED,
            report,
            answer,
            mallocs: change("/mallocs"),
            total_alloc: change("/total_alloc"),
        }
    }

    /// Nothing is missing but stacks that this Go moves while they are walked.
    pub fn assert_nothing_lost(&self) {
        let most = if self.moved { (MOST_CUT * self.mallocs as f64) as u64 } else { 0 };
        report::assert_cut_at_most(&self.report, &self.what, most);
    }

    /// The report's total is the runtime's, within 0.1 %, and each site's is what the fixture counted there.
    pub fn assert_exact(&self) {
        self.assert_nothing_lost();
        let what = &self.what;
        let total = report::allocated_total(&self.report);
        assert!(off(total.objects, self.mallocs) < 0.001, "{what}: {} of {}", total.objects, self.mallocs);
        assert_eq!(report::allocated_sum(&self.report), total, "{what}: rows and total");

        let by_function = report::allocated_by(&self.report);
        let sites: Vec<_> = list(&self.answer, "/sites").iter().map(site).collect();
        assert!(sites.len() >= 20, "{what}");
        for (function, _, calls, bytes) in sites {
            let ours = by_function.get(&function).copied().unwrap_or_default();
            let ours = (ours.objects, ours.requested);
            assert_eq!(ours, (calls, bytes), "{what}: objects and requested bytes of {function}");
        }
    }
}

fn site(value: &Value) -> (String, bool, u64, u64) {
    let tiny = value["tiny"].as_bool().expect("the fixture says which sites are tiny");
    (text(value, "/function").to_owned(), tiny, number(value, "/calls"), number(value, "/bytes"))
}

/// How far two counts are apart, as a share of theirs.
pub fn off(ours: u64, theirs: u64) -> f64 {
    (ours as f64 - theirs as f64).abs() / theirs as f64
}
