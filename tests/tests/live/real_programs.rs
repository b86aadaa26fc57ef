//! Three programs nobody here wrote: recognised, read, traced under a small load, and serving as before afterwards.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;
use std::time::Duration;

use object::{Object as _, ObjectSection as _};
use serde_json::Value;
use tracer_tests::go::Go;
use tracer_tests::instructions::{assert_probed, hits, planned, wait_restored};
use tracer_tests::live;
use tracer_tests::real_programs::{ALL, RealProgram, Running};
use tracer_tests::tracer::Tracer;

const END: Duration = Duration::from_mins(1);

fn start(program: RealProgram) -> Running {
    program.start().unwrap_or_else(|error| panic!("{error:#}"))
}

/// The names in its function table: text of the file, whatever reads it. Type arguments are not in it.
fn names_of(pid: u32) -> String {
    let bytes = fs::read(format!("/proc/{pid}/exe")).unwrap();
    let elf = object::File::parse(&*bytes).unwrap();
    let table = elf.section_by_name(".gopclntab").or_else(|| elf.section_by_name(".data.rel.ro.gopclntab"));
    String::from_utf8_lossy(table.expect("these programs have the section").data().unwrap()).into_owned()
}

fn holds(names: &str, function: &str) -> bool {
    names.contains(function.split('[').next().unwrap())
}

fn number(report: &Value, path: &str) -> f64 {
    report.pointer(path).and_then(Value::as_f64).unwrap_or_else(|| panic!("no {path} in {report:#}"))
}

#[test]
fn they_are_recognised() {
    live!(Root, Uprobes, Go, Tracer, Packages);
    for program in ALL {
        let mut running = start(program);
        let pid = running.target.pid();
        let version = Command::new(Go::demo().path).args(["version", &format!("/proc/{pid}/exe")]).output();
        let list = Tracer::run(&["list"], END).success().stdout;
        let row = list.lines().find(|row| row.split_whitespace().next() == Some(&pid.to_string()));
        let row = row.unwrap_or_else(|| panic!("{} is missing in\n{list}", program.name()));
        if let Ok(told) = version {
            let told = String::from_utf8_lossy(&told.stdout).trim().rsplit(' ').next().unwrap().to_owned();
            assert!(row.contains(&told), "{row}, go says {told}");
        }
        assert!(row.contains(program.name()) && row.ends_with("readings and probes"), "{row}");
        let check = Tracer::run(&["check", "--pid", &pid.to_string()], END).success().stdout;
        assert!(check.contains("GC            yes") && check.contains("goroutines    yes"), "{check}");
        assert!(!check.contains(" no: "), "{check}");
        assert!(running.target.is_alive());
    }
}

#[test]
fn their_readings_are_sane() {
    live!(Root, Uprobes, Go, Tracer, Packages);
    for program in ALL {
        let mut running = start(program);
        let pid = running.target.pid().to_string();
        let tracer =
            Tracer::start(["--pid", &pid, "--sampler", "none", "--duration", "2s", "--format", "json"]);
        running.load(50);
        let report = tracer.wait(END).success().json();
        let name = program.name();
        assert_eq!(report["session"]["attach"], "none");
        let rss = number(&report, "/process/rss_bytes");
        let heap = number(&report, "/process/go_heap_bytes");
        assert!(heap > 0.0 && heap < rss * 1.5, "{name}: heap {heap}, RSS {rss}");
        // What is live is known from the first collection on.
        if let Some(live) = report.pointer("/heap/live_bytes").and_then(Value::as_f64) {
            assert!(live > 0.0 && live < rss * 1.5, "{name}: live {live}, RSS {rss}");
        } else {
            assert_eq!(report["gc"]["cycles"].as_u64().unwrap_or(0), 0, "{name}");
        }
        let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap().count() as f64;
        let goroutines = number(&report, "/goroutines/live");
        assert!((2.0..10_000.0).contains(&goroutines), "{name}: {goroutines} goroutines, {threads} threads");
        let started: BTreeSet<&str> = report["goroutines"]["sites"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|site| site["created_by"]["function"].as_str())
            .collect();
        let names = names_of(running.target.pid());
        assert!(started.len() > 1, "{name}: {started:?}");
        for function in started {
            assert!(holds(&names, function), "{name}: no {function} in the file");
        }
        assert_eq!(running.load(5), 5);
        assert!(running.target.is_alive());
    }
}

#[test]
fn every_allocation_has_its_site() {
    live!(Root, Uprobes, Go, Tracer, Packages);
    for program in ALL {
        let mut running = start(program);
        let (pid, name) = (running.target.pid(), program.name());
        let sites = planned(pid);
        let tracer = Tracer::attach(pid, &["--sampler", "all", "--duration", "5s", "--format", "json"]);
        assert_probed(pid, &sites);
        assert!(running.load(200) > 0);
        let report = tracer.wait(END).success().json();
        assert_eq!(report["session"]["events"]["undecodable"], 0, "{name}");
        assert_eq!(report["session"]["events"]["lost"], 0, "{name}: {}", report["session"]);
        // What is not whole says why.
        let whole = report["session"]["complete"] == true;
        assert!(
            whole || report["session"]["counters"] != serde_json::json!({}),
            "{name}: {}",
            report["session"]
        );

        let rows = report["allocations"].as_array().unwrap();
        let names = names_of(pid);
        let objects = |row: &Value| row["allocated"]["objects"].as_u64().unwrap();
        let named = |row: &Value| {
            let stack = row["stack"].as_array().unwrap();
            stack.iter().any(|frame| {
                frame["function"]
                    .as_str()
                    .is_some_and(|name| !name.is_empty() && !name.starts_with("runtime."))
            })
        };
        let all: u64 = rows.iter().map(objects).sum();
        let with_names: u64 = rows.iter().filter(|row| named(row)).map(objects).sum();
        assert!(all > 1000, "{name}: {all} allocations under load");
        assert!(
            with_names * 10 > all * 9,
            "{name}: {with_names} of {all} have a stack with the program's own names"
        );
        let probed = hits(&report, "runtime.mallocgc");
        assert!(all <= probed && all * 10 > probed * 9, "{name}: {all} in sites, {probed} hits");
        let mut by_count: Vec<&Value> = rows.iter().collect();
        by_count.sort_by_key(|row| std::cmp::Reverse(objects(row)));
        for row in by_count.iter().take(20) {
            for frame in row["stack"].as_array().unwrap() {
                let function = frame["function"].as_str().unwrap();
                assert!(holds(&names, function), "{name}: no {function} in the file");
            }
        }
        wait_restored(pid, name);
        assert_eq!(running.load(20), 20, "{name}");
        assert!(running.target.is_alive(), "{name}");
    }
}
