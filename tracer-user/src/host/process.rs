//! One process: its identity, its executable, its mappings and its figures in /proc.
//!
//! Apart from `memory` because this is text from the kernel, not foreign memory. A pid alone identifies
//! nothing: it is reused, and exec replaces the program under it, be it by the same one. A [`Process`] is pid,
//! start time, the inode it runs and one address space, and [`Process::still_same`] is asked after each batch of
//! reads. Never signals the process.

use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use procfs::process::Process as ProcDir;
use rustix::process::PidfdFlags;

use super::HostError;
use super::address_space::AddressSpace;
use super::cgroup::{self, MemoryLimit};
use super::maps::{self, Line};
use super::memory::ProcessMemory;
use super::stat::{goes_on_without, has_ended, read_stat, without_main_thread};
use crate::record::reading;
use crate::units::{Bytes, FileOffset, ImageAddr, LoadBias, Pid, ProcAddr};

/// A process that was opened, and how to tell whether it is still that one.
#[derive(Debug)]
pub struct Process {
    pid: Pid,
    /// The directory /proc/PID, held open: what is read through it can never be another process's.
    proc_dir: ProcDir,
    /// Absent where the kernel or a sandbox has no pidfd_open (before Linux 5.3).
    pidfd: Option<OwnedFd>,
    start_ticks: u64,
    space: AddressSpace,
    exe: File,
    exe_file: FileId,
    exe_link: PathBuf,
}

const OPEN_EXE: &str = "open the executable";

/// Which file an open file is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FileId {
    dev: u64,
    inode: u64,
}

impl From<&Metadata> for FileId {
    fn from(meta: &Metadata) -> Self {
        Self { dev: meta.dev(), inode: meta.ino() }
    }
}

/// A part of the executable as it is mapped into the process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mapping {
    pub start: ProcAddr,
    pub end: ProcAddr,
    /// Where in the file the mapping begins.
    pub offset: FileOffset,
    pub executable: bool,
}

/// A loadable segment of the executable, as its program header says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Segment {
    pub vaddr: ImageAddr,
    pub offset: FileOffset,
    pub file_size: Bytes,
}

/// What the kernel side needs to know the process by, whatever pid namespace we run in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PidNamespace {
    pub dev: u64,
    pub inode: u64,
    /// The process's pid inside that namespace (the last number of `NSpid`).
    pub pid: Pid,
}

impl Process {
    /// Opens the process with this pid, as the caller's pid namespace shows it.
    pub fn open(pid: Pid) -> Result<Self, HostError> {
        let no_such = HostError::NoSuchProcess { pid };
        let raw = i32::try_from(pid.0).ok().and_then(rustix::process::Pid::from_raw);
        let Some(raw) = raw else { return Err(no_such) };
        // First the pidfd, then /proc, then its start time: all that follows is checked against these three.
        let pidfd = match rustix::process::pidfd_open(raw, PidfdFlags::empty()) {
            Ok(fd) => Some(fd),
            Err(rustix::io::Errno::SRCH) => return Err(no_such),
            // A thread's number makes it EINVAL, since Linux 6.16 ENOENT: /proc says whose it is.
            Err(_) => None,
        };
        let proc_dir =
            ProcDir::new(raw.as_raw_nonzero().get()).map_err(|e| from_procfs(pid, "open /proc", e))?;
        let status = proc_dir.status().map_err(|e| from_procfs(pid, "read the status", e))?;
        if let Some(process) = u32::try_from(status.tgid).ok().filter(|tgid| *tgid != pid.0) {
            return Err(HostError::IsThread { pid, process: Pid(process) });
        }
        let stat = read_stat(pid, &proc_dir)?;
        let exe = proc_dir.open_relative("exe").map_err(|e| {
            if without_main_thread(&stat) && goes_on_without(pid, &proc_dir, pidfd.as_ref()) {
                HostError::MainThreadEnded { pid }
            } else {
                // The link may be read by who may trace; the file's own modes are another matter.
                match from_procfs(pid, OPEN_EXE, e) {
                    HostError::Denied { .. } if proc_dir.exe().is_ok() => {
                        HostError::denied_by_modes(pid, OPEN_EXE)
                    }
                    e => no_executable(pid, e),
                }
            }
        })?;
        let meta = exe.metadata().map_err(|e| HostError::from_proc(pid, "inspect the executable", e))?;
        let exe_link = proc_dir.exe().map_err(|e| from_procfs(pid, "read the link to the executable", e))?;
        let space = AddressSpace::open(&proc_dir, &stat);
        let (start_ticks, exe_file) = (stat.starttime, FileId::from(&meta));
        let process = Self { pid, proc_dir, pidfd, start_ticks, space, exe, exe_file, exe_link };
        process.still_same()?;
        Ok(process)
    }

    /// Whether the process runs the file that `file` is, under whatever path.
    pub fn runs(&self, file: &File) -> bool {
        file.metadata().is_ok_and(|meta| FileId::from(&meta) == self.exe_file)
    }

    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// The executable, opened once through /proc/PID/exe: the right file in containers and after deletion.
    pub fn exe(&self) -> &File {
        &self.exe
    }

    /// The executable's path inside its own mount namespace, for display only.
    pub fn exe_path(&self) -> PathBuf {
        PathBuf::from(
            self.exe_link
                .to_string_lossy()
                .strip_suffix(DELETED)
                .map_or_else(|| self.exe_link.clone().into_os_string(), |path| path.to_owned().into()),
        )
    }

    /// Whether the executable's file was deleted or replaced after the process started.
    pub fn exe_deleted(&self) -> bool {
        self.exe.metadata().is_ok_and(|m| m.nlink() == 0)
    }

    /// A path that leads to the very file of [`Process::exe`], for calls that take paths (attaching uprobes).
    /// Valid only in this process and while `self` lives.
    pub fn attach_path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.exe.as_raw_fd()))
    }

    /// Its memory.
    pub fn memory(&self) -> ProcessMemory {
        ProcessMemory::new(self.pid)
    }

    /// Readable once the process has ended. Absent on kernels before 5.3.
    pub fn pidfd(&self) -> Option<&OwnedFd> {
        self.pidfd.as_ref()
    }

    /// Fails when the process ended or runs another program now: what was read since the last success is void.
    pub fn still_same(&self) -> Result<(), HostError> {
        let pid = self.pid;
        if self.has_ended() {
            return Err(HostError::Gone { pid });
        }
        let stat = read_stat(pid, &self.proc_dir).map_err(gone_if_missing)?;
        if without_main_thread(&stat) {
            let goes_on = goes_on_without(pid, &self.proc_dir, self.pidfd.as_ref());
            return Err(if goes_on { HostError::MainThreadEnded { pid } } else { HostError::Gone { pid } });
        }
        if stat.starttime != self.start_ticks {
            return Err(HostError::Replaced { pid, how: "the pid now belongs to another process" });
        }
        let now = std::fs::metadata(format!("/proc/{pid}/exe"))
            .map_err(|e| gone_if_missing(HostError::from_proc(pid, "inspect the executable", e)))?;
        if FileId::from(&now) != self.exe_file {
            return Err(HostError::Replaced { pid, how: "it executed another program" });
        }
        if !self.space.is_still_there(&stat) {
            // An ending process leaves its address space before its pidfd tells.
            return Err(match self.exe_mappings() {
                Ok(_) if !self.has_ended() => HostError::Replaced { pid, how: "it executed a program again" },
                _ => HostError::Gone { pid },
            });
        }
        Ok(())
    }

    fn has_ended(&self) -> bool {
        self.pidfd.as_ref().is_some_and(has_ended)
    }

    /// The mappings of the executable's file, by address.
    pub fn exe_mappings(&self) -> Result<Vec<Mapping>, HostError> {
        let text = self.maps()?;
        // An ending process gives its memory back before anything else shows that it ends.
        if text.is_empty() {
            return Err(HostError::Gone { pid: self.pid });
        }
        let by_inode: Vec<Mapping> =
            maps::lines(&text).filter(|line| self.is_exe(line)).map(|line| line.mapping).collect();
        if !by_inode.is_empty() {
            return Ok(by_inode);
        }
        // On overlayfs and btrfs the kernel shows another device or inode in maps than stat does; there the
        // path decides, which maps prints exactly as the exe link does.
        let of_path = maps::lines(&text).filter(|line| line.path == Some(&self.exe_link));
        Ok(of_path.map(|line| line.mapping).collect())
    }

    /// Other files whose code is mapped, by their names in the process's own mount namespace, each once.
    /// What cannot be opened is left out.
    pub fn libraries(&self) -> Vec<(PathBuf, File)> {
        /// A desktop program loads a few hundred.
        const MOST: usize = 512;
        let text = self.maps().unwrap_or_default();
        let others = maps::lines(&text).filter(|line| line.mapping.executable && !self.is_exe(line));
        let mut paths: Vec<PathBuf> = others.filter_map(|line| line.path.map(Path::to_owned)).collect();
        paths.sort();
        paths.dedup();
        paths.truncate(MOST);
        let root = PathBuf::from(format!("/proc/{}/root", self.pid));
        let inside = |path: &Path| root.join(path.strip_prefix("/").unwrap_or(path));
        // By now another file may go by that name, even a pipe that nobody writes to.
        let mut options = File::options();
        options.read(true).custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed());
        paths.into_iter().filter_map(|path| Some((path.clone(), options.open(inside(&path)).ok()?))).collect()
    }

    /// The file that is mapped at an address, by its name in the process's own mount namespace.
    pub fn file_at(&self, addr: ProcAddr) -> Option<PathBuf> {
        let text = self.maps().ok()?;
        let line =
            maps::lines(&text).find(|Line { mapping, .. }| (mapping.start..mapping.end).contains(&addr))?;
        line.path.map(Path::to_owned)
    }

    fn is_exe(&self, line: &Line<'_>) -> bool {
        let dev = rustix::fs::makedev(line.device.0, line.device.1);
        line.inode == self.exe_file.inode && dev == self.exe_file.dev
    }

    /// The text of its maps; empty while it ends.
    fn maps(&self) -> Result<Vec<u8>, HostError> {
        /// The most mappings a process may have by default are 65 530, of some hundred bytes.
        const MOST: u64 = 64 << 20;
        let failed = |e| gone_if_missing(HostError::from_proc(self.pid, "read the maps", e));
        let file = self.proc_dir.open_relative("maps").map_err(self.failed("read the maps"))?;
        let mut text = Vec::new();
        file.take(MOST).read_to_end(&mut text).map_err(failed)?;
        Ok(text)
    }

    /// What to add to linked addresses, from where the executable's segments lie in the process.
    pub fn load_bias(&self, segments: &[Segment]) -> Result<LoadBias, HostError> {
        bias_of(&self.exe_mappings()?, segments)
            .ok_or_else(|| HostError::NotMapped { pid: self.pid, exe: self.exe_path().display().to_string() })
    }

    /// The pid namespace the process lives in and its pid there.
    pub fn pid_namespace(&self) -> Result<PidNamespace, HostError> {
        let pid = self.pid;
        let meta = std::fs::metadata(format!("/proc/{pid}/ns/pid"))
            .map_err(|e| gone_if_missing(HostError::from_proc(pid, "inspect the pid namespace", e)))?;
        let status = self.proc_dir.status().map_err(self.failed("read the status"))?;
        // NSpid came with Linux 4.1; without it there is only the pid we know.
        let inner = status.nspid.as_ref().and_then(|all| all.last()).and_then(|&p| u32::try_from(p).ok());
        Ok(PidNamespace { dev: meta.dev(), inode: meta.ino(), pid: inner.map_or(pid, Pid) })
    }

    /// Memory, CPU and threads as /proc shows them.
    pub fn figures(&self) -> Result<reading::Process, HostError> {
        let failed = self.failed("read the status");
        let status = self.proc_dir.status().map_err(&failed)?;
        let stat = read_stat(self.pid, &self.proc_dir).map_err(gone_if_missing)?;
        let kib = |value: Option<u64>| value.map(|v| Bytes(v.saturating_mul(1024)));
        Ok(reading::Process {
            // A zombie has no VmRSS line: it has ended.
            rss: kib(status.vmrss).ok_or(HostError::Gone { pid: self.pid })?,
            rss_anon: kib(status.rssanon),
            rss_shmem: kib(status.rssshmem),
            cpu_s: (stat.utime + stat.stime) as f64 / procfs::ticks_per_second() as f64,
            threads: status.threads,
        })
    }

    /// When the process started, on the wall clock as it stands now.
    pub fn started_at(&self) -> SystemTime {
        SystemTime::now().checked_sub(self.age()).unwrap_or(SystemTime::UNIX_EPOCH)
    }

    /// How long ago the process started, suspended time included.
    pub fn age(&self) -> Duration {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let now = Duration::new(now.tv_sec.cast_unsigned(), now.tv_nsec as u32);
        let started = Duration::from_secs_f64(self.start_ticks as f64 / procfs::ticks_per_second() as f64);
        now.saturating_sub(started)
    }

    /// The tightest memory limit of the cgroups it is in, where one is set and visible from here.
    pub fn memory_limit(&self) -> Option<MemoryLimit> {
        cgroup::memory_limit(&self.cgroups()?)
    }

    /// What is left below the limits of the cgroups it is in: the least of them, where one is set and visible from here.
    /// Pages of files count as free, as the kernel drops them first.
    pub fn memory_left(&self) -> Option<Bytes> {
        cgroup::memory_left(&self.cgroups()?)
    }

    /// The id of the container it runs in, where its cgroup path carries one.
    pub fn container_id(&self) -> Option<String> {
        cgroup::container_id(&self.cgroups()?)
    }

    /// For `map_err` on reads of /proc once the process was opened: what is missing now has ended.
    fn failed(&self, doing: &'static str) -> impl Fn(procfs::ProcError) -> HostError + use<> {
        let pid = self.pid;
        move |error| gone_if_missing(from_procfs(pid, doing, error))
    }

    fn cgroups(&self) -> Option<String> {
        std::fs::read_to_string(format!("/proc/{}/cgroup", self.pid)).ok()
    }
}

const DELETED: &str = " (deleted)";

/// The bias by which every mapping of a segment agrees: `map.start - (p_vaddr - (p_offset - map.offset))`.
/// RELRO splits a segment's mapping and each part must give the same answer; absent where they do not.
pub(super) fn bias_of(mappings: &[Mapping], segments: &[Segment]) -> Option<LoadBias> {
    /// No supported machine has larger pages; segments are aligned to at least their page.
    const PAGE_SLACK: u64 = 0xffff;
    let mut found: Option<u64> = None;
    // The text segment decides alone: what is executable is mapped once and from the file.
    for map in mappings.iter().filter(|m| m.executable) {
        let holds = |s: &&Segment| {
            let first = s.offset.0 & !0xfff;
            let last = s.offset.0.saturating_add(s.file_size.0).saturating_add(PAGE_SLACK);
            s.file_size.0 > 0 && (first..last).contains(&map.offset.0)
        };
        // A page may hold the end of one segment and the start of the next: the later one is what is mapped there.
        let segment = segments.iter().filter(holds).max_by_key(|s| s.offset.0)?;
        let linked = segment.vaddr.0.wrapping_sub(segment.offset.0.wrapping_sub(map.offset.0));
        let bias = map.start.0.wrapping_sub(linked);
        if found.is_some_and(|earlier| earlier != bias) {
            return None;
        }
        found = Some(bias);
    }
    found.map(LoadBias)
}

/// Once a process was open, "no such process" means that it ended.
fn gone_if_missing(error: HostError) -> HostError {
    match error {
        HostError::NoSuchProcess { pid } => HostError::Gone { pid },
        other => other,
    }
}

/// /proc/PID exists and its exe link leads nowhere: a kernel thread or a zombie.
fn no_executable(pid: Pid, error: HostError) -> HostError {
    match error {
        HostError::NoSuchProcess { .. } if Path::new(&format!("/proc/{pid}/stat")).exists() => {
            HostError::NoExecutable { pid }
        }
        other => other,
    }
}

pub(super) fn from_procfs(pid: Pid, doing: &'static str, error: procfs::ProcError) -> HostError {
    use procfs::ProcError;
    match error {
        ProcError::PermissionDenied(_) => HostError::denied(pid, doing),
        ProcError::NotFound(_) => HostError::NoSuchProcess { pid },
        ProcError::Io(source, _) => HostError::from_proc(pid, doing, source),
        other => HostError::Proc { pid, doing, source: io::Error::other(other.to_string()) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn me() -> Process {
        Process::open(Pid(std::process::id())).unwrap()
    }

    #[test]
    fn our_own_process_is_told_as_the_standard_library_tells_it() {
        let me = me();
        me.still_same().unwrap();
        assert_eq!(me.exe_path(), std::env::current_exe().unwrap());
        assert!(!me.exe_deleted());
        let through_fd = std::fs::metadata(me.attach_path()).unwrap();
        assert_eq!(through_fd.ino(), std::fs::metadata(me.exe_path()).unwrap().ino());
        let namespace = std::fs::metadata("/proc/self/ns/pid").unwrap();
        let found = me.pid_namespace().unwrap();
        assert_eq!((found.dev, found.inode, found.pid), (namespace.dev(), namespace.ino(), me.pid()));
        let figures = me.figures().unwrap();
        assert!(figures.rss.0 > 100_000 && figures.threads >= 1 && figures.cpu_s >= 0.0);
        assert!(figures.rss_anon.unwrap().0 <= figures.rss.0);
        assert!(me.age() < Duration::from_hours(1));
        let started = me.started_at();
        assert!(started < SystemTime::now() + Duration::from_secs(1));
    }

    #[test]
    fn the_bias_of_our_own_image_maps_a_function_to_itself() {
        // Whatever the bias is, the mapping that holds this function must be one of ours.
        let me = me();
        let here = the_bias_of_our_own_image_maps_a_function_to_itself as *const () as u64;
        let maps = me.exe_mappings().unwrap();
        assert!(maps.iter().any(|m| m.executable && (m.start.0..m.end.0).contains(&here)), "{maps:?}");
    }

    #[test]
    fn a_thread_is_refused_with_the_process_it_is_of() {
        let (tell, told) = std::sync::mpsc::channel();
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            tell.send(rustix::thread::gettid().as_raw_nonzero().get().cast_unsigned()).unwrap();
            assert!(ended.recv().is_err(), "the sender is dropped");
        });
        let tid = told.recv().unwrap();
        let ours = Pid(std::process::id());
        let refused = Process::open(Pid(tid));
        assert!(
            matches!(refused, Err(HostError::IsThread { pid, process }) if pid == Pid(tid) && process == ours),
            "{refused:?}"
        );
        drop(end);
        thread.join().unwrap();
    }

    #[test]
    fn a_pid_without_a_process_is_named() {
        for pid in [0, u32::MAX, 4_194_304] {
            assert!(matches!(Process::open(Pid(pid)), Err(HostError::NoSuchProcess { .. })), "{pid}");
        }
        // A kernel thread exists but has no executable; in a pid namespace there may be none to ask about.
        if std::fs::read_to_string("/proc/2/comm").is_ok_and(|c| c.trim() == "kthreadd") {
            let refused = Process::open(Pid(2));
            assert!(matches!(refused, Err(HostError::NoExecutable { .. } | HostError::Denied { .. })));
        }
    }

    #[test]
    fn exec_and_exit_are_noticed() {
        let mut child = std::process::Command::new("sh")
            .args(["-c", "read _; exec sleep 30"])
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let process = Process::open(Pid(child.id())).unwrap();
        process.still_same().unwrap();
        drop(child.stdin.take());
        let mut replaced = process.still_same();
        for _ in 0..500 {
            if replaced.is_err() {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
            replaced = process.still_same();
        }
        assert!(matches!(replaced, Err(HostError::Replaced { .. })), "{replaced:?}");
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(matches!(process.still_same(), Err(HostError::Gone { .. })));
        assert!(matches!(process.figures(), Err(HostError::Gone { .. })));
    }

    fn map(start: u64, offset: u64, executable: bool) -> Mapping {
        Mapping {
            start: ProcAddr(start),
            end: ProcAddr(start + 0x1000),
            offset: FileOffset(offset),
            executable,
        }
    }

    fn segment(vaddr: u64, offset: u64, size: u64) -> Segment {
        Segment { vaddr: ImageAddr(vaddr), offset: FileOffset(offset), file_size: Bytes(size) }
    }

    #[test]
    fn the_bias_holds_for_each_way_go_programs_are_linked() {
        // Position-dependent: text at 0x400000 from offset 0.
        let exec = [segment(0x40_0000, 0, 0x8_0000), segment(0x48_0000, 0x8_0000, 0x9_0000)];
        let maps = [map(0x40_0000, 0, true), map(0x48_0000, 0x8_0000, false)];
        assert_eq!(bias_of(&maps, &exec), Some(LoadBias(0)));
        // Go's own PIE linking: the first segment is linked at 0x400000 as well.
        let maps = [map(0x5555_5555_4000, 0, true), map(0x5555_555d_4000, 0x8_0000, false)];
        assert_eq!(bias_of(&maps, &exec), Some(LoadBias(0x5555_5515_4000)));
        // Linked by the C linker: text has an offset of its own, linked at 0 plus.
        let external = [segment(0, 0, 0x1_2345), segment(0x2_3300, 0x1_3300, 0x5000)];
        let maps = [map(0x7f00_0000_0000, 0, false), map(0x7f00_0002_3000, 0x1_3000, true)];
        assert_eq!(bias_of(&maps, &external), Some(LoadBias(0x7f00_0000_0000)));
        // No mapping, no bias; two that disagree, none either.
        assert_eq!(bias_of(&[], &exec), None);
        assert_eq!(bias_of(&[map(0x40_0000, 0, true), map(0x90_0000, 0, true)], &exec), None);
    }
}
