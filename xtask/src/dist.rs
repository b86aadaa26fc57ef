//! `cargo xtask dist`: tracer as one static file that runs on any x86_64 Linux, in target/dist.
//!
//! Apart from an ordinary build because it must carry everything it needs: the file is held against that before it is handed
//! over. It needs no C compiler for the other C library, and it installs nothing but Rust's own library for that target.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use object::{LittleEndian, elf, read::elf::ElfFile64, read::elf::ProgramHeader as _};
use sha2::{Digest as _, Sha256};

use crate::{command, project};

/// What rustc calls it.
const TARGET: &str = "x86_64-unknown-linux-musl";
/// The profile of Cargo.toml: a release without what only a debugger reads.
const PROFILE: &str = "shipped";

pub fn task(arguments: &[String]) -> Result<()> {
    ensure!(arguments.is_empty(), "`cargo xtask dist` takes no arguments");
    let built = build()?;
    let version = command::output(Command::new(&built).arg("--version"))?;
    let file = project::dist();
    fs::create_dir_all(file.parent().expect("the file lies in a folder"))?;
    // The one that is there may be running: the new one takes its place in one step.
    let fresh = file.with_extension("new");
    fs::copy(&built, &fresh)
        .and_then(|_| fs::rename(&fresh, &file))
        .with_context(|| format!("cannot write {}", file.display()))?;
    let bytes = fs::read(&file)?;
    fs::write(file.with_extension("sha256"), format!("{:x}  tracer\n", Sha256::digest(&bytes)))
        .context("cannot write the checksum")?;
    eprintln!("{version}, one static file of {:.1} MB: {}", bytes.len() as f64 / 1e6, file.display());
    Ok(())
}

/// The program, built where its sources changed and proven to be static.
pub fn build() -> Result<PathBuf> {
    bring_library()?;
    command::run(
        Command::new("cargo")
            .args(["build", "--locked", "--package", "tracer-user", "--bin", "tracer"])
            .args(["--profile", PROFILE, "--target", TARGET])
            .current_dir(project::root()),
    )?;
    let built = project::target().join(TARGET).join(PROFILE).join("tracer");
    let bytes = fs::read(&built).with_context(|| format!("cannot read {}", built.display()))?;
    needs_nothing(&bytes).with_context(|| format!("{} would not run everywhere", built.display()))?;
    Ok(built)
}

/// Rust's standard library for the target, from rustup where it is missing.
fn bring_library() -> Result<()> {
    let root =
        command::output(Command::new("rustc").args(["--print", "sysroot"]).current_dir(project::root()))?;
    if Path::new(&root).join("lib/rustlib").join(TARGET).join("lib").exists() {
        return Ok(());
    }
    if command::find("rustup").is_none() {
        bail!(
            "install Rust by rustup, or its library for {TARGET} into {root}: a static file is built with it"
        );
    }
    command::quiet(Command::new("rustup").args(["target", "add", TARGET]).current_dir(project::root()))
        .with_context(|| format!("run `rustup target add {TARGET}`: a static file is built with it"))
}

/// An error where a program needs a loader or a library beside itself.
fn needs_nothing(bytes: &[u8]) -> Result<()> {
    let file = ElfFile64::<LittleEndian>::parse(bytes).context("not a 64-bit ELF file")?;
    let endian = file.endian();
    for header in file.elf_program_headers() {
        if let Some(loader) = header.interpreter(endian, bytes)? {
            bail!("it needs the loader {}", String::from_utf8_lossy(loader));
        }
        let entries = header.dynamic(endian, bytes)?.unwrap_or_default();
        let libraries = entries.iter().filter(|entry| entry.d_tag.get(endian) == elf::DT_NEEDED);
        ensure!(libraries.count() == 0, "it needs shared libraries; `ldd` names them");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_of_this_machine_needs_its_loader() {
        // This test itself is an ordinary build.
        let own = fs::read(std::env::current_exe().unwrap()).unwrap();
        let why = needs_nothing(&own).unwrap_err().to_string();
        assert!(why.contains("loader") || why.contains("libraries"), "{why}");
        assert!(needs_nothing(b"#!/bin/sh").is_err());
    }
}
