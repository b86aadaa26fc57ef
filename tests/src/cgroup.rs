//! A memory cgroup of a test's own, in either generation: a target is put into it and its limit is set.
//!
//! Apart because a group must be gone when its test is, also a failed one. It never touches a group it did not make.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

/// Where memory is limited, and under which names.
struct Hierarchy {
    point: &'static str,
    limit: &'static str,
    used: &'static str,
    /// The most that was ever used. The second generation has it since Linux 5.19.
    most: &'static str,
    /// Holds the row `oom_kill N`.
    events: &'static str,
    /// Of that file, the row that says that memory ran out; the first generation has no count of it and says that it lasts.
    ran_out: &'static str,
    /// In memory.stat, the row of what is neither a file's nor the kernel's.
    anonymous: &'static str,
    /// In memory.stat, the row of pages of files.
    file: &'static str,
}

const HIERARCHIES: [Hierarchy; 2] = [
    Hierarchy {
        point: "/sys/fs/cgroup/memory",
        limit: "memory.limit_in_bytes",
        used: "memory.usage_in_bytes",
        most: "memory.max_usage_in_bytes",
        events: "memory.oom_control",
        ran_out: "under_oom",
        anonymous: "rss",
        file: "cache",
    },
    Hierarchy {
        point: "/sys/fs/cgroup",
        limit: "memory.max",
        used: "memory.current",
        most: "memory.peak",
        events: "memory.events",
        ran_out: "oom",
        anonymous: "anon",
        file: "file",
    },
];

/// One group; its processes must have ended when it is dropped.
#[derive(Debug)]
pub struct MemoryGroup {
    path: PathBuf,
    hierarchy: usize,
}

/// The hierarchy in which a new group has a limit.
fn hierarchy() -> Option<usize> {
    HIERARCHIES.iter().position(|h| {
        let children = Path::new(h.point).join("cgroup.subtree_control");
        Path::new(h.point).join(h.limit).exists()
            || fs::read_to_string(children).is_ok_and(|all| all.split_whitespace().any(|c| c == "memory"))
    })
}

/// True where this machine limits memory by cgroups that root may make.
pub fn limits_memory() -> bool {
    hierarchy().is_some()
}

impl MemoryGroup {
    /// A new group without a limit.
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let hierarchy = hierarchy().expect("the test checked that memory is limited by cgroups");
        let name = format!("tracer-tests-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = Path::new(HIERARCHIES[hierarchy].point).join(name);
        fs::create_dir(&path).expect("root may make a cgroup");
        Self { path, hierarchy }
    }

    /// Moves a process of the test's own into the group; what it has touched before stays with its old one.
    pub fn take(&self, pid: u32) {
        self.write("cgroup.procs", pid.into());
    }

    /// The file by which a process enters the group by itself, before its first page is anyone else's.
    pub fn door(&self) -> PathBuf {
        self.path.join("cgroup.procs")
    }

    pub fn used(&self) -> u64 {
        self.number(HIERARCHIES[self.hierarchy].used)
    }

    /// The most that was used since the group is there.
    pub fn most_used(&self) -> u64 {
        self.number(HIERARCHIES[self.hierarchy].most)
    }

    /// What is used beside pages of files, which the kernel drops first.
    pub fn used_beside_files(&self) -> u64 {
        let used = self.used();
        used.saturating_sub(self.row("memory.stat", HIERARCHIES[self.hierarchy].file))
    }

    /// Of that, what processes hold.
    pub fn anonymous(&self) -> u64 {
        self.row("memory.stat", HIERARCHIES[self.hierarchy].anonymous)
    }

    /// The processes that are in the group.
    pub fn processes(&self) -> Vec<u32> {
        self.read("cgroup.procs").lines().map(|pid| pid.parse().expect("a process id")).collect()
    }

    /// Limits the group, to no less than it uses.
    pub fn limit(&self, bytes: u64) {
        self.write(HIERARCHIES[self.hierarchy].limit, bytes);
    }

    /// Processes of the group that the kernel has ended for want of memory.
    pub fn killed(&self) -> u64 {
        self.row(HIERARCHIES[self.hierarchy].events, "oom_kill")
    }

    /// More than 0 where no memory was to be had, whether or not a process was ended for it.
    pub fn ran_out(&self) -> u64 {
        let Hierarchy { events, ran_out, .. } = HIERARCHIES[self.hierarchy];
        self.row(events, ran_out)
    }

    fn number(&self, file: &str) -> u64 {
        self.read(file).trim().parse().expect("a number of bytes")
    }

    fn row(&self, file: &str, name: &str) -> u64 {
        let rows = self.read(file);
        let row = rows.lines().filter_map(|line| line.split_once(' ')).find(|(key, _)| *key == name);
        let number = row.and_then(|(_, number)| number.trim().parse().ok());
        number.unwrap_or_else(|| panic!("no {name} in {file}: {rows}"))
    }

    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.path.join(file)).expect("a file of our own group")
    }

    fn write(&self, file: &str, number: u64) {
        fs::write(self.path.join(file), number.to_string())
            .unwrap_or_else(|error| panic!("{file} of {} to {number}: {error}", self.path.display()));
    }
}

impl Default for MemoryGroup {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        // A process leaves its group a moment after it was waited for.
        for _ in 0..100 {
            if fs::remove_dir(&self.path).is_ok() {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}
