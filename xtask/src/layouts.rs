//! `cargo xtask layouts [--check]`: writes the numbers of tracer-user/src/goruntime/layouts.rs anew, from every Go's debugging
//! information.
//!
//! Apart from the reading, which is the live test `layouts` of the tests crate: this brings the toolchains and runs that one test, which
//! writes or compares.

use std::process::Command;

use anyhow::{Result, bail};

use crate::toolchains::{self, Toolchain};
use crate::{command, project};

/// Tells the test to write the table instead of comparing it.
pub const WRITE: &str = "TRACER_LAYOUTS_WRITE";

pub fn task(arguments: &[String]) -> Result<()> {
    let write = match arguments {
        [] => true,
        [word] if word == "--check" => false,
        _ => bail!("say `cargo xtask layouts [--check]`"),
    };
    let toolchains = toolchains::all()?;
    let mut test = Command::new("cargo");
    test.args(["test", "--package", "tracer-tests", "--locked", "--test", "live"])
        .args(["--", "--exact", "layouts::the_table_is_what_its_generator_makes"])
        .current_dir(project::root())
        .env("CI", "1");
    if write {
        test.env(WRITE, "1");
    }
    for Toolchain { pin, go } in &toolchains {
        test.env(pin.variable, go);
    }
    command::run(&mut test)
}
