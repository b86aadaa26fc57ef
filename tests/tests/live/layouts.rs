//! The layout table against the DWARF of programs built now by the toolchains it speaks of.
//!
//! The truth of the numbers is Go's own `debug/dwarf`, run by a small Go program; nothing of ours reads the DWARF. That the file is
//! what its generator makes is another matter, and held for every version.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use tracer_tests::go::{Mode, Variant};
use tracer_tests::image::image;
use tracer_tests::{go, layouts, live};
use tracer_user::goruntime::layout::Layout;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/go").join(name)
}

/// Builds a fixture with one Go version. Tests run side by side: each has files of its own.
fn build(name: &str, version: &str, test: u32) -> PathBuf {
    let output = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("layouts-{test}-{name}"));
    let done = go::command(version)
        .args(["build", "-o"])
        .arg(&output)
        .arg(".")
        .current_dir(fixture(name))
        .env("CGO_ENABLED", "0")
        .output()
        .expect("go runs");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    output
}

fn check(minor: u32, version: &str) {
    let program = build("state", version, minor);
    check_row(&program, Layout::for_minor(minor).unwrap(), version, minor);
}

fn check_row(program: &Path, layout: &Layout, version: &str, test: u32) {
    let reader = build("dwarf", "1.26.8", test);
    let fields = layout.fields();
    let output =
        Command::new(reader).arg(program).args(fields.iter().map(|(path, _)| path)).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let truth: HashMap<&str, Option<u32>> = text
        .lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(path, offset)| (path, offset.parse().ok()))
        .collect();
    assert_eq!(truth.len(), fields.len());
    let wrong: Vec<String> = fields
        .iter()
        .filter(|(path, ours)| truth[path] != *ours)
        .map(|(path, ours)| format!("{path}: ours {ours:?}, DWARF {:?}", truth[path]))
        .collect();
    assert!(wrong.is_empty(), "go{version}:\n{}", wrong.join("\n"));
}

#[test]
fn go_1_22() {
    live!(Go);
    check(22, "1.22.10");
}

#[test]
fn go_1_26() {
    live!(Go);
    check(26, "1.26.8");
}

#[test]
fn go_1_27() {
    live!(Go);
    check(27, "1.27.3");
}

/// Nothing but the functions that such a program links leads to its row.
#[test]
fn rows_of_experiments() {
    live!(EveryGo);
    for (n, row) in layouts::VARIANTS.iter().enumerate() {
        let go = go::Go::every().into_iter().find(|go| go.pin.minor() == row.minor).unwrap();
        let open = |experiment| {
            let program = go.build("state", Variant { experiment, ..Mode::Ordinary.into() });
            let image = image(&program);
            (program, image)
        };
        let (_, ordinary) = open("");
        assert_eq!(ordinary.layout(), Layout::for_minor(row.minor).unwrap());
        assert!(!ordinary.has_of(row.function, row.file), "{row:?}");
        let (program, image) = open(row.experiment);
        assert_ne!(image.layout(), ordinary.layout(), "{row:?}");
        assert!(image.has_of(row.function, row.file), "{row:?}");
        check_row(
            &program,
            image.layout(),
            &format!("{} {}", go.pin.version, row.experiment),
            100 + n as u32,
        );
    }
}

/// `cargo xtask layouts` sets the variable, and then this writes the file instead.
#[test]
fn the_table_is_what_its_generator_makes() {
    live!(EveryGo);
    let made = layouts::generate();
    if std::env::var_os(xtask::layouts::WRITE).is_some() {
        std::fs::write(layouts::file(), made).unwrap();
        return;
    }
    let held = std::fs::read_to_string(layouts::file()).unwrap();
    let differ = made.lines().zip(held.lines()).find(|(made, held)| made != held);
    assert!(made == held, "run `cargo xtask layouts`: {differ:?}");
}
