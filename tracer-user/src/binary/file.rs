//! An opened executable as [`ReadAt`]: `pread` at an offset, nothing mapped.
//!
//! Apart because it is the one place of this room that touches a real file. It is given the `File`; it never
//! opens a path itself, so that the caller decides which file (`/proc/PID/exe`, opened once) is meant.

use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::FileExt as _;

use crate::memory::{FaultKind, ReadAt, ReadFault};
use crate::units::FileOffset;

/// A file that was opened once and is read at offsets. Reads of a mapped file would count as our RSS; these do not.
#[derive(Debug)]
pub struct FileBytes {
    file: File,
}

impl FileBytes {
    pub fn new(file: File) -> Self {
        Self { file }
    }

    /// The length now. A file that shrinks later makes reads fail, not lie.
    pub fn len(&self) -> std::io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    pub fn is_empty(&self) -> std::io::Result<bool> {
        Ok(self.len()? == 0)
    }

    pub fn file(&self) -> &File {
        &self.file
    }
}

impl ReadAt<FileOffset> for FileBytes {
    fn read(&self, addr: FileOffset, buf: &mut [u8]) -> Result<(), ReadFault> {
        self.file.read_exact_at(buf, addr.0).map_err(|e| ReadFault {
            addr: addr.0,
            len: buf.len(),
            kind: match e.kind() {
                ErrorKind::PermissionDenied => FaultKind::Denied,
                _ => FaultKind::Unmapped,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_past_the_end_fail() {
        let file = File::open(std::env::current_exe().expect("a running test has a path")).expect("opens");
        let bytes = FileBytes::new(file);
        let len = bytes.len().expect("has a length");
        let mut buf = [0; 4];
        bytes.read(FileOffset(0), &mut buf).expect("the header is there");
        assert_eq!(&buf, b"\x7fELF");
        assert!(bytes.read(FileOffset(len - 2), &mut buf).is_err());
        assert!(bytes.read(FileOffset(u64::MAX), &mut buf).is_err());
    }
}
