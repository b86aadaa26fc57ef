//! The runtime's own memory profile read from outside, against `runtime.MemProfile` called by the target itself.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use serde_json::Value;
use tracer_tests::go::{every_version, matrix};
use tracer_tests::live;
use tracer_tests::report::{list, number};
use tracer_tests::target::Target;
use tracer_tests::tracer::Tracer;
use tracer_user::goruntime::GoImage;
use tracer_user::goruntime::state::profile::{self, BucketAddr, Found, Limits};
use tracer_user::goruntime::state::{StateError, specials};
use tracer_user::record::profile::{Bucket, Sampled};
use tracer_user::session::{self, ImageNames, More};
use tracer_user::symbolize::{Names as _, PcKind};
use tracer_user::units::Pid;

/// Allocations, frees and bytes of each, by size and stack: what both accounts say of one bucket.
type Account = BTreeMap<(Vec<u64>, u64), (Sampled, u64, u64)>;

fn start(program: &PathBuf, rate: Option<u64>) -> Target {
    let mut command = Command::new(program);
    if let Some(rate) = rate {
        command.env("PROFILE_RATE", rate.to_string());
    }
    Target::start_command(&mut command)
}

fn open(target: &Target) -> session::Target {
    session::Target::open(Pid(target.pid())).unwrap()
}

fn read(opened: &session::Target) -> Found {
    let vars = opened.profile.expect("the profiler's variables");
    profile::read(&opened.memory, opened.layout, &vars, Limits::default()).unwrap()
}

/// The target's own account. Buckets of the same size and stack exist once; those it says are empty are left out.
fn theirs(records: &Value) -> Account {
    let mut account = Account::new();
    for record in list(records, "") {
        let count = |name: &str| number(record, &format!("/{name}"));
        let sampled = Sampled { allocs: count("Allocs"), frees: count("Frees") };
        if sampled == Sampled::default() {
            continue;
        }
        let size = count("AllocBytes").checked_div(sampled.allocs);
        let size =
            size.or_else(|| count("FreeBytes").checked_div(sampled.frees)).expect("one of them is not 0");
        let stack = list(record, "/Stack").iter().map(|pc| pc.as_u64().unwrap()).collect();
        let bytes = (sampled, count("AllocBytes"), count("FreeBytes"));
        assert!(account.insert((stack, size), bytes).is_none(), "twice: {record}");
    }
    account
}

/// Ours, of one of the bucket's views.
fn ours(found: &Found, view: impl Fn(&Bucket) -> Sampled) -> Account {
    let mut account = Account::new();
    for bucket in &found.profile.buckets {
        let sampled = view(bucket);
        if sampled == Sampled::default() {
            continue;
        }
        let stack: Vec<u64> = bucket.stack.iter().map(|pc| pc.0).collect();
        // The target shows 32 frames of a stack that may be deeper.
        let shown = stack[..stack.len().min(32)].to_vec();
        let bytes = (sampled, sampled.allocs * bucket.size.0, sampled.frees * bucket.size.0);
        assert!(account.insert((shown, bucket.size.0), bytes).is_none(), "twice: {bucket:?}");
    }
    account
}

/// The innermost function of each address, as reports name them.
fn functions(names: &ImageNames, bucket: &Bucket) -> Vec<String> {
    let name = |pc| names.frames(pc, PcKind::Return).first().map_or_else(String::new, |f| f.function.clone());
    bucket.stack.iter().map(|pc| name(*pc)).collect()
}

fn agrees(program: &PathBuf, rate: u64, what: &str) {
    let mut target = start(program, (rate != 524_288).then_some(rate));
    let opened = open(&target);
    target.ask("run 2000");
    target.ask("gc");
    target.ask("drop");
    target.ask("gc");
    target.ask("run 50");
    let records = target.ask("records");
    let found = read(&opened);
    assert_eq!(found.profile.rate, rate, "{what}");
    assert!(!found.profile.cut);
    let (theirs, ours) = (theirs(&records), ours(&found, |b| b.published));
    // At the default rate the small sites are rarely met; one has 40 KB objects.
    let least = if rate == 1 { 20 } else { 1 };
    assert!(theirs.len() >= least, "{what}: {} buckets", theirs.len());
    assert_eq!(ours, theirs, "{what}");
    // The names, too: one per address, inlined functions included.
    let image: Arc<GoImage> = Arc::clone(&opened.image);
    let more = More::Live(Arc::clone(&opened.plugins));
    let names = ImageNames { image, bias: opened.bias, more };
    let told: BTreeMap<Vec<u64>, Vec<String>> = list(&records, "")
        .iter()
        .map(|r| {
            let stack = list(r, "/Stack").iter().map(|pc| pc.as_u64().unwrap()).collect();
            (stack, list(r, "/Functions").iter().map(|f| f.as_str().unwrap().to_owned()).collect())
        })
        .collect();
    let mut named = 0;
    for bucket in &found.profile.buckets {
        let stack: Vec<u64> = bucket.stack.iter().map(|pc| pc.0).collect();
        if let Some(told) = told.get(&stack) {
            assert_eq!(&functions(&names, bucket), told, "{what}");
            named += 1;
        }
    }
    assert!(named >= least, "{what}: {named}");
}

#[test]
fn it_is_what_the_runtime_says_itself() {
    live!(Root, EveryGo);
    for (go, mode) in every_version() {
        let program = go.build("profile", mode);
        for rate in [1, 524_288] {
            agrees(&program, rate, &format!("go{} {} rate {rate}", go.pin.version, mode.name()));
        }
    }
}

#[test]
fn a_changed_rate_is_told_and_changes_no_count() {
    live!(Root, Go);
    for (go, mode) in matrix() {
        let what = format!("go{} {}", go.pin.version, mode.name());
        let mut target = start(&go.build("profile", mode), Some(1));
        let opened = open(&target);
        target.ask("run 100");
        target.ask("rate 8192");
        target.ask("run 500");
        target.ask("gc");
        let records = target.ask("records");
        let found = read(&opened);
        assert_eq!(found.profile.rate, 8192, "{what}");
        assert_eq!(ours(&found, |b| b.published), theirs(&records), "{what}");
    }
}

#[test]
fn what_is_not_published_yet_is_what_was_allocated_since() {
    live!(Root, Go);
    for (go, mode) in matrix() {
        let what = format!("go{} {}", go.pin.version, mode.name());
        let mut target = start(&go.build("profile", mode), Some(1));
        let opened = open(&target);
        target.ask("run 300");
        target.ask("gc");
        target.ask("run 70");
        let found = read(&opened);
        let image: Arc<GoImage> = Arc::clone(&opened.image);
        let more = More::Live(Arc::clone(&opened.plugins));
        let names = ImageNames { image, bias: opened.bias, more };
        // The list that keeps the objects grows at the same places, in other sizes.
        let of = |function: &str, size: u64, view: &dyn Fn(&Bucket) -> Sampled| {
            let by = |b: &&Bucket| {
                let functions = functions(&names, b);
                b.size.0 == size
                    && functions.iter().find(|f| f.starts_with("main.")).is_some_and(|f| f == function)
            };
            found.profile.buckets.iter().filter(by).fold(Sampled::default(), |sum, b| sum.plus(view(b)))
        };
        for (function, size) in [("main.keepNode", 48), ("main.keepLarge", 40_960)] {
            let exactly = |allocs| Sampled { allocs, frees: 0 };
            assert_eq!(of(function, size, &Bucket::as_of_gc), exactly(300), "{what} {function}");
            assert_eq!(of(function, size, &|b| b.since_gc), exactly(70), "{what} {function}");
            assert_eq!(of(function, size, &Bucket::now), exactly(370), "{what} {function}");
        }
        let dropped = of("main.dropBytes", 352, &Bucket::as_of_gc);
        assert_eq!((dropped.allocs, dropped.live() <= 1), (300, true), "{what}: {dropped:?}");
    }
}

#[test]
fn each_live_sampled_object_is_found_with_its_bucket() {
    live!(Root, Go);
    for (go, mode) in matrix() {
        for rate in [1, 4096] {
            let what = format!("go{} {} rate {rate}", go.pin.version, mode.name());
            let mut target = start(&go.build("profile", mode), Some(rate));
            let opened = open(&target);
            target.ask("run 2000");
            target.ask("gc");
            target.ask("drop");
            target.ask("run 200");
            target.ask("gc");
            // The runtime itself allocates a little after the answer: both must be of one moment.
            let (found, objects) = loop {
                let found = read(&opened);
                let objects =
                    opened.state.sampled_objects(&opened.memory, specials::Limits::default()).unwrap();
                if read(&opened) == found {
                    break (found, objects);
                }
            };
            assert_eq!((objects.torn, objects.swapped, objects.cut), (0, 0, false), "{what}");
            let mut by_bucket: BTreeMap<BucketAddr, u64> = BTreeMap::new();
            for object in &objects.objects {
                *by_bucket.entry(object.bucket).or_default() += 1;
            }
            let addresses: std::collections::BTreeSet<_> =
                objects.objects.iter().map(|o| o.address).collect();
            assert_eq!(addresses.len(), objects.objects.len(), "{what}: an object twice");
            assert!(objects.objects.len() > 100, "{what}: {}", objects.objects.len());
            let live = found.addresses.iter().zip(&found.profile.buckets);
            let live: BTreeMap<BucketAddr, u64> =
                live.map(|(at, bucket)| (*at, bucket.now().live())).filter(|(_, n)| *n > 0).collect();
            assert_eq!(by_bucket, live, "{what}");
        }
    }
}

/// Objects of each type that a target keeps.
const KEPT: u64 = 50;

/// The profile knows stacks and sizes. What the objects of each are is looked up in the heap.
#[test]
fn the_types_of_live_sampled_objects_are_told_by_site() {
    live!(Root, Go, Tracer);
    for (go, mode) in matrix() {
        let what = format!("go{} {}", go.pin.version, mode.name());
        let mut target = start(&go.build("profile", mode), Some(1));
        let told = target.ask(&format!("types {KEPT}"));
        target.ask("gc");
        let arguments = ["heap", "--pid", &target.pid().to_string(), "--format", "json"];
        let report = Tracer::run(&arguments, std::time::Duration::from_mins(1)).success().json();
        let look = &report["heap_profile"]["live_objects"];
        assert_eq!(
            (&look["looked_at"], &look["spans_torn"]),
            (&look["found"], &Value::from(0)),
            "{what}: {look}"
        );
        let rows = report["allocations"].as_array().unwrap();
        let row = |function: &str| {
            let of = |row: &&Value| row["stack"][0]["function"] == function;
            rows.iter().find(of).unwrap_or_else(|| panic!("{what}: no {function}"))
        };
        // Before 1.22 the heap tells the types of objects up to 512 bytes.
        let headers = go.pin.minor() >= 22;
        for (site, ty) in told.as_object().unwrap() {
            let row = row(site);
            let known = headers || site == "main.keepNode";
            let expected = if known { ty.clone() } else { Value::Null };
            assert_eq!(row["live_type"], expected, "{what}: {row:#}");
            let of: Vec<u64> = list(row, "/live_types").iter().map(|of| number(of, "/objects")).collect();
            // The first node holds nothing but zeros, as objects of other types of its size may.
            assert!(of[0] >= KEPT - 1 && of.iter().sum::<u64>() == KEPT, "{what}: {row:#}");
            assert_eq!(row["live"]["objects"], KEPT, "{what}: {row:#}");
        }
        let mixed = |row: &&Value| list(row, "/stack").iter().any(|f| f["function"] == "main.keepMixed");
        let mixed = rows.iter().filter(mixed).max_by_key(|row| number(row, "/live/bytes")).unwrap();
        let types: Vec<(&Value, u64)> =
            list(mixed, "/live_types").iter().map(|t| (&t["types"][0], number(t, "/objects"))).collect();
        if headers {
            assert_eq!(mixed["live_type"], Value::Null, "{what}: {mixed:#}");
            assert_eq!(
                types,
                [(&"main.huge".into(), KEPT / 5 * 4), (&"main.wide".into(), KEPT / 5)],
                "{what}"
            );
        } else {
            assert_eq!(types, [(&Value::Null, KEPT)], "{what}");
        }
    }
}

/// Four workers allocate and a fifth collects all the time: what is read must still be of one moment.
#[test]
fn a_busy_program_is_read_at_one_moment_or_not_at_all() {
    live!(Root, Go);
    for (go, mode) in matrix() {
        let what = format!("go{} {}", go.pin.version, mode.name());
        let mut target = start(&go.build("profile", mode), Some(1));
        let opened = open(&target);
        target.ask("churn 4");
        let vars = opened.profile.unwrap();
        let (mut read, mut last) = (0, BTreeMap::new());
        let until = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while read < 20 && std::time::Instant::now() < until {
            match profile::read(&opened.memory, opened.layout, &vars, Limits::default()) {
                Ok(found) => {
                    read += 1;
                    for (at, bucket) in found.addresses.iter().zip(&found.profile.buckets) {
                        let now = bucket.now();
                        assert!(now.frees <= now.allocs, "{what}: {bucket:?}");
                        let before = last.insert(*at, now).unwrap_or_default();
                        assert!(
                            before.allocs <= now.allocs && before.frees <= now.frees,
                            "{what}: {before:?} {now:?}"
                        );
                    }
                }
                Err(StateError::Torn { .. }) => {}
                Err(e) => panic!("{what}: {e}"),
            }
        }
        assert!(read > 0, "{what}: never a whole reading");
    }
}
