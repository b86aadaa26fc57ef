//! Go programs nobody here wrote, as their makers or Debian built them, fetched by the ordinary clients into target/real.
//!
//! Apart from the fixtures because nothing is known of their inside. Each is fetched once and pinned where its registry can pin.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use xtask::{apt, command, project, toolchains};

use crate::go::Go;
use crate::target::Target;

const ESBUILD: &str = "0.28.2";
const NATS_SERVER: &str = "v2.15.2";

/// A program nobody here wrote.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RealProgram {
    /// npm's esbuild: stripped, built by its maker.
    Esbuild,
    /// Debian's prometheus: an old Go, stripped. Its version is that of the Debian release.
    Prometheus,
    /// nats-server, built from the module proxy with a pinned Go.
    NatsServer,
}

/// All of them.
pub const ALL: [RealProgram; 3] = [RealProgram::Esbuild, RealProgram::Prometheus, RealProgram::NatsServer];

/// One that runs and answers HTTP requests on the loopback address.
#[derive(Debug)]
pub struct Running {
    pub target: Target,
    address: SocketAddrV4,
    path: &'static str,
}

const AGAIN_AFTER: Duration = Duration::from_secs(10);
const START_LIMIT: Duration = Duration::from_secs(30);

impl RealProgram {
    pub fn name(self) -> &'static str {
        match self {
            Self::Esbuild => "esbuild",
            Self::Prometheus => "prometheus",
            Self::NatsServer => "nats-server",
        }
    }

    /// The binary, fetched where it is not there yet.
    pub fn fetch(self) -> Result<PathBuf> {
        match self {
            Self::Esbuild => esbuild(),
            Self::Prometheus => prometheus(),
            Self::NatsServer => nats_server(),
        }
    }

    /// Fetches it, starts it as a server and waits for its first answer.
    pub fn start(self) -> Result<Running> {
        let program = self.fetch()?;
        let folder = project::target().join(format!("real/run-{}-{}", self.name(), std::process::id()));
        fs::create_dir_all(&folder)?;
        let address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, free_port()?);
        let mut command = Command::new(program);
        command.current_dir(&folder).stderr(Stdio::null());
        let path = match self {
            Self::Esbuild => {
                command.args([&format!("--serve={address}"), "--servedir=."]);
                "/"
            }
            Self::Prometheus => {
                let scrape = format!("[{{job_name: own, static_configs: [{{targets: ['{address}']}}]}}]");
                fs::write(
                    folder.join("prometheus.yml"),
                    format!("global: {{scrape_interval: 1s}}\nscrape_configs: {scrape}\n"),
                )?;
                command.args([
                    &format!("--web.listen-address={address}"),
                    "--config.file=prometheus.yml",
                    "--storage.tsdb.path=data",
                ]);
                "/metrics"
            }
            Self::NatsServer => {
                command.args(["-a", "127.0.0.1", "-p", "-1", "-m", &address.port().to_string()]);
                "/varz"
            }
        };
        let mut running = Running { target: Target::start_silent(&mut command), address, path };
        let begun = Instant::now();
        while running.load(1) == 0 {
            ensure!(running.target.is_alive(), "{} ended at once", self.name());
            ensure!(begun.elapsed() < START_LIMIT, "{} did not answer within {START_LIMIT:?}", self.name());
            thread::sleep(Duration::from_millis(50));
        }
        Ok(running)
    }
}

impl Running {
    /// A small load: so many requests one after the other; returns how many were answered.
    pub fn load(&self, requests: usize) -> usize {
        (0..requests).filter(|_| self.ask().is_ok_and(|answer| answer.starts_with(b"HTTP/1"))).count()
    }

    fn ask(&self) -> Result<Vec<u8>> {
        let mut stream = TcpStream::connect(self.address)?;
        stream.set_read_timeout(Some(START_LIMIT))?;
        write!(stream, "GET {} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.path, self.address)?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok(answer)
    }
}

/// A port that nobody listens on now.
fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok(listener.local_addr()?.port())
}

fn esbuild() -> Result<PathBuf> {
    once(&format!("esbuild-{ESBUILD}"), "esbuild", |folder| {
        if command::find("npm").is_none() {
            apt::ensure(&["npm"], "fetch esbuild")?;
        }
        let package = format!("@esbuild/linux-x64@{ESBUILD}");
        let archive =
            command::output(Command::new("npm").args(["pack", "--silent", &package]).current_dir(folder))?;
        let archive = archive.lines().last().context("npm pack named no archive")?.to_owned();
        command::quiet(Command::new("tar").args(["-xzf", &archive]).current_dir(folder))?;
        fs::rename(folder.join("package/bin/esbuild"), folder.join("esbuild"))?;
        fs::remove_file(folder.join(archive))?;
        fs::remove_dir_all(folder.join("package"))?;
        Ok(())
    })
}

fn prometheus() -> Result<PathBuf> {
    once("prometheus", "prometheus", |folder| {
        apt::update_once();
        let mut download = apt::apt_get();
        download.args(["-o", "APT::Sandbox::User=root", "-qq", "download", "prometheus"]).current_dir(folder);
        command::quiet(&mut download)?;
        let package = fs::read_dir(folder)?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .find(|file| file.extension().is_some_and(|end| end == "deb"))
            .context("apt-get download left no package")?;
        let unpacked = folder.join("unpacked");
        command::quiet(Command::new("dpkg-deb").arg("-x").arg(&package).arg(&unpacked))?;
        fs::rename(unpacked.join("usr/bin/prometheus"), folder.join("prometheus"))?;
        fs::remove_dir_all(unpacked)?;
        fs::remove_file(package)?;
        Ok(())
    })
}

fn nats_server() -> Result<PathBuf> {
    let go = Go::demo();
    once(&format!("nats-server-{NATS_SERVER}-go{}", go.pin.version), "nats-server", |folder| {
        let mut install = toolchains::go_command(&go.path);
        // The machine's own settings name its way to the proxy.
        install.env_remove("GOENV").env("GOBIN", folder).env("CGO_ENABLED", "0");
        install.args([
            "install",
            "-buildvcs=false",
            &format!("github.com/nats-io/nats-server/v2@{NATS_SERVER}"),
        ]);
        command::quiet(install.current_dir(folder))
    })
}

/// The program in its folder under target/real, made by `fetch` where it is not there yet. A half-made folder is made again.
/// Registries fail now and then: it is tried again, from nothing.
fn once(folder: &str, program: &str, fetch: impl Fn(&Path) -> Result<()>) -> Result<PathBuf> {
    let real = project::target().join("real");
    let done = real.join(folder);
    if !done.join(program).exists() {
        let unfinished = real.join(format!(".{folder}-{}", std::process::id()));
        let begin = || {
            drop(fs::remove_dir_all(&unfinished));
            fs::create_dir_all(&unfinished)?;
            fetch(&unfinished).with_context(|| format!("cannot fetch {program}"))
        };
        let again = |_| {
            thread::sleep(AGAIN_AFTER);
            begin()
        };
        begin().or_else(again).or_else(again)?;
        ensure!(unfinished.join(program).exists(), "what was fetched holds no {program}");
        if done.exists() {
            fs::remove_dir_all(&done)?;
        }
        fs::rename(&unfinished, &done)?;
    }
    Ok(done.join(program))
}
