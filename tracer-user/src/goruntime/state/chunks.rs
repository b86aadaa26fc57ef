//! Small structures that the runtime cut from large pieces of memory, read a piece at a time.
//!
//! Lists of the runtime lead from one small structure to the next; they lie side by side because one allocator made
//! them (runtime/malloc.go, persistentalloc; runtime/mfixalloc.go). So each piece around an address is read once per
//! pass. What was read is a moment ago: a pass that must know whether it changed makes a second pass with new
//! chunks. Keeps at most [`KEPT`] pieces and reads at most [`LOADS`]; where a list leads to more, only what is asked
//! for is read.

use std::collections::HashMap;

use crate::memory::{FaultKind, ReadAt, ReadFault};
use crate::units::ProcAddr;

/// Divides the runtime's own pieces (256 KiB and 16 KiB) well enough, and is one read.
const CHUNK: u64 = 64 << 10;
/// Divides every page.
const PAGE: u64 = 4 << 10;
/// 16 MiB at most.
const KEPT: usize = 256;

/// 512 MiB per pass: a list that jumps through all of memory must not read all of it.
const LOADS: usize = 8192;

type Page = Result<Vec<u8>, FaultKind>;

/// Memory, by pieces that are kept for one pass.
pub(super) struct Chunks<'a> {
    memory: &'a dyn ReadAt<ProcAddr>,
    kept: HashMap<u64, Vec<Page>>,
    loads: usize,
}

impl<'a> Chunks<'a> {
    pub(super) fn new(memory: &'a dyn ReadAt<ProcAddr>) -> Self {
        Self { memory, kept: HashMap::new(), loads: 0 }
    }

    /// Fills `buf` from `addr`.
    pub(super) fn read(&mut self, addr: ProcAddr, buf: &mut [u8]) -> Result<(), ReadFault> {
        let fault = |kind| ReadFault { addr: addr.0, len: buf.len(), kind };
        if addr.0.checked_add(buf.len() as u64).is_none() {
            return Err(fault(FaultKind::Unmapped));
        }
        if self.loads >= LOADS {
            return self.memory.read(addr, buf);
        }
        let mut done = 0;
        while done < buf.len() {
            let at = addr.0 + done as u64;
            let page = self.page(at).map_err(|kind| ReadFault { addr: addr.0, len: buf.len(), kind })?;
            let from = (at % PAGE) as usize;
            let n = (buf.len() - done).min(page.len() - from);
            buf[done..done + n].copy_from_slice(&page[from..from + n]);
            done += n;
        }
        Ok(())
    }

    fn page(&mut self, at: u64) -> Result<&[u8], FaultKind> {
        let chunk = at / CHUNK;
        if !self.kept.contains_key(&chunk) {
            if self.kept.len() >= KEPT {
                self.kept.clear();
            }
            self.loads += 1;
            let pages = self.load(ProcAddr(chunk * CHUNK));
            self.kept.insert(chunk, pages);
        }
        match self.kept.get(&chunk).and_then(|pages| pages.get((at % CHUNK / PAGE) as usize)) {
            Some(Ok(page)) => Ok(page),
            Some(Err(kind)) => Err(*kind),
            None => Err(FaultKind::Unmapped),
        }
    }

    /// One read; where that fails, one per page, so that what is there is had.
    fn load(&self, start: ProcAddr) -> Vec<Page> {
        let mut bytes = vec![0; CHUNK as usize];
        if self.memory.read(start, &mut bytes).is_ok() {
            return bytes.chunks(PAGE as usize).map(|page| Ok(page.to_vec())).collect();
        }
        let mut requests: Vec<(ProcAddr, &mut [u8])> = bytes
            .chunks_mut(PAGE as usize)
            .enumerate()
            .map(|(i, page)| (start.plus(i as u64 * PAGE), page))
            .collect();
        let answers = self.memory.read_many(&mut requests);
        let pages = requests.iter().zip(answers);
        pages.map(|((_, page), answer)| answer.map(|()| page.to_vec()).map_err(|fault| fault.kind)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Flat;

    #[test]
    fn what_lies_beside_an_unmapped_page_is_read_and_the_rest_is_a_fault() {
        let bytes: Vec<u8> = (0..8192_u32).map(|i| i as u8).collect();
        let memory = Flat { base: 0x10_1000, bytes: &bytes };
        let mut chunks = Chunks::new(&memory);
        let mut buf = [0; 16];
        // Over a page's edge.
        chunks.read(ProcAddr(0x10_1ff8), &mut buf).unwrap();
        assert_eq!(buf[..], bytes[0xff8..0x1008]);
        assert!(chunks.read(ProcAddr(0x10_2ff8), &mut buf).is_err());
        assert!(chunks.read(ProcAddr(0x10_0ff8), &mut buf).is_err());
        assert!(chunks.read(ProcAddr(u64::MAX - 3), &mut buf).is_err());
    }
}
