//! What this kernel has and what we may do: read once, said by `tracer check`.

use std::fs;

use super::error::KernelError;

/// The kernel's release and the capabilities of this process.
#[derive(Clone, PartialEq, Eq, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "a list of independent facts")]
pub struct Capabilities {
    /// `uname -r`.
    pub release: String,
    /// Major and minor of the release; absent where it does not parse.
    pub version: Option<(u32, u32)>,
    pub bpf: bool,
    pub perfmon: bool,
    pub sys_ptrace: bool,
    pub sys_admin: bool,
    /// Kernel lockdown mode, where it is on.
    pub lockdown: Option<String>,
}

impl Capabilities {
    /// What holds for this process now. What cannot be read counts as not there.
    pub fn read() -> Self {
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned();
        let version = parse_release(&release);
        let held = effective();
        let lockdown = fs::read_to_string("/sys/kernel/security/lockdown").ok().and_then(|text| {
            let mode = text.split('[').nth(1)?.split(']').next()?;
            (mode != "none").then(|| mode.to_owned())
        });
        Self {
            release,
            version,
            bpf: held & (1 << CAP_BPF | 1 << CAP_SYS_ADMIN) != 0,
            perfmon: held & (1 << CAP_PERFMON | 1 << CAP_SYS_ADMIN) != 0,
            sys_ptrace: held & (1 << CAP_SYS_PTRACE) != 0,
            sys_admin: held & (1 << CAP_SYS_ADMIN) != 0,
            lockdown,
        }
    }

    /// Whether the kernel is at least `major.minor`; false where its version is unknown.
    pub fn at_least(&self, major: u32, minor: u32) -> bool {
        self.version.is_some_and(|v| v >= (major, minor))
    }

    /// uprobe_multi's filter takes a whole process. Before 6.10 ("bpf: fix multi-uprobe PID filtering logic"; stable
    /// kernels from 6.6 on may have the fix) the program ran for the one thread whose id is the process's.
    pub fn filters_multi_by_process(&self) -> bool {
        self.at_least(6, 10)
    }

    /// Multi-byte nops are emulated, and a 5-byte one becomes a call, from 6.18 on
    /// (ba2bfc97b462 "uprobes/x86: Add support to optimize uprobes"); before they are single-stepped.
    pub fn emulates_long_nops(&self) -> bool {
        self.at_least(6, 18)
    }
}

const CAP_SYS_PTRACE: u32 = 19;
const CAP_SYS_ADMIN: u32 = 21;
const CAP_PERFMON: u32 = 38;
const CAP_BPF: u32 = 39;

/// What a refused load lacks.
pub(super) fn missing() -> KernelError {
    let capability = match (has_bpf(), has_perfmon()) {
        (true, _) => "CAP_PERFMON",
        (false, true) => "CAP_BPF",
        (false, false) => "CAP_BPF with CAP_PERFMON",
    };
    KernelError::Denied { what: "load eBPF programs", capability }
}

fn has_bpf() -> bool {
    effective() & (1 << CAP_BPF | 1 << CAP_SYS_ADMIN) != 0
}

fn has_perfmon() -> bool {
    effective() & (1 << CAP_PERFMON | 1 << CAP_SYS_ADMIN) != 0
}

pub(super) fn has_sys_admin() -> bool {
    effective() & (1 << CAP_SYS_ADMIN) != 0
}

/// What this thread may use; nothing where it cannot be read. Threads of a session differ.
fn effective() -> u64 {
    rustix::thread::capabilities(None).map_or(0, |sets| sets.effective.bits())
}

fn parse_release(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_parse() {
        assert_eq!(parse_release("6.18.44-amd64"), Some((6, 18)));
        assert_eq!(parse_release("6.1.0-50-cloud-amd64"), Some((6, 1)));
        assert_eq!(parse_release("7.2"), Some((7, 2)));
        assert_eq!(parse_release("next"), None);
    }
}
