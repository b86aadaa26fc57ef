//! Debian packages: installs what a task lacks, or says which to install. Apart so that there is one place that changes the machine.
//! It installs without recommended packages and never removes or upgrades anything.

use std::process::Command;
use std::sync::Once;

use anyhow::{Context as _, Result, bail};

use crate::command::{self, find, is_root};

/// Makes sure that each package is installed. `why` ends the sentence "... is needed to".
pub fn ensure(packages: &[&str], why: &str) -> Result<()> {
    let missing: Vec<&str> = packages.iter().copied().filter(|package| !is_installed(package)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let names = missing.join(" ");
    if find("apt-get").is_none() {
        bail!("install what Debian calls `{names}`: needed to {why}");
    }
    if !is_root() {
        bail!("run `apt-get install {names}` as root: needed to {why}");
    }
    eprintln!("installing {names}: needed to {why}");
    update_once();
    command::quiet(apt_get().args(["install", "-y", "-qq", "--no-install-recommends"]).args(&missing))
        .with_context(|| format!("apt could not install {names}, needed to {why}"))
}

/// True where dpkg has the package fully installed.
pub fn is_installed(package: &str) -> bool {
    let status = command::output(Command::new("dpkg-query").args(["-W", "-f=${Status}", package]));
    status.is_ok_and(|status| status == "install ok installed")
}

/// The lists are fetched at most once a run. A failure is not the end: the package may be in the lists that are there, and
/// where it is not, the install that follows says so.
pub fn update_once() {
    static UPDATED: Once = Once::new();
    UPDATED.call_once(|| {
        if let Err(error) = command::quiet(apt_get().args(["update", "-qq"])) {
            eprintln!("apt-get update: {error:#}");
        }
    });
}

/// apt-get that asks no questions and waits for another apt to end.
pub fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive").args(["-o", "DPkg::Lock::Timeout=600"]);
    command
}

/// The Debian mirror this machine's own sources name, such as the address that ends in `/debian`.
pub fn mirror() -> Result<String> {
    let listed = command::output(Command::new("apt-get").args([
        "indextargets",
        "--format",
        "$(REPO_URI)",
        "Created-By: Packages",
    ]))?;
    listed
        .lines()
        .map(|address| address.trim_end_matches('/'))
        .find(|address| address.ends_with("/debian"))
        .map(str::to_owned)
        .context("no apt source of this machine ends in /debian: add Debian's own to /etc/apt/sources.list.d")
}
