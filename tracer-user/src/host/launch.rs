//! Starts a program so that it waits before its first instruction until the tracer is attached.
//!
//! Apart from `process` because here we are the parent. The order is:
//!
//! 1. [`resolve`] the command and open the file it names; decide from it where probes go.
//! 2. [`Waiting::start`]: the child exists under its final pid, and waits on a pipe before exec.
//! 3. Attach probes to (the file's inode, the child's pid). Nothing maps the file in the child yet. The kernel
//!    keeps the probe with its inode, and when exec maps the text into the new address space `uprobe_mmap`
//!    (kernel/events/uprobes.c) asks each consumer's filter about it: both `uprobe_perf_filter` and
//!    `uprobe_multi_link_filter` compare with the task's current `mm`, and the task is the same across exec.
//!    So the instructions are patched before the program's first one runs.
//! 4. [`Waiting::release`]: returns once exec has succeeded or failed. Now /proc/PID shows the program, and
//!    `Process::open` makes its identity. Checks of the text in memory come here: before, there was none.
//!
//! The child's input, output and error stream are ours. It stays in our process group, so keys like Ctrl-C
//! reach it from the terminal without us; [`Running::signal`] and [`Running::interrupt`] pass on what was sent to
//! the tracer alone.
//! If the tracer ends before the release, the pipe closes and the child ends without running the program.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd, RawFd};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::thread::JoinHandle;

use rustix::pipe::PipeFlags;

use super::HostError;
use crate::units::Pid;

/// The file that `command` names: itself where it has a slash, else the first executable file in `PATH`.
pub fn resolve(command: &OsStr) -> Result<PathBuf, HostError> {
    resolve_in(command, std::env::var_os("PATH").as_deref())
}

fn resolve_in(command: &OsStr, path: Option<&OsStr>) -> Result<PathBuf, HostError> {
    let not_found = || HostError::CommandNotFound { command: command.to_string_lossy().into_owned() };
    if command.is_empty() {
        return Err(not_found());
    }
    if Path::new(command).components().count() > 1 || command.as_encoded_bytes().contains(&b'/') {
        return if Path::new(command).is_file() { Ok(command.into()) } else { Err(not_found()) };
    }
    std::env::split_paths(path.unwrap_or_default())
        // An empty part of PATH means the current directory.
        .map(|dir| if dir.as_os_str().is_empty() { Path::new(".").join(command) } else { dir.join(command) })
        .find(|file| file.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0))
        .ok_or_else(not_found)
}

/// A child that waits before exec.
#[derive(Debug)]
pub struct Waiting {
    pid: Pid,
    command: String,
    gate: Option<OwnedFd>,
    /// `Command::spawn` returns only after exec, so it runs in a thread of its own.
    spawner: Option<JoinHandle<io::Result<Child>>>,
}

impl Waiting {
    /// Starts `program` (as [`resolve`] found it) under the name `command` with `args`, and holds it before exec.
    pub fn start(program: &Path, command: &OsStr, args: &[OsString]) -> Result<Self, HostError> {
        let name = command.to_string_lossy().into_owned();
        let failed = |source: io::Error| HostError::Launch { command: name.clone(), source };
        let (child_gate, gate) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(|e| failed(e.into()))?;
        let (pid_reader, pid_writer) =
            rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(|e| failed(e.into()))?;
        let mut spawn = Command::new(program);
        spawn.arg0(command).args(args);
        let hold = hold_before_exec(child_gate, gate.as_raw_fd(), pid_writer);
        // SAFETY: the closure runs in the forked child, where another thread may have held any lock at the
        // fork. It makes system calls on its own descriptors only (getpid, write, read, close): it allocates
        // nothing, takes no lock and cannot panic.
        unsafe { spawn.pre_exec(hold) };
        let spawner =
            std::thread::Builder::new().name("launch".into()).spawn(move || spawn.spawn()).map_err(failed)?;
        let mut waiting = Self { pid: Pid(0), command: name, gate: Some(gate), spawner: Some(spawner) };
        let mut pid = [0; 4];
        if read_full(&pid_reader, &mut pid).is_err() {
            // The fork itself failed: the spawner knows why.
            return Err(match waiting.open_gate() {
                Err(error) => error,
                Ok(running) => HostError::Gone { pid: running.pid() },
            });
        }
        waiting.pid = Pid(u32::from_ne_bytes(pid));
        Ok(waiting)
    }

    /// The pid it has now and keeps across exec.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Lets the child go on; returns once exec has happened, or says why it failed.
    pub fn release(mut self) -> Result<Running, HostError> {
        if let Some(gate) = &self.gate {
            // A child that was killed meanwhile makes this fail; the spawner then tells the truth.
            if rustix::io::write(gate, &[1]).is_err() {
                self.gate = None;
            }
        }
        self.open_gate()
    }

    fn open_gate(&mut self) -> Result<Running, HostError> {
        self.gate = None;
        let spawner = self.spawner.take().expect("a Waiting is released once");
        let spawned = spawner.join().unwrap_or_else(|_| Err(io::Error::other("the launching thread failed")));
        match spawned {
            Ok(child) => Ok(Running { child }),
            Err(source) => Err(HostError::Launch { command: self.command.clone(), source }),
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        // Closing the pipe ends the child; joining makes sure that it was reaped.
        self.gate = None;
        if let Some(spawner) = self.spawner.take() {
            drop(spawner.join());
        }
    }
}

/// A child that runs its program.
#[derive(Debug)]
pub struct Running {
    child: Child,
}

impl Running {
    pub fn pid(&self) -> Pid {
        Pid(self.child.id())
    }

    /// Passes on a signal that was sent to the tracer. A child that has ended gets none.
    pub fn signal(&mut self, signal: rustix::process::Signal) {
        // Until it was waited for, the pid is still its own.
        if matches!(self.child.try_wait(), Ok(None))
            && let Ok(pid) = i32::try_from(self.child.id())
            && let Some(pid) = rustix::process::Pid::from_raw(pid)
        {
            // It may have ended this very moment; then there is nobody to tell.
            let (Ok(()) | Err(_)) = rustix::process::kill_process(pid, signal);
        }
    }

    /// Passes on an interrupt. In the terminal's foreground it is Ctrl-C, which the child has had as well.
    pub fn interrupt(&mut self) {
        let me = procfs::process::Process::myself().and_then(|me| me.stat());
        if !me.is_ok_and(|stat| stat.tpgid == stat.pgrp) {
            self.signal(rustix::process::Signal::INT);
        }
    }

    /// Its exit status once it has ended.
    pub fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// Waits for its end. Standard input stays the child's.
    pub fn wait(&mut self) -> io::Result<ExitStatus> {
        self.child.wait()
    }
}

/// Runs in the child between fork and exec: tells its pid, then waits for one byte.
fn hold_before_exec(
    gate: OwnedFd,
    parents_gate: RawFd,
    pid_writer: OwnedFd,
) -> impl FnMut() -> io::Result<()> + Send + Sync + 'static {
    move || {
        // SAFETY: the descriptor is open in the parent at the fork (`Waiting::start` returns later) and nothing
        // in the child uses it. Left open here it would hold the pipe open after the tracer's death.
        unsafe { libc::close(parents_gate) };
        let pid = rustix::process::getpid().as_raw_nonzero().get();
        rustix::io::write(&pid_writer, &pid.to_ne_bytes())?;
        let mut byte = [0];
        read_full(&gate, &mut byte)
    }
}

/// Reads the whole buffer; the end of the pipe is an error. Allocates nothing.
fn read_full(fd: &OwnedFd, buf: &mut [u8]) -> io::Result<()> {
    let mut done = 0;
    while done < buf.len() {
        match rustix::io::read(fd.as_fd(), &mut buf[done..]) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => done += n,
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;

    use super::*;

    fn start(script: &str) -> Waiting {
        let sh = resolve(OsStr::new("sh")).unwrap();
        Waiting::start(&sh, OsStr::new("sh"), &["-c".into(), script.into()]).unwrap()
    }

    fn exe(pid: Pid) -> PathBuf {
        std::fs::read_link(format!("/proc/{pid}/exe")).unwrap()
    }

    #[test]
    fn the_child_waits_before_exec_and_keeps_its_pid() {
        let waiting = start("exit 7");
        let pid = waiting.pid();
        assert_eq!(exe(pid), std::env::current_exe().unwrap());
        std::thread::sleep(std::time::Duration::from_millis(50));
        assert_eq!(exe(pid), std::env::current_exe().unwrap());
        let mut running = waiting.release().unwrap();
        assert_eq!(running.pid(), pid);
        assert_eq!(running.wait().unwrap().code(), Some(7));
    }

    #[test]
    fn after_release_the_program_is_there_and_signals_reach_it() {
        let mut running = start("exec sleep 30").release().unwrap();
        assert_ne!(exe(running.pid()), std::env::current_exe().unwrap());
        assert_eq!(running.try_wait().unwrap(), None);
        running.signal(rustix::process::Signal::TERM);
        assert_eq!(running.wait().unwrap().signal(), Some(libc::SIGTERM));
        running.signal(rustix::process::Signal::TERM);
    }

    #[test]
    fn a_child_that_is_never_released_ends_without_running() {
        let waiting = start("exit 0");
        let pid = waiting.pid();
        drop(waiting);
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
    }

    #[test]
    fn failures_to_exec_are_told() {
        let file = std::env::temp_dir().join(format!("tracer-noexec-{}", std::process::id()));
        std::fs::write(&file, "not a program").unwrap();
        let waiting = Waiting::start(&file, file.as_os_str(), &[]).unwrap();
        let refused = waiting.release();
        std::fs::remove_file(&file).unwrap();
        let line = refused.unwrap_err().to_string();
        assert!(line.contains("Permission denied"), "{line}");
    }

    #[test]
    fn commands_are_found_as_a_shell_finds_them() {
        assert!(resolve(OsStr::new("sh")).unwrap().is_absolute());
        for missing in ["", "no-such-command-here", "/no/such/file", "./no-such-file", "/"] {
            let line = resolve(OsStr::new(missing)).unwrap_err().to_string();
            assert!(line.contains("not found"), "{line}");
        }
        assert!(resolve_in(OsStr::new("sh"), None).is_err());
        // A file that is not executable does not hide one that is.
        let path = std::env::join_paths(["/proc/self", "/usr/bin", "/bin"]).unwrap();
        assert!(resolve_in(OsStr::new("sh"), Some(&path)).is_ok());
    }
}
