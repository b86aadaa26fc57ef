//! `cargo xtask ebpf`: builds the eBPF programs, commits the object's bytes beside a digest of their sources.
//!
//! Apart from the workspace's build because it needs another compiler: `core` for the BPF target is built from source and bpf-linker
//! turns LLVM bitcode into one object. Nobody who only builds tracer needs any of this.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use crate::command::{self, find};
use crate::{apt, digest, project};

/// bpf-linker reads the bitcode of compilers up to this LLVM.
const LLVM: u32 = 22;
const LINKER_VERSION: &str = "0.13.0";
const TARGET: &str = "bpfel-unknown-none";

pub fn task(arguments: &[String]) -> Result<()> {
    ensure!(arguments.is_empty(), "`cargo xtask ebpf` takes no arguments");
    let root = project::root();
    let object = build(&root.join("tracer-ebpf"), "tracer", &project::target().join("ebpf"))?;
    let folder = root.join(digest::OBJECTS);
    fs::create_dir_all(&folder)?;
    fs::copy(&object, folder.join("tracer-x86_64.o")).context("cannot copy the object")?;
    fs::write(root.join(digest::FILE), digest::compute(root)?).context("cannot write the digest")?;
    eprintln!("wrote {}/tracer-x86_64.o and {}", digest::OBJECTS, digest::FILE);
    Ok(())
}

/// Builds the binary `name` of the crate in `source` for x86_64 and returns the object.
pub fn build(source: &Path, name: &str, target: &Path) -> Result<PathBuf> {
    ensure!(source.join("Cargo.toml").exists(), "there is no eBPF crate in {}", source.display());
    let compiler = Compiler::bring()?;
    let linker = bring_linker()?;
    let folder = linker.parent().expect("the linker lies in a folder");
    let path = std::env::join_paths(
        std::iter::once(folder.to_owned())
            .chain(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())),
    )?;
    // Separated by 0x1f because a flag holds quotes. v3 has 32-bit jumps and registers and atomics that return: kernel 5.12;
    // the verifier of 6.1, the oldest kernel tested, takes it.
    let mut flags = vec![
        "--cfg=bpf_target_arch=\"x86_64\"".to_owned(),
        "-Cdebuginfo=2".to_owned(),
        "-Ctarget-cpu=v3".to_owned(),
    ];
    flags.extend(remapped(source).into_iter().map(|(from, to)| format!("--remap-path-prefix={from}={to}")));
    let mut cargo = compiler.cargo();
    cargo
        .args([
            "build",
            "--release",
            "--locked",
            "--target",
            TARGET,
            "-Z",
            "build-std=core",
            "--bin",
            name,
            "--target-dir",
        ])
        .arg(target)
        .current_dir(source)
        .env("PATH", path)
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
        .env("CARGO_CFG_BPF_TARGET_ARCH", "x86_64");
    command::run(&mut cargo).with_context(|| format!("cannot build {}", source.display()))?;
    Ok(target.join(TARGET).join("release").join(name))
}

/// Debug information names files: none may name this machine, and the same sources give the same bytes on another.
fn remapped(source: &Path) -> Vec<(String, &'static str)> {
    let home = std::env::var("HOME").unwrap_or_default();
    let at = |variable: &str, otherwise: &str| {
        std::env::var(variable).unwrap_or_else(|_| format!("{home}/{otherwise}"))
    };
    let project = source.parent().unwrap_or(source);
    vec![
        (at("CARGO_HOME", ".cargo"), "/cargo"),
        (at("RUSTUP_HOME", ".rustup"), "/rustup"),
        (project.display().to_string(), "/tracer"),
    ]
}

/// A compiler that has the sources of `core` and an LLVM the linker can read.
#[derive(Debug)]
enum Compiler {
    /// A rustup toolchain.
    Rustup(&'static str),
    /// Debian's rustc-web in /usr/bin.
    Debian,
}

impl Compiler {
    fn bring() -> Result<Self> {
        for toolchain in ["nightly", pinned()] {
            if has_sources(toolchain) {
                return Ok(Self::Rustup(toolchain));
            }
        }
        apt::ensure(
            &["rustc-web", "cargo-web", "rust-web-src"],
            "build eBPF programs where rustup has no rust-src",
        )?;
        Ok(Self::Debian)
    }

    /// A cargo that takes `-Z`: nightly by itself, the others because RUSTC_BOOTSTRAP tells them to.
    fn cargo(&self) -> Command {
        match self {
            Self::Rustup(toolchain) => {
                let mut cargo = Command::new("rustup");
                cargo.args(["run", toolchain, "cargo"]);
                // cargo run by rustup for another toolchain exports these, and they win over the one asked for.
                cargo
                    .env_remove("RUSTC")
                    .env_remove("CARGO")
                    .env_remove("RUSTUP_TOOLCHAIN")
                    .env("RUSTC_BOOTSTRAP", "1");
                cargo
            }
            Self::Debian => {
                let mut cargo = Command::new("/usr/bin/cargo");
                cargo
                    .env("RUSTC", "/usr/bin/rustc")
                    .env("RUSTC_BOOTSTRAP", "1")
                    .env_remove("RUSTUP_TOOLCHAIN");
                cargo
            }
        }
    }
}

/// The toolchain the workspace itself is built with.
fn pinned() -> &'static str {
    let file = include_str!("../../rust-toolchain.toml");
    let channel = file.lines().find_map(|line| line.strip_prefix("channel = \""));
    channel.expect("rust-toolchain.toml names a channel").trim_end_matches('"')
}

/// True where the rustup toolchain is there, has or gets rust-src, and its LLVM is not newer than the linker's.
fn has_sources(toolchain: &str) -> bool {
    let said = command::output(
        Command::new("rustup").args(["run", toolchain, "rustc", "-vV"]).env_remove("RUSTUP_TOOLCHAIN"),
    );
    let Some(llvm) = said.ok().as_deref().and_then(llvm_of) else {
        return false;
    };
    llvm <= LLVM
        && command::succeeds(Command::new("rustup").args([
            "component",
            "add",
            "rust-src",
            "--toolchain",
            toolchain,
        ]))
}

/// The major number in `rustc -vV`'s line `LLVM version: 22.1.4`.
fn llvm_of(said: &str) -> Option<u32> {
    let version = said.lines().find_map(|line| line.strip_prefix("LLVM version: "))?;
    version.split('.').next()?.parse().ok()
}

/// bpf-linker of the pinned version: from PATH where it is there, else built into target/bpf-linker.
fn bring_linker() -> Result<PathBuf> {
    let root = project::target().join("bpf-linker");
    let own = root.join("bin/bpf-linker");
    for candidate in [Some(own.clone()), find("bpf-linker")].into_iter().flatten() {
        let said = command::output(Command::new(&candidate).arg("--version")).unwrap_or_default();
        if said.split(' ').nth(1) == Some(LINKER_VERSION) {
            return Ok(candidate);
        }
    }
    apt::ensure(&["llvm-22-dev", "libpolly-22-dev", "zlib1g-dev", "libzstd-dev", "g++"], "build bpf-linker")?;
    eprintln!("building bpf-linker {LINKER_VERSION}");
    let mut install = Command::new("cargo");
    install
        .args([
            "install",
            "bpf-linker",
            "--version",
            LINKER_VERSION,
            "--locked",
            "--no-default-features",
            "--features",
            "llvm-22",
            "--root",
        ])
        .arg(&root)
        .env("LLVM_PREFIX", format!("/usr/lib/llvm-{LLVM}"));
    command::run(&mut install)?;
    if !own.exists() {
        bail!("cargo installed bpf-linker but {} is not there", own.display());
    }
    Ok(own)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pinned_toolchain_is_a_full_version() {
        assert_eq!(pinned().split('.').count(), 3, "{}", pinned());
    }

    #[test]
    fn llvm_is_read_from_what_rustc_says() {
        assert_eq!(llvm_of("rustc 1.97.0\nrelease: 1.97.0\nLLVM version: 22.1.4"), Some(22));
        assert_eq!(llvm_of("rustc 1.97.0"), None);
    }
}
