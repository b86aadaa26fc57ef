//! `cargo xtask fresh`: both commands of the README, from a clone of HEAD, in a bare Debian 12 root.
//!
//! What it proves is that nothing of this machine is needed but its kernel and its way to the registries. All mounts are made in a
//! mount namespace of their own, so that they are gone when the last process in it is, however it ended. No folder of this machine
//! is handed in but /proc, /sys and /dev: the root's rustup brings its own toolchain, and can spoil none.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};

use crate::command::{self, find, is_root};
use crate::{apt, project};

const SUITE: &str = "bookworm";

/// What CONTRACT calls a fresh machine has, beside Rust by rustup.
const PACKAGES: &str = "git,gcc,libc6-dev,ca-certificates";

/// The names rustup answers to; other programs in cargo's bin folder stay outside.
const PROXIES: [&str; 7] =
    ["cargo", "rustc", "rustdoc", "rustfmt", "cargo-fmt", "cargo-clippy", "clippy-driver"];

/// How a machine says the way to the registries; what is set is handed in.
const PASSED: [&str; 14] = [
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "SSL_CERT_FILE",
    "GOPROXY",
    "GONOSUMDB",
    "GOSUMDB",
    "RUSTUP_DIST_SERVER",
    "NPM_CONFIG_REGISTRY",
    "CI",
    "TERM",
];

pub fn task(arguments: &[String]) -> Result<()> {
    ensure!(is_root(), "run `cargo xtask fresh` as root: it makes and enters another root folder");
    apt::ensure(&["debootstrap"], "make a bare Debian root")?;
    let folder = project::target().join("fresh");
    let root = folder.join("root");
    make(&folder, &root)?;
    copy_in(&folder, &root)?;
    let demo_and_test = [["cargo", "xtask", "demo"], ["cargo", "xtask", "test"]]
        .map(|words| words.map(str::to_owned).to_vec());
    let commands = if arguments.is_empty() { demo_and_test.to_vec() } else { vec![arguments.to_vec()] };
    for words in commands {
        let begun = Instant::now();
        eprintln!("== in the bare root: {}", words.join(" "));
        enter(&root, &words)?;
        eprintln!("== in the bare root: {}: {:.0} s", words.join(" "), begun.elapsed().as_secs_f64());
    }
    Ok(())
}

/// The root is made once and copied from then on, so that each run begins with a bare one.
fn make(folder: &Path, root: &Path) -> Result<()> {
    let bare = folder.join("bare");
    if !bare.join(".ready").exists() {
        remove(&bare)?;
        eprintln!("making a bare Debian root in {}", bare.display());
        fs::create_dir_all(folder)?;
        let mut debootstrap = Command::new(find("debootstrap").context("install debootstrap")?);
        debootstrap
            .args(["--variant=minbase", &format!("--include={PACKAGES}"), SUITE])
            .arg(&bare)
            .arg(apt::mirror()?);
        command::quiet(&mut debootstrap)?;
        fs::write(bare.join(".ready"), "")?;
    }
    remove(root)?;
    command::quiet(Command::new("cp").args(["-a", "--reflink=auto"]).arg(&bare).arg(root))
}

/// A folder that an earlier run left. Its mounts went with that run, so that this reaches nothing outside.
fn remove(folder: &Path) -> Result<()> {
    if folder.exists() {
        let mounts = fs::read_to_string("/proc/self/mounts")?;
        let inside = format!("{}/", folder.display());
        ensure!(!mounts.contains(&inside), "unmount what is mounted below {} first", folder.display());
        fs::remove_dir_all(folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    Ok(())
}

/// What the root lacks to reach the registries, rustup itself, and a bundle of HEAD to clone from.
fn copy_in(folder: &Path, root: &Path) -> Result<()> {
    let sources =
        "deb MIRROR SUITE main\ndeb MIRROR SUITE-updates main\ndeb MIRROR-security SUITE-security main\n";
    fs::write(
        root.join("etc/apt/sources.list"),
        sources.replace("MIRROR", &apt::mirror()?).replace("SUITE", SUITE),
    )?;
    for entry in fs::read_dir("/etc/apt/apt.conf.d").into_iter().flatten() {
        let file = entry?.path();
        // Proxies and the like; hooks of this machine's other packages stay outside.
        let text = fs::read_to_string(&file).unwrap_or_default();
        let acquire: Vec<&str> = text
            .lines()
            .filter(|line| line.trim_start().starts_with("Acquire::") && line.trim_end().ends_with(';'))
            .collect();
        if let (false, Some(name)) = (acquire.is_empty(), file.file_name()) {
            fs::write(root.join("etc/apt/apt.conf.d").join(name), acquire.join("\n"))?;
        }
    }
    fs::copy("/etc/resolv.conf", root.join("etc/resolv.conf")).context("cannot copy /etc/resolv.conf")?;
    let certificates = "usr/local/share/ca-certificates";
    if Path::new("/").join(certificates).exists() {
        command::quiet(
            Command::new("cp")
                .arg("-r")
                .arg(Path::new("/").join(certificates))
                .arg(root.join("usr/local/share")),
        )?;
    }
    let bin = root.join("opt/cargo-bin");
    fs::create_dir_all(&bin)?;
    let rustup = find("rustup").context("install Rust by rustup: it is what a fresh machine has")?;
    fs::copy(rustup, bin.join("rustup"))?;
    for name in PROXIES {
        std::os::unix::fs::symlink("rustup", bin.join(name))?;
    }
    bundle(&root.join("head.bundle"))?;
    eprintln!("the clone is of {}", head()?);
    fs::write(folder.join("enter.sh"), include_str!("enter.sh"))?;
    Ok(())
}

/// A bundle and not a path to clone from: git refuses to clone a folder that belongs to somebody else.
fn bundle(file: &Path) -> Result<()> {
    command::quiet(git().args(["bundle", "create", "--quiet"]).arg(file).arg("HEAD"))
}

fn head() -> Result<String> {
    let head = command::output(git().args(["log", "-1", "--format=%h %s"]))?;
    let changed = command::output(git().args(["status", "--porcelain"]))?;
    Ok(if changed.is_empty() { head } else { format!("{head} (what is not committed is not in it)") })
}

fn git() -> Command {
    let root = project::root();
    let mut git = Command::new("git");
    git.arg("-c").arg(format!("safe.directory={}", root.display())).arg("-C").arg(root);
    git
}

/// Runs the words in the root, with a clean environment, in a mount namespace that takes its mounts with it.
fn enter(root: &Path, words: &[String]) -> Result<()> {
    let script = root.parent().expect("the root lies in a folder").join("enter.sh");
    let mut unshare = Command::new("unshare");
    unshare.args(["--mount", "--propagation", "private", "sh"]).arg(script).arg(root).args(words);
    unshare.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").stdin(Stdio::null());
    for name in PASSED {
        if let Some(value) = std::env::var_os(name) {
            unshare.env(name, value);
        }
    }
    let status = unshare.status().context("cannot start unshare")?;
    ensure!(
        status.success(),
        "`{}` ended with {status} in the bare root {}",
        words.join(" "),
        root.display()
    );
    Ok(())
}
