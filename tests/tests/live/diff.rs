//! `tracer diff` and the line format, on reports of a program that keeps known numbers of objects.

use std::time::Duration;

use serde_json::Value;
use tracer_tests::go::{Go, Mode};
use tracer_tests::live;
use tracer_tests::report::{list, number, text};
use tracer_tests::scratch::Scratch;
use tracer_tests::target::Target;
use tracer_tests::tracer::Tracer;

const END: Duration = Duration::from_mins(1);

fn session(pid: u32, arguments: &[&str]) -> String {
    let pid = pid.to_string();
    let fixed = ["--pid", &pid, "--duration", "1s"];
    Tracer::start(fixed.iter().chain(arguments)).wait(END).success().stdout
}

/// The row of a function's site in a section of a diff.
fn row<'d>(diff: &'d Value, section: &str, function: &str) -> &'d Value {
    let rows = list(diff, &format!("/sections/{section}"));
    let mut found = rows.iter().filter(|row| text(row, "/name").starts_with(function));
    let row = found.next().unwrap_or_else(|| panic!("no {function} in {diff}"));
    assert!(found.next().is_none(), "{function} twice in {diff}");
    row
}

#[test]
fn what_a_program_kept_between_two_reports_is_what_grew() {
    live!();
    let scratch = Scratch::new("diff");
    let program = Go::demo().build("profile", Mode::Ordinary);
    let mut target = Target::start_command(std::process::Command::new(program).env("PROFILE_RATE", "1"));
    for (name, n) in [("a", 100), ("b", 400)] {
        target.ask(&format!("run {n}"));
        target.ask("gc");
        for ending in ["json", "pb.gz", "jsonl"] {
            let file = scratch.file(&format!("{name}.{ending}"));
            let out = session(target.pid(), &["--sampler", "runtime", "-o", file.to_str().unwrap()]);
            assert!(out.is_empty());
        }
    }
    let path = |name: &str| scratch.file(name).to_string_lossy().into_owned();
    for ending in ["json", "pb.gz", "jsonl"] {
        let (a, b) = (path(&format!("a.{ending}")), path(&format!("b.{ending}")));
        let diff = Tracer::run(&["diff", &a, &b, "--format", "json"], END).success().json();
        assert_eq!(text(&diff, "/schema"), "tracer.diff/1");
        // 400 more of 40 960 and of 48 bytes, by the runtime's size classes.
        for (function, size) in [("main.keepLarge", 40_960.0), ("main.keepNode", 48.0)] {
            let row = row(&diff, "live_bytes_by_site", function);
            assert_eq!(row["difference"].as_f64(), Some(400.0 * size), "{row}");
            assert_eq!(row["before"].as_f64(), Some(100.0 * size), "{row}");
        }
        let said = Tracer::run(&["diff", &a, &b], END).success().stdout;
        assert!(said.contains("+16 MiB") && said.contains("main.keepLarge"), "{said}");
        let nothing = Tracer::run(&["diff", &a, &a], END).success().stdout;
        assert!(nothing.contains("live bytes by site: nothing grew"), "{nothing}");
        // Into a file it is the same, and never over what is compared.
        for (name, format) in [("told.txt", "text"), ("told.json", "json")] {
            let out = path(name);
            let ended = Tracer::run(&["diff", &a, &b, "-o", &out], END).success();
            assert!(ended.stdout.is_empty() && ended.stderr.is_empty(), "{ended:?}");
            let printed = Tracer::run(&["diff", &a, &b, "--format", format], END).success().stdout;
            assert_eq!(std::fs::read_to_string(&out).unwrap(), printed);
        }
        let before = std::fs::read(&b).unwrap();
        drop(Tracer::run(&["diff", &a, &b, "--format", "json", "-o", &b], END).refused(&["write over"]));
        assert_eq!(std::fs::read(&b).unwrap(), before);
    }
    // A report and a profile of the same moment are of the same sites.
    let diff = Tracer::run(&["diff", &path("a.json"), &path("a.pb.gz"), "--format", "json"], END);
    let diff = diff.success().json();
    assert_eq!(list(&diff, "/sections/live_bytes_by_site"), [] as [Value; 0], "{diff}");
}

#[test]
fn recordings_are_compared_like_reports_and_several_at_once() {
    live!();
    let scratch = Scratch::new("diff-recordings");
    let mut target = Target::start(&Go::demo().build("maps", Mode::Ordinary));
    let path = |name: &str| scratch.file(name).to_string_lossy().into_owned();
    let mut held = Vec::new();
    for n in [2000, 5000, 9000] {
        let (recording, report) = (path(&format!("{n}.trc")), path(&format!("{n}.json")));
        let answer = target.ask(&format!("hold {n}"));
        held.push(answer.as_array().expect("the fixture answers with what it holds").clone());
        let arguments = ["--sampler", "none", "--record", &recording, "-o", &report];
        assert!(session(target.pid(), &arguments).is_empty());
    }
    let of = |ending: &str| [2000, 5000, 9000].map(|n| path(&format!("{n}.{ending}")));
    let [a, b, c] = of("trc");
    let diff = Tracer::run(&["diff", &a, &b, &c, "--format", "json"], END).success().json();
    let mut compared = 0;
    for truth in &held[2] {
        let kind = text(truth, "/type");
        let before = |when: usize| {
            let same =
                held[when].iter().find(|t| t["type"] == kind).expect("it holds the same maps each time");
            number(same, "/entries")
        };
        let rows = list(&diff, "/sections/entries_by_map");
        let Some(row) = rows.iter().find(|row| text(row, "/name") == kind) else { continue };
        let values: Vec<u64> =
            list(row, "/values").iter().map(|v| v.as_f64().expect("a number") as u64).collect();
        assert_eq!(values, [before(0), before(1), number(truth, "/entries")], "{row}");
        compared += 1;
    }
    assert!(compared >= 1, "no map was compared: {diff}");
    // A recording says what the report of its session says.
    let [ra, _, rc] = of("json");
    let reports = Tracer::run(&["diff", &ra, &rc], END).success().stdout;
    assert_eq!(Tracer::run(&["diff", &a, &c], END).success().stdout, reports);
    assert!(reports.contains("entries by map: "), "{reports}");
}

#[test]
fn what_cannot_be_compared_is_refused_in_one_line() {
    live!(Tracer);
    let scratch = Scratch::new("diff-refused");
    let file = |name: &str, bytes: &[u8]| {
        let path = scratch.file(name);
        std::fs::write(&path, bytes).unwrap();
        path.to_string_lossy().into_owned()
    };
    let report = file("good.json", br#"{"schema": "tracer.report/1"}"#);
    for (bad, says) in [
        (file("empty", b""), "not JSON"),
        (file("other.json", br#"{"schema": "tracer.report/9"}"#), "tracer.report/9"),
        (file("text", b"hello"), "not JSON"),
        (file("torn.pb.gz", &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0]), "unpack"),
        (scratch.file("none").to_string_lossy().into_owned(), "No such file"),
    ] {
        let refused = Tracer::run(&["diff", &report, &bad], END).refused(&["cannot compare", says]);
        assert!(refused.stdout.is_empty());
    }
    let goroutines = file(
        "other.json",
        br#"{"schema": "tracer.report/1", "goroutines": {"sites": [{"site": "a", "count": 1}]}}"#,
    );
    // A comparison that does not come about leaves no file.
    for (name, says) in [("out.json", "nothing in common"), ("out.pb.gz", "--format")] {
        let out = scratch.file(name);
        let arguments = ["diff", &report, &goroutines, "-o", out.to_str().unwrap()];
        drop(Tracer::run(&arguments, END).refused(&[says]));
        assert!(!out.exists(), "{name}");
    }
}

#[test]
fn a_session_told_line_by_line_begins_streams_and_ends() {
    live!();
    let scratch = Scratch::new("jsonl");
    let program = Go::demo().build("profile", Mode::Ordinary);
    let mut target = Target::start_command(std::process::Command::new(program).env("PROFILE_RATE", "1"));
    target.ask("run 10");
    let file = scratch.file("session.jsonl");
    let tracer = Tracer::attach(target.pid(), &["--interval", "200ms", "-o", file.to_str().unwrap()]);
    let lines = || -> Vec<Value> {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let kind = |line: &Value| text(line, "/line").to_owned();
    let until = std::time::Instant::now() + END;
    // Cycles appear while the session runs.
    while !lines().iter().any(|line| kind(line) == "heap") {
        assert!(std::time::Instant::now() < until, "no heap line in {:?}", lines());
        target.ask("gc");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(lines().iter().all(|line| kind(line) != "end"));
    assert!(tracer.interrupt().success().stdout.is_empty());
    let lines = lines();
    assert_eq!(text(&lines[0], "/schema"), "tracer.lines/1");
    assert_eq!(number(&lines[0], "/target/pid"), u64::from(target.pid()));
    assert_eq!(kind(lines.last().unwrap()), "end");
    assert_eq!(text(lines.last().unwrap(), "/session/ended_by"), "signal");
    let cycles: Vec<u64> =
        lines.iter().filter(|l| kind(l) == "heap").map(|l| number(l, "/gc_cycle")).collect();
    assert!(cycles.is_sorted_by(|a, b| a < b), "{cycles:?}");
    for wanted in ["process", "goroutines", "allocation", "heap_profile", "goroutine_site", "size_class"] {
        assert!(lines.iter().any(|line| kind(line) == wanted), "no {wanted}");
    }
}
