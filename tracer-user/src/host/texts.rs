//! All texts of /proc that this room takes apart, for whoever brings texts of his own: tests and the fuzz target.
//!
//! The kernel writes them, but names in them are chosen by the programs they are about. Reads no file itself.

use std::io::Cursor;

use procfs::FromRead as _;
use procfs::process::{MountInfos, Status};

use super::process::{Mapping, Segment, bias_of};
use super::stat::stat_of;
use super::{cgroup, maps, swap};
use crate::units::{Bytes, FileOffset, ImageAddr};

/// What was made of a text that is taken as each of them in turn: how many of the parsers found something in it.
pub fn look(bytes: &[u8]) -> usize {
    let text = String::from_utf8_lossy(bytes);
    let mut found = [
        cgroup::container_id(&text).is_some(),
        cgroup::cgroup_path(&text, true).is_some(),
        cgroup::cgroup_path(&text, false).is_some(),
        cgroup::file_bytes(&text, ["active_file", "inactive_file"]).is_some(),
        swap::swapped_kib(&text).is_some(),
    ]
    .iter()
    .filter(|found| **found)
    .count();
    let all: Vec<Mapping> = maps::lines(bytes).map(|line| line.mapping).collect();
    if !all.is_empty() {
        let segment = |n: u64| Segment {
            vaddr: ImageAddr(0x40_0000 + n * 0x1000),
            offset: FileOffset(n * 0x1000),
            file_size: Bytes(0x2000),
        };
        found += 1 + usize::from(bias_of(&all, &[segment(0), segment(2)]).is_some());
    }
    found += usize::from(stat_of(bytes).is_some());
    found += usize::from(Status::from_read(Cursor::new(bytes)).is_ok());
    found + usize::from(MountInfos::from_read(Cursor::new(bytes)).is_ok())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn our_own_texts_say_something() {
        for file in ["maps", "stat", "status", "mountinfo"] {
            let text = std::fs::read(format!("/proc/self/{file}")).unwrap();
            assert!(look(&text) > 0, "{file}");
        }
    }

    #[test]
    fn a_name_with_brackets_is_no_end_of_the_line() {
        for text in [&b":()\xc1\x0c"[..], b"(", b") (", b"1 (a)", b"1 (a) ", b"() ", b" () \xff"] {
            look(text);
        }
        let text = std::fs::read_to_string("/proc/self/stat").unwrap();
        let (head, tail) = (text.split_once('(').unwrap().0, text.rsplit_once(')').unwrap().1);
        let stat = stat_of(format!("{head}(a) b (c){tail}").as_bytes()).unwrap();
        assert_eq!((stat.comm.as_str(), stat.pid), ("a) b (c", std::process::id().cast_signed()));
    }

    proptest! {
        #[test]
        fn any_bytes_are_accepted(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            look(&bytes);
        }

        #[test]
        fn any_line_of_maps_is_accepted(line in "[0-9a-f]{0,17}-[0-9a-f]{0,17} [r-][w-][x-][ps?] [0-9a-f]{0,17} [0-9a-f]{1,9}:[0-9a-f]{1,3} [0-9]{1,21} {0,3}[^\n]{0,20}\n") {
            look(line.as_bytes());
        }
    }
}
