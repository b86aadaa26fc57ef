//! Go programs nobody here wrote, as their makers or Debian built them, fetched by the ordinary clients into target/real.
//!
//! Apart from the fixtures because nothing is known of their inside. Each is fetched once and pinned where its registry can pin.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use xtask::{apt, command, project, toolchains};

use crate::go::Go;

const ESBUILD: &str = "0.28.2";
const NATS_SERVER: &str = "v2.15.2";

/// npm's esbuild: stripped, built by its maker.
pub fn esbuild() -> Result<PathBuf> {
    once(&format!("esbuild-{ESBUILD}"), "esbuild", |folder| {
        if command::find("npm").is_none() {
            apt::ensure(&["npm"], "fetch esbuild")?;
        }
        let package = format!("@esbuild/linux-x64@{ESBUILD}");
        let archive = command::output(
            Command::new("npm")
                .args(["pack", "--silent", &package])
                .current_dir(folder),
        )?;
        let archive = archive
            .lines()
            .last()
            .context("npm pack named no archive")?
            .to_owned();
        command::quiet(
            Command::new("tar")
                .args(["-xzf", &archive])
                .current_dir(folder),
        )?;
        fs::rename(folder.join("package/bin/esbuild"), folder.join("esbuild"))?;
        fs::remove_file(folder.join(archive))?;
        fs::remove_dir_all(folder.join("package"))?;
        Ok(())
    })
}

/// Debian's prometheus: an old Go, stripped, PIE or not as Debian likes. Its version is that of the release.
pub fn prometheus() -> Result<PathBuf> {
    once("prometheus", "prometheus", |folder| {
        apt::update_once();
        let mut download = apt::apt_get();
        download
            .args([
                "-o",
                "APT::Sandbox::User=root",
                "-qq",
                "download",
                "prometheus",
            ])
            .current_dir(folder);
        command::quiet(&mut download)?;
        let package = fs::read_dir(folder)?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .find(|file| file.extension().is_some_and(|end| end == "deb"))
            .context("apt-get download left no package")?;
        let unpacked = folder.join("unpacked");
        command::quiet(
            Command::new("dpkg-deb")
                .arg("-x")
                .arg(&package)
                .arg(&unpacked),
        )?;
        fs::rename(
            unpacked.join("usr/bin/prometheus"),
            folder.join("prometheus"),
        )?;
        fs::remove_dir_all(unpacked)?;
        fs::remove_file(package)?;
        Ok(())
    })
}

/// nats-server, built from the module proxy with a pinned Go.
pub fn nats_server() -> Result<PathBuf> {
    let go = Go::demo();
    once(
        &format!("nats-server-{NATS_SERVER}-go{}", go.pin.version),
        "nats-server",
        |folder| {
            let mut install = toolchains::go_command(&go.path);
            // The machine's own settings name its way to the proxy.
            install
                .env_remove("GOENV")
                .env("GOBIN", folder)
                .env("CGO_ENABLED", "0");
            install.args([
                "install",
                "-buildvcs=false",
                &format!("github.com/nats-io/nats-server/v2@{NATS_SERVER}"),
            ]);
            command::quiet(install.current_dir(folder))
        },
    )
}

/// The program in its folder under target/real, made by `fetch` where it is not there yet. A half-made folder is made again.
fn once(folder: &str, program: &str, fetch: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let real = project::target().join("real");
    let done = real.join(folder);
    if !done.join(program).exists() {
        let unfinished = real.join(format!(".{folder}-{}", std::process::id()));
        fs::create_dir_all(&unfinished)?;
        fetch(&unfinished).with_context(|| format!("cannot fetch {program}"))?;
        ensure!(
            unfinished.join(program).exists(),
            "what was fetched holds no {program}"
        );
        if done.exists() {
            fs::remove_dir_all(&done)?;
        }
        fs::rename(&unfinished, &done)?;
    }
    Ok(done.join(program))
}
