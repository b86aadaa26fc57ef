//! A swap device of a test's own, in compressed memory (zram), and the means to push a process's pages out to it.
//!
//! Apart because a device must be gone when its test is, also a failed one. Swap is the machine's: while one test has a device, other
//! copies of it wait. It never touches a swap device it did not make.

use std::ffi::CString;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use rustix::fs::FlockOperation;
use rustix::process::PidfdFlags;

/// Reading it makes a device and gives its number.
pub const HOT_ADD: &str = "/sys/class/zram-control/hot_add";
const HOT_REMOVE: &str = "/sys/class/zram-control/hot_remove";

const PAGE: usize = 4096;

/// A device that is swapped to.
#[derive(Debug)]
pub struct Swap {
    number: u32,
    device: PathBuf,
    on: bool,
    /// Two devices would share each other's pages, and the end of one test bring back those of the other.
    _lock: File,
}

impl Swap {
    /// Makes a device of so many MiB and swaps to it. Waits while another test has one.
    pub fn on(mib: usize) -> Self {
        // Not a file of this checkout: copies of this test may run from others.
        let lock = File::options().write(true).open(HOT_REMOVE).expect("the kernel has zram");
        rustix::fs::flock(&lock, FlockOperation::LockExclusive).expect("the lock is free some time");
        let number = fs::read_to_string(HOT_ADD).expect("root may make a zram device");
        let number: u32 = number.trim().parse().expect("the kernel answers with a number");
        let device = PathBuf::from(format!("/dev/zram{number}"));
        let mut swap = Self { number, device, on: false, _lock: lock };
        fs::write(swap.sys("disksize"), format!("{mib}M")).expect("a new device takes a size");
        let mut file = File::options().write(true).open(&swap.device).expect("the device has a node in /dev");
        file.write_all(&header(mib)).expect("the device takes its header");
        file.sync_all().expect("the device keeps its header");
        drop(file);
        let path = swap.path();
        // SAFETY: the path is a C string that lives across the call; the device is ours alone.
        let done = unsafe { libc::swapon(path.as_ptr(), 0) };
        assert_eq!(done, 0, "swapon {}: {}", swap.device.display(), std::io::Error::last_os_error());
        swap.on = true;
        swap
    }

    fn path(&self) -> CString {
        CString::new(self.device.to_str().expect("made of ASCII")).expect("made without a zero")
    }

    fn sys(&self, file: &str) -> PathBuf {
        Path::new("/sys/block").join(format!("zram{}", self.number)).join(file)
    }

    fn remove(&self) -> Result<(), String> {
        if self.on {
            let path = self.path();
            // SAFETY: as above; it is on because we turned it on.
            if unsafe { libc::swapoff(path.as_ptr()) } != 0 {
                return Err(format!("swapoff: {}", std::io::Error::last_os_error()));
            }
        }
        // Whoever watches for new devices may still have it open.
        let mut last = Ok(());
        for _ in 0..100 {
            last = fs::write(HOT_REMOVE, self.number.to_string()).map_err(|e| format!("hot_remove: {e}"));
            if last.is_ok() {
                break;
            }
            thread::sleep(Duration::from_millis(20));
        }
        last
    }
}

impl Drop for Swap {
    fn drop(&mut self) {
        if let Err(why) = self.remove()
            && !thread::panicking()
        {
            panic!("{} stays: {why}", self.device.display());
        }
    }
}

/// The first page of a swap device (include/linux/swap.h, `union swap_header`).
fn header(mib: usize) -> Vec<u8> {
    let mut page = vec![0; PAGE];
    let last_page = u32::try_from(mib * (1 << 20) / PAGE - 1).expect("a test's device is small");
    page[1024..1028].copy_from_slice(&1_u32.to_le_bytes());
    page[1028..1032].copy_from_slice(&last_page.to_le_bytes());
    page[PAGE - 10..].copy_from_slice(b"SWAPSPACE2");
    page
}

/// Asks the kernel to push these pages of a process out; they are given by their numbers. What it could not push out stays.
pub fn push_out(pid: u32, pages: &[u64]) {
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw).expect("a live pid");
    let process: OwnedFd = rustix::process::pidfd_open(pid, PidfdFlags::empty()).expect("the process lives");
    for some in pages.chunks(512) {
        let ranges: Vec<libc::iovec> = some
            .iter()
            .map(|page| libc::iovec { iov_base: (page * PAGE as u64) as *mut libc::c_void, iov_len: PAGE })
            .collect();
        // SAFETY: the kernel reads the list, which lives across the call; its addresses are the other process's and MADV_PAGEOUT
        // changes nothing there that the process could see.
        let done = unsafe {
            libc::syscall(
                libc::SYS_process_madvise,
                process.as_raw_fd(),
                ranges.as_ptr(),
                ranges.len(),
                libc::MADV_PAGEOUT,
                0,
            )
        };
        assert!(done >= 0, "process_madvise: {}", std::io::Error::last_os_error());
    }
}

/// `VmSwap` of a process, in KiB.
pub fn swapped_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process lives");
    let line = status.lines().find_map(|line| line.strip_prefix("VmSwap:")).expect("it has memory");
    line.split_whitespace().next().and_then(|n| n.parse().ok()).expect("a number of kB")
}
