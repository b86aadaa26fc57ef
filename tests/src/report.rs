//! A report's JSON as the tests read it: by the names of CONTRACT section 3, never by the tool's own types.
//! Where a field is missing the test fails with the part it looked in.

use std::collections::BTreeMap;

use serde_json::Value;

/// Objects and bytes of one site, or of all.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Amount {
    pub objects: u64,
    pub requested: u64,
    pub rounded: u64,
}

/// One frame, as far as the runtime tells the same.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Frame {
    pub function: String,
    pub file: String,
    pub line: u64,
}

/// A number that must be there.
pub fn number(value: &Value, path: &str) -> u64 {
    value.pointer(path).and_then(Value::as_u64).unwrap_or_else(|| panic!("no number {path} in {value}"))
}

/// A text that must be there.
pub fn text<'a>(value: &'a Value, path: &str) -> &'a str {
    value.pointer(path).and_then(Value::as_str).unwrap_or_else(|| panic!("no text {path} in {value}"))
}

/// A list that must be there.
pub fn list<'a>(value: &'a Value, path: &str) -> &'a [Value] {
    value.pointer(path).and_then(Value::as_array).unwrap_or_else(|| panic!("no list {path} in {value}"))
}

/// Fails unless nothing was lost: no counter, no event, no refused probe, and the report says so itself.
///
/// One counter is no loss here: a goroutine that runs while the table of goroutines is read may not be readable, and
/// the targets of these tests run. It is in no event's count.
pub fn assert_nothing_lost(report: &Value, what: &str) {
    assert_cut_at_most(report, what, 0);
}

/// Beginnings of the allocating functions of the runtime that the compiler calls: behind them comes the program.
const CALLED_BY_PROGRAMS: [&str; 13] = [
    "mallocgc",
    "newobject",
    "newarray",
    "makeslice",
    "growslice",
    "makechan",
    "makemap",
    "mapassign",
    "convT",
    "concatstring",
    "slice",
    "stringtoslice",
    "newproc",
];

/// The same, but that many stacks may be cut in functions of the runtime that no program calls.
pub fn assert_cut_at_most(report: &Value, what: &str, most: u64) {
    let session = &report["session"];
    let counters = session["counters"].as_object().unwrap_or_else(|| panic!("no counters in {session}"));
    let cut = counters.get("stack_cut").and_then(Value::as_u64).unwrap_or(0);
    // An allocation may wait for the collector where a window ends.
    let held = |name: &str| {
        ["goroutine_torn", "window_forgotten"].contains(&name) || (name == "stack_cut" && cut <= most)
    };
    let lost: Vec<_> = counters.iter().filter(|(name, _)| !held(name)).collect();
    assert!(lost.is_empty(), "{what}: {lost:?} in {session}");
    // Sessions without the allocator's probes have none.
    let rows = report["allocations"].as_array().into_iter().flatten();
    for row in rows.filter(|row| row["truncated"] == true) {
        let outermost = list(row, "/stack").last().and_then(|frame| frame["function"].as_str());
        let of_the_runtime = outermost.and_then(|f| f.strip_prefix("runtime."));
        let own = of_the_runtime.is_some_and(|f| !CALLED_BY_PROGRAMS.iter().any(|call| f.starts_with(call)));
        assert!(own, "{what}: the program's own stack is cut: {row:#}");
    }
    assert_eq!(session["complete"], cut == 0, "{what}: {session}");
    assert_eq!(session["lower_bounds"], false, "{what}: {session}");
    assert_eq!(number(session, "/events/lost"), 0, "{what}");
    assert_eq!(number(session, "/events/undecodable"), 0, "{what}");
}

/// What every function allocated itself: rows summed by their innermost frame.
pub fn allocated_by(report: &Value) -> BTreeMap<String, Amount> {
    let mut sums: BTreeMap<String, Amount> = BTreeMap::new();
    for row in list(report, "/allocations") {
        let function = innermost(row).unwrap_or("unknown").to_owned();
        sums.entry(function).or_default().add(amount(&row["allocated"]));
    }
    sums
}

/// All rows together.
pub fn allocated_sum(report: &Value) -> Amount {
    let mut sum = Amount::default();
    for row in list(report, "/allocations") {
        sum.add(amount(&row["allocated"]));
    }
    sum
}

/// The report's own total.
pub fn allocated_total(report: &Value) -> Amount {
    amount(&report["allocated_total"])
}

/// The function of a row's innermost frame, where its stack is known.
pub fn innermost(row: &Value) -> Option<&str> {
    row.pointer("/stack/0/function")?.as_str()
}

/// A list of frames.
pub fn frames(stack: &Value) -> Vec<Frame> {
    stack.as_array().unwrap_or_else(|| panic!("no stack: {stack}")).iter().map(frame).collect()
}

/// One frame; unknown files and lines read as nothing and 0.
pub fn frame(value: &Value) -> Frame {
    Frame {
        function: text(value, "/function").to_owned(),
        file: value["file"].as_str().unwrap_or_default().to_owned(),
        line: value["line"].as_u64().unwrap_or(0),
    }
}

fn amount(value: &Value) -> Amount {
    Amount {
        objects: number(value, "/objects"),
        requested: number(value, "/requested_bytes"),
        rounded: number(value, "/bytes"),
    }
}

impl Amount {
    fn add(&mut self, other: Self) {
        let Self { objects, requested, rounded } = other;
        self.objects += objects;
        self.requested += requested;
        self.rounded += rounded;
    }
}
