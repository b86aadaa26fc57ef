//! The heap census from outside, without a probe: size classes equal the target's MemStats and its own memory profile,
//! types are those it keeps, and a busy target gives no impossible number.
//!
//! The truth is what the target says of itself, after collections it forced.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;
use tracer_tests::classes;
use tracer_tests::go::{Go, Mode, Variant, every_version, matrix};
use tracer_tests::live;
use tracer_tests::readings::{self, assert_whole, read};
use tracer_tests::report::{list, number};
use tracer_tests::target::Target;
use tracer_tests::tracer::Tracer;
use tracer_tests::typed::{self, Session, names};
use xtask::accuracy::{Told, Types};

/// The allocator's page, and so the least bytes of a span.
const PAGE: u64 = 8192;

/// Objects of one size that are older than a program's own profile of every allocation.
const BEFORE_THE_PROFILE: u64 = 100;

/// The heap names the types of objects above 512 bytes since Go 1.22.
fn names_large_types(go: &Go, experiment: &str) -> bool {
    go.pin.minor() >= 22 && experiment != WITHOUT_HEADERS
}

/// The experiment of Go 1.22 that leaves the types out of the heap again.
const WITHOUT_HEADERS: &str = "noallocheaders";

#[test]
fn size_classes_are_those_of_memstats() {
    live!(Root, Uprobes, EveryGo, Tracer);
    for (go, mode) in every_version() {
        let what = format!("go {} {}", go.pin.version, mode.name());
        readings::assert_census(&go, &go.build("typed", mode), &what);
    }
}

#[test]
fn survivors_are_those_of_the_targets_own_profile_of_every_allocation() {
    live!(Root, Uprobes, EveryGo, Tracer);
    for (go, mode) in every_version() {
        let what = format!("go {} {}", go.pin.version, mode.name());
        let mut target = Target::start_command(Command::new(go.build("typed", mode)).env("TYPED_RATE", "1"));
        target.ask("keep 2000");
        let profile = target.ask("memprofile");
        let report = read(&target);
        assert_whole(&report, &what);
        let mut ours: BTreeMap<u64, u64> = BTreeMap::new();
        for class in list(&report, "/heap/size_classes") {
            if let Some(size) = class["bytes"].as_u64() {
                *ours.entry(size).or_default() += number(class, "/objects");
            }
        }
        let in_a_span = classes::spans(&go);
        let mut theirs: BTreeMap<u64, u64> = BTreeMap::new();
        for row in profile.as_array().expect("a list of sizes") {
            let size = number(row, "/size");
            if let Some(class) = ours.keys().find(|class| **class >= size) {
                *theirs.entry(*class).or_default() += number(row, "/objects");
            }
        }
        let mut compared = 0;
        for (size, told) in &theirs {
            let held = ours.get(size).copied().unwrap_or(0);
            // A processor's span; and what the runtime allocated before the profile began, of which the most seen was 78.
            let slack = in_a_span[size].max(BEFORE_THE_PROFILE);
            assert!(held.abs_diff(*told) <= slack, "{what}: {held} of {size} bytes, its profile has {told}");
            compared += u64::from(*told > 1000);
        }
        assert!(compared >= 8, "{what}: only {compared} classes hold many objects: {theirs:?}");
    }
}

/// Where the shares go, when `cargo xtask accuracy` asks for them: then every Go is read a few times.
fn page() -> Option<PathBuf> {
    std::env::var_os(xtask::accuracy::RESULTS).map(PathBuf::from)
}

#[test]
fn types_are_those_the_program_keeps() {
    live!(Root, Uprobes, EveryGo, Tracer);
    let Some(page) = page() else {
        for (go, mode) in every_version() {
            assert_types(&go, mode.into(), 1);
        }
        return;
    };
    for go in Go::every() {
        let types = assert_types(&go, Mode::StrippedPie.into(), xtask::accuracy::ROUNDS);
        types.add_to(go.pin.version, &page).unwrap();
    }
}

/// Structures and placement of objects are another's than this version's own: nothing but its functions tells, for it is stripped too.
#[test]
fn types_of_a_go_1_22_without_malloc_headers_are_those_the_program_keeps() {
    live!(Root, Uprobes, EveryGo, Tracer);
    let go = Go::every().into_iter().find(|go| go.pin.minor() == 22).expect("the test checked it");
    for mode in [Mode::Ordinary, Mode::StrippedPie] {
        assert_types(&go, Variant { experiment: WITHOUT_HEADERS, ..mode.into() }, 1);
    }
}

fn assert_types(go: &Go, variant: Variant, readings: usize) -> Types {
    let what = format!("go {} {}", go.pin.version, variant.name());
    let program = go.build("typed", variant);
    let large_too = names_large_types(go, variant.experiment);
    let readings = if large_too { readings } else { readings.max(typed::SMALL_READINGS) };
    let sessions = Session::several(&program, 3000, readings);
    let types = typed::shares(&sessions, large_too);
    // What has no type before Go 1.22 is held against no bound, and is there.
    let Told { kept, alone, among, wrong } = if large_too { types.all } else { types.small };
    assert!(types.all.kept > types.small.kept && types.small.kept > 1e6, "{what}: {types:?}");
    assert!(alone + among >= 0.95 * kept, "{what}: {types:?}: {sessions:#?}");
    assert!(alone >= 0.70 * kept, "{what}: {types:?}: {sessions:#?}");
    // A type that the program does not keep is not told for sure.
    assert!(wrong < 0.01 * kept, "{what}: {types:?}: {sessions:#?}");
    let rows = sessions.iter().flat_map(|s| list(&s.report, "/heap/types"));
    // Samples are counted and carry their error.
    for row in rows {
        assert!(number(row, "/samples") > 0, "{what}: {row}");
        let exact = row["objects_stderr"].is_null();
        assert!(!exact || number(row, "/samples") <= number(row, "/objects"), "{what}: {row}");
    }
    types
}

#[test]
fn before_the_first_cycle_objects_are_new_and_unproven() {
    live!();
    let go = Go::demo();
    let mut command = Command::new(go.build("typed", Mode::Ordinary));
    let target = Target::start_command(command.env("GOGC", "off"));
    let report = read(&target);
    let census = &report["heap"]["census"];
    assert_eq!((number(census, "/gc_cycle"), number(census, "/objects")), (0, 0), "{census}");
    assert!(number(census, "/new_objects") > 100, "{census}");
    let types = list(&report, "/heap/types");
    assert!(!types.is_empty() && types.iter().all(|row| row["unproven"] == true), "{types:#?}");
}

#[test]
fn a_busy_program_gives_no_impossible_number() {
    live!();
    for (go, mode) in matrix() {
        let what = format!("go {} {}", go.pin.version, mode.name());
        let mut target = Target::start(&go.build("typed", mode));
        target.ask("keep 2000");
        let quiet = read(&target);
        let orders = |report: &Value| -> u64 {
            let rows = list(report, "/heap/size_classes").iter();
            rows.filter(|c| c["bytes"] == 288 && c["noscan"] == false).map(|c| number(c, "/objects")).sum()
        };
        let kept = orders(&quiet);
        assert!(kept >= 2000, "{what}: {kept}");
        target.tell("churn 4");
        let begun = Instant::now();
        let (mut rounds, mut cycle, mut first) = (0, 0, None);
        let (mut all_torn, mut all_counted, mut most) = (0, 0, 0);
        while begun.elapsed() < Duration::from_secs(4) {
            let report = read(&target);
            let census = &report["heap"]["census"];
            let now = number(census, "/gc_cycle");
            assert!(now >= cycle, "{what}: cycle {now} after {cycle}");
            cycle = now;
            first.get_or_insert(now);
            for class in list(&report, "/heap/size_classes") {
                let (objects, new) = (number(class, "/objects"), number(class, "/new_objects"));
                if let Some(size) = class["bytes"].as_u64() {
                    assert_eq!(number(class, "/total_bytes"), objects * size, "{what}: {class}");
                    // The largest span of a small class has ten pages.
                    assert!((objects + new) * size <= number(class, "/spans") * 10 * PAGE, "{what}: {class}");
                }
            }
            // Nothing of this size comes or goes: what is kept is there each time, but for spans that are counted as torn.
            let torn = number(census, "/torn_spans");
            let now = orders(&report);
            assert!(
                now <= kept + 28 && now + torn * 28 >= kept,
                "{what}: {now} of {kept}, {torn} spans torn"
            );
            all_torn += torn;
            all_counted += number(census, "/spans");
            most = most.max(number(census, "/bytes") + number(census, "/new_bytes"));
            rounds += 1;
        }
        target.answer();
        // Memory for the heap is never given up, only emptied: no page counted twice makes it larger.
        let memory = number(&target.ask("memstats"), "/heap_sys");
        assert!(most <= memory, "{what}: {most} bytes counted in a heap of {memory}");
        // How many spans change while they are read is the machine's business; that most are read is ours.
        assert!(all_torn < all_counted, "{what}: {all_torn} spans torn, {all_counted} counted");
        assert!(rounds >= 1, "{what}: no round");
        assert!(cycle > first.unwrap_or(cycle) || rounds < 4, "{what}: no cycle ended while we looked");
    }
}

/// The number of a kept type is known exactly, while others of its size come and go faster than a census is done.
#[test]
fn types_of_a_busy_program_are_within_their_errors() {
    const KEPT: f64 = 3000.0;
    live!();
    for (go, mode) in matrix() {
        let what = format!("go {} {}", go.pin.version, mode.name());
        let mut target = Target::start(&go.build("typed", mode));
        target.ask("keep 3000");
        target.tell("churn 4 10");
        let begun = Instant::now();
        let (mut rounds, mut first, mut last, mut scores) = (0, None, 0, Vec::new());
        while begun.elapsed() < Duration::from_secs(4) {
            let report = read(&target);
            rounds += 1;
            last = number(&report, "/heap/census/gc_cycle");
            first.get_or_insert(last);
            let (mut objects, mut variance) = (0.0, 0.0);
            for row in list(&report, "/heap/types") {
                if names(row).iter().any(|name| name == "main.event") {
                    objects += number(row, "/objects") as f64;
                    variance += row["objects_stderr"].as_f64().unwrap_or(0.0).powi(2);
                }
            }
            // None where so many cycles ended meanwhile that nothing is known of the class.
            if objects > 0.0 {
                // Rounded to whole objects.
                scores.push((objects - KEPT) / variance.sqrt().max(0.5));
            }
        }
        target.answer();
        assert!(first.is_some_and(|first| first < last) || rounds < 4, "{what}: no cycle in {rounds} rounds");
        assert!(2 * scores.len() >= rounds, "{what}: no answer in most of {rounds} rounds: {scores:?}");
        // Chi-square over its n: five standard deviations of its cube root (E. B. Wilson and M. M. Hilferty, PNAS 17, 1931).
        let mean = scores.iter().map(|z| z * z).sum::<f64>() / scores.len() as f64;
        let spread = 2.0 / (9.0 * scores.len() as f64);
        let most = (1.0 - spread + 5.0 * spread.sqrt()).powi(3);
        assert!(mean <= most, "{what}: mean square {mean}, at most {most}: {scores:?}");
    }
}

#[test]
fn a_session_that_only_reads_has_the_census() {
    live!();
    for (go, mode) in matrix() {
        let what = format!("go {} {}", go.pin.version, mode.name());
        let mut target = Target::start(&go.build("typed", mode));
        target.ask("keep 2000");
        let pid = target.pid().to_string();
        let arguments = ["--pid", &pid, "--sampler", "none", "--duration", "2s", "--format", "json"];
        let report = Tracer::run(&arguments, Duration::from_mins(1)).success().json();
        assert_whole(&report, &what);
        let page = list(&report, "/heap/types").iter().find(|row| row["type"] == "main.page");
        let page = page.unwrap_or_else(|| panic!("{what}: no main.page in {}", report["heap"]["types"]));
        assert_eq!(number(page, "/objects"), 250, "{what}: {page}");
    }
}

#[test]
fn by_site_it_is_what_the_programs_own_profile_says_or_a_refusal() {
    live!();
    let go = Go::demo();
    let program = go.build("profile", Mode::Ordinary);
    let mut target = Target::start_command(Command::new(program).env("PROFILE_RATE", "1"));
    target.ask("run 100");
    target.ask("gc");
    let report = read(&target);
    let site = |row: &&Value| row.pointer("/stack/0/function").is_some_and(|f| f == "main.keepLarge");
    let row = list(&report, "/allocations").iter().find(site).expect("a site of large objects");
    // 40 960 bytes each, by the runtime's size classes, and every allocation is in the sample.
    assert_eq!((number(row, "/live/objects"), number(row, "/live/bytes")), (100, 100 * 40_960), "{row}");
    assert_eq!((number(row, "/sizes/p50"), number(row, "/sizes/max")), (40_960, 40_960), "{row}");
    let pid = target.pid().to_string();
    let by_site = ["heap", "--pid", &pid, "--by", "site"];
    let said = Tracer::run(&by_site, Duration::from_mins(1)).success().stdout;
    assert!(said.contains("3.9 MiB") && said.contains("main.keepLarge"), "{said}");
    // A program without that profile has no sites to show.
    let target = Target::start(&go.build("demo", Mode::Ordinary));
    let pid = target.pid().to_string();
    let by_site = ["heap", "--pid", &pid, "--by", "site"];
    let refused = Tracer::run(&by_site, Duration::from_mins(1))
        .refused(&["what lives per site is not known", "--sampler sampled"]);
    assert_eq!(refused.stdout, "");
    for format in ["pprof", "folded"] {
        let drawn = ["heap", "--pid", &pid, "--format", format];
        let refused = Tracer::run(&drawn, Duration::from_mins(1));
        drop(refused.refused(&["what lives per site is not known"]));
    }
}

/// Not even a process is looked at: this one is no Go program, and that is not what is said.
#[test]
fn a_profile_that_a_reading_never_has_is_refused_at_once_and_leaves_nothing() {
    live!(Tracer);
    let scratch = tracer_tests::scratch::Scratch::new("heap-refused");
    let file = scratch.file("profile.folded");
    let pid = std::process::id().to_string();
    for (command, profile, other) in
        [("heap", "goroutine", "tracer goroutines"), ("goroutines", "inuse_space", "tracer heap")]
    {
        for format in [&["--format", "pprof"][..], &["--format", "folded"], &["-o", file.to_str().unwrap()]] {
            let arguments = [&[command, "--pid", &pid, "--profile", profile], format].concat();
            let ended = Tracer::run(&arguments, Duration::from_mins(1)).refused(&[other]);
            assert!(!ended.stderr.contains("Go program"), "{ended:?}");
            assert!(!file.exists(), "{arguments:?}");
        }
    }
}

/// The truth is `runtime.MemStats`, and what the target mapped without the runtime.
#[test]
fn memory_that_is_not_the_heaps_is_told_apart() {
    live!();
    for (go, mode) in matrix() {
        let what = format!("go{} {}", go.pin.version, mode.name());
        let mut target = Target::start(&go.build("outside", mode));
        let process = |target: &Target| read(target)["process"].clone();
        // Below what Go has mapped and never touched, nothing can be said.
        let before = process(&target)["outside_go_bytes"].as_u64().unwrap_or(0);
        assert!(before < 32 << 20, "{what}: {before}");
        let mapped = target.ask("map 256").as_u64().expect("bytes");
        let truth = target.ask("sys");
        let after = process(&target);
        let told = number(&after, "/go_other_bytes");
        // Answering takes the runtime a buffer or two.
        let answer = 256 << 10;
        assert!(told.abs_diff(number(&truth, "/other")) <= answer, "{what}: {after} {truth}");
        let outside = number(&after, "/outside_go_bytes");
        let ready = number(&truth, "/ready");
        assert!(outside + ready + answer >= mapped, "{what}: {after} {truth}");
        // All else that is not Go's: the program's own data, and the threads' first pages.
        assert!(outside <= mapped + (8 << 20), "{what}: {after} {truth}");
        let told = number(&after, "/rss_anon_bytes");
        assert!(told.abs_diff(outside + ready) <= answer, "{what}: {after} {truth}");
    }
}

/// Each cycle that a census counted whole carries the objects it left.
#[test]
fn the_series_of_the_heap_has_objects() {
    live!();
    let mut command = Command::new(Go::demo().build("profile", Mode::Ordinary));
    let mut target = Target::start_command(command.env("PROFILE_RATE", "0"));
    let tracer =
        Tracer::attach(target.pid(), &["--sampler", "none", "--format", "json", "--interval", "200ms"]);
    for _ in 0..3 {
        target.ask("run 2000");
        target.ask("gc");
        std::thread::sleep(Duration::from_secs(2));
    }
    let report = tracer.interrupt().success().json();
    let counted = list(&report, "/heap/series").iter();
    let counted: Vec<(u64, u64)> =
        counted.filter_map(|p| Some((number(p, "/gc_cycle"), p["objects"].as_u64()?))).collect();
    // A census may come too late for one of them.
    assert!(counted.len() >= 2, "{:#}", report["heap"]["series"]);
    // 2 000 of keepBytes, keepNode and keepLarge per cycle; the program does little else.
    for two in counted.windows(2) {
        let (cycles, objects) = (two[1].0 - two[0].0, two[1].1 - two[0].1);
        assert!((5_900 * cycles..6_100 * cycles).contains(&objects), "{counted:?}");
    }
}
