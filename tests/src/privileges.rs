//! Processes of other users that hold few capabilities, and what a process holds by the kernel's own account (/proc/PID/task).
//!
//! Apart because a live test otherwise is the administrator. It changes nothing but processes that it starts.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// Numbers from the kernel's include/uapi/linux/capability.h.
pub const SYS_PTRACE: u64 = 1 << 19;
pub const SYS_ADMIN: u64 = 1 << 21;
pub const PERFMON: u64 = 1 << 38;
pub const BPF: u64 = 1 << 39;

/// Two users that nobody here is.
pub const TRACER: u32 = 65_534;
pub const TARGET: u32 = 65_533;

/// Runs as that user with these capabilities (as setpriv names them) and no way to any other.
pub fn user(uid: u32, capabilities: &[&str]) -> Command {
    let set = set(capabilities);
    let id = uid.to_string();
    let mut command = Command::new("setpriv");
    command.args(["--reuid", &id, "--regid", &id, "--clear-groups"]);
    command.args(["--inh-caps", &set, "--ambient-caps", &set, "--bounding-set", &set]).current_dir("/");
    command
}

/// Runs as that user with no capability at all; a program may bring these. By way of `env`: setpriv itself still has them, and
/// what it executes gains none.
pub fn may_gain(uid: u32, capabilities: &[&str]) -> Command {
    let id = uid.to_string();
    let mut command = Command::new("setpriv");
    command.args(["--reuid", &id, "--regid", &id, "--clear-groups"]);
    command.args(["--inh-caps", "-all", "--bounding-set", &set(capabilities), "env"]).current_dir("/");
    command
}

/// Runs as root that may do nothing else, as in a container.
pub fn contained_root(capabilities: &[&str]) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--inh-caps", "-all", "--bounding-set", &set(capabilities)]).current_dir("/");
    command
}

fn set(capabilities: &[&str]) -> String {
    let added: Vec<String> = capabilities.iter().map(|name| format!(",+{name}")).collect();
    format!("-all{}", added.concat())
}

/// A folder that every user may enter, with copies of programs that every user may run; removed with its value.
#[derive(Debug)]
pub struct Open(PathBuf);

impl Open {
    pub fn new(name: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("tracer-{name}-{}-{number}", std::process::id()));
        fs::create_dir_all(&folder)
            .unwrap_or_else(|error| panic!("cannot make {}: {error}", folder.display()));
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).expect("it is ours");
        Self(folder)
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// A copy in it.
    pub fn program(&self, of: &Path) -> PathBuf {
        let copy = self.0.join(of.file_name().expect("a program has a name"));
        if !copy.exists() {
            fs::copy(of, &copy).unwrap_or_else(|error| panic!("cannot copy {}: {error}", of.display()));
            fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).expect("it is ours");
        }
        copy
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        // What is left lies in the system's folder for such things.
        drop(fs::remove_dir_all(&self.0));
    }
}

/// What a thread holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Held {
    pub effective: u64,
    pub permitted: u64,
    pub inheritable: u64,
    pub bounding: u64,
    pub ambient: u64,
    pub no_new_privs: bool,
}

impl Held {
    /// Of each thread of a process, with the thread's name.
    pub fn of_threads(pid: u32) -> Vec<(String, Self)> {
        let folder = format!("/proc/{pid}/task");
        let threads = fs::read_dir(&folder).unwrap_or_else(|error| panic!("cannot read {folder}: {error}"));
        let texts = threads.filter_map(|thread| {
            let folder = thread.ok()?.path();
            // A thread may end meanwhile.
            Some((
                fs::read_to_string(folder.join("comm")).ok()?,
                fs::read_to_string(folder.join("status")).ok()?,
            ))
        });
        texts.map(|(name, status)| (name.trim().to_owned(), Self::parse(&status))).collect()
    }

    fn parse(status: &str) -> Self {
        let word = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.unwrap_or_else(|| panic!("no {name} in {status}")).trim()
        };
        let set = |name: &str| u64::from_str_radix(word(name), 16).unwrap_or_else(|e| panic!("{name}: {e}"));
        Self {
            effective: set("CapEff"),
            permitted: set("CapPrm"),
            inheritable: set("CapInh"),
            bounding: set("CapBnd"),
            ambient: set("CapAmb"),
            no_new_privs: word("NoNewPrivs") == "1",
        }
    }
}
