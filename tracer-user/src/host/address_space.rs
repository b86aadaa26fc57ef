//! Whether a process still has the address space it had: exec makes a new one, even of the same file.
//!
//! Apart from `process` because pid, start time and executable all survive a program that executes itself
//! again, as graceful restarts do; then every address that was learned is another's. Reads no memory.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use procfs::process::{Process as ProcDir, Stat};

/// What tells one address space of a process from the next, which exec makes even where it loads the same file.
#[derive(Debug)]
pub(super) enum AddressSpace {
    /// /proc/PID/mem, which stays bound to the address space it was opened on.
    Bound(File),
    /// Where that may not be opened (it belongs to the target's user, whatever we may trace): where the program
    /// and its stack begin. Without address randomisation the next ones begin there too.
    Begins { code: u64, stack: u64 },
}

impl AddressSpace {
    /// The one the process has now.
    pub(super) fn open(proc_dir: &ProcDir, stat: &Stat) -> Self {
        match proc_dir.open_relative("mem") {
            Ok(mem) => Self::Bound(mem),
            Err(_) => Self::begins(stat),
        }
    }

    fn begins(stat: &Stat) -> Self {
        Self::Begins { code: stat.startcode, stack: stat.startstack }
    }

    /// Whether the process, whose /proc/PID/stat is `stat` by now, still runs in it.
    pub(super) fn is_still_there(&self, stat: &Stat) -> bool {
        match self {
            // Nothing is ever mapped at 0, so that this is an error, which costs the target nothing. Only where
            // the last user of the address space has left it is it the end of the file (fs/proc/base.c, mem_rw).
            Self::Bound(mem) => !matches!(mem.read_at(&mut [0], 0), Ok(0)),
            Self::Begins { code, stack } => (*code, *stack) == (stat.startcode, stat.startstack),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::process::{Command, Stdio};
    use std::time::Duration;

    use super::*;
    use crate::host::{HostError, process::Process};
    use crate::units::Pid;

    fn soon(mut it: impl FnMut() -> bool) -> bool {
        (0..500).any(|_| {
            std::thread::sleep(Duration::from_millis(10));
            it()
        })
    }

    #[test]
    fn the_same_program_executed_again_is_another() {
        let mut child = Command::new("sh")
            .args(["-c", "read _; exec sh -c 'read _; exit'"])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let process = Process::open(Pid(child.id())).unwrap();
        let dir = ProcDir::new(child.id().cast_signed()).unwrap();
        let stat = || dir.stat().unwrap();
        // It waits for its line: before, the kernel is still at work on what it begins with.
        assert!(soon(|| stat().state == 'S'));
        let (bound, begins) = (AddressSpace::open(&dir, &stat()), AddressSpace::begins(&stat()));
        assert!(matches!(bound, AddressSpace::Bound(_)), "{bound:?}");
        process.still_same().unwrap();
        assert!(bound.is_still_there(&stat()) && begins.is_still_there(&stat()));
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(b"\n").unwrap();
        assert!(soon(|| !bound.is_still_there(&stat())));
        let how = match process.still_same() {
            Err(HostError::Replaced { how, .. }) => how,
            other => panic!("{other:?}"),
        };
        assert!(how.contains("again"), "{how}");
        // Without randomisation both begin where they began.
        let randomised = std::fs::read_to_string("/proc/sys/kernel/randomize_va_space");
        assert!(!begins.is_still_there(&stat()) || randomised.is_ok_and(|r| r.trim() == "0"));
        drop(stdin);
        child.wait().unwrap();
        assert!(matches!(process.still_same(), Err(HostError::Gone { .. })));
    }
}
