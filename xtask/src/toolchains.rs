//! The pinned Go toolchains, brought by the tasks themselves. Apart because everything that builds Go starts here.
//!
//! Never whatever `go` is on PATH: that one is only asked to fetch, and each build runs the pinned version's own binary.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use crate::command::{self, find};
use crate::{apt, project};

/// One pinned version. `variable` is the environment variable that hands its `go` to the tests.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pin {
    pub version: &'static str,
    pub variable: &'static str,
}

impl Pin {
    /// The 26 of 1.26.8.
    pub fn minor(self) -> u32 {
        let minor = self.version.split('.').nth(1).and_then(|minor| minor.parse().ok());
        minor.expect("a pinned version has a minor number")
    }
}

/// One patch release of every Go minor that is supported, oldest first: the matrix and the layout table.
pub const EVERY: [Pin; 9] = [
    Pin { version: "1.19.8", variable: "TRACER_GO_1_19" },
    Pin { version: "1.20.14", variable: "TRACER_GO_1_20" },
    Pin { version: "1.21.13", variable: "TRACER_GO_1_21" },
    Pin { version: "1.22.10", variable: "TRACER_GO_1_22" },
    Pin { version: "1.23.9", variable: "TRACER_GO_1_23" },
    Pin { version: "1.24.11", variable: "TRACER_GO_1_24" },
    Pin { version: "1.25.5", variable: "TRACER_GO_1_25" },
    Pin { version: "1.26.8", variable: "TRACER_GO_1_26" },
    Pin { version: "1.27.3", variable: "TRACER_GO_1_27" },
];

/// The Go versions that every live test runs on. The middle one also builds the demo.
pub const PINS: [Pin; 3] = [EVERY[3], EVERY[7], EVERY[8]];

/// The version that builds the demo program.
pub const DEMO: Pin = PINS[1];

/// The one pinned version that comes from Debian (12), beside any other Go and not on PATH.
const DEBIAN: &str = "1.19.8";
const DEBIAN_PACKAGE: &str = "golang-1.19-go";
const DEBIAN_GO: &str = "/usr/lib/go-1.19/bin/go";

/// A pinned toolchain that is on this machine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Toolchain {
    pub pin: Pin,
    /// Absolute path of this version's own `go`.
    pub go: PathBuf,
}

impl Toolchain {
    /// This version's `go`, deaf to what the machine says about versions and flags.
    pub fn command(&self) -> Command {
        go_command(&self.go)
    }
}

/// A `go` at an absolute path that runs as itself: its own GOROOT, no switch to another version, no flags from outside.
pub fn go_command(go: &Path) -> Command {
    let mut command = Command::new(go);
    command.env("GOTOOLCHAIN", "local").env("GOENV", "off").env("GOWORK", "off").env("GOFLAGS", "");
    if let Some(root) = go.parent().and_then(Path::parent) {
        command.env("GOROOT", root);
    }
    command
}

/// All pinned toolchains, fetched where they are missing.
pub fn all() -> Result<Vec<Toolchain>> {
    let found: Vec<Toolchain> = EVERY.into_iter().map(bring).collect::<Result<_>>()?;
    remember(&found)?;
    Ok(found)
}

/// One pinned toolchain, fetched where it is missing.
pub fn bring(pin: Pin) -> Result<Toolchain> {
    ensure!(
        cfg!(all(target_os = "linux", target_arch = "x86_64")),
        "run this on x86_64 Linux: the Go toolchains are pinned for it"
    );
    if let Some(go) = remembered(pin) {
        return Ok(Toolchain { pin, go });
    }
    if pin.version == DEBIAN {
        apt::ensure(&[DEBIAN_PACKAGE], "trace programs of Go 1.19, which Go's module proxy does not have")?;
        let go = PathBuf::from(DEBIAN_GO);
        ensure!(is_version(&go, pin), "install Debian 12's {DEBIAN_PACKAGE}: {DEBIAN_GO} is not Go {DEBIAN}");
        return Ok(Toolchain { pin, go });
    }
    let go = fetcher()?;
    // GOTOOLCHAIN names no version before the one that brought it.
    let switches = go.switches && pin.minor() >= 21;
    let root =
        if switches { by_switching(&go.path, pin) } else { by_module(&go.path, pin) }.with_context(|| {
            format!("cannot bring Go {}: check that Go's module proxy can be reached (GOPROXY)", pin.version)
        })?;
    let own = root.join("bin/go");
    set_run_bits(&root).with_context(|| format!("cannot make {} executable", root.display()))?;
    ensure!(is_version(&own, pin), "{} is not Go {}", own.display(), pin.version);
    Ok(Toolchain { pin, go: own })
}

/// The file in which set-up leaves the paths for a plain `cargo test`, as lines `VARIABLE=path`.
pub fn memory() -> PathBuf {
    project::target().join("xtask/toolchains")
}

fn remember(found: &[Toolchain]) -> Result<()> {
    let mut lines = String::new();
    for Toolchain { pin, go } in found {
        writeln!(lines, "{}={}", pin.variable, go.display()).expect("writing to a string does not fail");
    }
    let file = memory();
    fs::create_dir_all(file.parent().expect("the file lies in a folder"))
        .context("cannot create target/xtask")?;
    fs::write(&file, lines).with_context(|| format!("cannot write {}", file.display()))
}

fn remembered(pin: Pin) -> Option<PathBuf> {
    let text = fs::read_to_string(memory()).ok()?;
    let path = text.lines().find_map(|line| line.strip_prefix(pin.variable)?.strip_prefix('='))?;
    let go = PathBuf::from(path);
    is_version(&go, pin).then_some(go)
}

fn is_version(go: &Path, pin: Pin) -> bool {
    let said = command::output(go_command(go).arg("version")).unwrap_or_default();
    said.split(' ').nth(2) == Some(&format!("go{}", pin.version))
}

struct Fetcher {
    path: PathBuf,
    /// Go 1.21 and later fetch another version by GOTOOLCHAIN.
    switches: bool,
}

/// Any `go` that can fetch: the one on PATH, else Debian's.
fn fetcher() -> Result<Fetcher> {
    let path = if let Some(path) = find("go") {
        path
    } else {
        apt::ensure(&["golang-go", "ca-certificates"], "fetch the pinned Go toolchains")?;
        find("go").context("install Go (Debian's golang-go): it is not on PATH after its installation")?
    };
    let said = command::output(Command::new(&path).arg("version").env("GOTOOLCHAIN", "local"))?;
    let minor =
        minor_of(&said).with_context(|| format!("install Go 1.19 or later: `go version` says {said:?}"))?;
    if minor < 19 {
        bail!("install Go 1.19 or later: 1.{minor} cannot fetch the pinned toolchains");
    }
    Ok(Fetcher { path, switches: minor >= 21 })
}

/// The minor number in `go version go1.26.8 linux/amd64`.
fn minor_of(said: &str) -> Option<u32> {
    let version = said.split(' ').nth(2)?.strip_prefix("go1.")?;
    version.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

fn by_switching(go: &Path, pin: Pin) -> Result<PathBuf> {
    eprintln!("bringing Go {} (GOTOOLCHAIN)", pin.version);
    let root = command::output(
        Command::new(go)
            .args(["env", "GOROOT"])
            .env("GOTOOLCHAIN", format!("go{}", pin.version))
            .env_remove("GOROOT"),
    )?;
    Ok(PathBuf::from(root))
}

/// By and for versions before 1.21 a toolchain is fetched like any module; the go command checks its sum.
fn by_module(go: &Path, pin: Pin) -> Result<PathBuf> {
    eprintln!("bringing Go {} (module golang.org/toolchain)", pin.version);
    let module = format!("golang.org/toolchain@v0.0.1-go{}.linux-amd64", pin.version);
    let mut download = Command::new(go);
    download.args(["mod", "download", &module]).current_dir("/").env("GOTOOLCHAIN", "local");
    command::quiet(&mut download)?;
    let cache = command::output(Command::new(go).args(["env", "GOMODCACHE"]))?;
    Ok(Path::new(&cache).join(module))
}

/// A module archive carries no modes, so that what must run is marked here.
fn set_run_bits(root: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    for folder in ["bin", "pkg/tool/linux_amd64"] {
        let folder = root.join(folder);
        if !folder.exists() {
            continue;
        }
        for entry in fs::read_dir(&folder)? {
            let file = entry?.path();
            let mut permissions = file.metadata()?.permissions();
            if permissions.mode() & 0o111 == 0 {
                permissions.set_mode(permissions.mode() | 0o555);
                fs::set_permissions(&file, permissions)?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minor_numbers_are_read_from_what_go_says() {
        assert_eq!(minor_of("go version go1.26.8 linux/amd64"), Some(26));
        assert_eq!(minor_of("go version go1.19 linux/amd64"), Some(19));
        assert_eq!(minor_of("go version go1.27rc1 linux/amd64"), Some(27));
        assert_eq!(minor_of("go version devel +abc"), None);
        assert_eq!(minor_of(""), None);
    }
}
