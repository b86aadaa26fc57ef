//! Objects followed by address: whether the collector's marks of each cycle found them.
//!
//! Apart from the census, which counts all objects and knows none: this knows a few, by where they are. A mark bit says
//! that something at that address was reached, not that it is still the object we knew. So each cycle is looked at: an
//! object that was there in every one is the same object, and where a cycle was missed a set bit says nothing. A clear
//! bit always says that the object is gone, for a living one is marked in each cycle. What is allocated while the
//! collector marks counts as reached, so that cycle tells nothing of it (runtime/malloc.go, gcmarknewobject).
//!
//! An object with a finalizer that is not reached counts as gone, although its memory stays for one more cycle.

use std::collections::HashMap;

use super::census::{HeapShape, inline_span};
use super::spans::{self, Decoded, PER_CYCLE, Phase, Span, decode};
use crate::goruntime::layout::{Layout, PAGE};
use crate::goruntime::state::block::Block;
use crate::goruntime::state::{RuntimeState, StateError};
use crate::memory::ReadAt;
use crate::memory::gather::{Gathered, Request, gather};
use crate::record::samples::{Born, Fates, MAX_FOLLOWED, SampleKey};
use crate::units::{Bytes, ProcAddr};

/// Bytes of the address space that one arena describes, on linux/amd64 (runtime/malloc.go, logHeapArenaBytes).
const ARENA_BITS: u32 = 26;
/// What is taken off an address before it is looked up (runtime/malloc.go, arenaBaseOffset: 0xffff800000000000).
const ARENA_BASE: u64 = 0x8000_0000_0000;
/// Entries of the table of arenas (arenaL2Bits; arenaL1Bits is 0).
const ARENAS: u64 = 1 << 22;

/// The objects that are followed now, at most [`MAX_FOLLOWED`].
#[derive(Debug, Default)]
pub struct Follower {
    objects: Vec<Object>,
    /// Of which nothing can be told, said with the next look: there was no room, or no collector's state.
    unknown: Vec<SampleKey>,
}

#[derive(Clone, Copy, Debug)]
struct Object {
    key: SampleKey,
    /// The last generation that told of it, or the one before the first that can.
    told: u32,
    knowledge: Knowledge,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Knowledge {
    /// No cycle has told yet.
    None,
    /// Found, in this span.
    Lives(Identity),
    /// May be another object by now.
    Lost,
}

/// What stays the same of a span while its memory is not given back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Identity {
    start: ProcAddr,
    slot: Bytes,
    spanclass: u8,
}

/// What one look at an address found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Look {
    /// The last cycle marked what lies there.
    Marked(Identity),
    /// It did not, or no objects are there.
    Free,
    /// Changed while it was read, or could not be read.
    Untold,
}

/// The heap's sweep generation: changes once with each cycle, when its marks are complete.
pub fn generation(memory: &dyn ReadAt<ProcAddr>, state: &RuntimeState) -> Result<u32, StateError> {
    spans::sweepgen(memory, state.layout(), state.vars())
}

impl Follower {
    /// Follows an object from now on.
    pub fn follow(&mut self, key: SampleKey, born: Option<Born>) {
        if self.objects.len() >= MAX_FOLLOWED {
            self.unknown.push(key);
            return;
        }
        let (told, knowledge) = if let Some(Born { generation, marking }) = born {
            // The cycle that marks now, or none: the next one tells.
            (generation.wrapping_add(if marking { PER_CYCLE } else { 0 }), Knowledge::None)
        } else {
            self.unknown.push(key);
            (0, Knowledge::Lost)
        };
        self.objects.push(Object { key, told, knowledge });
    }

    /// What the marks of the last completed cycle say. `None`: nothing new, or a cycle ended meanwhile.
    pub fn check(
        &mut self,
        memory: &dyn ReadAt<ProcAddr>,
        state: &RuntimeState,
        shape: HeapShape,
    ) -> Result<Option<Fates>, StateError> {
        let now = generation(memory, state)?;
        let unknown = std::mem::take(&mut self.unknown);
        let due: Vec<usize> = (0..self.objects.len()).filter(|n| self.objects[*n].is_due(now)).collect();
        if due.is_empty() && unknown.is_empty() {
            return Ok(None);
        }
        let addresses: Vec<ProcAddr> = due.iter().map(|n| self.objects[*n].key.address).collect();
        let looks = look(memory, state.layout(), state.vars().mheap, shape, now, &addresses);
        let looks = match looks {
            Ok(looks) if generation(memory, state)? == now => looks,
            Ok(_) => {
                self.unknown = unknown;
                return Ok(None);
            }
            Err(e) => {
                self.unknown = unknown;
                return Err(e);
            }
        };
        let mut fates = Fates { cycle: now / PER_CYCLE, unknown, ..Fates::default() };
        let mut gone = vec![false; self.objects.len()];
        for (n, look) in due.into_iter().zip(looks) {
            let object = &mut self.objects[n];
            match object.judge(look, now) {
                Fate::Untold => fates.untold += 1,
                Fate::Same => {}
                Fate::Survived => fates.survived.push(object.key),
                Fate::Unknown => fates.unknown.push(object.key),
                Fate::Died => {
                    gone[n] = true;
                    fates.died.push(object.key);
                }
            }
        }
        let mut gone = gone.into_iter();
        self.objects.retain(|_| !gone.next().unwrap_or(false));
        Ok(Some(fates))
    }

    pub fn is_empty(&self) -> bool {
        self.objects.is_empty() && self.unknown.is_empty()
    }
}

/// News of one object.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    Untold,
    /// As it was said before.
    Same,
    Survived,
    Unknown,
    Died,
}

impl Object {
    /// Whether this generation's marks tell something new of it.
    fn is_due(&self, now: u32) -> bool {
        self.knowledge == Knowledge::Lost && self.told != now
            || now.wrapping_sub(self.told).cast_signed() >= PER_CYCLE.cast_signed()
    }

    fn judge(&mut self, look: Look, now: u32) -> Fate {
        let missed = now.wrapping_sub(self.told) != PER_CYCLE;
        let found = match look {
            Look::Untold => return Fate::Untold,
            Look::Free => return Fate::Died,
            Look::Marked(found) => found,
        };
        let before = self.knowledge;
        self.told = now;
        match before {
            // The memory was given back and set up anew.
            Knowledge::Lives(known) if known != found => Fate::Died,
            Knowledge::None | Knowledge::Lives(_) if missed => {
                self.knowledge = Knowledge::Lost;
                Fate::Unknown
            }
            Knowledge::None => {
                self.knowledge = Knowledge::Lives(found);
                Fate::Survived
            }
            Knowledge::Lives(_) | Knowledge::Lost => Fate::Same,
        }
    }
}

/// Looks at each address, as of the cycle that `generation` began.
fn look(
    memory: &dyn ReadAt<ProcAddr>,
    layout: &Layout,
    mheap: ProcAddr,
    shape: HeapShape,
    generation: u32,
    addresses: &[ProcAddr],
) -> Result<Vec<Look>, StateError> {
    let found = spans_of(memory, layout, mheap, addresses)?;
    let mut at: Vec<ProcAddr> = found.iter().flatten().copied().filter(|at| at.0 != 0).collect();
    at.sort_unstable();
    at.dedup();
    let index: HashMap<ProcAddr, usize> = at.iter().enumerate().map(|(n, at)| (*at, n)).collect();
    let first = spans::structures(memory, layout, at.iter().copied())?;
    let spans: Vec<Option<Decoded>> =
        (0..at.len()).map(|n| first.get(n).ok().map(|b| decode(b, layout))).collect();
    // The bits of each span in use; two requests each, the second for marks in its own page.
    let mut requests: Vec<Request> = Vec::new();
    let mut bits: Vec<Option<(usize, Option<usize>)>> = vec![None; at.len()];
    for (n, span) in spans.iter().enumerate() {
        let Some(Decoded::InUse(span)) = span else { continue };
        let (own, inline) = match span.phase(generation) {
            Phase::Swept => (span.alloc_bits, None),
            Phase::Unswept => (span.mark_bits, inline_span(shape, span)),
            Phase::Sweeping | Phase::Other => continue,
        };
        requests.push((own, span.bit_bytes()));
        let own = requests.len() - 1;
        requests.extend(inline);
        bits[n] = Some((own, inline.map(|_| own + 1)));
    }
    let read = gather(memory, &requests).map_err(StateError::reading("span bits"))?;
    let second = spans::structures(memory, layout, at.iter().copied())?;
    let looks = addresses.iter().zip(found).map(|(address, found)| {
        let at = match found {
            None => return Look::Untold,
            Some(at) if at.0 == 0 => return Look::Free,
            Some(at) => at,
        };
        let Some(&n) = index.get(&at) else { return Look::Untold };
        let again = second.get(n).ok().map(|b| decode(b, layout));
        let (span, again) = match (spans[n], again) {
            (Some(Decoded::InUse(span)), Some(Decoded::InUse(again))) => (span, again),
            // Whatever it is used for now, these are no objects of the heap.
            (Some(a @ (Decoded::Dead | Decoded::Manual { .. } | Decoded::Arena { .. })), Some(b))
                if a == b =>
            {
                return Look::Free;
            }
            _ => return Look::Untold,
        };
        if !again.is_same(&span) {
            return Look::Untold;
        }
        let inside = address.0.wrapping_sub(span.start.0);
        if inside >= span.pages * PAGE || span.slot.0 == 0 {
            // An entry that was left behind: no span in use holds the address.
            return Look::Free;
        }
        let object = inside / span.slot.0;
        if object >= span.objects {
            return Look::Free;
        }
        let Some((own, inline)) = bits[n] else { return Look::Untold };
        let set = |bits: &[u8]| bits.get((object / 8) as usize).is_some_and(|b| b >> (object % 8) & 1 == 1);
        let Ok(own) = read.get(own) else { return Look::Untold };
        let marked = match inline.map(|inline| read.get(inline)) {
            None => set(own),
            // The last byte is not marks.
            Some(Ok(marks)) => set(own) || set(&marks[..marks.len().saturating_sub(1)]),
            Some(Err(_)) => return Look::Untold,
        };
        if marked { Look::Marked(identity(&span)) } else { Look::Free }
    });
    Ok(looks.collect())
}

fn identity(span: &Span) -> Identity {
    Identity { start: span.start, slot: span.slot, spanclass: span.spanclass }
}

/// Where the structure of the span at each address is; 0 where there never was one, absent where it cannot be read
/// (runtime/mheap.go, spanOf).
fn spans_of(
    memory: &dyn ReadAt<ProcAddr>,
    layout: &Layout,
    mheap: ProcAddr,
    addresses: &[ProcAddr],
) -> Result<Vec<Option<ProcAddr>>, StateError> {
    let table = memory
        .read_u64(mheap.plus(u64::from(layout.mheap_arenas)))
        .map_err(StateError::reading("mheap.arenas"))?;
    let arena = |address: &ProcAddr| (address.0.wrapping_add(ARENA_BASE)) >> ARENA_BITS;
    let mut numbers: Vec<u64> = addresses.iter().map(arena).filter(|n| *n < ARENAS).collect();
    numbers.sort_unstable();
    numbers.dedup();
    let requests: Vec<Request> = numbers.iter().map(|n| (ProcAddr(table).plus(8 * n), 8)).collect();
    let arenas = gather(memory, &requests).map_err(StateError::reading("mheap.arenas"))?;
    let known: HashMap<u64, Option<u64>> =
        numbers.iter().enumerate().map(|(i, n)| (*n, word(&arenas, i))).collect();
    let entry = |address: &ProcAddr| {
        let arena = known.get(&arena(address)).copied().flatten().filter(|at| *at != 0)?;
        let page = (address.0 / PAGE) % ((1 << ARENA_BITS) / PAGE);
        Some(ProcAddr(arena).plus(u64::from(layout.heap_arena_spans) + 8 * page))
    };
    let entries: Vec<Option<ProcAddr>> = addresses.iter().map(entry).collect();
    let requests: Vec<Request> = entries.iter().map(|e| (e.unwrap_or_default(), 8)).collect();
    let spans = gather(memory, &requests).map_err(StateError::reading("heapArena.spans"))?;
    let found = addresses.iter().zip(&entries).enumerate().map(|(i, (address, entry))| match entry {
        Some(_) => word(&spans, i).map(ProcAddr),
        // No arena was ever there, or it could not be read.
        None => match known.get(&arena(address)) {
            Some(Some(0)) => Some(ProcAddr(0)),
            _ => None,
        },
    });
    Ok(found.collect())
}

fn word(read: &Gathered, n: usize) -> Option<u64> {
    read.get(n).ok().and_then(|bytes| Block(bytes).u64(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::KTime;

    const HERE: Identity = Identity { start: ProcAddr(8192), slot: Bytes(64), spanclass: 10 };
    const ELSEWHERE: Identity = Identity { start: ProcAddr(8192), slot: Bytes(80), spanclass: 12 };

    fn born(generation: u32, marking: bool) -> Object {
        let mut follower = Follower::default();
        let key = SampleKey { address: ProcAddr(8192), at: KTime(1) };
        follower.follow(key, Some(Born { generation, marking }));
        follower.objects[0]
    }

    #[test]
    fn each_cycle_tells_and_a_clear_bit_is_death() {
        let mut object = born(6, false);
        assert!(!object.is_due(6));
        assert!(object.is_due(8));
        assert_eq!(object.judge(Look::Marked(HERE), 8), Fate::Survived);
        assert!(!object.is_due(8));
        assert_eq!(object.judge(Look::Marked(HERE), 10), Fate::Same);
        assert_eq!(object.judge(Look::Untold, 12), Fate::Untold);
        assert_eq!(object.judge(Look::Free, 12), Fate::Died);
    }

    #[test]
    fn the_cycle_that_marks_tells_nothing_of_what_is_allocated_meanwhile() {
        let mut object = born(6, true);
        assert!(!object.is_due(8));
        assert!(object.is_due(10));
        assert_eq!(object.judge(Look::Marked(HERE), 10), Fate::Survived);
    }

    #[test]
    fn a_missed_cycle_is_unknown_until_the_place_is_free() {
        let mut object = born(6, false);
        assert_eq!(object.judge(Look::Marked(HERE), 10), Fate::Unknown);
        assert_eq!(object.judge(Look::Marked(HERE), 12), Fate::Same);
        assert_eq!(object.judge(Look::Marked(ELSEWHERE), 14), Fate::Same);
        assert_eq!(object.judge(Look::Free, 16), Fate::Died);
        let mut object = born(6, false);
        assert_eq!(object.judge(Look::Marked(HERE), 8), Fate::Survived);
        assert_eq!(object.judge(Look::Marked(HERE), 12), Fate::Unknown);
    }

    #[test]
    fn another_span_is_death() {
        let mut object = born(6, false);
        assert_eq!(object.judge(Look::Marked(HERE), 8), Fate::Survived);
        assert_eq!(object.judge(Look::Marked(ELSEWHERE), 10), Fate::Died);
        let mut object = born(6, false);
        assert_eq!(object.judge(Look::Marked(HERE), 8), Fate::Survived);
        assert_eq!(object.judge(Look::Marked(ELSEWHERE), 12), Fate::Died, "whatever was missed");
    }

    #[test]
    fn the_generation_wraps() {
        let mut object = born(u32::MAX - 1, false);
        assert!(object.is_due(0) && !object.is_due(u32::MAX - 3));
        assert_eq!(object.judge(Look::Marked(HERE), 0), Fate::Survived);
    }

    #[test]
    fn what_is_known_of_no_cycle_is_lost() {
        let mut follower = Follower::default();
        follower.follow(SampleKey { address: ProcAddr(1), at: KTime(1) }, None);
        assert!(follower.objects[0].is_due(400));
        assert_eq!(follower.objects[0].judge(Look::Marked(HERE), 400), Fate::Same);
        assert_eq!(follower.objects[0].judge(Look::Free, 402), Fate::Died);
    }
}
