//! Every live sampled object: its address and its bucket, from the lists of specials that spans carry.
//!
//! A sampled object has a special record in its span's list until it is swept (runtime/mheap.go, setprofilebucket,
//! freeSpecial). Records are freed and used again while we read: a list counts only if its head, its span and each of
//! its records are as they should be, and the head is the same afterwards; others are counted as torn. Nothing is
//! followed without a bound. Apart from `profile` because it reads spans, not buckets.

use super::block::Block;
use super::chunks::Chunks;
use super::profile::BucketAddr;
use super::{StateError, StateVars};
use crate::goruntime::layout::{Layout, PAGE};
use crate::memory::{FaultKind, ReadAt};
use crate::units::ProcAddr;

/// How much one reading may read and keep.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    pub spans: usize,
    pub objects: usize,
}

impl Default for Limits {
    /// Two million spans are 16 GiB of heap in the smallest ones; a million objects take 16 MiB.
    fn default() -> Self {
        Self { spans: 2_000_000, objects: 1_000_000 }
    }
}

/// A sampled object that has not been swept.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SampledObject {
    pub address: ProcAddr,
    pub bucket: BucketAddr,
    /// Its span: where the structure is, and what it was at that moment.
    pub span: ProcAddr,
    pub start: ProcAddr,
    pub spanclass: u8,
}

/// What was found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Found {
    pub objects: Vec<SampledObject>,
    /// Spans whose list changed while it was read, or cannot be one: their objects are left out.
    pub torn: u64,
    /// Spans in pages that are swapped out.
    pub swapped: u64,
    /// Spans or objects were beyond the limits.
    pub cut: bool,
}

const WHAT: &str = "sampled objects";
/// `mSpanInUse` (runtime/mheap.go, mSpanState).
const IN_USE: u8 = 1;
/// Specials of one span: some kinds come several to an object, so no product of numbers bounds them.
const MAX_CHAIN: usize = 1 << 16;
/// Records read for each object that may be kept: other kinds of specials are among them.
const RECORDS_PER_OBJECT: usize = 4;
/// Spans read together.
const BATCH: usize = 1024;
/// Headers of large objects hold gigabytes at most.
const MAX_PAGES: u64 = 1 << 32;

/// The number of a special that says "sampled" (runtime/mheap.go, `_KindSpecialProfile`, `specialKindProfile`).
fn profile_kind(minor: u32) -> u8 {
    match minor {
        ..=22 => 2,
        23 | 24 => 3,
        25.. => 4,
    }
}

pub fn read(
    memory: &dyn ReadAt<ProcAddr>,
    layout: &Layout,
    vars: &StateVars,
    limits: Limits,
) -> Result<Found, StateError> {
    let failed = StateError::reading(WHAT);
    let allspans = vars.mheap.plus(u64::from(layout.mheap_allspans));
    let array = ProcAddr(memory.read_u64(allspans).map_err(&failed)?);
    let len = memory.read_u64(allspans.plus(8)).map_err(&failed)?;
    let taken = usize::try_from(len).unwrap_or(usize::MAX).min(limits.spans);
    let mut pass = Pass {
        memory,
        layout,
        chunks: Chunks::new(memory),
        limits,
        records: limits.objects.saturating_mul(RECORDS_PER_OBJECT),
        found: Found { cut: (taken as u64) < len, ..Found::default() },
    };
    for from in (0..taken).step_by(BATCH) {
        let mut words = vec![0; 8 * BATCH.min(taken - from)];
        memory.read(array.plus(8 * from as u64), &mut words).map_err(&failed)?;
        let spans: Vec<ProcAddr> =
            words.chunks_exact(8).filter_map(|w| Block(w).u64(0)).map(ProcAddr).collect();
        pass.batch(&spans)?;
        if pass.records == 0 || pass.found.objects.len() >= limits.objects {
            break;
        }
    }
    Ok(pass.found)
}

struct Pass<'a> {
    memory: &'a dyn ReadAt<ProcAddr>,
    layout: &'a Layout,
    chunks: Chunks<'a>,
    limits: Limits,
    /// Records that may still be read, over all spans.
    records: usize,
    found: Found,
}

/// What must not change while a list is read.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Span {
    start: u64,
    pages: u64,
    state: u8,
    spanclass: u8,
    specials: u64,
}

impl Span {
    fn decode(block: &[u8], layout: &Layout) -> Option<Self> {
        let block = Block(block);
        Some(Self {
            start: block.u64(layout.mspan_start_addr)?,
            pages: block.u64(layout.mspan_npages)?,
            state: block.u8(layout.mspan_state)?,
            spanclass: block.u8(layout.mspan_spanclass)?,
            specials: block.u64(layout.mspan_specials)?,
        })
    }
}

impl Pass<'_> {
    fn batch(&mut self, spans: &[ProcAddr]) -> Result<(), StateError> {
        for (at, span) in spans.iter().zip(self.spans(spans)?) {
            let Some(span) = span.filter(|s| s.state == IN_USE && s.specials != 0) else { continue };
            let kept = self.found.objects.len();
            if !self.list(*at, span) {
                self.found.objects.truncate(kept);
                self.found.torn += 1;
                continue;
            }
            // A list that was changed under us may have led anywhere.
            if self.spans(std::slice::from_ref(at))?.first().copied().flatten() != Some(span) {
                self.found.objects.truncate(kept);
                self.found.torn += 1;
            }
            if self.records == 0 || self.found.objects.len() >= self.limits.objects {
                self.found.objects.truncate(self.limits.objects);
                self.found.cut = true;
                return Ok(());
            }
        }
        Ok(())
    }

    fn spans(&mut self, addresses: &[ProcAddr]) -> Result<Vec<Option<Span>>, StateError> {
        let size = self.layout.mspan_specials as usize + 8;
        let mut blocks = vec![vec![0; size]; addresses.len()];
        let mut requests: Vec<(ProcAddr, &mut [u8])> =
            addresses.iter().zip(&mut blocks).map(|(&at, block)| (at, &mut block[..])).collect();
        let answers = self.memory.read_many(&mut requests);
        let mut spans = Vec::with_capacity(addresses.len());
        for (block, answer) in blocks.iter().zip(answers) {
            spans.push(match answer {
                Ok(()) => Span::decode(block, self.layout),
                Err(fault) => match fault.kind {
                    FaultKind::Swapped => {
                        self.found.swapped += 1;
                        None
                    }
                    FaultKind::Unmapped => {
                        self.found.torn += 1;
                        None
                    }
                    FaultKind::Denied | FaultKind::Gone => {
                        return Err(StateError::Read { what: WHAT, fault });
                    }
                },
            });
        }
        Ok(spans)
    }

    /// Follows one list; false where it cannot be one.
    fn list(&mut self, at_span: ProcAddr, span: Span) -> bool {
        let layout = self.layout;
        if span.pages == 0 || span.pages > MAX_PAGES {
            return false;
        }
        let mut record = vec![0; layout.specialprofile_b as usize + 8];
        let mut at = span.specials;
        for _ in 0..MAX_CHAIN {
            if at == 0 {
                return true;
            }
            if self.records == 0 {
                self.found.cut = true;
                return false;
            }
            self.records -= 1;
            if self.chunks.read(ProcAddr(at), &mut record).is_err() {
                return false;
            }
            let block = Block(&record);
            // 16 bits up to Go 1.23, a word since: the kind follows it.
            let wide = layout.special_kind >= layout.special_offset + 8;
            let offset = if wide {
                block.u64(layout.special_offset)
            } else {
                block.u16(layout.special_offset).map(u64::from)
            };
            let (Some(next), Some(offset), Some(kind), Some(bucket)) = (
                block.u64(layout.special_next),
                offset,
                block.u8(layout.special_kind),
                block.u64(layout.specialprofile_b),
            ) else {
                return false;
            };
            if offset >= span.pages * PAGE {
                return false;
            }
            if kind == profile_kind(layout.minor) {
                let address = ProcAddr(span.start).plus(offset);
                self.found.objects.push(SampledObject {
                    address,
                    bucket: BucketAddr(ProcAddr(bucket)),
                    span: at_span,
                    start: ProcAddr(span.start),
                    spanclass: span.spanclass,
                });
            }
            at = next;
        }
        false
    }
}
