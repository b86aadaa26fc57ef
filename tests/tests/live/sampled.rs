//! Sampled allocations followed to their death, against a program that keeps a known number of each site's objects.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;
use tracer_tests::followed::{estimated, recorded, session};
use tracer_tests::go::{Go, Mode};
use tracer_tests::live;
use tracer_tests::readings::{LEFT_BEHIND, assert_sampled};
use tracer_tests::report::{assert_nothing_lost, list, number, text};
use tracer_tests::scratch::Scratch;
use tracer_tests::target::Target;
use tracer_tests::tracer::Tracer;

/// An old Go, the one with one exit, and the one with an allocator for each size; one of them without names.
fn versions() -> Vec<(Go, Mode)> {
    let modes = [(19, Mode::Ordinary), (26, Mode::StrippedPie), (27, Mode::Ordinary)];
    let of =
        |minor: u32| Go::every().into_iter().find(|go| go.pin.minor() == minor).expect("it is supported");
    modes.map(|(minor, mode)| (of(minor), mode)).into()
}

#[test]
fn with_every_allocation_sampled_the_living_are_those_that_are_kept() {
    live!(Root, Uprobes, EveryGo, Tracer);
    for (go, mode) in versions() {
        let what = format!("go{} {}", go.pin.version, mode.name());
        let scratch = Scratch::new("sampled");
        let recording = scratch.file("session.trc");
        let arguments = ["--record", recording.to_str().unwrap()];
        let (found, rows) = assert_sampled(&go.build("followed", mode), &arguments, &what);
        let recorded = recorded(&recording);
        for site in &found.account {
            let row = rows[&site.function];
            // The very objects that the program still holds.
            let lost = site.addresses.iter().filter(|at| recorded.get(at) != Some(&true)).count();
            assert!(lost as f64 <= row.unknown, "{what}: {lost} of {:x?}", site.addresses);
        }
    }
}

/// Where what came of each site is added, when `cargo xtask accuracy` asks for it: then every Go is sampled, a few times.
fn page() -> Option<PathBuf> {
    std::env::var_os(xtask::accuracy::RESULTS).map(PathBuf::from)
}

#[test]
fn estimates_are_within_their_errors() {
    live!(Root, Uprobes, EveryGo, Tracer);
    let every = || Go::every().into_iter().map(|go| (go, Mode::StrippedPie));
    let sessions: Vec<(Go, Mode)> = match page() {
        Some(_) => every().flat_map(|one| vec![one; xtask::accuracy::ROUNDS]).collect(),
        None => versions(),
    };
    for (go, mode) in sessions {
        let what = format!("go{} {}", go.pin.version, mode.name());
        // A few collections run beside the allocations, not so many that a busy machine cannot look at each.
        let lines = ["collect 400", "run 6000", "gc", "run 6000", "gc", "release", "run 2000", "gc"];
        let found = session(&go.build("followed", mode), &["--sample-bytes", "16KiB"], &lines);
        assert_nothing_lost(&found.report, &what);
        let rows = estimated(&found.report);
        for site in &found.account {
            let row = rows.get(&site.function).copied().unwrap_or_default();
            // The theory's error, from the number there really is: a small estimate must not excuse itself.
            let taken = 1.0 - (-(site.size as f64) / 16_384.0).exp();
            let error = |n: u64| (n as f64 * (1.0 - taken)).sqrt() / taken.sqrt();
            let off = |estimate: f64, truth: u64| (estimate - truth as f64) / error(truth.max(1));
            let (live, allocated) = (off(row.live, site.kept), off(row.allocated, site.allocated));
            // Rounding to whole objects, and what is left behind.
            if let Some(page) = page() {
                // A site without a row has no interval.
                let held = |(low, high): (f64, f64), truth: u64| {
                    (row.rows == 1).then_some((low..=high).contains(&(truth as f64)))
                };
                xtask::accuracy::Live {
                    go: go.pin.version.to_owned(),
                    site: site.function.clone(),
                    size: site.size,
                    kept: site.kept,
                    live: row.live,
                    live_z: live,
                    allocated_z: allocated,
                    unknown: row.unknown / row.allocated.max(1.0),
                    expected: site.kept as f64 * taken,
                    live_held: held(row.live_within, site.kept),
                    allocated_held: held(row.allocated_within, site.allocated),
                }
                .add_to(&page)
                .unwrap();
            }
            let slack = LEFT_BEHIND as f64 / error(site.kept.max(1));
            assert!(allocated.abs() < 5.0 + slack, "{what}: {allocated} {site:?} {row:?}");
            // What was lost sight of may be alive or not; it is never counted as alive.
            let most = off(row.live + row.unknown, site.kept);
            assert!(live < 5.0 + slack && most > -5.0 - slack, "{what}: {live} {most} {site:?} {row:?}");
            assert!(row.unknown <= 0.25 * row.allocated, "{what}: {site:?} {row:?}");
        }
    }
}

/// Where cycles pass that nobody looked at, what may be another object by now is called unknown, and nothing that is
/// dead is called alive.
#[test]
fn a_missed_cycle_makes_unknown_and_not_alive() {
    live!(Root, Uprobes, EveryGo, Tracer);
    for (go, mode) in versions() {
        let what = format!("go{} {}", go.pin.version, mode.name());
        let lines = ["run 300", "hurry 60", "release", "hurry 60"];
        let found = session(&go.build("followed", mode), &["--sample-bytes", "1"], &lines);
        let rows = estimated(&found.report);
        let mut unknown = 0.0;
        for site in &found.account {
            let row = rows.get(&site.function).unwrap_or_else(|| panic!("{what}: no {}", site.function));
            assert!(row.live as u64 <= site.kept + LEFT_BEHIND, "{what}: {site:?} {row:?}");
            let known = row.live + row.unknown + row.since_gc;
            assert!(known as u64 >= site.kept, "{what}: {site:?} {row:?}");
            unknown += row.unknown;
        }
        assert!(unknown > 0.0, "{what}: no cycle was missed: {rows:?}");
        assert!(number(&found.report, "/gc/cycles") >= 120, "{what}");
    }
}

/// The demo's leak, in every Go without names of its own: its site and type, and as many living objects as its map has.
#[test]
fn the_demos_leak_has_its_type_and_its_living_objects() {
    live!(Root, Uprobes, EveryGo, Tracer);
    for go in Go::every() {
        let what = format!("go{}", go.pin.version);
        let demo = Target::start(&go.build("demo", Mode::Stripped));
        let arguments = ["--sampler", "sampled", "--sample-bytes", "4KiB", "--duration", "5s"];
        let pid = demo.pid().to_string();
        let all: Vec<&str> = ["--pid", &pid, "--format", "json"].into_iter().chain(arguments).collect();
        let report = Tracer::run(&all, Duration::from_mins(1)).success().json();
        assert_nothing_lost(&report, &what);
        let leak = list(&report, "/allocations")
            .iter()
            .find(|row| row["type"] == "main.session")
            .unwrap_or_else(|| panic!("{what}: no main.session in {report:#}"));
        assert_eq!(text(leak, "/stack/0/function"), "main.(*sessionCache).put", "{what}");
        let of = |path: &str| leak.pointer(path).and_then(Value::as_f64).unwrap_or(0.0);
        let map = list(&report, "/maps").iter().find(|map| map["type"] == "map[string]*main.session");
        let entries =
            number(map.unwrap_or_else(|| panic!("{what}: no map in {report:#}")), "/entries") as f64;
        // What was allocated since the last GC lives too, and the few before the attach are not sampled.
        let living = of("/live/objects") + of("/allocated_since_gc/objects") + of("/unknown/objects");
        let error = of("/allocated/objects_stderr");
        // The demo makes 2000 a second; on a busy machine the map is read some seconds before the last sample comes.
        let slack = 4000.0 + 4.5 * error;
        assert!(
            (entries - slack..=entries + slack).contains(&living),
            "{what}: {living} of {entries}: {leak:#}"
        );
        assert!(living > 1000.0 && of("/freed/objects") == 0.0, "{what}: {leak:#}");
    }
}
