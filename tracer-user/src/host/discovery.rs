//! Which processes there are, and which of them go by a name.
//!
//! Apart from `process` because listing must be cheap and must survive processes that end, or refuse us, while
//! we look: those are reported with the reason. Never opens an executable; whether it is Go is the caller's
//! question.

use std::path::{Path, PathBuf};

use super::HostError;
use crate::units::Pid;

/// A process as a list shows it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Found {
    pub pid: Pid,
    /// The kernel's name for it: at most 15 bytes, of the main thread.
    pub comm: String,
    /// Where the exe link points; absent where we may not read it.
    pub exe: Option<PathBuf>,
    /// The first word of its command line; absent where it is empty.
    pub argv0: Option<String>,
}

/// All processes, and what is missing from the list.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Listing {
    /// By pid. Kernel threads are left out.
    pub processes: Vec<Found>,
    /// Processes whose executable we may not see, with the reason, by pid. They are in `processes` as well.
    pub refused: Vec<(Pid, String)>,
    /// Processes beyond [`MAX_PROCESSES`] that were not looked at.
    pub cut: u64,
}

/// Most processes one listing holds: a host with more is not one machine's worth of work.
pub const MAX_PROCESSES: usize = 100_000;
/// The kernel's limit for comm, without the final NUL (`TASK_COMM_LEN` - 1).
const COMM_MAX: usize = 15;
/// Most of a command line that is looked at for its first word.
const ARGV0_MAX: u64 = 4096;

/// Lists the processes of the host, as far as this pid namespace and hidepid let us see them.
pub fn list() -> Result<Listing, HostError> {
    let mut pids = pids()?;
    pids.sort_unstable();
    let cut = pids.len().saturating_sub(MAX_PROCESSES);
    pids.truncate(MAX_PROCESSES);
    let mut listing = Listing { cut: cut as u64, ..Listing::default() };
    for pid in pids {
        match look(pid) {
            None => {}
            Some((found, refusal)) => {
                listing.refused.extend(refusal.map(|reason| (pid, reason.to_string())));
                listing.processes.push(found);
            }
        }
    }
    Ok(listing)
}

/// The processes that `--name` means: by comm, by the executable's file name, or by the first word of the
/// command line. Our own process is left out.
pub fn by_name(name: &str) -> Result<Vec<Found>, HostError> {
    let own = Pid(std::process::id());
    Ok(list()?.processes.into_iter().filter(|p| p.pid != own && p.goes_by(name)).collect())
}

impl Found {
    /// Whether `name` names this process; a path must equal the whole path, a bare name its last part.
    pub fn goes_by(&self, name: &str) -> bool {
        let exe = self.exe.as_ref().map(|e| e.to_string_lossy().trim_end_matches(" (deleted)").to_owned());
        if name.contains('/') {
            return exe.as_deref() == Some(name) || self.argv0.as_deref() == Some(name);
        }
        let last = |path: &str| Path::new(path).file_name().is_some_and(|f| f == name);
        // comm is cut to 15 bytes: then only a longer source can confirm a longer name.
        let by_comm = self.comm == name && name.len() <= COMM_MAX;
        by_comm || exe.as_deref().is_some_and(last) || self.argv0.as_deref().is_some_and(last)
    }
}

fn pids() -> Result<Vec<Pid>, HostError> {
    let entries = std::fs::read_dir("/proc").map_err(|source| HostError::NoProc { source })?;
    Ok(entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok().map(Pid)).collect())
}

/// One process, and why its executable cannot be seen; `None` for kernel threads and for what ended meanwhile.
fn look(pid: Pid) -> Option<(Found, Option<HostError>)> {
    let dir = PathBuf::from(format!("/proc/{pid}"));
    let comm = std::fs::read(dir.join("comm")).ok()?;
    let comm = String::from_utf8_lossy(comm.trim_ascii_end()).into_owned();
    let argv0 = argv0(&dir);
    match std::fs::read_link(dir.join("exe")) {
        Ok(exe) => Some((Found { pid, comm, exe: Some(exe), argv0 }, None)),
        // Kernel threads and zombies have no executable.
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
        // A kernel thread refuses an unprivileged reader the same way, but has no command line.
        Err(_) if argv0.is_none() => None,
        Err(e) => {
            let refusal = HostError::from_proc(pid, "read the executable", e);
            Some((Found { pid, comm, exe: None, argv0 }, Some(refusal)))
        }
    }
}

fn argv0(dir: &Path) -> Option<String> {
    use std::io::Read as _;
    let mut text = Vec::new();
    std::fs::File::open(dir.join("cmdline")).ok()?.take(ARGV0_MAX).read_to_end(&mut text).ok()?;
    let first = text.split(|&b| b == 0).next()?;
    (!first.is_empty()).then(|| String::from_utf8_lossy(first).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(comm: &str, exe: Option<&str>, argv0: Option<&str>) -> Found {
        Found { pid: Pid(1), comm: comm.into(), exe: exe.map(Into::into), argv0: argv0.map(Into::into) }
    }

    #[test]
    fn a_name_matches_comm_file_name_or_first_word() {
        let p = found("checkout", Some("/usr/bin/checkout-service-v2 (deleted)"), Some("./svc"));
        for name in ["checkout", "checkout-service-v2", "svc", "/usr/bin/checkout-service-v2", "./svc"] {
            assert!(p.goes_by(name), "{name}");
        }
        for name in ["check", "bin", "", "/usr/bin", "checkout-service", "/svc"] {
            assert!(!p.goes_by(name), "{name}");
        }
        assert!(found("x", None, None).goes_by("x"));
    }

    #[test]
    fn a_child_is_listed_and_found_by_name() {
        let mut child = std::process::Command::new("sleep").arg("30").spawn().unwrap();
        let pid = Pid(child.id());
        // The parent goes on when exec has replaced the memory, a moment before the command line is in place.
        let named = |p: &Found| p.pid == pid && p.argv0.as_deref() == Some("sleep");
        let found = (0..500).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(10));
            by_name("sleep").unwrap().iter().any(named)
        });
        let listing = list();
        child.kill().unwrap();
        child.wait().unwrap();
        let listing = listing.unwrap();
        assert!(listing.processes.iter().any(|p| p.pid == pid));
        assert!(listing.processes.is_sorted());
        assert!(listing.processes.iter().any(|p| p.pid == Pid(std::process::id())));
        assert!(found);
    }
}
