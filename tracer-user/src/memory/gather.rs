//! Many small structures read in few large pieces: what lies close together is read as one.
//!
//! Apart because structures of one kind lie in the runtime's own chunks, thousands side by side, and each vector of a
//! system call costs more than the bytes in it: it takes the lock of the target's address space anew, and the target's
//! own mmap waits for a reader that comes back at once. A piece is small enough that the lock is never held for long,
//! and behind it the kernel copies without the lock. A piece that cannot be read is read again structure by structure,
//! so that one bad address does not lose its neighbours.

use super::{FaultKind, ReadAt, ReadFault};
use crate::units::ProcAddr;

/// Bytes between two structures that are read with them: they take us about what another vector does, and of the target's lock
/// much less.
const GAP: u64 = 8 << 10;
/// Longest piece: 16 pages of the target, a few microseconds of its lock.
const PIECE: u64 = 64 << 10;

/// Structures to read: where and how long.
pub type Request = (ProcAddr, u32);

/// What was read, in the order of the requests.
#[derive(Default)]
pub struct Gathered {
    bytes: Vec<u8>,
    found: Vec<Result<(u32, u32), FaultKind>>,
    /// Addresses in order, and whose they are.
    order: Vec<(u64, u32)>,
}

impl Gathered {
    /// The bytes of the n-th request, or why there are none.
    pub fn get(&self, n: usize) -> Result<&[u8], FaultKind> {
        let (from, len) = self.found.get(n).copied().unwrap_or(Err(FaultKind::Unmapped))?;
        self.bytes.get(from as usize..(from + len) as usize).ok_or(FaultKind::Unmapped)
    }

    /// Reads other requests into the same room; what was there before is gone.
    pub fn read(&mut self, memory: &dyn ReadAt<ProcAddr>, requests: &[Request]) -> Result<(), ReadFault> {
        self.order.clear();
        self.order.extend(requests.iter().enumerate().map(|(n, (addr, _))| (addr.0, n as u32)));
        // Structures that were made one after the other come in runs, which a merge sort takes as they are.
        self.order.sort_by_key(|(addr, _)| *addr);
        let pieces = pieces(requests, &self.order);
        let total: u64 = pieces.iter().map(|p| p.end - p.start).sum();
        let total = total as usize;
        self.make_room(total);
        self.found.clear();
        self.found.resize(requests.len(), Err(FaultKind::Unmapped));
        let mut alone = Vec::new();
        let mut at = 0_u64;
        let mut rest: &mut [u8] = &mut self.bytes;
        let mut buffers: Vec<(ProcAddr, &mut [u8])> = Vec::with_capacity(pieces.len());
        for piece in &pieces {
            let (buffer, behind) = rest.split_at_mut((piece.end - piece.start) as usize);
            rest = behind;
            buffers.push((ProcAddr(piece.start), buffer));
        }
        let answers = memory.read_many(&mut buffers);
        for (piece, answer) in pieces.iter().zip(&answers) {
            let members = &self.order[piece.first..piece.last];
            for &(_, n) in members {
                let (addr, len) = requests[n as usize];
                match answer {
                    Ok(()) => {
                        self.found[n as usize] = Ok(((at + (addr.0 - piece.start)) as u32, len));
                    }
                    Err(fault) if matches!(fault.kind, FaultKind::Gone | FaultKind::Denied) => {
                        return Err(*fault);
                    }
                    Err(fault) if members.len() == 1 => self.found[n as usize] = Err(fault.kind),
                    Err(_) => alone.push(n),
                }
            }
            at += piece.end - piece.start;
        }
        let mut from = total;
        for n in alone {
            let (addr, len) = requests[n as usize];
            let to = from + len as usize;
            self.make_room(to);
            self.found[n as usize] = match memory.read(addr, &mut self.bytes[from..to]) {
                Ok(()) => Ok((from as u32, len)),
                Err(fault) => Err(fault.kind),
            };
            from = to;
        }
        Ok(())
    }

    /// What is there already need not be cleared: only what a read filled is ever given out.
    fn make_room(&mut self, bytes: usize) {
        if self.bytes.len() < bytes {
            self.bytes.resize(bytes, 0);
        }
    }
}

/// Several requests that are read as one.
#[derive(Clone, Copy)]
struct Piece {
    start: u64,
    end: u64,
    /// Its requests, as a range of the sorted order.
    first: usize,
    last: usize,
}

/// Reads all requests; what was read stays in memory, so that callers ask for some MiB at a time. An error only where no further read makes sense.
pub fn gather(memory: &dyn ReadAt<ProcAddr>, requests: &[Request]) -> Result<Gathered, ReadFault> {
    let mut gathered = Gathered::default();
    gathered.read(memory, requests)?;
    Ok(gathered)
}

/// Neighbours joined.
fn pieces(requests: &[Request], order: &[(u64, u32)]) -> Vec<Piece> {
    let mut pieces: Vec<Piece> = Vec::new();
    for (place, &(_, n)) in order.iter().enumerate() {
        let (addr, len) = requests[n as usize];
        // Addresses come from the target and may be anything.
        let (start, end) = (addr.0, addr.0.saturating_add(u64::from(len)));
        match pieces.last_mut() {
            Some(piece)
                if start <= piece.end.saturating_add(GAP)
                    && end.max(piece.end) - piece.start <= PIECE.max(u64::from(len)) =>
            {
                piece.end = piece.end.max(end);
                piece.last = place + 1;
            }
            _ => pieces.push(Piece { start, end, first: place, last: place + 1 }),
        }
    }
    // Where an address is so high that its end would wrap, the piece is shorter than its members: they are read alone.
    pieces
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::memory::{Counted, Flat};

    #[test]
    fn neighbours_are_read_together_and_a_bad_one_fails_alone() {
        let bytes: Vec<u8> = (0..4000_u32).map(|i| (i % 251) as u8).collect();
        let memory = Counted::new(0x10000, &bytes);
        let requests: Vec<Request> = (0..30).rev().map(|i| (ProcAddr(0x10000 + i * 128), 100)).collect();
        let read = gather(&memory, &requests).unwrap();
        assert_eq!(memory.reads(), 1);
        for (n, (addr, _)) in requests.iter().enumerate() {
            let from = (addr.0 - 0x10000) as usize;
            assert_eq!(read.get(n).unwrap(), &bytes[from..from + 100]);
        }
        // The last lies beyond the end: its neighbour is read nevertheless.
        let read = gather(&memory, &[(ProcAddr(0x10f80), 100), (ProcAddr(0x10f00), 100)]).unwrap();
        assert_eq!((read.get(0), read.get(1)), (Err(FaultKind::Unmapped), Ok(&bytes[0xf00..0xf00 + 100])));
        assert!(read.get(2).is_err());
    }

    proptest! {
        #[test]
        fn any_addresses_are_read_or_refused(
            requests in proptest::collection::vec((prop_oneof![any::<u64>(), 0x10000_u64..0x11200], 1_u32..3000), 0..60),
        ) {
            let bytes: Vec<u8> = (0..4096_u32).map(|i| (i % 253) as u8).collect();
            let flat = Flat { base: 0x10000, bytes: &bytes };
            let requests: Vec<Request> = requests.into_iter().map(|(a, l)| (ProcAddr(a), l)).collect();
            let read = gather(&flat, &requests).unwrap();
            for (n, (addr, len)) in requests.iter().enumerate() {
                let mut wanted = vec![0; *len as usize];
                let alone = flat.read(*addr, &mut wanted);
                prop_assert_eq!(read.get(n).is_ok(), alone.is_ok());
                if let Ok(found) = read.get(n) {
                    prop_assert_eq!(found, &wanted[..]);
                }
            }
        }
    }
}
