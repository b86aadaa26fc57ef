//! Debian's cloud kernels as files, fetched with an apt state of their own under target/kernels. Apart from the guest that boots
//! them because fetching needs the network once. Nothing of the machine's own apt is changed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use crate::{apt, command, project};

/// Each series that Debian has, with the suite that carries it. Not in Debian: 5.15 and 6.6.
const SERIES: &[(&str, &str)] =
    &[("5.10", "bullseye"), ("6.1", "bookworm"), ("6.12", "trixie"), ("6.18", "trixie-backports")];

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// The kernel image of the newest cloud kernel of a series such as `6.1`.
pub fn bring(series: &str) -> Result<PathBuf> {
    let known = || SERIES.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    let Some((_, suite)) = SERIES.iter().find(|(name, _)| *name == series) else {
        bail!("Debian has no {series} kernel; there are {}", known());
    };
    let folder = project::target().join("kernels").join(series);
    let image = folder.join("vmlinuz");
    if image.exists() {
        return Ok(image);
    }
    fs::create_dir_all(&folder)?;
    let package = download(series, suite, &folder)
        .with_context(|| format!("cannot fetch Debian's {series} kernel from {suite}"))?;
    extract(&package, &image)?;
    fs::remove_file(&package)?;
    Ok(image)
}

fn download(series: &str, suite: &str, folder: &Path) -> Result<PathBuf> {
    ensure!(
        Path::new(KEYRING).exists(),
        "install debian-archive-keyring: the kernel's signature is checked with it"
    );
    let apt = PrivateApt::new(folder, suite)?;
    eprintln!("fetching Debian's {series} kernel");
    command::quiet(apt.command("apt-get").args(["-qq", "update"]))?;
    let names =
        command::output(apt.command("apt-cache").args(["pkgnames", &format!("linux-image-{series}.")]))?;
    let package =
        newest(&names, series).with_context(|| format!("{suite} lists no cloud kernel {series}"))?;
    command::quiet(apt.command("apt-get").args(["-qq", "download", package]).current_dir(folder))?;
    let start = format!("{package}_");
    fs::read_dir(folder)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|file| file.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&start)))
        .context("apt-get download left no file")
}

/// An apt that knows one suite and keeps its lists here.
struct PrivateApt {
    folder: PathBuf,
}

impl PrivateApt {
    fn new(folder: &Path, suite: &str) -> Result<Self> {
        let folder = folder.join("apt");
        for part in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(folder.join(part))?;
        }
        let line = format!("deb [arch=amd64 signed-by={KEYRING}] {} {suite} main\n", apt::mirror()?);
        fs::write(folder.join("sources.list"), line)?;
        Ok(Self { folder })
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let mut set = |name: &str, value: &str| {
            command.args(["-o", &format!("{name}={value}")]);
        };
        set("Dir::Etc::sourcelist", &self.folder.join("sources.list").to_string_lossy());
        set("Dir::Etc::sourceparts", "/dev/null");
        set("Dir::State::lists", &self.folder.join("lists").to_string_lossy());
        set("Dir::Cache", &self.folder.join("cache").to_string_lossy());
        set("APT::Sandbox::User", "");
        command
    }
}

/// The newest of the names that are exactly a signed cloud kernel of the series, by their numbers.
fn newest<'a>(names: &'a str, series: &str) -> Option<&'a str> {
    let start = format!("linux-image-{series}.");
    names
        .lines()
        .filter_map(|name| {
            let version = name.strip_prefix(&start)?.strip_suffix("-cloud-amd64")?;
            let numbers: Vec<u32> =
                version.split(|c: char| !c.is_ascii_digit()).filter_map(|part| part.parse().ok()).collect();
            Some((numbers, name))
        })
        .max()
        .map(|(_, name)| name)
}

/// Takes the image out of the package, without the modules.
fn extract(package: &Path, image: &Path) -> Result<()> {
    let unpacked = image.with_file_name("unpacked");
    fs::create_dir_all(&unpacked)?;
    command::quiet(Command::new("dpkg-deb").arg("-x").arg(package).arg(&unpacked))?;
    let found = fs::read_dir(unpacked.join("boot"))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|file| file.file_name().is_some_and(|name| name.to_string_lossy().starts_with("vmlinuz")))
        .context("the kernel package holds no boot/vmlinuz")?;
    fs::rename(found, image)?;
    fs::remove_dir_all(&unpacked)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_kernel_is_chosen_by_number_and_only_signed_cloud_ones() {
        let names = "linux-image-6.1.0-9-cloud-amd64\nlinux-image-6.1.0-50-cloud-amd64\nlinux-image-6.1.0-51-amd64\n\
                     linux-image-6.1.0-52-cloud-amd64-unsigned\nlinux-image-6.1.0-53-cloud-arm64";
        assert_eq!(newest(names, "6.1"), Some("linux-image-6.1.0-50-cloud-amd64"));
        let names = "linux-image-6.12.57+deb13-cloud-amd64\nlinux-image-6.12.107+deb13-cloud-amd64";
        assert_eq!(newest(names, "6.12"), Some("linux-image-6.12.107+deb13-cloud-amd64"));
        assert_eq!(newest("", "6.1"), None);
    }
}
