//! The runtime's own memory profile read from outside, against `runtime.MemProfile` called by the target itself.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;
use tracer_tests::go::matrix;
use tracer_tests::live;
use tracer_tests::report::{list, number};
use tracer_tests::target::Target;
use tracer_user::goruntime::state::profile::{self, Found, Limits};
use tracer_user::record::profile::{Bucket, Sampled};
use tracer_user::session::{self, ImageNames};
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
        let size = if sampled.allocs > 0 {
            count("AllocBytes") / sampled.allocs
        } else {
            count("FreeBytes") / sampled.frees
        };
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
    // At the default rate the small sites are rarely met.
    let least = if rate == 1 { 20 } else { 2 };
    assert!(theirs.len() >= least, "{what}: {} buckets", theirs.len());
    assert_eq!(ours, theirs, "{what}");
    // The names, too: one per address, inlined functions included.
    let names = ImageNames { image: opened.image.clone(), bias: opened.bias };
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
    live!(Root, Go);
    for (go, mode) in matrix() {
        let program = go.build("profile", mode);
        for rate in [1, 524_288] {
            agrees(&program, rate, &format!("go{} {} rate {rate}", go.pin.version, mode.name()));
        }
    }
}
