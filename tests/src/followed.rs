//! Sampled objects followed to their death, against a program that keeps a known number of each site's objects.
//!
//! Apart from the tests because `cargo xtask accuracy` runs the same sessions and makes a page of what came of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tracer_user::capture::{self, Item};
use tracer_user::record::samples::{Fates, SampleKey};
use tracer_user::record::{Body, Event, Reading, Readout};
use tracer_user::units::ProcAddr;

use crate::report::{list, number, text};
use crate::target::Target;
use crate::tracer::{Ended, Tracer};

/// What the program says of one of its sites.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Site {
    pub function: String,
    /// Bytes asked for, per object.
    pub size: u64,
    /// Since it started.
    pub allocated: u64,
    pub kept: u64,
    /// Of some that it keeps.
    pub addresses: Vec<u64>,
}

/// Its answer to `account`, `run` or `release`.
pub fn account(answer: &Value) -> Vec<Site> {
    let site = |site: &Value| Site {
        function: text(site, "/function").to_owned(),
        size: number(site, "/size"),
        allocated: number(site, "/allocated"),
        kept: number(site, "/kept"),
        addresses: list(site, "/addresses").iter().map(|a| a.as_u64().expect("an address")).collect(),
    };
    list(answer, "").iter().map(site).collect()
}

/// What a report says of one site: estimates with their standard errors and intervals.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Estimated {
    /// Rows of the report. Their intervals do not add up: those below are the last one's.
    pub rows: u64,
    /// The 95 % intervals of what lives and of what was allocated, in objects.
    pub live_within: (f64, f64),
    pub allocated_within: (f64, f64),
    pub live: f64,
    pub live_error: f64,
    pub allocated: f64,
    pub freed: f64,
    pub unknown: f64,
    pub since_gc: f64,
    pub samples: u64,
}

/// The rows of a report by their innermost function.
pub fn estimated(report: &Value) -> BTreeMap<String, Estimated> {
    let mut sites: BTreeMap<String, Estimated> = BTreeMap::new();
    for row in list(report, "/allocations") {
        let Some(function) = row.pointer("/stack/0/function").and_then(Value::as_str) else { continue };
        let of = |path: &str| row.pointer(path).and_then(Value::as_f64).unwrap_or(0.0);
        let site = sites.entry(function.to_owned()).or_default();
        let within = |of_what: &str| {
            let end = |end: &str| number(row, &format!("/{of_what}/objects_{end}")) as f64;
            (end("low"), end("high"))
        };
        // Where everything is followed nothing is estimated.
        if row.pointer("/live/objects_high").is_some() {
            (site.live_within, site.allocated_within) = (within("live"), within("allocated"));
        }
        site.rows += 1;
        site.live += of("/live/objects");
        site.live_error = site.live_error.hypot(of("/live/objects_stderr"));
        site.allocated += of("/allocated/objects");
        site.freed += of("/freed/objects");
        site.unknown += of("/unknown/objects");
        site.since_gc += of("/allocated_since_gc/objects");
        site.samples += number(row, "/samples");
    }
    sites
}

/// One session: the program allocates, keeps and drops while it is sampled, and collects at the end.
pub struct Session {
    pub account: Vec<Site>,
    pub report: Value,
    pub ended: Ended,
}

/// How long the last cycle is given to be seen; no figure depends on it unless the machine stands still.
const SEEN_WITHIN: Duration = Duration::from_secs(10);

/// Runs one; `lines` are told while it is sampled.
pub fn session(program: &Path, arguments: &[&str], lines: &[&str]) -> Session {
    let mut target = Target::start(program);
    let mut all = vec!["--sampler", "sampled", "--format", "json"];
    all.extend(arguments);
    let tracer = Tracer::attach(target.pid(), &all);
    for line in lines {
        target.ask(line);
        // A collection may end before the samples of what it found have left the ring.
        thread::sleep(Duration::from_millis(100));
    }
    let account = account(&target.ask("account"));
    // The more objects are followed, the longer the pause between two looks.
    thread::sleep(Duration::from_secs(1));
    let begun = Instant::now();
    let ended = tracer.interrupt().success();
    assert!(begun.elapsed() < SEEN_WITHIN, "the session did not end");
    let report = ended.json();
    Session { account, report, ended }
}

/// What a recording holds of the sampled objects: the address of each that was not said to be dead or unknown, with
/// whether a cycle found it.
pub fn recorded(recording: &Path) -> BTreeMap<u64, bool> {
    let file = BufReader::new(File::open(recording).expect("the recording is there"));
    let mut objects: BTreeMap<SampleKey, bool> = BTreeMap::new();
    let mut gone: BTreeSet<SampleKey> = BTreeSet::new();
    let end = capture::read(file, |item| {
        let Item::Record(record) = item else { return };
        match record.body {
            Body::Event(Event::Sample(sample)) => {
                let key = SampleKey { address: sample.address, at: record.time };
                assert!(objects.insert(key, false).is_none(), "one address was given out twice at once");
            }
            Body::Reading(Reading { readout: Readout::Fates(fates), .. }) => {
                let Fates { survived, died, unknown, .. } = fates;
                for key in survived {
                    *objects.get_mut(&key).expect("what survived was sampled") = true;
                }
                gone.extend(died.into_iter().chain(unknown));
            }
            _ => {}
        }
    });
    end.expect("the recording is whole");
    let alive = objects.into_iter().filter(|(key, _)| !gone.contains(key));
    let mut at = BTreeMap::new();
    for (SampleKey { address: ProcAddr(address), .. }, found) in alive {
        assert!(at.insert(address, found).is_none(), "two living objects at {address:#x}");
    }
    at
}
