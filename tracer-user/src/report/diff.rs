//! What grew from one report to another, or over several, as text and as JSON.
//!
//! Rows are the same where their ids are; one that only one side has was or became nothing. Only what all of them
//! measured is compared, the last with the first. Judges nothing: a few points are no trend, and the words say only what
//! is larger.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};

use serde_json::{Value, json};

use super::diff_input::{Input, Row, Section};
use super::lines::{Lines, printable};
use crate::analyze::figures;

pub const SCHEMA: &str = "tracer.diff/1";

/// Rows shown per section.
const TOP: usize = 10;
/// Standard errors that a difference must exceed to be told as one.
const ERRORS: f64 = 2.0;

/// One row in all of them.
#[derive(Clone, PartialEq, Debug)]
pub struct Change {
    pub id: String,
    pub name: String,
    /// One for each report, in their order.
    pub values: Vec<f64>,
    /// Of the difference; 0 where both were counted.
    pub standard_error: f64,
}

impl Change {
    pub fn before(&self) -> f64 {
        self.values.first().copied().unwrap_or(0.0)
    }

    pub fn after(&self) -> f64 {
        self.values.last().copied().unwrap_or(0.0)
    }

    /// The last less the first.
    pub fn difference(&self) -> f64 {
        self.after() - self.before()
    }

    /// Larger than what two samples differ by anyway.
    pub fn is_clear(&self) -> bool {
        self.difference().abs() > ERRORS * self.standard_error
    }
}

/// Reports compared: each section with the rows that differ, most growth first.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Diff {
    /// What each report is of, in their order.
    pub of: Vec<String>,
    pub sections: Vec<(Section, Vec<Change>)>,
    /// What not all of them measured.
    pub one_sided: Vec<Section>,
    /// Why the comparison may mean less than it seems to.
    pub doubts: Vec<String>,
}

impl Diff {
    /// Compares the last of the reports with the first; those between are shown beside.
    pub fn of(reports: &[Input]) -> Self {
        let of = reports.iter().map(told).collect();
        let mut diff = Self { of, doubts: doubts(reports), ..Self::default() };
        let mut processes = reports.iter().filter_map(|r| r.process.as_ref());
        let one = processes.next().is_none_or(|first| processes.all(|other| first.is(other)));
        let sections: BTreeSet<Section> = reports.iter().flat_map(|r| r.sections.keys()).copied().collect();
        for section in sections {
            if !reports.iter().all(|r| r.sections.contains_key(&section)) {
                diff.one_sided.push(section);
                continue;
            }
            // What one of them does not know would make other rows of the same.
            let known = reports.iter().filter(|r| !r.sections[&section].is_empty());
            let (types, causes) = known
                .map(|r| r.has_details(section))
                .fold((true, true), |all, has| (all.0 && has.0, all.1 && has.1));
            let all: Vec<BTreeMap<String, Row>> =
                reports.iter().map(|r| r.with_details(section, types, causes)).collect();
            let mut ids: BTreeSet<&String> = all.iter().flat_map(|rows| rows.keys()).collect();
            if section == Section::Maps && !one {
                let all = ids.len();
                ids.retain(|id| !reports.iter().any(|report| report.by_address.contains(*id)));
                let left = all - ids.len();
                if left > 0 {
                    diff.doubts.push(format!(
                        "{} known by address alone cannot be compared: the reports are of several processes",
                        figures::counted(left as u64, "map")
                    ));
                }
            }
            let nothing = Row::default();
            let mut changes: Vec<Change> = ids
                .into_iter()
                // A site without a row held nothing; a total that is not told is not known.
                .filter(|id| section != Section::Totals || all.iter().all(|r| r.contains_key(*id)))
                .filter_map(|id| {
                    let rows: Vec<&Row> = all.iter().map(|r| r.get(id).unwrap_or(&nothing)).collect();
                    let (first, last) = (rows.first()?, rows.last()?);
                    let name = rows.iter().rev().map(|row| &row.name).find(|name| !name.is_empty());
                    Some(Change {
                        id: id.clone(),
                        name: name.cloned().unwrap_or_default(),
                        values: rows.iter().map(|row| row.value).collect(),
                        standard_error: (first.variance + last.variance).max(0.0).sqrt(),
                    })
                })
                .filter(|change| change.difference().abs() > 0.0)
                .collect();
            // By id before, so a stable sort is a total order.
            changes.sort_by(|a, b| b.difference().total_cmp(&a.difference()));
            diff.sections.push((section, changes));
        }
        diff
    }

    pub fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut lines = Lines::default();
        for (n, of) in self.of.iter().enumerate() {
            lines.labelled(if n == 0 { "from " } else { "to   " }, &printable(of));
        }
        lines.blank();
        for (section, changes) in &self.sections {
            Self::section(&mut lines, *section, changes);
        }
        for section in &self.one_sided {
            lines.labelled("note: ", &format!("{} are not in all of them", title(*section)));
        }
        for doubt in &self.doubts {
            lines.labelled("note: ", doubt);
        }
        lines.explain_errors();
        out.write_all(lines.finish().as_bytes())
    }

    fn section(lines: &mut Lines, section: Section, changes: &[Change]) {
        let grown: Vec<&Change> = changes.iter().filter(|c| c.difference() > 0.0 && c.is_clear()).collect();
        let smaller = changes.iter().filter(|c| c.difference() < 0.0 && c.is_clear()).count();
        let unclear = changes.iter().filter(|c| !c.is_clear()).count();
        let mut head = match grown.len() {
            0 => format!("{}: nothing grew", title(section)),
            _ => format!("{}: {} grew", title(section), figures::count(grown.len() as u64)),
        };
        if smaller > 0 {
            head = format!("{head}, {} became smaller", figures::count(smaller as u64));
        }
        if unclear > 0 {
            head = format!("{head}, {} differ by less than their error", figures::count(unclear as u64));
        }
        lines.labelled("", &head);
        for change in grown.iter().take(TOP) {
            let error = if change.standard_error > 0.0 {
                format!(" ±{}", amount(section, change.standard_error))
            } else {
                String::new()
            };
            let values: Vec<String> = change.values.iter().map(|value| amount(section, *value)).collect();
            lines.line(&format!(
                "  +{}{error}  {}  {}",
                amount(section, change.difference()),
                values.join(" -> "),
                printable(&change.name)
            ));
        }
        if grown.len() > TOP {
            lines.line(&format!("  and {} more", figures::count((grown.len() - TOP) as u64)));
        }
        lines.blank();
    }

    pub fn write_json(&self, out: &mut dyn Write) -> io::Result<()> {
        let sections: serde_json::Map<String, Value> = self
            .sections
            .iter()
            .map(|(section, changes)| (key(*section).to_owned(), changes.iter().map(row).collect()))
            .collect();
        let one_sided: Vec<&str> = self.one_sided.iter().map(|section| key(*section)).collect();
        let value = json!({
            "schema": SCHEMA,
            "reports": self.of,
            "sections": sections,
            "not_compared": one_sided,
            "notes": self.doubts,
        });
        serde_json::to_writer_pretty(&mut *out, &value).map_err(io::Error::from)?;
        out.write_all(b"\n")
    }
}

fn told(report: &Input) -> String {
    let program = report
        .program
        .as_deref()
        .or(report.taken.as_deref())
        .unwrap_or("a profile that does not say of what");
    let pid = report.process.map(|process| format!("pid {}", process.pid));
    let began = began(report).map(str::to_owned);
    std::iter::once(program.to_owned()).chain(pid).chain(began).collect::<Vec<_>>().join("  ")
}

fn began(report: &Input) -> Option<&str> {
    report.began.as_deref()
}

fn doubts(reports: &[Input]) -> Vec<String> {
    let mut doubts = Vec::new();
    let programs: BTreeSet<&String> = reports.iter().filter_map(|r| r.program.as_ref()).collect();
    if programs.len() > 1 {
        let names: Vec<&str> = programs.into_iter().map(String::as_str).collect();
        doubts.push(format!(
            "they are of different programs ({}): rows are held to be the same by their names alone",
            names.join(", ")
        ));
    }
    if let (Some(first), Some(last)) = (reports.first().and_then(began), reports.last().and_then(began))
        && last < first
    {
        doubts.push(format!("the last is older than the first: {last} and {first}"));
    }
    doubts
}

fn row(change: &Change) -> Value {
    let mut row = json!({
        "id": change.id,
        "name": change.name,
        "before": change.before(),
        "after": change.after(),
        "difference": change.difference(),
    });
    if change.values.len() > 2 {
        row["values"] = json!(change.values);
    }
    if change.standard_error > 0.0 {
        row["difference_stderr"] = json!(change.standard_error);
    }
    row
}

fn key(section: Section) -> &'static str {
    match section {
        Section::Totals => "totals",
        Section::Live => "live_bytes_by_site",
        Section::Allocated => "allocated_bytes_per_s_by_site",
        Section::Types => "bytes_by_type",
        Section::SizeClasses => "bytes_by_size_class",
        Section::Goroutines => "goroutines_by_site",
        Section::GoroutineStacks => "goroutines_by_stack",
        Section::Maps => "entries_by_map",
    }
}

fn title(section: Section) -> &'static str {
    match section {
        Section::Totals => "totals",
        Section::Live => "live bytes by site",
        Section::Allocated => "bytes allocated per second by site",
        Section::Types => "bytes by type",
        Section::SizeClasses => "bytes by size class",
        Section::Goroutines => "goroutines by creation site",
        Section::GoroutineStacks => "goroutines by where they are",
        Section::Maps => "entries by map",
    }
}

fn amount(section: Section, value: f64) -> String {
    let whole = value.abs().round() as u64;
    match section {
        Section::Goroutines | Section::GoroutineStacks | Section::Maps => figures::count(whole),
        Section::Allocated => format!("{}/s", figures::bytes(whole)),
        _ => figures::bytes(whole),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(module: &str, began: &str) -> Input {
        let text = format!(
            r#"{{"schema": "tracer.report/1", "target": {{"module": "{module}", "exe": "/srv/x"}},
                "session": {{"started_at": "{began}"}}, "heap": {{"live_bytes": 5}}}}"#
        );
        Input::read(text.as_bytes()).unwrap()
    }

    #[test]
    fn what_is_no_fair_comparison_is_said() {
        let (old, new) = ("2026-11-20T10:00:00Z", "2026-11-21T09:00:00Z");
        assert!(Diff::of(&[report("shop", old), report("shop", new)]).doubts.is_empty());
        let diff = Diff::of(&[report("shop", new), report("till", old)]);
        assert!(diff.doubts[0].contains("(shop, till)"), "{:?}", diff.doubts);
        assert!(diff.doubts[1].contains("older than the first"), "{:?}", diff.doubts);
        let mut said = Vec::new();
        diff.write_text(&mut said).unwrap();
        assert!(String::from_utf8(said).unwrap().contains("different programs (shop, till)"));
        assert!(
            Diff::of(&[Input::default(), report("shop", new)]).doubts.is_empty(),
            "a profile says neither"
        );
    }

    /// A profile as pprof has it: samples of functions, innermost first, each function its own location.
    fn profile(kind: &str, samples: &[(&[&str], i64, Option<&str>)]) -> Input {
        use prost::Message as _;

        use crate::report::pprof_proto::{Function, Label, Line, Location, Profile, Sample, ValueType};
        let mut strings = vec![String::new(), kind.to_owned(), "type".to_owned()];
        let mut index = |text: &str| {
            let known = strings.iter().position(|s| s == text);
            known.unwrap_or_else(|| {
                strings.push(text.to_owned());
                strings.len() - 1
            })
        };
        let mut built = Profile { sample_type: vec![ValueType { r#type: 1, unit: 0 }], ..Profile::default() };
        for (stack, value, what) in samples {
            let ids: Vec<usize> = stack.iter().map(|function| index(function)).collect();
            for id in &ids {
                let line = vec![Line { function_id: *id as u64, line: 7 }];
                built.function.push(Function { id: *id as u64, name: *id as i64, ..Function::default() });
                built.location.push(Location { id: *id as u64, line, ..Location::default() });
            }
            let label = what.map(|t| Label { key: 2, str: index(t) as i64, ..Label::default() });
            built.sample.push(Sample {
                location_id: ids.iter().map(|id| *id as u64).collect(),
                value: vec![*value],
                label: label.into_iter().collect(),
            });
        }
        built.string_table = strings;
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(&built.encode_to_vec()).unwrap();
        Input::read(&packed.finish().unwrap()).unwrap()
    }

    #[test]
    fn rows_of_gos_own_profile_are_those_of_ours() {
        let stack: &[&str] = &["main.keep", "main.main"];
        let theirs = profile("inuse_space", &[(stack, 900, None)]);
        let ours = profile("inuse_space", &[(stack, 500, Some("main.node")), (stack, 400, Some("[]int"))]);
        assert_eq!(Diff::of(&[theirs.clone(), ours.clone()]).sections, [(Section::Live, vec![])]);
        // Between two of ours the types are told apart.
        let later = profile("inuse_space", &[(stack, 500, Some("main.node")), (stack, 700, Some("[]int"))]);
        let [(_, changes)] = &Diff::of(&[ours, later.clone()]).sections[..] else { panic!() };
        assert_eq!(changes.iter().map(|c| c.name.as_str()).collect::<Vec<_>>(), ["main.keep []int"]);
        let [(_, changes)] = &Diff::of(&[theirs, later]).sections[..] else { panic!() };
        let [change] = &changes[..] else { panic!("{changes:?}") };
        assert_eq!((change.name.as_str(), change.values.as_slice()), ("main.keep", &[900.0, 1200.0][..]));
    }

    #[test]
    fn what_only_one_of_two_knows_makes_no_rows() {
        let report = |sites: &str| {
            let text = format!(r#"{{"schema": "tracer.report/1", "allocations": [{sites}]}}"#);
            Input::read(text.as_bytes()).unwrap()
        };
        let stack = r#""stack": [{"function": "main.a"}], "live": {"bytes": 9}"#;
        let second = format!(r#"{{"site": "2", "cause": "new", {stack}}}"#);
        let other = report(&format!(r#"{{"site": "1", "cause": "other", {stack}}}, {second}"#));
        let bare = report(&format!(r#"{{"site": "1", {stack}}}, {second}"#));
        let typed = report(&format!(
            r#"{{"site": "1", "type": "int", {stack}}}, {{"site": "2", "type": "main.T", "cause": "new", {stack}}}"#
        ));
        assert_eq!(Diff::of(&[other.clone(), bare]).sections[0].1, []);
        assert_eq!(Diff::of(&[other, typed]).sections[0].1, []);
    }

    #[test]
    fn goroutines_of_the_runtime_are_in_no_comparison_of_profiles() {
        let waits: &[&str] = &["runtime.gopark", "runtime.chanrecv1", "main.waits"];
        let theirs = profile("goroutine", &[(waits, 4, None)]);
        let sweeps: &[&str] = &["runtime.gopark", "runtime.bgsweep", "runtime.goexit"];
        // An iterator that was never asked: the program's, though only the runtime is on its stack.
        let pulls: &[&str] = &["runtime.corostart"];
        let ours = profile("goroutine", &[(waits, 9, None), (sweeps, 1, None), (pulls, 20, None)]);
        let [(_, changes)] = &Diff::of(&[theirs, ours]).sections[..] else { panic!() };
        let changes: Vec<_> = changes.iter().map(|c| (c.name.as_str(), c.values.as_slice())).collect();
        assert_eq!(changes, [("runtime.corostart", &[0.0, 20.0][..]), ("main.waits", &[4.0, 9.0][..])]);
    }

    #[test]
    fn an_address_says_nothing_in_another_process() {
        let report = |pid: u32, started: &str, entries: u32| {
            let text = format!(
                r#"{{"schema": "tracer.report/1", "target": {{"module": "shop", "pid": {pid}, "started_at": "{started}"}},
                    "session": {{"started_at": "2026-11-20T10:00:00Z"}}, "maps": [
                    {{"id": "map[int]int@0xc0", "address": "0xc0", "entries": {entries}}},
                    {{"id": "map[int]int@1234", "address": "0xd0", "entries": {entries}}}]}}"#
            );
            Input::read(text.as_bytes()).unwrap()
        };
        let grown = |other: Input| {
            let diff = Diff::of(&[report(1, "2026-11-20T09:00:00Z", 5), other]);
            (diff.sections[0].1.len(), diff.doubts)
        };
        assert_eq!(grown(report(1, "2026-11-20T09:00:01Z", 9)), (2, vec![]));
        for other in [report(1, "2026-11-20T09:30:00Z", 9), report(2, "2026-11-20T09:00:00Z", 9)] {
            let (rows, doubts) = grown(other);
            assert_eq!((rows, doubts.len()), (1, 1), "{doubts:?}");
            assert!(doubts[0].starts_with("1 map known by address alone"), "{doubts:?}");
        }
    }

    #[test]
    fn goroutines_of_a_profile_and_of_a_report_are_not_the_same_rows() {
        let mut profile = Input::default();
        profile.sections.entry(Section::GoroutineStacks).or_default();
        let mut sites = report("shop", "2026-11-20T10:00:00Z");
        sites.sections.entry(Section::Goroutines).or_default();
        let diff = Diff::of(&[profile, sites]);
        assert!(diff.sections.is_empty());
        assert!([Section::Goroutines, Section::GoroutineStacks].iter().all(|s| diff.one_sided.contains(s)));
    }
}
