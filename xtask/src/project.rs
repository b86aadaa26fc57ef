//! Where things are in this checkout. Apart so that no other file spells a path from the root. It creates nothing.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::command;

/// The root of the checkout: the folder of the workspace's Cargo.toml. What cargo says as it runs us comes first: with a target folder
/// that two checkouts share, the binary may have been built in the other one. Every crate is a folder of the root.
pub fn root() -> &'static Path {
    static ROOT: OnceLock<PathBuf> = OnceLock::new();
    ROOT.get_or_init(|| {
        let running = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
        let built = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        [running, Some(built.clone())]
            .into_iter()
            .flatten()
            .filter_map(|folder| folder.parent().map(Path::to_path_buf))
            .find(|root| root.join("xtask/Cargo.toml").exists())
            .unwrap_or(built)
    })
}

/// Cargo's target folder; everything that is built or fetched lies in it.
pub fn target() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(folder) => root().join(folder),
        None => root().join("target"),
    }
}

/// The sources of the Go program called `name` that the tests and the demo trace.
pub fn fixture(name: &str) -> PathBuf {
    root().join("tests/fixtures/go").join(name)
}

/// The `tracer` binary of a release build.
pub fn tracer() -> PathBuf {
    target().join("release/tracer")
}

/// The `tracer` binary that needs nothing beside itself.
pub fn dist() -> PathBuf {
    target().join("dist/tracer")
}

/// The commit that is checked out, and whether the sources differ from it. Pages that tasks write do not count.
pub fn commit() -> String {
    let git = |arguments: &[&str]| {
        command::output(Command::new("git").args(arguments).current_dir(root())).unwrap_or_default()
    };
    let changed = git(&["status", "--porcelain", "--", ":!docs"]);
    let suffix = if changed.is_empty() { "" } else { " with changes" };
    format!("{}{suffix}", git(&["rev-parse", "--short=12", "HEAD"]))
}
