//! A process's instructions in memory beside the same bytes of its file: a probe changes them, and its end must restore them.
//!
//! Every executable page that the file backs is compared, not only where a probe is known to be. It only reads, through /proc.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::tracer::{Tracer, binary};

/// Where the instructions of a process differ from its file now, as offsets into the file.
pub fn changed(pid: u32) -> Vec<u64> {
    let failed = |what: &str, error: std::io::Error| -> ! { panic!("cannot read {what} of {pid}: {error}") };
    let exe = File::open(format!("/proc/{pid}/exe")).unwrap_or_else(|error| failed("exe", error));
    let inode = exe.metadata().expect("an open file has metadata").ino();
    let memory = File::open(format!("/proc/{pid}/mem")).unwrap_or_else(|error| failed("mem", error));
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_else(|error| failed("maps", error));
    let mut changed = Vec::new();
    let mut seen = 0;
    for Mapping { start, length, offset, .. } in
        maps.lines().filter_map(Mapping::parse).filter(|map| map.executable && map.inode == inode)
    {
        let (mut live, mut file) = (vec![0; length], vec![0; length]);
        memory.read_exact_at(&mut live, start).unwrap_or_else(|error| failed("text", error));
        let mut filled = 0;
        // The last page goes beyond the file's end, where memory holds zeros.
        while filled < length {
            match exe
                .read_at(&mut file[filled..], offset + filled as u64)
                .expect("the executable is readable")
            {
                0 => break,
                count => filled += count,
            }
        }
        seen += length;
        changed.extend((0..filled).filter(|&at| live[at] != file[at]).map(|at| offset + at as u64));
    }
    assert!(seen > 0, "process {pid} has no executable pages of its file:\n{maps}");
    changed
}

/// Waits until every instruction equals the file again: single links take a tenth of a second each.
pub fn wait_restored(pid: u32, when: &str) {
    const LIMIT: Duration = Duration::from_secs(20);
    let begun = Instant::now();
    loop {
        let left = changed(pid);
        if left.is_empty() {
            return;
        }
        assert!(begun.elapsed() < LIMIT, "{when}: still changed at file offsets {left:x?}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// The file offsets at which `tracer check` would attach.
pub fn planned(pid: u32) -> Vec<u64> {
    const MARK: &str = " at file offset 0x";
    let said = Tracer::run(&["check", "--pid", &pid.to_string()], Duration::from_secs(30)).success().stdout;
    let offsets = said.lines().filter_map(|line| {
        let (_, rest) = line.split_once(MARK)?;
        u64::from_str_radix(rest.split(|c: char| !c.is_ascii_hexdigit()).next()?, 16).ok()
    });
    let offsets: Vec<u64> = offsets.collect();
    assert!(!offsets.is_empty(), "{} check names no site:\n{said}", binary().display());
    offsets
}

/// The longest instruction that x86-64 has.
const LONGEST: u64 = 15;

/// Fails unless something is changed, and only at the places that are planned.
pub fn assert_probed(pid: u32, planned: &[u64]) {
    let changed = changed(pid);
    assert!(!changed.is_empty(), "no instruction shows a probe");
    let stray: Vec<_> = changed
        .iter()
        .filter(|at| !planned.iter().any(|site| (*site..site + LONGEST).contains(at)))
        .collect();
    assert!(stray.is_empty(), "changed at {stray:x?}, planned were {planned:x?}");
}

/// The hits of a report's probes whose function's name starts so.
pub fn hits(report: &Value, function: &str) -> u64 {
    let probes = report["session"]["probes"].as_array().unwrap_or_else(|| panic!("no probes in {report}"));
    probes
        .iter()
        .filter(|probe| probe["symbol"].as_str().is_some_and(|name| name.starts_with(function)))
        .map(|probe| probe["hits"].as_u64().expect("a probe has hits"))
        .sum()
}

/// One line of /proc/PID/maps.
struct Mapping {
    start: u64,
    length: usize,
    executable: bool,
    offset: u64,
    inode: u64,
}

impl Mapping {
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split_whitespace();
        let (start, end) = words.next()?.split_once('-')?;
        let (start, end) = (u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?);
        let executable = words.next()?.contains('x');
        let offset = u64::from_str_radix(words.next()?, 16).ok()?;
        let inode = words.nth(1)?.parse().ok()?;
        Some(Self { start, length: usize::try_from(end - start).ok()?, executable, offset, inode })
    }
}
