//! The run directory: which tracers are at work on this host, and how all of them are told to let go.
//!
//! Apart because it is about tracers, not about targets. A tracer that is at work holds a lock (POSIX, whole file) on a file of its
//! own there. The kernel drops the lock with the process, however that ends, and says who holds it (/proc/locks): nothing that is
//! written in the directory is believed, so that nobody can have a foreign process ended by a file. A file `NAME.stop` asks the
//! tracer of `NAME` to let go, a file `stop` asks all, for as long as it is there.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use procfs::{Lock, LockType};
use rustix::fs::{FlockOperation, fcntl_lock, major, minor};
use rustix::process::{PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::units::Pid;

/// Where it is unless something else is said.
pub const RUN_DIR: &str = "/run/tracer";
/// The operator's file: while it is there, tracers let go and none starts.
const STOP: &str = "stop";
/// What is put behind a tracer's name to ask it alone.
const ASKED: &str = "stop";
/// What the kernel takes to end a process that was killed; its links take the longest.
const ENDS_WITHIN: Duration = Duration::from_secs(10);
/// Between two looks at whether a tracer has let go.
const LOOK: Duration = Duration::from_millis(20);

#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    #[error("tracing is stopped on this host by {}: remove that file to trace again", .0.display())]
    Stopped(PathBuf),
    #[error("cannot read {}: {source}; run as root, or name the directory of the tracers with --run-dir", dir.display())]
    Unreadable {
        dir: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// A tracer's entry, from its start to its end.
#[derive(Debug)]
pub struct Registration {
    dir: PathBuf,
    name: String,
    /// Holds the lock. Absent where the directory cannot be written.
    file: Option<File>,
}

impl Registration {
    /// Enters this process as the tracer of `target`. Where that cannot be, the reason is in the second place: it may go on, and
    /// `stop-all` does not find it. The operator's file does, where the directory can be read.
    pub fn enter(dir: &Path, target: Option<Pid>) -> Result<(Self, Option<io::Error>), RegistryError> {
        refuse_stopped(dir)?;
        // Two pid namespaces may share the directory.
        let namespace = fs::metadata("/proc/self/ns/pid").map_or(0, |m| m.ino());
        let name = format!("{namespace}-{}", std::process::id());
        let (file, why) = match lock(dir, &name, target) {
            Ok(file) => (Some(file), None),
            Err(e) => (None, Some(e)),
        };
        Ok((Self { dir: dir.to_owned(), name, file }, why))
    }

    /// Whether this thread would see the operator's file, were it there.
    pub fn hears(&self) -> bool {
        let looked = fs::symlink_metadata(self.dir.join(STOP));
        !matches!(looked, Err(e) if e.kind() == io::ErrorKind::PermissionDenied)
    }

    /// Who asks this tracer to let go; absent where nobody does.
    pub fn asked_by(&self) -> Option<PathBuf> {
        let own = self.file.as_ref().map(|_| asked(&self.dir, &self.name));
        own.into_iter().chain([self.dir.join(STOP)]).find(|file| file.exists())
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        if self.file.is_some() {
            // Best effort: what stays behind holds no lock, and the next `stop-all` takes it away.
            drop(fs::remove_file(self.dir.join(&self.name)));
            drop(fs::remove_file(asked(&self.dir, &self.name)));
        }
    }
}

/// An error while the operator's file is there.
pub fn refuse_stopped(dir: &Path) -> Result<(), RegistryError> {
    let stop = dir.join(STOP);
    if stop.exists() { Err(RegistryError::Stopped(stop)) } else { Ok(()) }
}

fn asked(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("{name}.{ASKED}"))
}

/// A locked file of that name, which appears under it when it is locked.
fn lock(dir: &Path, name: &str, target: Option<Pid>) -> io::Result<File> {
    match fs::DirBuilder::new().mode(0o755).create(dir) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
        _ => {}
    }
    // One that asked a tracer of the same name before.
    drop(fs::remove_file(asked(dir, name)));
    let new = dir.join(format!("{name}.new"));
    drop(fs::remove_file(&new));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(&new)?;
    let of = target.map_or_else(String::new, |target| format!(" target {target}"));
    let entered = fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive)
        .map_err(io::Error::from)
        .and_then(|()| writeln!(file, "tracer {}{of}", std::process::id()))
        .and_then(|()| fs::rename(&new, dir.join(name)));
    if entered.is_err() {
        drop(fs::remove_file(&new));
    }
    entered.map(|()| file)
}

/// What became of one tracer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stopped {
    /// Its entry: pid namespace and pid.
    pub name: String,
    pub how: How,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum How {
    /// It has let go of its target.
    LetGo,
    /// It did not within the time given and was ended; the kernel let go for it.
    Killed,
    /// It goes on.
    Remains(String),
}

/// Asks every tracer to let go, and ends those that do not within `patience`.
pub fn stop_all(dir: &Path, patience: Duration) -> Result<Vec<Stopped>, RegistryError> {
    let unreadable = |source| RegistryError::Unreadable { dir: dir.to_owned(), source };
    let entries = match fs::read_dir(dir) {
        // No tracer was ever here.
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(unreadable)?,
    };
    let mut asked_of = Vec::new();
    for entry in entries {
        let entry = entry.map_err(unreadable)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.contains('.') || name == STOP {
            continue;
        }
        if is_free(&entry.path()).unwrap_or(false) {
            // Its tracer is gone.
            drop(fs::remove_file(entry.path()));
            continue;
        }
        let unasked = ask(&asked(dir, &name)).err();
        asked_of.push((name, unasked));
    }
    let until = Instant::now() + patience;
    let stopped = asked_of.into_iter().map(|(name, unasked)| {
        let how = end(&dir.join(&name), until, unasked.as_ref());
        drop(fs::remove_file(asked(dir, &name)));
        Stopped { name, how }
    });
    Ok(stopped.collect())
}

/// Makes the file that asks. Whatever has its name already asks as well: it is not followed.
fn ask(file: &Path) -> io::Result<()> {
    match OpenOptions::new().write(true).create_new(true).mode(0o644).open(file) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(e),
        _ => Ok(()),
    }
}

/// Waits for one to let go, and ends it where it does not.
fn end(entry: &Path, until: Instant, unasked: Option<&io::Error>) -> How {
    match is_let_go(entry, if unasked.is_none() { until } else { Instant::now() }) {
        Ok(true) => return How::LetGo,
        Ok(false) => {}
        Err(e) => return How::Remains(e.to_string()),
    }
    let gone = kill(entry).and_then(|()| is_let_go(entry, Instant::now() + ENDS_WITHIN));
    match (gone, unasked) {
        (Ok(true), _) => {
            // It could not take its entry away.
            drop(fs::remove_file(entry));
            How::Killed
        }
        (Ok(false), _) => How::Remains("it was killed and does not end".to_owned()),
        (Err(e), None) => How::Remains(e.to_string()),
        (Err(e), Some(unasked)) => {
            How::Remains(format!("it cannot be asked ({unasked}), and not ended: {e}"))
        }
    }
}

/// Whether a tracer lets go until then.
fn is_let_go(entry: &Path, until: Instant) -> io::Result<bool> {
    loop {
        if is_free(entry)? {
            return Ok(true);
        }
        if Instant::now() >= until {
            return Ok(false);
        }
        std::thread::sleep(LOOK);
    }
}

/// Whether nobody holds the lock of a file, be it that the file is gone.
fn is_free(entry: &Path) -> io::Result<bool> {
    let file = match OpenOptions::new().read(true).write(true).custom_flags(libc::O_NOFOLLOW).open(entry) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(true),
        file => file?,
    };
    match fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::AGAIN | rustix::io::Errno::ACCESS) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

/// Ends the process that holds the lock.
fn kill(entry: &Path) -> io::Result<()> {
    let elsewhere = "its process is in another pid namespace: run stop-all there, or end its container";
    let Some(pid) = holder(entry)? else {
        return if is_free(entry)? { Ok(()) } else { Err(io::Error::other(elsewhere)) };
    };
    let process = pidfd_open(pid, PidfdFlags::empty())?;
    // The pid may be another process' by the time it is opened.
    if holder(entry)? == Some(pid) {
        pidfd_send_signal(&process, Signal::KILL)?;
    }
    Ok(())
}

/// The process that holds the lock, where this pid namespace has it.
fn holder(entry: &Path) -> io::Result<Option<rustix::process::Pid>> {
    let file = match fs::symlink_metadata(entry) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let is_it = |lock: &Lock| {
        lock.lock_type == LockType::Posix
            && lock.inode == file.ino()
            && (lock.devmaj, lock.devmin) == (major(file.dev()), minor(file.dev()))
    };
    let locks = procfs::locks().map_err(io::Error::other)?;
    Ok(locks.iter().find(|lock| is_it(lock)).and_then(|lock| rustix::process::Pid::from_raw(lock.pid?)))
}
