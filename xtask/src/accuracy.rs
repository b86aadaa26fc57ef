//! `cargo xtask accuracy`: how far estimates from sampled allocations are off, replayed over seeds and live, and how many of a
//! program's live bytes have their type; writes docs/accuracy.md.
//!
//! Apart from the checks, which are tests: this runs them so that they write down what they found, and makes a page of it. The
//! page holds results of one run and nothing else.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::command::{self, is_root};
use crate::toolchains::{self, EVERY, Toolchain};
use crate::{demo, project};

/// Says to the tests where to add what they found.
pub const RESULTS: &str = "TRACER_ACCURACY";
/// Live sessions for each Go.
pub const ROUNDS: usize = 5;

const PAGE: &str = "docs/accuracy.md";

/// One site of one live session.
#[derive(Clone, PartialEq, Debug)]
pub struct Live {
    pub go: String,
    pub site: String,
    /// Bytes asked for, per object.
    pub size: u64,
    /// Objects the program keeps.
    pub kept: u64,
    /// The same as estimated.
    pub live: f64,
    /// How far the estimates are off, in the standard errors that theory gives them.
    pub live_z: f64,
    pub allocated_z: f64,
    /// Share of the allocated of which is not known whether it lives.
    pub unknown: f64,
    /// Samples expected of what it keeps.
    pub expected: f64,
    /// Whether the 95 % interval held what there is; absent where the report had no interval.
    pub live_held: Option<bool>,
    pub allocated_held: Option<bool>,
}

impl Live {
    /// Adds it to the file of results.
    pub fn add_to(&self, path: &Path) -> std::io::Result<()> {
        let Self {
            go,
            site,
            size,
            kept,
            live,
            live_z,
            allocated_z,
            unknown,
            expected,
            live_held,
            allocated_held,
        } = self;
        let held = |of: &Option<bool>| of.map_or("", |held| if held { "held" } else { "missed" });
        let (live_held, allocated_held) = (held(live_held), held(allocated_held));
        let line = format!(
            "live\t{go}\t{site}\t{size}\t{kept}\t{live}\t{live_z}\t{allocated_z}\t{unknown}\t{expected}\t\
             {live_held}\t{allocated_held}\n"
        );
        OpenOptions::new().create(true).append(true).open(path)?.write_all(line.as_bytes())
    }

    fn parse(line: &str) -> Option<Self> {
        let columns: Vec<&str> = line.strip_prefix("live\t")?.split('\t').collect();
        let [go, site, size, kept, live, live_z, allocated_z, unknown, expected, live_held, allocated_held] =
            columns[..]
        else {
            return None;
        };
        let held = |of: &str| (!of.is_empty()).then_some(of == "held");
        Some(Self {
            go: go.to_owned(),
            site: site.to_owned(),
            size: size.parse().ok()?,
            kept: kept.parse().ok()?,
            live: live.parse().ok()?,
            live_z: live_z.parse().ok()?,
            allocated_z: allocated_z.parse().ok()?,
            unknown: unknown.parse().ok()?,
            expected: expected.parse().ok()?,
            live_held: held(live_held),
            allocated_held: held(allocated_held),
        })
    }
}

/// Bytes that a program keeps, and what was told of their types.
#[derive(Clone, Copy, PartialEq, Default, Debug)]
pub struct Told {
    pub kept: f64,
    /// Told as of one type, the right one.
    pub alone: f64,
    /// Told as of one of a few types, the right one among them.
    pub among: f64,
    /// Told as of one type, and there are not so many of it.
    pub wrong: f64,
}

impl Told {
    /// Shares in percent: alone, among others, of no type, wrong.
    fn columns(&self) -> String {
        let share = |bytes: f64| format!("{:.1} %", 100.0 * bytes / self.kept);
        // The error of a sample may make a wrong type of what no type is missing.
        let unknown = (self.kept - self.alone - self.among - self.wrong).max(0.0);
        [self.alone, self.among, unknown, self.wrong].map(share).join(" | ")
    }
}

/// The types of a program's live objects, all sessions with one Go.
#[derive(Clone, Copy, PartialEq, Default, Debug)]
pub struct Types {
    pub sessions: u64,
    pub all: Told,
    /// The same for objects of up to 512 bytes.
    pub small: Told,
    /// Bytes of the whole heap that live, and those of them without pointers.
    pub live: f64,
    pub without_pointers: f64,
}

impl Types {
    /// Adds it to the file of results.
    pub fn add_to(&self, go: &str, path: &Path) -> std::io::Result<()> {
        let Self { sessions, all, small, live, without_pointers } = self;
        let mut line = format!("types\t{go}\t{sessions}\t{live}\t{without_pointers}");
        for Told { kept, alone, among, wrong } in [all, small] {
            write!(line, "\t{kept}\t{alone}\t{among}\t{wrong}").expect("writing to a string does not fail");
        }
        OpenOptions::new().create(true).append(true).open(path)?.write_all(format!("{line}\n").as_bytes())
    }

    fn parse(line: &str) -> Option<(&str, Self)> {
        let (go, numbers) = line.strip_prefix("types\t")?.split_once('\t')?;
        let numbers: Vec<f64> = numbers.split('\t').map(str::parse).collect::<Result<_, _>>().ok()?;
        let [sessions, live, without_pointers, told_of @ ..] = &numbers[..] else { return None };
        let told = |told: &[f64]| match told {
            [kept, alone, among, wrong] => {
                Some(Told { kept: *kept, alone: *alone, among: *among, wrong: *wrong })
            }
            _ => None,
        };
        let (all, small) = told_of.split_at_checked(4)?;
        let (all, small) = (told(all)?, told(small)?);
        let (live, without_pointers) = (*live, *without_pointers);
        Some((go, Self { sessions: *sessions as u64, all, small, live, without_pointers }))
    }
}

pub fn task(arguments: &[String]) -> Result<()> {
    ensure!(arguments.is_empty(), "`cargo xtask accuracy` takes no arguments");
    ensure!(is_root(), "run `cargo xtask accuracy` as root: attaching to another process needs it");
    let toolchains = toolchains::all()?;
    demo::build_tracer()?;
    let results = project::target().join("xtask/accuracy");
    fs::write(&results, "").with_context(|| format!("cannot write {}", results.display()))?;
    for (package, test, name) in [
        ("tracer-user", "accuracy", "errors::stated_errors_are_the_errors_there_are"),
        ("tracer-user", "accuracy", "coverage::intervals_of_replayed_sites_hold_what_there_is"),
        ("tracer-user", "accuracy", "coverage::intervals_of_made_up_sites_hold_what_there_is"),
        ("tracer-tests", "live", "sampled::estimates_are_within_their_errors"),
        ("tracer-tests", "live", "heap::types_are_those_the_program_keeps"),
    ] {
        let mut run = Command::new("cargo");
        run.args(["test", "--package", package, "--locked", "--test", test, "--", "--exact", name])
            .current_dir(project::root())
            .env("CI", "1")
            .env("TRACER_BIN", project::tracer())
            .env(RESULTS, &results);
        for Toolchain { pin, go } in &toolchains {
            run.env(pin.variable, go);
        }
        command::run(&mut run)?;
    }
    let page = page(&fs::read_to_string(&results)?);
    fs::write(project::root().join(PAGE), page).with_context(|| format!("cannot write {PAGE}"))
}

fn page(results: &str) -> String {
    let mut page = HEAD.to_owned();
    let mut line = |text: String| writeln!(page, "{text}").expect("writing to a string does not fail");
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    line(format!(
        "| | |\n|---|---|\n| commit | {} |\n| kernel | {} |",
        crate::project::commit(),
        kernel.trim()
    ));
    line(REPLAYED.to_owned());
    for row in results.lines().filter_map(|row| row.strip_prefix("replayed\t")) {
        line(format!("| {} |", row.split('\t').collect::<Vec<_>>().join(" | ")));
    }
    let mut by_go: BTreeMap<&str, Vec<Live>> = BTreeMap::new();
    for live in results.lines().filter_map(Live::parse) {
        let pin = EVERY.iter().find(|pin| pin.version == live.go);
        by_go.entry(pin.map_or("?", |pin| pin.version)).or_default().push(live);
    }
    line(LIVE.to_owned());
    for pin in EVERY {
        let Some(rows) = by_go.get(pin.version) else { continue };
        // A site that keeps nothing has no error to be measured in.
        let z: Vec<f64> = rows.iter().filter(|r| r.kept > 0).map(|r| r.live_z).collect();
        let allocated: Vec<f64> = rows.iter().map(|r| r.allocated_z).collect();
        let worst = |z: &[f64]| z.iter().fold(0.0_f64, |worst, z| worst.max(z.abs()));
        let unknown = rows.iter().map(|r| r.unknown).fold(0.0, f64::max);
        line(format!(
            "| {} | {} | {:+.2} | {:.2} | {:.2} | {:+.2} | {:.2} | {:.2} | {:.1} % |",
            pin.version,
            rows.len(),
            mean(&z),
            spread(&z),
            worst(&z),
            mean(&allocated),
            spread(&allocated),
            worst(&allocated),
            100.0 * unknown
        ));
    }
    line(SITES.to_owned());
    let mut sites: BTreeMap<(u64, &str), Vec<&Live>> = BTreeMap::new();
    for live in by_go.values().flatten() {
        sites.entry((live.size, &live.site)).or_default().push(live);
    }
    for ((size, site), rows) in &sites {
        let off: Vec<f64> = rows.iter().map(|r| r.live - r.kept as f64).collect();
        let kept = mean(&rows.iter().map(|r| r.kept as f64).collect::<Vec<_>>());
        line(format!(
            "| {site} | {size} | {} | {kept:.0} | {:+.1} | {:.1} |",
            rows.len(),
            mean(&off),
            spread(&off)
        ));
    }
    line(COVERAGE.to_owned());
    for row in results.lines().filter_map(|row| row.strip_prefix("coverage\t")) {
        line(format!("| {} |", row.split('\t').collect::<Vec<_>>().join(" | ")));
    }
    line(WIDEST.to_owned());
    for row in results.lines().filter_map(|row| row.strip_prefix("widest\t")) {
        line(format!("| {} |", row.split('\t').collect::<Vec<_>>().join(" | ")));
    }
    // Every session has each site once.
    let all: Vec<&Live> = by_go.values().flatten().collect();
    let first = all.first().map(|of| &of.site);
    let sessions = all.iter().filter(|of| Some(&of.site) == first).count();
    line(format!("{LIVE_COVERAGE_HEAD}{sessions}{LIVE_COVERAGE}"));
    for ((size, site), rows) in &sites {
        let expected = mean(&rows.iter().map(|row| row.expected).collect::<Vec<_>>());
        line(format!("| {site} | {size} | {expected:.1} | {} |", coverage(rows)));
    }
    line(format!("| all | | | {} |", coverage(&all)));
    line(TYPES.to_owned());
    let types: Vec<(&str, Types)> = results.lines().filter_map(Types::parse).collect();
    for pin in EVERY {
        let Some((_, types)) = types.iter().find(|(go, _)| *go == pin.version) else { continue };
        line(format!(
            "| {} | {} | {} | {} | {:.1} % |",
            pin.version,
            types.sessions,
            types.all.columns(),
            types.small.columns(),
            100.0 * types.without_pointers / types.live
        ));
    }
    page
}

/// Columns of the live intervals and of those of the allocated: how many there were, and how many held. Of a site that keeps
/// nothing no interval can miss what lives: it is not judged.
fn coverage(rows: &[&Live]) -> String {
    let columns = |held: fn(&Live) -> Option<bool>| {
        let all: Vec<bool> = rows.iter().filter_map(|row| held(row)).collect();
        if all.is_empty() {
            return "0 | ".to_owned();
        }
        let held = all.iter().filter(|held| **held).count();
        format!("{} | {:.1} %", all.len(), 100.0 * held as f64 / all.len() as f64)
    };
    format!(
        "{} | {}",
        columns(|row| row.live_held.filter(|_| row.kept > 0)),
        columns(|row| row.allocated_held)
    )
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn spread(values: &[f64]) -> f64 {
    let middle = mean(values);
    mean(&values.iter().map(|v| (v - middle).powi(2)).collect::<Vec<_>>()).sqrt()
}

const HEAD: &str = "\
# Accuracy

Written by `cargo xtask accuracy` (root): estimates of `--sampler sampled` against what they estimate, and the types of live
objects against the objects that a program keeps. Nobody writes here by hand.

## Sampled allocations

z is how far an estimate is off, in standard errors: where estimates are right and their errors honest, its mean is 0 and its
spread 1.

";

const REPLAYED: &str = "
### Replayed over seeds

One recording holds every allocation of a program, with its fate. Each seed samples it again with the code that the kernel side
decides by; z is in the errors that the report states. The last column is those errors beside the theory's, of the site where they
are largest.

| figure | mean bytes | seeds | sites | n | mean z | spread of z | errors / theory |
|---|---|---|---|---|---|---|---|";

const LIVE: &str = "
### Live

A program that keeps a known number of each site's objects, stripped and position-independent, sampled once per 16 KiB while it
allocates, drops and collects. z is in the theory's errors. n is sites times sessions. Unknown is the largest share of a site's
objects of which the session could not say whether they live; they count as not alive.

| Go | n | live: mean z | spread | worst | allocated: mean z | spread | worst | unknown |
|---|---|---|---|---|---|---|---|---|";

const SITES: &str = "
The same by site, in objects:

| site | bytes | n | kept | off by | spread |
|---|---|---|---|---|---|";

const COVERAGE: &str = "
### Coverage of the 95 % interval

How often the interval from `*_low` to `*_high` holds what there is, in percent, by the number of samples that are expected of it. n
is the number of intervals: of what is allocated, lives and was freed, of the sites of the recording over 6 000 seeds, and of made-up
sites of one size and of several over 8 000 seeds each. Only sites of which something was sampled are judged, as no others have a
row. `1.96 errors` is what plus and minus 1.96 standard errors would hold. How the interval is made: docs/design/0011-intervals.md.

| sites | samples expected | n | bytes | objects | bytes: 1.96 errors |
|---|---|---|---|---|---|";

const WIDEST: &str = "
Half of the widest of these intervals in bytes, divided by 1.96 sqrt(mean / bytes): with the bytes that are estimated, of all
intervals with two samples or more; and with those that there are, where a hundred samples are expected.

| sites | by the estimate | by what there is |
|---|---|---|";

const LIVE_COVERAGE_HEAD: &str = "
Of the live sessions above, in objects: ";

const LIVE_COVERAGE: &str = " sessions. What is expected is samples of what the program keeps.

| site | bytes | expected | live: n | held | allocated: n | held |
|---|---|---|---|---|---|---|";

const TYPES: &str = "
## Types of live objects

`tracer heap` on a program that keeps a known number of objects of each of some thirty types with pointers, from 8 bytes to 80 KiB,
stripped and position-independent: the share of their bytes that has one type, which is the right one; of which a few types
are told, the right one among them; of no type; and told as of a type of which the program does not keep so many. Where a size
class has many objects their types are a sample's: up to five standard errors of what is too much for one type are not called
wrong, and what is too little for another stands under `no type`, as do objects that hold nothing but nil (half of the
program's nodes, 2 % of the bytes up to 512). n is sessions; their bytes are added up.

Before Go 1.22 the runtime does not keep the types of objects above 512 bytes: there `all objects` has them as of no type. The last
column is the share of the whole heap's live bytes, these and the runtime's own, that holds no pointers: that has no type in any
Go, and is in no other column.

| Go | n | all objects: one type | a few | no type | wrong | up to 512 bytes: one type | a few | no type | wrong | no pointers |
|---|---|---|---|---|---|---|---|---|---|---|";
