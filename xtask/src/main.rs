//! `cargo xtask NAME`: a table of tasks, each a name, a function and a sentence.
//!
//! Apart from the library so that the tests can call the same functions. It only looks up the table; it never does work itself.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a task talks to the person who runs it")]

use std::env;
use std::process::ExitCode;

use xtask::{
    accuracy, bench, captures, demo, dist, ebpf, fresh, fuzz, go_matrix, layouts, setup, test, tidy, vm,
};

type Run = fn(&[String]) -> anyhow::Result<()>;

const TASKS: &[(&str, Run, &str)] = &[
    ("setup", setup::task, "bring everything the other tasks need: Go toolchains and Debian packages"),
    ("demo", demo::task, "trace a leaking Go program as it runs and print the report (root)"),
    ("test", test::task, "run every check and test; all of CI (root for the live tests)"),
    ("dist", dist::task, "build tracer as one static file that runs on any x86_64 Linux: target/dist/tracer"),
    ("tidy", tidy::task, "check the rules of ARCHITECTURE.md and docs/style.md that a program can check"),
    ("ebpf", ebpf::task, "rebuild the committed eBPF objects and the digest of their sources"),
    (
        "bench",
        bench::task,
        "[--check] [--quick] [CHAPTER]: measure costs and times, write docs/benchmarks.md (root)",
    ),
    (
        "captures",
        captures::task,
        "[WORD|--reports]: record the sessions of tests/captures again (root), or print their reports",
    ),
    (
        "go-matrix",
        go_matrix::task,
        "[WORD]: check every supported Go, built every way, and write docs/support.md (root)",
    ),
    (
        "fuzz",
        fuzz::task,
        "[--minutes N] TARGET... | --all: hostile bytes against the parsers; --page writes docs/fuzzing.md",
    ),
    (
        "accuracy",
        accuracy::task,
        "measure how far sampled estimates and types are off, write docs/accuracy.md (root)",
    ),
    ("layouts", layouts::task, "[--check]: write the table of the runtime's structures anew, from every Go"),
    ("vm", vm::task, "KERNEL -- COMMAND [FILE...]: run a command on another Debian kernel under QEMU"),
    (
        "fresh",
        fresh::task,
        "[COMMAND...]: run demo and test, or COMMAND, from a clone in a bare Debian 12 root (root)",
    ),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let Some((name, rest)) = arguments.split_first() else {
        print_table();
        return ExitCode::SUCCESS;
    };
    let Some((_, run, _)) = TASKS.iter().find(|(task, _, _)| task == name) else {
        eprintln!("xtask: there is no task `{name}`; `cargo xtask` lists them");
        return ExitCode::from(2);
    };
    match run(rest) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask {name}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn print_table() {
    println!("cargo xtask TASK\n");
    for (name, _, sentence) in TASKS {
        println!("  {name:<9} {sentence}");
    }
}
