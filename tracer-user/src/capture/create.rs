//! Creating a recording's file. We run as root, in directories where others may write: a name that somebody else
//! prepared must not make us write through it, and what a recording tells is for its owner alone.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{FlockOperation, OFlags},
    io::Errno,
};

use super::{CaptureError, format::MAGIC};

/// Readable and writable by its owner.
const MODE: u32 = 0o600;

/// A file for a recording, not yet written to. Unless it is, it goes when this value does, and a recording that was
/// there before stays as it was.
#[derive(Debug)]
pub struct NewFile {
    path: PathBuf,
    file: File,
    created: bool,
    begun: bool,
}

impl NewFile {
    pub fn create(path: &Path) -> Result<Self, CaptureError> {
        let failed = |why: String| CaptureError::Create { path: path.display().to_string(), why };
        // Not through a link, not waiting for the other end of a pipe, not into what is there already.
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC).bits().cast_signed();
        let new = OpenOptions::new().write(true).create_new(true).mode(MODE).custom_flags(flags).open(path);
        let (file, created) = match new {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                let there = OpenOptions::new().read(true).write(true).custom_flags(flags).open(path);
                (there.map_err(|e| failed(refusal(path, &e)))?, false)
            }
            new => (new.map_err(|e| failed(e.to_string()))?, true),
        };
        let new = Self { path: path.to_owned(), file, created, begun: false };
        new.take_over().map_err(failed)?;
        Ok(new)
    }

    /// An earlier recording of our own is overwritten, anything else is not.
    fn take_over(&self) -> Result<(), String> {
        // A file system without locks has none to ask.
        if rustix::fs::flock(&self.file, FlockOperation::NonBlockingLockExclusive) == Err(Errno::WOULDBLOCK) {
            return Err("another tracer writes to it".to_owned());
        }
        if self.created {
            return Ok(());
        }
        let found = self.file.metadata().map_err(|e| e.to_string())?;
        if !found.is_file() {
            return Err("it is not a regular file".to_owned());
        }
        if found.uid() != rustix::process::geteuid().as_raw() || found.nlink() != 1 {
            return Err("it belongs to another user or has a second name".to_owned());
        }
        let mut magic = [0; MAGIC.len()];
        let recording = (&self.file).read_exact(&mut magic).is_ok() && magic == MAGIC;
        if found.len() > 0 && !recording {
            return Err("it exists and is no recording".to_owned());
        }
        Ok(())
    }

    /// Empties it and makes it ours alone; from here on it stays.
    pub(super) fn begin(mut self) -> io::Result<File> {
        self.file.set_permissions(fs::Permissions::from_mode(MODE))?;
        self.file.set_len(0)?;
        self.begun = true;
        let file = self.file.try_clone()?;
        rustix::fs::seek(&file, rustix::fs::SeekFrom::Start(0))?;
        Ok(file)
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if self.created && !self.begun {
            // It is empty: one that cannot be removed misleads nobody.
            drop(fs::remove_file(&self.path));
        }
    }
}

/// The system's words, or better ones.
fn refusal(path: &Path, e: &io::Error) -> String {
    if fs::symlink_metadata(path).is_ok_and(|found| found.is_symlink()) {
        return "it is a symbolic link".to_owned();
    }
    e.to_string()
}
