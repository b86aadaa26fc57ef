//! What a process's cgroups say: its memory limit and the id of its container.
//!
//! Apart from `process` because there are two generations of cgroups, mounted in many ways. Reads only what is
//! visible from our own mount namespace; what is not visible is absent.

use std::path::{Path, PathBuf};

use crate::units::Bytes;

/// A cgroup's limit and how much of it is used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MemoryLimit {
    pub limit: Bytes,
    /// What the limiting cgroup is charged with now, without the file pages that can be dropped: other processes in
    /// it count too. Absent where it cannot be read.
    pub used: Option<Bytes>,
}

/// Where a cgroup hierarchy is mounted here.
struct Mount {
    /// The part of the hierarchy that is mounted (`/` unless it was bind-mounted).
    root: PathBuf,
    point: PathBuf,
    files: Files,
}

/// The names of the two generations.
#[derive(Clone, Copy)]
struct Files {
    limit: &'static str,
    used: &'static str,
    /// The rows of `memory.stat` that are pages of files, shared memory left out.
    file_pages: [&'static str; 2],
}

const V1: Files = Files {
    limit: "memory.limit_in_bytes",
    used: "memory.usage_in_bytes",
    file_pages: ["total_active_file", "total_inactive_file"],
};
const V2: Files =
    Files { limit: "memory.max", used: "memory.current", file_pages: ["active_file", "inactive_file"] };

/// cgroup v1 says "no limit" as the largest page count in bytes; nothing near it is a real limit.
const NO_LIMIT: u64 = 1 << 60;
/// Deeper nesting than this is not looked at; Kubernetes nests four or five deep.
const MAX_DEPTH: usize = 64;

/// The tightest limit from the process's cgroup up to the root, from the text of /proc/PID/cgroup.
pub(super) fn memory_limit(cgroups: &str) -> Option<MemoryLimit> {
    memory_limits(cgroups).into_iter().min_by_key(|found| found.limit)
}

/// The least that is left below any limit from the process's cgroup up to the root: not always below the tightest.
pub(super) fn memory_left(cgroups: &str) -> Option<Bytes> {
    let left = |found: MemoryLimit| Some(Bytes(found.limit.0.saturating_sub(found.used?.0)));
    memory_limits(cgroups).into_iter().filter_map(left).min()
}

fn memory_limits(cgroups: &str) -> Vec<MemoryLimit> {
    let limits = |mount: &Mount| {
        let v2 = mount.files.limit == V2.limit;
        cgroup_path(cgroups, v2).map(|path| limits_above(mount, Path::new(path)))
    };
    mounts().iter().filter_map(limits).flatten().collect()
}

/// The id of a container in a cgroup path: the last run of exactly 64 hexadecimal digits, which is how Docker,
/// containerd, CRI-O and podman name theirs.
pub(super) fn container_id(cgroups: &str) -> Option<String> {
    let paths = cgroups.lines().filter_map(|line| line.splitn(3, ':').nth(2));
    paths
        .flat_map(|path| path.split(|c: char| !c.is_ascii_hexdigit()))
        .rfind(|run| run.len() == 64)
        .map(str::to_ascii_lowercase)
}

/// The process's path in the hierarchy that limits memory: `0::PATH` in v2, the line of `memory` in v1.
pub(super) fn cgroup_path(cgroups: &str, v2: bool) -> Option<&str> {
    cgroups.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':');
        let (id, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        let wanted = if v2 {
            id == "0" && controllers.is_empty()
        } else {
            controllers.split(',').any(|c| c == "memory")
        };
        wanted.then_some(path)
    })
}

/// Every limit on the way from `path` up to the root.
fn limits_above(mount: &Mount, path: &Path) -> Vec<MemoryLimit> {
    let inside = path.strip_prefix(&mount.root).or_else(|_| path.strip_prefix("/"));
    // A path with `..` lies outside our cgroup namespace: what is mounted here is not it.
    let inside = inside.ok().filter(|p| p.components().all(|c| c != std::path::Component::ParentDir));
    let Some(inside) = inside else { return Vec::new() };
    let full = mount.point.join(inside);
    full.ancestors()
        .take(MAX_DEPTH)
        .take_while(|dir| dir.starts_with(&mount.point))
        .filter_map(|dir| {
            let number = |name| std::fs::read_to_string(dir.join(name)).ok()?.trim().parse::<u64>().ok();
            let limit = number(mount.files.limit).filter(|&l| l < NO_LIMIT)?;
            let used = || {
                let stat = std::fs::read_to_string(dir.join("memory.stat")).ok()?;
                Some(Bytes(
                    number(mount.files.used)?.saturating_sub(file_bytes(&stat, mount.files.file_pages)?),
                ))
            };
            Some(MemoryLimit { limit: Bytes(limit), used: used() })
        })
        .collect()
}

/// The sum of two rows of `memory.stat`; absent where one is.
pub(super) fn file_bytes(stat: &str, rows: [&str; 2]) -> Option<u64> {
    let row =
        |name| stat.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok());
    let [one, other]: [Option<u64>; 2] = rows.map(row);
    one?.checked_add(other?)
}

fn mounts() -> Vec<Mount> {
    let Ok(table) = procfs::process::Process::myself().and_then(|me| me.mountinfo()) else {
        return Vec::new();
    };
    table
        .into_iter()
        .filter_map(|m| {
            let files = match m.fs_type.as_str() {
                "cgroup2" => V2,
                "cgroup" if m.super_options.contains_key("memory") => V1,
                _ => return None,
            };
            Some(Mount { root: PathBuf::from(m.root), point: m.mount_point, files })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_files_are_summed_and_not_guessed() {
        let stat = "anon 100\nfile 70\nactive_file 20\ninactive_file 40\n";
        assert_eq!(file_bytes(stat, V2.file_pages), Some(60));
        assert_eq!(file_bytes(stat, V1.file_pages), None);
        assert_eq!(file_bytes("active_file 20\n", V2.file_pages), None);
        assert_eq!(file_bytes("active_file x\ninactive_file 18446744073709551616\n", V2.file_pages), None);
    }

    #[test]
    fn paths_are_found_in_both_generations() {
        let v1 = "9:name=systemd:/\n4:cpu,memory:/kubepods/pod1/abc\n0::/unified:odd\n";
        assert_eq!(cgroup_path(v1, false), Some("/kubepods/pod1/abc"));
        assert_eq!(cgroup_path(v1, true), Some("/unified:odd"));
        assert_eq!(cgroup_path("", true), None);
        assert_eq!(cgroup_path("junk\n::\n", false), None);
    }

    #[test]
    fn container_ids_are_found_as_each_runtime_writes_them() {
        let id = "0123456789abcdef".repeat(4);
        for path in [
            format!("0::/system.slice/docker-{id}.scope"),
            format!("0::/kubepods.slice/kubepods-burstable.slice/cri-containerd-{id}.scope"),
            format!("11:memory:/kubepods/burstable/podaaaa/{id}\n1:name=systemd:/"),
            format!("0::/machine.slice/libpod-{id}.scope/container"),
        ] {
            assert_eq!(container_id(&path), Some(id.clone()), "{path}");
        }
        assert_eq!(container_id("0::/user.slice/user-1000.slice"), None);
        assert_eq!(container_id(&format!("0::/{id}0")), None);
    }

    #[test]
    fn every_limit_up_the_tree_counts() {
        let root = std::env::temp_dir().join(format!("tracer-cgroup-{}", std::process::id()));
        let leaf = root.join("pods/app");
        std::fs::create_dir_all(&leaf).unwrap();
        std::fs::write(leaf.join("memory.max"), "max\n").unwrap();
        std::fs::write(root.join("pods/memory.max"), "1048576\n").unwrap();
        std::fs::write(root.join("pods/memory.current"), "4096\n").unwrap();
        std::fs::write(root.join("pods/memory.stat"), "active_file 1000\ninactive_file 96\n").unwrap();
        std::fs::write(root.join("memory.max"), "2097152\n").unwrap();
        let mount = Mount { root: "/".into(), point: root.clone(), files: V2 };
        let found = limits_above(&mount, Path::new("/pods/app"));
        let outside = limits_above(&mount, Path::new("/../other"));
        std::fs::remove_dir_all(&root).unwrap();
        let pods = MemoryLimit { limit: Bytes(1_048_576), used: Some(Bytes(3000)) };
        assert_eq!(found, [pods, MemoryLimit { limit: Bytes(2_097_152), used: None }]);
        assert_eq!(outside, []);
    }
}
