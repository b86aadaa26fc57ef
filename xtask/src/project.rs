//! Where things are in this checkout. Apart so that no other file spells a path from the root. It creates nothing.

use std::path::{Path, PathBuf};

/// The root of the checkout: the folder of the workspace's Cargo.toml.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("xtask/ is a folder of the workspace")
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
