//! `cargo xtask setup`: everything the demo and the tests need from outside, before they start.
//!
//! Apart so that a person can do it once with the network at hand. It installs only what is missing.

use anyhow::{Result, ensure};

use crate::toolchains::{self, Toolchain};

pub fn task(arguments: &[String]) -> Result<()> {
    ensure!(arguments.is_empty(), "`cargo xtask setup` takes no arguments");
    for Toolchain { pin, go } in bring()? {
        eprintln!("{}={}", pin.variable, go.display());
    }
    Ok(())
}

/// The pinned Go toolchains. Packages that only one test needs (npm, qemu) are brought by that test.
pub fn bring() -> Result<Vec<Toolchain>> {
    toolchains::all()
}
