//! What can go wrong between us and a process, each in one line that also says what to do next.

use std::io;

use crate::units::Pid;

#[derive(Debug, thiserror::Error)]
pub enum HostError {
    #[error("no process {pid}: look for the pid with `tracer list`")]
    NoSuchProcess { pid: Pid },
    #[error("{pid} is a thread of process {process}: give --pid {process}")]
    IsThread { pid: Pid, process: Pid },
    #[error("not allowed to {doing} of process {pid}: {advice}")]
    Denied { pid: Pid, doing: &'static str, advice: String },
    #[error("process {pid} ended: start tracer again on the new process")]
    Gone { pid: Pid },
    #[error("process {pid} ended before anything of it could be read: trace a run that takes longer")]
    EndedAtOnce { pid: Pid },
    #[error(
        "process {pid} goes on without its main thread (a goroutine locked to it ended) and cannot be read without it: \
         restart the process"
    )]
    MainThreadEnded { pid: Pid },
    #[error("process {pid} was replaced ({how}): start tracer again on pid {pid}")]
    Replaced { pid: Pid, how: &'static str },
    #[error("process {pid} has no executable file (a kernel thread or a zombie): choose another pid")]
    NoExecutable { pid: Pid },
    #[error("cannot find where {exe} is mapped in process {pid}: check that it is the file the process runs")]
    NotMapped { pid: Pid, exe: String },
    #[error("cannot {doing} of process {pid}: {source}; check that /proc is mounted and readable")]
    Proc {
        pid: Pid,
        doing: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("cannot list /proc: {source}; check that it is mounted")]
    NoProc {
        #[source]
        source: io::Error,
    },
    #[error("{command}: command not found; give its path or check PATH")]
    CommandNotFound { command: String },
    #[error("cannot start {command}: {source}; check that it is an executable file")]
    Launch {
        command: String,
        #[source]
        source: io::Error,
    },
}

impl HostError {
    /// Sorts an I/O error on a file of `/proc/pid` by what it means for the process.
    pub(super) fn from_proc(pid: Pid, doing: &'static str, source: io::Error) -> Self {
        match source.raw_os_error() {
            Some(libc::ESRCH) => Self::Gone { pid },
            Some(libc::EACCES | libc::EPERM) => Self::denied(pid, doing),
            _ if source.kind() == io::ErrorKind::NotFound => Self::NoSuchProcess { pid },
            _ => Self::Proc { pid, doing, source },
        }
    }

    /// A file's modes keep us out.
    pub(super) fn denied_by_modes(pid: Pid, doing: &'static str) -> Self {
        Self::Denied { pid, doing, advice: UNREADABLE.to_owned() }
    }

    /// Names the setting that stands in the way, so that the user need not guess.
    pub(super) fn denied(pid: Pid, doing: &'static str) -> Self {
        let holds = procfs::process::Process::myself().and_then(|me| me.status());
        if holds.is_ok_and(|status| status.capeff & (1 << CAP_SYS_PTRACE) != 0) {
            return Self::Denied { pid, doing, advice: REFUSED_ANYWAY.to_owned() };
        }
        let scope = std::fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope").ok();
        Self::Denied { pid, doing, advice: denial_advice(scope.as_deref()).to_owned() }
    }
}

const CAP_SYS_PTRACE: u32 = 19;

/// Advice where the right is held and does not do.
const REFUSED_ANYWAY: &str = "CAP_SYS_PTRACE is held, so a security module or another user namespace forbids it; run where \
                              the process was started";

const UNREADABLE: &str =
    "only its owner may read the file; run as that user, or with CAP_DAC_READ_SEARCH besides";

/// Advice for a refused ptrace access check, from `kernel.yama.ptrace_scope` (absent without Yama).
fn denial_advice(ptrace_scope: Option<&str>) -> &'static str {
    match ptrace_scope.map(str::trim) {
        Some("3") => {
            "Yama forbids it for everyone (kernel.yama.ptrace_scope = 3, changeable only by a reboot)"
        }
        Some("1" | "2") => {
            "run as root or with CAP_SYS_PTRACE (kernel.yama.ptrace_scope limits even the same user)"
        }
        _ => "run as root or with CAP_SYS_PTRACE",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_is_one_line_that_says_what_to_do() {
        let pid = Pid(7);
        let io = || io::Error::from_raw_os_error(libc::EIO);
        for error in [
            HostError::NoSuchProcess { pid },
            HostError::denied(pid, "read the memory"),
            HostError::Gone { pid },
            HostError::EndedAtOnce { pid },
            HostError::Replaced { pid, how: "exec" },
            HostError::NoExecutable { pid },
            HostError::NotMapped { pid, exe: "/bin/x".into() },
            HostError::Proc { pid, doing: "read the maps", source: io() },
            HostError::NoProc { source: io() },
            HostError::CommandNotFound { command: "x".into() },
            HostError::Launch { command: "x".into(), source: io() },
        ] {
            let line = error.to_string();
            assert!(!line.contains('\n') && !line.ends_with('.'), "{line}");
        }
    }

    #[test]
    fn io_errors_on_proc_are_sorted_by_meaning() {
        let sort = |errno| HostError::from_proc(Pid(7), "read the maps", io::Error::from_raw_os_error(errno));
        assert!(matches!(sort(libc::ESRCH), HostError::Gone { .. }));
        assert!(matches!(sort(libc::ENOENT), HostError::NoSuchProcess { .. }));
        assert!(matches!(sort(libc::EACCES), HostError::Denied { .. }));
        assert!(matches!(sort(libc::EPERM), HostError::Denied { .. }));
        assert!(matches!(sort(libc::EIO), HostError::Proc { .. }));
        assert!(denial_advice(Some("3\n")).contains("reboot"));
        assert!(denial_advice(Some("1\n")).contains("CAP_SYS_PTRACE (kernel.yama"));
        assert!(denial_advice(None).ends_with("CAP_SYS_PTRACE"));
    }
}
