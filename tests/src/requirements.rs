//! What a live test needs of the machine. Where it is missing the test says so and is skipped; with CI set that is a failure.
//!
//! Apart so that no test decides for itself when not to run. It only looks, it installs nothing.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use crate::{cgroup, go, swap, tracer};

/// Something a test cannot do without.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Need {
    /// The administrator, with the capabilities to load eBPF programs and to read other processes.
    Root,
    /// A kernel that has uprobes and lets eBPF programs be attached to them.
    Uprobes,
    /// The pinned Go toolchains, which `cargo xtask setup` brings.
    Go,
    /// A Go toolchain of every supported minor, which `cargo xtask setup` brings.
    EveryGo,
    /// The `tracer` binary.
    Tracer,
    /// Package registries: the test fetches something.
    Packages,
    /// A kernel that can swap to compressed memory.
    Zram,
    /// Cgroups that limit memory and that root may make.
    MemoryGroup,
}

/// Returns from the test where something it needs is missing: everything a session needs, or the needs that are named.
#[macro_export]
macro_rules! live {
    () => {
        $crate::live!(Root, Uprobes, Go, Tracer)
    };
    ($($need:ident),+) => {
        if !$crate::requirements::met(&[$($crate::requirements::Need::$need),+]) {
            return;
        }
    };
}

/// True where all are met; prints the reason and the kernel where not.
pub fn met(needs: &[Need]) -> bool {
    let Some(reason) = needs.iter().find_map(|need| missing(*need)) else {
        return true;
    };
    skip(&reason);
    false
}

/// Says that a test, or a part of one, does not run here; fails with CI set.
pub fn skip(reason: &str) {
    let kernel = kernel();
    assert!(std::env::var_os("CI").is_none(), "with CI set nothing is skipped: {reason}, kernel {kernel}");
    // Not by a print macro: what a passing test prints is not shown.
    writeln!(std::io::stderr(), "skipped: {reason}, kernel {kernel}").expect("stderr is open");
}

/// This kernel's release.
pub fn kernel() -> String {
    fs::read_to_string("/proc/sys/kernel/osrelease")
        .map_or_else(|_| "unknown".to_owned(), |text| text.trim().to_owned())
}

fn missing(need: Need) -> Option<String> {
    match need {
        Need::Root => missing_capability().map(|name| format!("needs root with {name}")),
        Need::Uprobes => {
            let uprobes = Path::new("/sys/bus/event_source/devices/uprobe/type");
            (!uprobes.exists()).then(|| "the kernel has no uprobe event source".to_owned())
        }
        Need::Go => {
            go::Go::all().is_empty().then(|| "run `cargo xtask setup` for the Go toolchains".to_owned())
        }
        Need::EveryGo => {
            go::Go::every().is_empty().then(|| "run `cargo xtask setup` for every Go toolchain".to_owned())
        }
        Need::Tracer => {
            let binary = tracer::binary();
            (!binary.exists())
                .then(|| format!("run `cargo build --release`: {} is not there", binary.display()))
        }
        Need::Zram => {
            (!Path::new(swap::HOT_ADD).exists()).then(|| "the kernel has no zram to swap to".to_owned())
        }
        Need::MemoryGroup => {
            (!cgroup::limits_memory()).then(|| "no cgroup that root may make limits memory".to_owned())
        }
        Need::Packages => xtask::command::find("apt-get").is_none().then(|| "needs Debian's apt".to_owned()),
    }
}

/// Numbers from the kernel's include/uapi/linux/capability.h.
const CAPABILITIES: [(u32, &str); 4] =
    [(19, "CAP_SYS_PTRACE"), (21, "CAP_SYS_ADMIN"), (38, "CAP_PERFMON"), (39, "CAP_BPF")];

fn missing_capability() -> Option<&'static str> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let bits = effective.and_then(|text| u64::from_str_radix(text.trim(), 16).ok()).unwrap_or(0);
    CAPABILITIES.iter().find(|(bit, _)| bits & (1 << bit) == 0).map(|(_, name)| *name)
}
