//! A live process's memory, read with `process_vm_readv`.
//!
//! Apart because of its unsafe system call (`launch` has the room's only other one). Many reads become few
//! system calls; which of them failed is told exactly. Never writes and never stops the target. A pid can be
//! reused: `Process::still_same` says whether what was read belongs to the process that was opened. Pages that
//! are swapped out are not read, once [`ProcessMemory::look_for_swap`] has seen that there are any.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::swap::Swap;
use crate::memory::{Address as _, FaultKind, ReadAt, ReadFault};
use crate::units::{Pid, ProcAddr};

/// Reads the memory of the process with this pid.
#[derive(Clone, Debug)]
pub struct ProcessMemory {
    pid: Pid,
    swap: Arc<Swap>,
    turn: Arc<Mutex<Turn>>,
}

/// For how long the lock of the target's address space has been taken again and again, by whatever reads the target.
#[derive(Debug, Default)]
struct Turn {
    busy: Duration,
    /// How long that may go on.
    allowed: Duration,
    ended: Option<Instant>,
    /// Inside of calls, in all.
    spent: Duration,
}

impl Turn {
    /// Leaves the lock alone for a while where it was not for long.
    fn begin(&mut self) -> Instant {
        let mut now = Instant::now();
        let mut left_alone = self.ended.map_or(PAUSE, |ended| now.duration_since(ended));
        if left_alone < PAUSE && self.busy >= self.allowed {
            std::thread::sleep(PAUSE);
            let before = std::mem::replace(&mut now, Instant::now());
            left_alone += now.duration_since(before);
        }
        if left_alone >= PAUSE {
            self.busy = Duration::ZERO;
            self.allowed = (left_alone / REST).clamp(BUSY, MOST_BUSY);
        }
        now
    }

    fn end(&mut self, began: Instant) {
        let now = Instant::now();
        let spent = now.duration_since(began);
        self.busy += spent;
        self.spent += spent;
        self.ended = Some(now);
    }
}

/// Most vectors in one call. Each takes the lock of the target's address space for some microseconds, and readers pass a
/// waiting writer for up to 4 ms (kernel/locking/rwsem.c, `RWSEM_WAIT_TIMEOUT`): unless the lock is left alone in between,
/// the target's own mmap waits that long.
const MAX_VECTORS: usize = 4;
/// After reading for so long the lock is left alone for a while, so long that a writer that sleeps for it has woken up: about
/// one call. Measured with a hundred thousand goroutines and with a heap of a gibibyte, beside programs that map memory each
/// millisecond: four times as long, or twice the vectors or bytes in a call, shows in their slowest beats.
const BUSY: Duration = Duration::from_micros(10);
/// The kernel adds its timer slack of 50 us, and waking up takes some 20: 140 us in all.
const PAUSE: Duration = Duration::from_micros(70);
/// On a busy machine a pause goes on until there is a processor for us. What follows it may be longer for that, to this share
/// of it: else a thousand pauses of milliseconds make a census of seconds, and what it counts changes meanwhile.
const REST: u32 = 24;
/// Far less than the 4 ms for which readers may pass a writer.
const MOST_BUSY: Duration = Duration::from_micros(250);
/// Most bytes asked for in one call: some 15 us. Far below the kernel's own limit, just below 2 GiB (`MAX_RW_COUNT`), which
/// ends in a short count: here a short count can only mean a fault.
const MAX_BYTES_PER_CALL: usize = 64 << 10;

/// Most bytes read between two looks at what is swapped out: some milliseconds, with the pauses. A page that goes out in between
/// is brought back.
const MAX_BYTES_PER_LOOK: usize = 2 << 20;

impl ProcessMemory {
    pub fn new(pid: Pid) -> Self {
        Self { pid, swap: Arc::new(Swap::new(pid)), turn: Arc::default() }
    }

    /// Looks whether the process has anything swapped out; from then on reads of swapped-out pages fail, and
    /// cost a look-up, until it has nothing swapped out. Cheap: for before the first read and now and then.
    pub fn look_for_swap(&self) -> std::io::Result<()> {
        self.swap.look()
    }

    /// The time inside of calls that read the process, in which it may have to wait for us.
    pub fn spent(&self) -> Duration {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner).spent
    }

    /// One read, in pieces where it is very large.
    fn read_one(&self, addr: ProcAddr, buf: &mut [u8]) -> Result<(), ReadFault> {
        let len = buf.len();
        let mut done = 0;
        while done < len {
            let end = len.min(done + MAX_BYTES_PER_CALL);
            let at = addr.plus(done as u64);
            let read = self.readv(&mut [(at, &mut buf[done..end])]).map_err(|kind| ReadFault {
                addr: addr.raw(),
                len,
                kind,
            })?;
            if read == 0 {
                return Err(ReadFault { addr: addr.raw(), len, kind: FaultKind::Unmapped });
            }
            // A short count ended at the first page that is not there: the next round learns why.
            done += read;
        }
        Ok(())
    }

    /// One system call for at most [`MAX_VECTORS`] requests. Returns how many bytes were filled, in order.
    fn readv(&self, requests: &mut [(ProcAddr, &mut [u8])]) -> Result<usize, FaultKind> {
        const NONE: libc::iovec = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
        let (mut local, mut remote) = ([NONE; MAX_VECTORS], [NONE; MAX_VECTORS]);
        let vectors = requests.len().min(MAX_VECTORS);
        for ((addr, buf), (local, remote)) in requests.iter_mut().zip(local.iter_mut().zip(&mut remote)) {
            *local = libc::iovec { iov_base: buf.as_mut_ptr().cast(), iov_len: buf.len() };
            *remote = libc::iovec { iov_base: addr.0 as *mut libc::c_void, iov_len: buf.len() };
        }
        let mut turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let began = turn.begin();
        // SAFETY: each local vector is the pointer and length of a live `&mut [u8]` of `requests`, which stays
        // borrowed across the call, so the kernel writes only memory we own exclusively. The remote vectors are
        // numbers to the kernel; they are checked against the other process and never followed here.
        let read = unsafe {
            libc::process_vm_readv(
                self.pid.0.cast_signed(),
                local.as_ptr(),
                vectors as libc::c_ulong,
                remote.as_ptr(),
                vectors as libc::c_ulong,
                0,
            )
        };
        let error = std::io::Error::last_os_error();
        turn.end(began);
        drop(turn);
        usize::try_from(read).map_err(|_negative| {
            match error.raw_os_error() {
                Some(libc::ESRCH) => FaultKind::Gone,
                // A seccomp profile may answer ENOSYS instead of EPERM.
                Some(libc::EPERM | libc::EACCES | libc::ENOSYS) => FaultKind::Denied,
                _ => FaultKind::Unmapped,
            }
        })
    }
}

impl ReadAt<ProcAddr> for ProcessMemory {
    fn read(&self, addr: ProcAddr, buf: &mut [u8]) -> Result<(), ReadFault> {
        if self.swap.pages().is_some_and(|mut pages| pages.swapped(addr, buf.len())) {
            return Err(ReadFault { addr: addr.raw(), len: buf.len(), kind: FaultKind::Swapped });
        }
        self.read_one(addr, buf)
    }

    fn read_many(&self, requests: &mut [(ProcAddr, &mut [u8])]) -> Vec<Result<(), ReadFault>> {
        if self.swap.pages().is_none() {
            return self.read_all(requests);
        }
        let mut answers = Vec::with_capacity(requests.len());
        let mut rest = requests;
        while !rest.is_empty() {
            let mut bytes = 0;
            let fit = rest.iter().take_while(|(_, buf)| {
                bytes += buf.len();
                bytes <= MAX_BYTES_PER_LOOK
            });
            let count = fit.count().max(1);
            let (now, later) = std::mem::take(&mut rest).split_at_mut(count);
            answers.extend(self.read_resident(now));
            rest = later;
        }
        answers
    }
}

impl ProcessMemory {
    /// What is not swapped out just now.
    fn read_resident(&self, requests: &mut [(ProcAddr, &mut [u8])]) -> Vec<Result<(), ReadFault>> {
        let Some(mut pages) = self.swap.pages() else {
            return self.read_all(requests);
        };
        let swapped: Vec<bool> = requests.iter().map(|(addr, buf)| pages.swapped(*addr, buf.len())).collect();
        let mut resident: Vec<(ProcAddr, &mut [u8])> = requests
            .iter_mut()
            .zip(&swapped)
            .filter(|(_, swapped)| !**swapped)
            .map(|((addr, buf), _)| (*addr, &mut **buf))
            .collect();
        let mut answers = self.read_all(&mut resident).into_iter();
        let faults = requests.iter().zip(swapped).map(|((addr, buf), swapped)| {
            let fault = ReadFault { addr: addr.raw(), len: buf.len(), kind: FaultKind::Swapped };
            // There are as many answers as resident requests.
            if swapped { Err(fault) } else { answers.next().unwrap_or(Err(fault)) }
        });
        faults.collect()
    }

    /// `read_many`, whatever is swapped out.
    fn read_all(&self, requests: &mut [(ProcAddr, &mut [u8])]) -> Vec<Result<(), ReadFault>> {
        let mut answers = Vec::with_capacity(requests.len());
        while answers.len() < requests.len() {
            let rest = &mut requests[answers.len()..];
            let (count, bytes) = batch(rest);
            if count <= 1 {
                let (addr, buf) = &mut rest[0];
                answers.push(self.read_one(*addr, buf));
                continue;
            }
            match self.readv(&mut rest[..count]) {
                Ok(read) if read == bytes => answers.extend(std::iter::repeat_n(Ok(()), count)),
                Ok(read) => {
                    // The kernel stops at the first byte that is not there. What lies before is whole; the
                    // request it stopped in is read again alone, which tells its reason.
                    let whole = whole_requests(rest, read);
                    answers.extend(std::iter::repeat_n(Ok(()), whole));
                    let (addr, buf) = &mut rest[whole];
                    answers.push(self.read_one(*addr, buf));
                }
                Err(FaultKind::Unmapped) => {
                    let (addr, buf) = &mut rest[0];
                    answers.push(self.read_one(*addr, buf));
                }
                // No other address will do better in this process.
                Err(kind) => answers.extend(
                    rest.iter().map(|(addr, buf)| Err(ReadFault { addr: addr.raw(), len: buf.len(), kind })),
                ),
            }
        }
        answers
    }
}

/// How many of the first requests go into one call, and their bytes. At least 1 for a non-empty list.
fn batch(requests: &[(ProcAddr, &mut [u8])]) -> (usize, usize) {
    let mut bytes = 0;
    let mut count = 0;
    for (_, buf) in requests.iter().take(MAX_VECTORS) {
        if count > 0 && bytes + buf.len() > MAX_BYTES_PER_CALL {
            break;
        }
        bytes += buf.len();
        count += 1;
    }
    (count, bytes)
}

/// How many leading requests `read` bytes fill completely; always fewer than all of a batch that came short.
fn whole_requests(requests: &[(ProcAddr, &mut [u8])], read: usize) -> usize {
    let mut left = read;
    requests
        .iter()
        .take_while(|(_, buf)| {
            let fits = buf.len() <= left;
            left = left.saturating_sub(buf.len());
            fits
        })
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> ProcessMemory {
        ProcessMemory::new(Pid(std::process::id()))
    }

    fn at(bytes: &[u8]) -> ProcAddr {
        ProcAddr(bytes.as_ptr() as u64)
    }

    #[test]
    fn one_bad_address_in_thousands_fails_alone() {
        let source: Vec<u8> = (0..4096_u32).map(|i| (i % 251) as u8).collect();
        // More requests than fit one call, bad ones first, in the middle, side by side and last, and an empty one.
        let bad = [0, 700, 701, 1023, 1024, 2500, 2999];
        let mut buffers = vec![[0_u8; 16]; 3000];
        let mut requests: Vec<(ProcAddr, &mut [u8])> = buffers
            .iter_mut()
            .enumerate()
            .map(|(i, b)| {
                let addr = if bad.contains(&i) { ProcAddr(8) } else { at(&source).plus((i % 4000) as u64) };
                (addr, if i == 1500 { &mut b[..0] } else { &mut b[..] })
            })
            .collect();
        let answers = own().read_many(&mut requests);
        assert_eq!(answers.len(), 3000);
        for (i, answer) in answers.iter().enumerate() {
            if bad.contains(&i) {
                assert_eq!(*answer, Err(ReadFault { addr: 8, len: 16, kind: FaultKind::Unmapped }), "{i}");
            } else {
                assert_eq!(*answer, Ok(()), "{i}");
                let from = i % 4000;
                let expected = if i == 1500 { [0; 16] } else { source[from..from + 16].try_into().unwrap() };
                assert_eq!(buffers[i], expected, "{i}");
            }
        }
    }

    #[test]
    fn a_read_that_runs_off_the_end_of_a_mapping_is_a_fault() {
        // The last pages of the address space's user half are never mapped; a stack read upwards ends somewhere.
        let local = [1_u8; 64];
        let mut big = vec![0_u8; 512 << 20];
        let answer = own().read(at(&local), &mut big);
        assert_eq!(answer.map_err(|f| f.kind), Err(FaultKind::Unmapped));
        let mut small = [0_u8; 8];
        let mut requests: Vec<(ProcAddr, &mut [u8])> =
            vec![(at(&local), &mut big[..]), (at(&local), &mut small[..])];
        let answers = own().read_many(&mut requests);
        assert!(answers[0].is_err());
        assert_eq!(answers[1], Ok(()));
        assert_eq!(small, [1; 8]);
    }

    #[test]
    fn addresses_at_the_edges_do_not_wrap() {
        let mut buf = [0; 32];
        for addr in [0, 8, u64::MAX, u64::MAX - 8, 1 << 63, 0x7fff_ffff_fff8] {
            assert!(own().read(ProcAddr(addr), &mut buf).is_err(), "{addr:#x}");
        }
    }

    #[test]
    fn a_process_that_ended_is_gone() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let memory = ProcessMemory::new(Pid(child.id()));
        child.wait().unwrap();
        let mut buf = [0; 8];
        assert_eq!(memory.read(ProcAddr(4096), &mut buf).unwrap_err().kind, FaultKind::Gone);
        let mut buf2 = [0; 8];
        let answers = memory.read_many(&mut [(ProcAddr(1), &mut buf[..]), (ProcAddr(2), &mut buf2[..])]);
        assert!(answers.iter().all(|a| a.unwrap_err().kind == FaultKind::Gone));
    }
}
