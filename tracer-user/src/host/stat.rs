//! /proc/PID/stat, and what it says with the pidfd of whether a process goes on.
//!
//! Apart from `process`, which says whose process it is. Any text is taken without panic; a process that is not there is an
//! error.

use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use procfs::FromRead as _;
use procfs::process::{Process as ProcDir, Stat};
use rustix::event::{PollFd, PollFlags, Timespec};

use super::HostError;
use super::process::from_procfs;
use crate::units::Pid;

pub(super) fn read_stat(pid: Pid, proc_dir: &ProcDir) -> Result<Stat, HostError> {
    /// A line of some 52 numbers and a name.
    const MOST: u64 = 16 << 10;
    let mut text = Vec::new();
    let read = proc_dir.open_relative("stat").map_err(|e| from_procfs(pid, "read the start time", e))?;
    read.take(MOST)
        .read_to_end(&mut text)
        .map_err(|e| HostError::from_proc(pid, "read the start time", e))?;
    stat_of(&text).ok_or_else(|| {
        let source = io::Error::other("/proc/PID/stat is not what it should be");
        HostError::Proc { pid, doing: "read the start time", source }
    })
}

/// The text of /proc/PID/stat, taken apart. procfs-core 0.18 cuts at the name's brackets without a look at what stands
/// around them.
pub(super) fn stat_of(text: &[u8]) -> Option<Stat> {
    let line = String::from_utf8_lossy(text);
    let line = line.trim();
    let (open, close) = (line.find(" (")?, line.rfind(") ")?);
    let brackets = (line.find('(')?, line.rfind(')')?);
    (open < close && brackets == (open + 1, close)).then(|| Stat::from_read(line.as_bytes()).ok()).flatten()
}

pub(super) fn has_ended(pidfd: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(pidfd, PollFlags::IN)];
    // A failed poll proves nothing: the start time is compared next.
    matches!(rustix::event::poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })), Ok(n) if n > 0)
}

/// Whether a process that lost its main thread goes on: the threads of one that ends do not end at one moment.
pub(super) fn goes_on_without(pid: Pid, proc_dir: &ProcDir, pidfd: Option<&OwnedFd>) -> bool {
    const ENDS_WITHIN: Duration = Duration::from_millis(300);
    let began = Instant::now();
    while began.elapsed() < ENDS_WITHIN {
        let still = read_stat(pid, proc_dir).is_ok_and(|stat| without_main_thread(&stat));
        if !still || pidfd.is_some_and(has_ended) {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    true
}

/// A zombie with further threads (fs/proc/array.c, do_task_stat).
pub(super) fn without_main_thread(stat: &Stat) -> bool {
    stat.state == 'Z' && stat.num_threads > 1
}
