//! Which pages of a process are swapped out, as /proc/PID/pagemap shows them.
//!
//! Apart from `memory` because it only looks: reading a swapped-out page brings it back and charges it to the
//! target's cgroup, which near its limit pushes out another page or kills. Nothing is looked up while the
//! process has nothing swapped out. Never touches the target's memory.

use std::{
    collections::HashMap,
    fs::File,
    os::unix::fs::FileExt as _,
    path::PathBuf,
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use crate::memory::Address as _;
use crate::units::{Pid, ProcAddr};

/// What is known of one process's swapped-out pages.
#[derive(Debug)]
pub(super) struct Swap {
    pid: Pid,
    /// Whether anything was swapped out when last looked.
    any: AtomicBool,
    /// Opened at the first look, when we may still open what belongs to another user. It belongs to the program that ran then;
    /// after an exec it says nothing.
    pagemap: OnceLock<File>,
}

/// One entry, a little-endian word per page (Documentation/admin-guide/mm/pagemap.rst).
const ENTRY: u64 = 8;
/// The page is swapped out. Also set for the moment in which a page moves: it is then skipped once for nothing.
const SWAPPED: u64 = 1 << 62;
/// Pages looked up together: what one page-table page maps, 4 KiB of entries.
const BLOCK: u64 = 512;

impl Swap {
    pub(super) fn new(pid: Pid) -> Self {
        Self { pid, any: AtomicBool::new(false), pagemap: OnceLock::new() }
    }

    /// Looks whether anything is swapped out now. An error means that swapped-out pages cannot be told apart,
    /// and are read like others.
    pub(super) fn look(&self) -> std::io::Result<()> {
        let status = std::fs::read_to_string(self.path("status"))?;
        let any = swapped_kib(&status).is_some_and(|kib| kib > 0);
        if self.pagemap.get().is_none() {
            match File::open(self.path("pagemap")) {
                // Another thread may have been first; its file is as good.
                Ok(opened) => drop(self.pagemap.set(opened)),
                Err(e) if any => return Err(e),
                Err(_) => {}
            }
        }
        self.any.store(any, Ordering::Relaxed);
        Ok(())
    }

    /// What to ask before each read; absent while nothing is swapped out.
    pub(super) fn pages(&self) -> Option<Pages<'_>> {
        if !self.any.load(Ordering::Relaxed) {
            return None;
        }
        let page = procfs::page_size();
        Some(Pages { pagemap: self.pagemap.get()?, page, seen: HashMap::new() })
    }

    fn path(&self, file: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{file}", self.pid))
    }
}

/// The `VmSwap` line. Kernels from 6.2 to 6.15 round it down by up to some pages per CPU.
pub(super) fn swapped_kib(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmSwap:"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Looks pages up for one batch of reads. What it has seen it keeps, so it is made anew for each batch; a page
/// that is swapped out between look and read is brought back.
pub(super) struct Pages<'a> {
    pagemap: &'a File,
    page: u64,
    /// Blocks of pages by number, each page a bit.
    seen: HashMap<u64, [u64; (BLOCK / 64) as usize]>,
}

impl Pages<'_> {
    /// Whether reading these bytes would bring a page back.
    pub(super) fn swapped(&mut self, addr: ProcAddr, len: usize) -> bool {
        if len == 0 {
            return false;
        }
        let last = addr.plus(len as u64 - 1).raw() / self.page;
        (addr.raw() / self.page..=last).any(|page| self.is_swapped(page))
    }

    fn is_swapped(&mut self, page: u64) -> bool {
        let pagemap = self.pagemap;
        let block = self.seen.entry(page / BLOCK).or_insert_with(|| block(pagemap, page / BLOCK));
        let bit = page % BLOCK;
        block.get((bit / 64) as usize).is_some_and(|word| word & (1 << (bit % 64)) != 0)
    }
}

/// The bits of one block. What cannot be looked up (beyond the address space, a process that ended) counts as
/// not swapped out: the read itself then says what is wrong.
fn block(pagemap: &File, number: u64) -> [u64; (BLOCK / 64) as usize] {
    let mut bits = [0; (BLOCK / 64) as usize];
    let mut entries = [0; (BLOCK * ENTRY) as usize];
    let read = number
        .checked_mul(BLOCK * ENTRY)
        .and_then(|offset| pagemap.read_at(&mut entries, offset).ok())
        .unwrap_or(0);
    for (i, entry) in entries[..read].as_chunks::<{ ENTRY as usize }>().0.iter().enumerate() {
        if u64::from_le_bytes(*entry) & SWAPPED != 0 {
            bits[i / 64] |= 1 << (i % 64);
        }
    }
    bits
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn the_status_line_is_found_where_there_is_one() {
        assert_eq!(swapped_kib("Name:\tx\nVmSwap:\t    1204 kB\nThreads:\t3\n"), Some(1204));
        assert_eq!(swapped_kib("Name:\tkthreadd\nThreads:\t1\n"), None);
    }

    #[test]
    fn a_request_is_held_back_when_any_of_its_pages_is_swapped_out() {
        // A pagemap of our own: page 3 and page 600 are swapped out, the others present (bit 63).
        let memory = rustix::fs::memfd_create("pagemap", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        let mut file = File::from(memory);
        for page in 0..700_u64 {
            let entry: u64 = if page == 3 || page == 600 { SWAPPED } else { 1 << 63 };
            file.write_all(&entry.to_le_bytes()).unwrap();
        }
        let mut pages = Pages { pagemap: &file, page: 4096, seen: HashMap::new() };
        let mut swapped = |addr: u64, len: usize| pages.swapped(ProcAddr(addr), len);
        assert!(!swapped(0, 3 * 4096));
        assert!(swapped(0, 3 * 4096 + 1));
        assert!(swapped(3 * 4096, 1) && swapped(4 * 4096 - 1, 1) && !swapped(4 * 4096, 1));
        assert!(swapped(500 * 4096, 101 * 4096) && !swapped(500 * 4096, 100 * 4096));
        assert!(!swapped(3 * 4096, 0));
        // Beyond the table and at the edges nothing is known, and nothing panics.
        assert!(!swapped(699 * 4096, 8192) && !swapped(u64::MAX, 8) && !swapped(u64::MAX - 8, 32));
    }

    #[test]
    fn our_own_pages_are_not_held_back_while_nothing_is_swapped_out() {
        let swap = Swap::new(Pid(std::process::id()));
        swap.look().unwrap();
        let here = 7_u64;
        let at = ProcAddr(std::ptr::from_ref(&here) as u64);
        assert!(swap.pages().is_none_or(|mut pages| !pages.swapped(at, 8)));
        assert!(Swap::new(Pid(u32::MAX)).look().is_err());
    }
}
