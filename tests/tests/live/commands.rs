//! What `list`, `check`, `goroutines`, `completions` and `--help` say, against /proc, `go version -m` and the contract.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::time::Duration;

use tracer_tests::go::{Go, matrix};
use tracer_tests::live;
use tracer_tests::scratch::Scratch;
use tracer_tests::target::Target;
use tracer_tests::tracer::Tracer;

const END: Duration = Duration::from_secs(30);

fn said(arguments: &[&str]) -> String {
    Tracer::run(arguments, END).success().stdout
}

/// A line of /proc/PID/status in KiB.
fn status_kib(pid: u32, field: &str) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    line.trim_start_matches(':').trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn list_says_what_proc_and_go_version_say() {
    live!(Root, Tracer, Go);
    for (go, mode) in matrix() {
        let program = go.build("goroutines", mode);
        let target = Target::start(&program);
        let list = said(&["list"]);
        let row = list
            .lines()
            .find(|row| row.split_whitespace().next() == Some(&target.pid().to_string()))
            .unwrap_or_else(|| panic!("{} is missing in\n{list}", target.pid()));
        let words: Vec<&str> = row.split_whitespace().collect();
        let told = Command::new(&go.path).args(["version", "-m"]).arg(&program).output().unwrap();
        let told = String::from_utf8(told.stdout).unwrap();
        let version = told.lines().next().unwrap().rsplit(' ').next().unwrap();
        assert_eq!(words[1], version, "{row}");
        let pie = told.contains("-buildmode=pie");
        assert_eq!(row.contains("stripped pie"), pie, "{row}\n{told}");
        assert_eq!(row.contains("ordinary"), !pie, "{row}");
        // RSS as a person reads it: within a tenth, for it moves.
        let unit = row.find(" KiB").map(|at| (at, 1.0)).or_else(|| row.find(" MiB").map(|at| (at, 1024.0)));
        let (at, unit) = unit.unwrap();
        let rss = row[..at].rsplit(' ').next().unwrap().parse::<f64>().unwrap() * unit;
        let truth = status_kib(target.pid(), "VmRSS");
        assert!((rss - truth).abs() < truth * 0.1, "{rss} KiB in {row}, {truth} in /proc");
        assert!(row.ends_with("readings and probes"), "{row}");
        let comm = fs::read_to_string(format!("/proc/{}/comm", target.pid())).unwrap();
        assert!(words.contains(&comm.trim()), "{row}");
    }
    // No shell, no test program: this process is no Go program.
    let own = std::process::id().to_string();
    assert!(said(&["list"]).lines().all(|row| row.split_whitespace().next() != Some(&own)));
}

#[test]
fn check_says_what_go_version_and_the_kernel_say() {
    live!();
    for (go, mode) in matrix() {
        let program = go.build("goroutines", mode);
        let mut target = Target::start(&program);
        let check = said(&["check", "--pid", &target.pid().to_string()]);
        let pie = mode == tracer_tests::go::Mode::StrippedPie;
        let yes = |is: bool| if is { "yes" } else { "no" };
        for line in [
            format!("go            go{}\n", go.pin.version),
            format!("executable    {}\n", program.display()),
            "module        fixture/goroutines\n".to_owned(),
            format!("stripped {}, pie {} (load bias", yes(pie), yes(pie)),
            format!("kernel {}\n", tracer_tests::requirements::kernel()),
            "CAP_SYS_PTRACE yes, CAP_BPF yes, CAP_PERFMON yes, CAP_SYS_ADMIN yes".to_owned(),
            "eBPF          loads".to_owned(),
            "runtime.newproc1+".to_owned(),
        ] {
            assert!(check.contains(&line), "no {line:?} in\n{check}");
        }
        assert!(!check.contains(" no: "), "{check}");
        // The runtime's own goroutines are what its profile leaves out.
        let counted = target.ask("count").as_u64().unwrap();
        let line = check.lines().find(|line| line.trim_start().starts_with("goroutines ")).unwrap();
        let told: u64 = line.split("yes, ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
        assert!(told >= counted && told < counted + 32, "{line}, the target counts {counted}");
        // A site lies where the symbol table has its function.
        assert!(!tracer_tests::instructions::planned(target.pid()).is_empty());
    }
}

#[test]
fn a_program_without_build_information_is_recognised() {
    live!(Root, Tracer, Go);
    for go in Go::all() {
        let mut bytes = fs::read(go.build("goroutines", tracer_tests::go::Mode::Ordinary)).unwrap();
        let mark = b"\xff Go buildinf:";
        while let Some(at) = bytes.windows(mark.len()).position(|window| window == mark) {
            bytes[at..at + mark.len()].fill(0);
        }
        let scratch = Scratch::new("no-build-information");
        let program = scratch.file("program");
        fs::write(&program, bytes).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let told = Command::new(&go.path).arg("version").arg(&program).output().unwrap();
        assert!(!told.status.success() || told.stdout.is_empty(), "go still finds its version: {told:?}");
        let target = Target::start(&program);
        let check = said(&["check", "--pid", &target.pid().to_string()]);
        assert!(check.contains(&format!("go            go{}\n", go.pin.version)), "{check}");
        assert!(check.contains("runtime.newproc1+") && !check.contains(" no: "), "{check}");
    }
}

#[test]
fn goroutines_are_the_targets_own() {
    live!(Root, Tracer, Go);
    let mut target = Target::start(&Go::demo().build("goroutines", tracer_tests::go::Mode::Ordinary));
    target.ask("start chan-receive 7");
    target.ask("start select 5");
    let pid = target.pid().to_string();
    let text = said(&["goroutines", "--pid", &pid]);
    for (count, wait, site) in
        [("7", "chan receive", "main.startReceiver"), ("5", "select", "main.startSelector")]
    {
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        let head = format!("{count}  {wait}");
        let found = lines
            .windows(2)
            .any(|two| two[0].starts_with(&head) && two[1].starts_with("started") && two[1].contains(site));
        assert!(found, "no {count} {wait} {site} in\n{text}");
    }
    let report = Tracer::run(&["goroutines", "--pid", &pid, "--format", "json"], END).success().json();
    assert_eq!(report["schema"], "tracer.report/1");
    let sites = report["goroutines"]["sites"].as_array().unwrap();
    let receivers = sites.iter().find(|site| site["created_by"]["function"] == "main.startReceiver").unwrap();
    assert_eq!((receivers["count"].as_u64(), receivers["wait"].as_str()), (Some(7), Some("chan receive")));
    assert!(target.is_alive());
}

#[test]
fn completions_know_the_options() {
    live!(Tracer);
    for (shell, mark) in [("bash", "complete -F"), ("zsh", "#compdef tracer"), ("fish", "complete -c tracer")]
    {
        let script = said(&["completions", shell]);
        assert!(
            script.contains(mark) && script.contains("sampler") && script.contains("goroutines"),
            "{shell}"
        );
    }
    // What bash completes, asked of bash itself.
    let script = said(&["completions", "bash"]);
    let asked = "COMP_WORDS=(tracer --sampler); COMP_CWORD=1; _tracer tracer --sampler tracer; echo \"${COMPREPLY[*]}\"";
    let done = Command::new("bash").args(["-c", &format!("{script}\n{asked}")]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&done.stdout).trim(), "--sampler", "{done:?}");
}

/// Words of the contract's options and commands that are not built.
const NOT_BUILT: [&str; 13] = [
    "--all",
    "--wait",
    "--children",
    "--max-memory",
    "--max-cpu",
    "--when",
    "--fail-on",
    "--ignore",
    "--baseline",
    "--show-values",
    "--freeze",
    "prometheus",
    "oom-killed",
];

#[test]
fn help_promises_only_what_is_built() {
    live!(Tracer);
    let help = said(&["--help"]);
    let short = said(&["-h"]);
    let commands = ["list", "check", "diff", "goroutines", "heap", "replay", "stop-all", "completions"]
        .map(|name| said(&[name, "--help"]));
    let everything = [help.clone(), short, commands.concat()].concat();
    let words: Vec<&str> = everything
        .split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'))
        .filter(|word| !word.is_empty())
        .collect();
    for absent in NOT_BUILT {
        assert!(!words.contains(&absent), "{absent} is promised:\n{everything}");
        if absent.starts_with("--") {
            let refused = Tracer::run(&["--pid", "1", absent], END);
            assert_eq!(refused.status.code(), Some(2), "{absent}");
        }
    }
    for present in [
        "--pid",
        "--name",
        "--duration",
        "--until",
        "--interval",
        "--sampler",
        "--sample-bytes",
        "--overhead-budget",
        "--run-dir",
        "stop-all",
        "--events",
        "--attach",
        "--record",
        "--format",
        "--output",
    ] {
        assert!(help.contains(present), "{present} is missing:\n{help}");
    }
    assert!(help.contains("Examples:"), "{help}");
    let version = said(&["--version"]);
    assert_eq!(version.trim(), format!("tracer {}", env!("CARGO_PKG_VERSION")));
}
