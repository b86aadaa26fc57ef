//! The text of /proc/PID/maps, taken apart.
//!
//! Apart and our own because the names in it are chosen by the target: procfs-core 0.18 panics at a mapped file that is
//! called `/SYSV`, and refuses all of a text in which one name is not UTF-8. A line that is none of the kernel's is passed over.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use super::process::Mapping;
use crate::units::{FileOffset, ProcAddr};

/// A process with more mappings than the kernel lets it have by default (65 530) is cut here.
const MAX_LINES: usize = 1 << 18;

/// One line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Line<'a> {
    pub mapping: Mapping,
    pub device: (u32, u32),
    pub inode: u64,
    /// As the kernel prints it: a line break in it is `\012`, and a file that is gone ends in ` (deleted)`.
    pub path: Option<&'a Path>,
}

/// All lines that are mappings.
pub(super) fn lines(text: &[u8]) -> impl Iterator<Item = Line<'_>> {
    text.split(|byte| *byte == b'\n').take(MAX_LINES).filter_map(line)
}

/// `start-end perms offset major:minor inode`, then spaces and what is mapped (fs/proc/task_mmu.c, show_vma_header_prefix).
fn line(text: &[u8]) -> Option<Line<'_>> {
    let mut rest = text;
    let mut word = || {
        let end = rest.iter().position(|byte| *byte == b' ').unwrap_or(rest.len());
        let (word, behind) = rest.split_at(end);
        rest = behind.get(1..).unwrap_or_default();
        std::str::from_utf8(word).ok()
    };
    let hex = |digits: &str| u64::from_str_radix(digits, 16).ok();
    let (start, end) = word()?.split_once('-')?;
    let permissions = word()?;
    let offset = hex(word()?)?;
    let (major, minor) = word()?.split_once(':')?;
    let inode = word()?.parse().ok()?;
    let path = rest.trim_ascii_start();
    Some(Line {
        mapping: Mapping {
            start: ProcAddr(hex(start)?),
            end: ProcAddr(hex(end)?),
            offset: FileOffset(offset),
            executable: permissions.as_bytes().get(2) == Some(&b'x'),
        },
        device: (u32::from_str_radix(major, 16).ok()?, u32::from_str_radix(minor, 16).ok()?),
        inode,
        path: path.starts_with(b"/").then(|| Path::new(OsStr::from_bytes(path))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_told_as_the_kernel_means_them() {
        let text = b"00400000-00452000 r-xp 00001000 fd:02 173521      /usr/bin/a b (deleted)\n\
            7ffc0-7ffd0 rw-p 00000000 00:00 0                          [stack]\n\
            7ffd0-7ffe0 ---p 00000000 00:00 0 \n";
        let all: Vec<Line<'_>> = lines(text).collect();
        assert_eq!(all.len(), 3);
        let mapping = Mapping {
            start: ProcAddr(0x40_0000),
            end: ProcAddr(0x45_2000),
            offset: FileOffset(0x1000),
            executable: true,
        };
        let path = Some(Path::new("/usr/bin/a b (deleted)"));
        assert_eq!(all[0], Line { mapping, device: (0xfd, 2), inode: 173_521, path });
        assert!(all[1..].iter().all(|line| line.path.is_none() && !line.mapping.executable));
    }

    #[test]
    fn no_name_of_a_file_hides_the_others() {
        for name in [&b"/SYSV"[..], b"/SYSV\xc3\xa9x", b"/\xff\xfe", b"[stack:", b"[stack:x]", b"[", b"/ x"] {
            let text =
                [b"1-2 r-xp 0 0:0 1 ", name, b"\nSize: 18446744073709551615 kB\n3-4 r-xp 0 0:0 2 /b\n"]
                    .concat();
            let all: Vec<Line<'_>> = lines(&text).collect();
            assert_eq!(all.len(), 2, "{name:?}");
            assert_eq!(all[1].path, Some(Path::new("/b")));
        }
        for text in [&b""[..], b"-", b"1-2", b"1-2 r", b"1-2 r 0 1 1", b"x-y r-xp 0 0:0 0"] {
            assert_eq!(lines(text).count(), 0, "{text:?}");
        }
    }
}
