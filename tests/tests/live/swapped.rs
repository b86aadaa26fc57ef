//! Near its memory limit the target is read gently: what is swapped out stays there, and what probes cost it is said.
//!
//! The kernel's own account is the truth: VmSwap and pagemap for what is swapped out, smaps for the copied code pages.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use serde_json::Value;
use tracer_tests::go::{Go, Mode, matrix};
use tracer_tests::live;
use tracer_tests::privileges::{Open, TARGET, user};
use tracer_tests::swap::{Swap, push_out, swapped_kib};
use tracer_tests::target::Target;
use tracer_tests::tracer::Tracer;

const PARKED: usize = 8_000;
const PAGE: u64 = 4096;
const LIMIT: Duration = Duration::from_mins(1);

/// What the target itself may bring back while a test looks on: the pages of a few threads that wake up.
const OWN_KIB: u64 = 16 * 4;

/// A target with most of its goroutines' stacks pushed out, and an address in each stack.
fn pushed_out(program: &Path) -> (Target, Vec<u64>) {
    let mut target = Target::start(program);
    let stacks = park(&mut target);
    push_stacks(&target, &stacks);
    (target, stacks)
}

/// Parks goroutines; an address in the stack of each.
fn park(target: &mut Target) -> Vec<u64> {
    target
        .ask(&format!("park {PARKED}"))
        .as_array()
        .expect("one address for each")
        .iter()
        .map(|address| address.as_u64().expect("an address"))
        .collect()
}

/// Pushes out most of these stacks.
fn push_stacks(target: &Target, stacks: &[u64]) {
    let pages: Vec<u64> = stacks.iter().map(|at| at / PAGE).collect::<BTreeSet<_>>().into_iter().collect();
    push_until(target, &pages, pages.len() * 9 / 10);
}

/// Pages that were just made are on a CPU's list, where the kernel does not find them at once.
fn push_until(target: &Target, pages: &[u64], enough: usize) {
    for _ in 0..100 {
        push_out(target.pid(), pages);
        if swapped_kib(target.pid()) * 1024 / PAGE >= enough as u64 {
            return;
        }
        thread::sleep(Duration::from_millis(50));
    }
    panic!("only {} KiB of {} pages went out", swapped_kib(target.pid()), pages.len());
}

/// Whether the page at an address is swapped out, by the kernel's own table.
fn is_out(pagemap: &File, at: u64) -> bool {
    let mut entry = [0; 8];
    pagemap.read_exact_at(&mut entry, at / PAGE * 8).expect("a page of the target");
    u64::from_le_bytes(entry) & (1 << 62) != 0
}

fn count_out(pid: u32, addresses: &[u64]) -> u64 {
    let pagemap = File::open(format!("/proc/{pid}/pagemap")).expect("root may look");
    addresses.iter().filter(|at| is_out(&pagemap, **at)).count() as u64
}

/// Runs `read`, across which nothing that is swapped out may come back.
fn untouched<T>(target: &Target, read: impl FnOnce() -> T) -> T {
    let before = swapped_kib(target.pid());
    let done = read();
    let after = swapped_kib(target.pid());
    assert!(after + OWN_KIB >= before, "{before} KiB were swapped out, {after} KiB afterwards");
    done
}

fn number(report: &Value, path: &str) -> u64 {
    report.pointer(path).and_then(Value::as_u64).unwrap_or_else(|| panic!("no {path} in {report}"))
}

#[test]
fn what_is_swapped_out_is_left_there_and_said() {
    live!(Root, Go, Tracer, Zram);
    let _swap = Swap::on(128);
    for (go, mode) in matrix() {
        let (target, stacks) = pushed_out(&go.build("parked", mode));
        let pid = target.pid().to_string();
        let out = count_out(target.pid(), &stacks);

        let one = untouched(&target, || {
            Tracer::run(&["goroutines", "--pid", &pid, "--format", "json"], LIMIT).success().json()
        });
        assert_stacks_left_out(&one, out);

        let text = untouched(&target, || Tracer::run(&["goroutines", "--pid", &pid], LIMIT).success());
        assert!(text.stdout.contains("swapped-out pages were not read"), "{}", text.stdout);

        let session = untouched(&target, || {
            let arguments = ["--pid", &pid, "--sampler", "none", "--duration", "2s", "--format", "json"];
            Tracer::run(&arguments, LIMIT).success().json()
        });
        assert_stacks_left_out(&session, out);
        assert!(number(&session, "/session/counters/page_swapped") >= out);
        assert_eq!(number(&session, "/session/cost/target_pages_bytes"), 0);

        // The same pages read without looking do come back: the test would see it.
        let before = swapped_kib(target.pid());
        let memory = File::open(format!("/proc/{pid}/mem")).expect("root may read");
        for at in stacks.iter().take(1_000) {
            memory.read_exact_at(&mut [0], *at).expect("a stack of the target");
        }
        let after = swapped_kib(target.pid());
        assert!(after + OWN_KIB < before, "{before} KiB were swapped out, still {after} KiB");
    }
}

#[test]
fn what_goes_out_under_way_is_left_there_whoever_owns_the_target() {
    live!(Root, Go, Tracer, Zram);
    let _swap = Swap::on(128);
    let open = Open::new("swapped");
    let program = open.program(&Go::demo().build("parked", Mode::Ordinary));
    let mut target = Target::start_command(user(TARGET, &[]).arg(program));
    let stacks = park(&mut target);
    // By now it may no longer open what belongs to another user.
    let mut tracer = Tracer::attach(target.pid(), &["--sampler", "none", "--format", "json"]);
    push_stacks(&target, &stacks);
    // What was read as it went out came back.
    drop(tracer.interim(LIMIT));
    push_stacks(&target, &stacks);
    let out = count_out(target.pid(), &stacks);
    let report = untouched(&target, || tracer.interim(LIMIT));
    assert_stacks_left_out(&report, out);
    drop(tracer.interrupt().success());
}

/// Every goroutine is in the table, those whose stacks are out by all but their stack.
fn assert_stacks_left_out(report: &Value, out: u64) {
    let sites = report.pointer("/goroutines/sites").and_then(Value::as_array).expect("a table");
    let parked: Vec<&Value> =
        sites.iter().filter(|site| site["created_by"]["function"] == "main.park").collect();
    assert_eq!(parked.iter().map(|site| number(site, "/count")).sum::<u64>(), PARKED as u64, "{sites:?}");
    let stackless = number(report, "/goroutines/stackless");
    // A stack may go past the page its goroutine named, and others share its pages: a few of each.
    assert!(stackless.abs_diff(out) <= PARKED as u64 / 100, "{stackless} without a stack, {out} swapped out");
    assert_eq!(number(report, "/goroutines/swapped"), 0);
    assert_eq!(report["session"]["complete"], false);
}

#[test]
fn a_target_that_is_swapped_out_whole_is_refused_and_left_there() {
    live!(Root, Go, Tracer, Zram);
    let _swap = Swap::on(256);
    let (target, _) = pushed_out(&Go::demo().build("parked", Mode::StrippedPie));
    let before = swapped_kib(target.pid());
    let writable: Vec<u64> = ranges(target.pid(), |perms| perms == "rw-p").into_iter().flatten().collect();
    push_until(&target, &writable, (before * 1024 / PAGE) as usize + 64);
    let pid = target.pid().to_string();
    for arguments in [vec!["goroutines", "--pid", &pid], vec!["--pid", &pid, "--duration", "1s"]] {
        let ended = untouched(&target, || Tracer::run(&arguments, LIMIT));
        assert_eq!(ended.status.code(), Some(2), "{}", ended.stdout);
        assert!(ended.stderr.contains("swapped out; not read"), "{}", ended.stderr);
    }
}

/// The page numbers of the mappings with these permissions.
fn ranges(pid: u32, wanted: impl Fn(&str) -> bool) -> Vec<std::ops::Range<u64>> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).expect("the target lives");
    let page = |text: &str| u64::from_str_radix(text, 16).expect("an address") / PAGE;
    maps.lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let (from, to) = words.next()?.split_once('-')?;
            // The runtime reserves far more than it uses.
            let range = page(from)..page(to);
            (wanted(words.next()?) && range.end - range.start < 100_000).then_some(range)
        })
        .collect()
}

#[test]
fn the_code_pages_that_probes_copy_are_said() {
    live!();
    for (go, mode) in matrix() {
        let target = Target::start_command(&mut Command::new(go.build("parked", mode)));
        assert_eq!(copied_bytes(target.pid()), 0, "a fresh program shares its code with the file");
        let tracer = Tracer::attach(target.pid(), &["--sampler", "all", "--format", "json"]);
        let copied = copied_bytes(target.pid());
        let report = tracer.interrupt().success().json();
        assert_eq!(number(&report, "/session/cost/target_pages_bytes"), copied);
        assert!(copied >= PAGE, "{copied}");
    }
}

/// Bytes of the program's code that are private copies, by the kernel's account of its mappings.
fn copied_bytes(pid: u32) -> u64 {
    let smaps = fs::read_to_string(format!("/proc/{pid}/smaps")).expect("the target lives");
    let mut code = false;
    let mut copied: BTreeMap<&str, u64> = BTreeMap::new();
    let mut mapping = "";
    for line in smaps.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            [at, perms, _, _, _, path, ..] if at.contains('-') => {
                (code, mapping) = (*perms == "r-xp" && path.contains("/parked-"), *at);
            }
            [at, ..] if at.contains('-') => code = false,
            ["Anonymous:", kib, "kB"] if code => {
                copied.insert(mapping, kib.parse::<u64>().expect("a number of kB") * 1024);
            }
            _ => {}
        }
    }
    copied.values().sum()
}
