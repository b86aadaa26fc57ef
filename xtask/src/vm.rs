//! Runs a command on another kernel: boots it under QEMU with a busybox initramfs that holds the files.
//!
//! Apart from the tests because it is also a task. No disk, network or kernel module is used: everything is packed in, the serial
//! console carries the output out. A command is never run twice; only a guest that never reached its init is booted again.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{apt, command, kernels, project};

/// What to run where.
#[derive(Clone, Debug)]
pub struct Guest<'a> {
    /// The kernel series, such as `6.1`.
    pub kernel: &'a str,
    /// A line for the guest's `sh`; it stands in the folder of the files, which is on PATH.
    pub command: &'a str,
    /// Static programs and data; the guest has no C library.
    pub files: &'a [PathBuf],
    /// For one boot and the command, under emulation.
    pub limit: Duration,
}

/// What came of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// The guest's `uname -r`.
    pub kernel: String,
    /// The command's stdout and stderr as the console showed them.
    pub output: String,
    /// The command's exit status.
    pub status: i32,
}

const BOOTED: &str = "VM-KERNEL ";
const ENDED: &str = "VM-EXIT ";

/// QEMU 7.2 corrupts about one boot in twenty of some kernels before init runs.
const BOOTS: u32 = 4;

const MEMORY_MIB: u32 = 1536;

/// `cargo xtask vm KERNEL -- COMMAND [FILE...]`
pub fn task(arguments: &[String]) -> Result<()> {
    let [kernel, dashes, command, files @ ..] = arguments else {
        bail!(
            "say `cargo xtask vm KERNEL -- COMMAND [FILE...]`, for example `cargo xtask vm 6.1 -- 'uname -a'`"
        );
    };
    ensure!(dashes == "--", "put `--` between the kernel and the command");
    let files: Vec<PathBuf> = files.iter().map(PathBuf::from).collect();
    let outcome = run(&Guest { kernel, command, files: &files, limit: Duration::from_mins(5) })?;
    eprintln!("kernel {}", outcome.kernel);
    std::io::stdout().write_all(outcome.output.as_bytes())?;
    ensure!(outcome.status == 0, "the command ended with status {} in the guest", outcome.status);
    Ok(())
}

/// Boots the kernel, runs the command, returns its output and status.
pub fn run(guest: &Guest<'_>) -> Result<Outcome> {
    apt::ensure(&["qemu-system-x86", "busybox-static", "cpio"], "run tests on another kernel")?;
    let kernel = kernels::bring(guest.kernel)?;
    let work = Scratch::new()?;
    let initramfs = pack(guest, work.path())?;
    for boot in 1..=BOOTS {
        let console = boot_once(&kernel, &initramfs, &work.path().join("console"), guest.limit)?;
        match read_console(&console) {
            Console::Done(outcome) => return Ok(outcome),
            Console::NeverBooted => {
                eprintln!("boot {boot} of kernel {} never reached init", guest.kernel);
            }
            Console::CutShort(seen) => bail!(
                "the guest did not finish within {} s; its console ended with:\n{}",
                guest.limit.as_secs(),
                seen
            ),
        }
    }
    bail!("kernel {} never reached init in {BOOTS} boots", guest.kernel)
}

const INIT: &str = r#"#!/bin/busybox sh
/bin/busybox --install -s /bin 2>/dev/null
export PATH=/bin:/w HOME=/tmp
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev 2>/dev/null; mount -t tmpfs tmp /tmp
mkdir -p /sys/fs/bpf /run; mount -t bpf bpf /sys/fs/bpf 2>/dev/null
mount -t tracefs trace /sys/kernel/tracing 2>/dev/null; mount -t debugfs debug /sys/kernel/debug 2>/dev/null
echo 'root:x:0:0::/tmp:/bin/sh' > /etc/passwd
ip link set lo up 2>/dev/null
echo; echo "VM-KERNEL $(uname -r)"
cd /w; sh /w/.command 2>&1; status=$?
echo; echo "VM-EXIT $status"
poweroff -f
"#;

/// An initramfs with busybox, the files and the command.
fn pack(guest: &Guest<'_>, work: &Path) -> Result<PathBuf> {
    use std::os::unix::fs::PermissionsExt as _;
    let root = work.join("root");
    for folder in ["bin", "proc", "sys", "dev", "tmp", "etc", "w"] {
        fs::create_dir_all(root.join(folder))?;
    }
    let busybox = command::find("busybox").context("install busybox-static")?;
    fs::copy(busybox, root.join("bin/busybox"))?;
    for file in guest.files {
        let name = file.file_name().with_context(|| format!("{} is not a file", file.display()))?;
        fs::copy(file, root.join("w").join(name))
            .with_context(|| format!("cannot take {} into the guest", file.display()))?;
    }
    fs::write(root.join("w/.command"), format!("{}\n", guest.command))?;
    fs::write(root.join("init"), INIT)?;
    fs::set_permissions(root.join("init"), fs::Permissions::from_mode(0o755))?;
    let initramfs = work.join("initramfs");
    let names = command::output(Command::new("find").arg(".").current_dir(&root))?;
    let mut cpio = Command::new("cpio")
        .args(["--quiet", "-o", "-H", "newc"])
        .current_dir(&root)
        .stdin(Stdio::piped())
        .stdout(fs::File::create(&initramfs)?)
        .spawn()
        .context("cannot start cpio")?;
    cpio.stdin.take().expect("stdin is a pipe").write_all(names.as_bytes())?;
    ensure!(cpio.wait()?.success(), "cpio could not pack the initramfs");
    Ok(initramfs)
}

/// One boot; returns what the console showed. KVM inside a virtual machine often cannot boot these kernels: emulation always can.
fn boot_once(kernel: &Path, initramfs: &Path, console: &Path, limit: Duration) -> Result<String> {
    let mut qemu = Command::new("qemu-system-x86_64")
        .args(["-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", &MEMORY_MIB.to_string()])
        .args(["-nographic", "-no-reboot", "-nodefaults", "-serial", "stdio", "-monitor", "none"])
        .arg("-kernel")
        .arg(kernel)
        .arg("-initrd")
        .arg(initramfs)
        .args(["-append", "console=ttyS0 rdinit=/init quiet loglevel=3 panic=-1 mitigations=off random.trust_cpu=on tsc=reliable no_timer_check"])
        .stdin(Stdio::null())
        .stdout(fs::File::create(console)?)
        .spawn()
        .context("cannot start qemu-system-x86_64")?;
    let begun = Instant::now();
    while qemu.try_wait()?.is_none() {
        if begun.elapsed() > limit {
            qemu.kill()?;
            qemu.wait()?;
            break;
        }
        thread::sleep(Duration::from_millis(50));
    }
    Ok(String::from_utf8_lossy(&fs::read(console)?).replace('\r', ""))
}

#[derive(PartialEq, Eq, Debug)]
enum Console {
    Done(Outcome),
    NeverBooted,
    /// It booted and did not end: the last lines.
    CutShort(String),
}

fn read_console(text: &str) -> Console {
    let Some((_, after)) = text.split_once(BOOTED) else {
        return Console::NeverBooted;
    };
    let (kernel, rest) = after.split_once('\n').unwrap_or((after, ""));
    let Some((output, end)) = rest.rsplit_once(&format!("\n{ENDED}")) else {
        let lines: Vec<_> = rest.lines().collect();
        return Console::CutShort(lines[lines.len().saturating_sub(30)..].join("\n"));
    };
    match end.split_whitespace().next().and_then(|status| status.parse().ok()) {
        Some(status) => {
            Console::Done(Outcome { kernel: kernel.to_owned(), output: output.to_owned(), status })
        }
        None => Console::CutShort(end.to_owned()),
    }
}

/// A folder that goes with this value.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Self> {
        let folder =
            project::target().join(format!("vm/{}-{:?}", std::process::id(), thread::current().id()));
        fs::create_dir_all(&folder)?;
        Ok(Self(folder))
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("cannot remove {}: {error}", self.0.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_console_is_read_between_its_marks() {
        let done = |output: &str, status| {
            Console::Done(Outcome { kernel: "6.1.0".into(), output: output.into(), status })
        };
        assert_eq!(read_console("noise\n\nVM-KERNEL 6.1.0\nhello\nVM-EXIT 3\nmore"), done("hello", 3));
        assert_eq!(read_console("VM-KERNEL 6.1.0\na\nVM-EXIT 0\nb\nVM-EXIT 1\n"), done("a\nVM-EXIT 0\nb", 1));
        assert_eq!(read_console("panic"), Console::NeverBooted);
        assert_eq!(read_console("VM-KERNEL 6.1.0\nhalf"), Console::CutShort("half".into()));
        assert_eq!(read_console("VM-KERNEL 6.1.0\nhalf\nVM-EXIT ?"), Console::CutShort("?".into()));
    }
}
