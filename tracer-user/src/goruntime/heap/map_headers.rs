//! Large maps found in the heap itself, whoever holds them: headers by their shape, their types by what the runtime wrote in
//! front of their storage.
//!
//! Apart from `state::maps`, which reads maps that are known: this looks through the spans in which headers lie. A header says
//! neither its type nor that it is one, so that nothing is believed alone: its words must agree with each other, its storage
//! must begin an object of the heap whose type word is that of some map's storage, and the last cycle must have marked the
//! header. What is stored without pointers has no type word, nor has anything before Go 1.22: such maps are not found here.

use super::census::HeapShape;
use super::index::Index;
use super::marks;
use super::typing::Types;
use crate::goruntime::layout::PAGE;
use crate::goruntime::state::block::Block;
use crate::goruntime::state::maps::{self, HEADER, Header, MapKind, SLOTS};
use crate::goruntime::state::{RuntimeState, StateError};
use crate::memory::ReadAt;
use crate::memory::gather::{Gathered, Request, gather};
use crate::record::reading::{MapSearch, SharedStorage};
use crate::units::{Bytes, ImageAddr, ProcAddr};

/// Bytes of heap looked through by one reading; what lies beyond has its turn in the next.
const MOST_BYTES: u64 = 16 << 20;
/// Spans read together.
const BATCH: usize = 256;
/// Smaller maps are left to the probes, which see them grow.
const LEAST_ENTRIES: u64 = 128;
/// The largest that live are kept.
const MAX_FOUND: usize = 512;
/// What may be a header, freed ones among them, that is asked whether it lives; the largest of more.
const MAX_LOOKS: usize = 16_384;
/// More buckets or tables than any heap has room for.
const MOST_PARTS: u64 = 1 << 40;

/// What to look for, and where to go on.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    pub kind: MapKind,
    /// [`Found::next`] of the look before.
    pub from: ProcAddr,
}

/// What may be a map's header, and where it lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Place {
    at: ProcAddr,
    header: Header,
}

/// Maps, and what was left out in looking for them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Found {
    pub maps: Vec<maps::Known>,
    /// Of the maps that it says more of, each is in `maps`.
    pub search: MapSearch,
    /// Where the next look begins.
    pub next: ProcAddr,
}

/// The maps of at least [`LEAST_ENTRIES`] entries among the objects of these spans. Absent where this program's heap does
/// not say what a map's storage is, and where a cycle began meanwhile: the next census looks again.
pub(super) fn find(
    memory: &dyn ReadAt<ProcAddr>,
    state: &RuntimeState,
    shape: HeapShape,
    look: Look,
    index: &Index,
    types: &Types,
) -> Result<Option<Found>, StateError> {
    if !state.layout().has_malloc_headers() {
        return Ok(None);
    }
    let generation = marks::generation(memory, state)?;
    let (mut headers, mut search, next) = headers(memory, state, look, index)?;
    headers.sort_unstable_by_key(|place| (std::cmp::Reverse(place.header.entries), place.at));
    search.beyond_cap = headers.len().saturating_sub(MAX_LOOKS) as u64;
    headers.truncate(MAX_LOOKS);
    let storage = match look.kind {
        MapKind::Buckets => headers.iter().map(|place| Some(place.header.storage)).collect(),
        MapKind::Swiss => groups(memory, &headers)?,
    };
    let words = type_words(memory, state, index, &storage)?;
    let typed: Vec<(ProcAddr, &[ImageAddr])> = headers
        .iter()
        .zip(words)
        .filter_map(|(place, word)| {
            let maps = types.table.maps_of_storage(types.bias.to_image(word?));
            (!maps.is_empty()).then_some((place.at, maps))
        })
        .collect();
    let addresses: Vec<ProcAddr> = typed.iter().map(|(at, _)| *at).collect();
    // A freed slot keeps its bytes, and most may be freed.
    let looks = marks::look(memory, state, shape, generation, &addresses)?;
    if marks::generation(memory, state)? != generation {
        // The marks are of two cycles.
        return Ok(None);
    }
    let mut maps = Vec::new();
    let mut alive: Vec<(ProcAddr, &[ImageAddr])> = typed
        .into_iter()
        .zip(looks)
        .filter_map(|(map, look)| matches!(look, marks::Look::Marked(_)).then_some(map))
        .collect();
    search.beyond_cap += alive.len().saturating_sub(MAX_FOUND) as u64;
    alive.truncate(MAX_FOUND);
    for (at, of) in alive {
        let of: Vec<ProcAddr> = of.iter().map(|map| types.bias.to_proc(*map)).collect();
        let Some(&type_addr) = of.first() else { continue };
        maps.push(maps::Known { at: maps::Place::Header(at), type_addr });
        if of.len() > 1 {
            search.shared.push(SharedStorage::new(at, of, 0));
        }
    }
    Ok(Some(Found { maps, search, next }))
}

fn headers(
    memory: &dyn ReadAt<ProcAddr>,
    state: &RuntimeState,
    Look { kind, from }: Look,
    index: &Index,
) -> Result<(Vec<Place>, MapSearch, ProcAddr), StateError> {
    let class = state.layout().placement(HEADER as u64, true).class.unwrap_or_default();
    let mut spans: Vec<(ProcAddr, u64)> = index
        .iter()
        .filter(|span| span.spanclass == class << 1 && span.slot() == HEADER as u64)
        .map(|span| (span.start, u64::from(span.pages) * PAGE))
        .collect();
    spans.sort_unstable();
    let begin = spans.partition_point(|(start, _)| *start < from);
    let all: u64 = spans.iter().map(|(_, bytes)| bytes).sum();
    let mut left = MOST_BYTES;
    let turn: Vec<Request> = spans[begin..]
        .iter()
        .chain(&spans[..begin])
        .map_while(|(start, bytes)| {
            left = left.checked_sub(*bytes)?;
            Some((*start, u32::try_from(*bytes).ok()?))
        })
        .collect();
    let next =
        spans[begin..].iter().chain(&spans[..begin]).nth(turn.len()).map_or(ProcAddr(0), |(start, _)| *start);
    let looked_at: u64 = turn.iter().map(|(_, bytes)| u64::from(*bytes)).sum();
    let mut search = MapSearch {
        spans: Bytes(all),
        waiting: Bytes(all.saturating_sub(looked_at)),
        ..MapSearch::default()
    };
    let mut found = Vec::new();
    let mut room = Gathered::default();
    for batch in turn.chunks(BATCH) {
        room.read(memory, batch).map_err(StateError::reading("spans of map headers"))?;
        for (n, (start, _)) in batch.iter().enumerate() {
            let Ok(bytes) = room.get(n) else {
                search.unread += 1;
                continue;
            };
            for (slot, block) in bytes.chunks_exact(HEADER).enumerate() {
                let begins = |header: &Header| index.find(header.storage.0).is_some();
                if let Some(header) = large(kind, block).filter(begins) {
                    found.push(Place { at: start.plus((slot * HEADER) as u64), header });
                }
            }
        }
    }
    Ok((found, search, next))
}

/// A header of many entries, held to more than a known map's: of these bytes nothing says that they are one.
fn large(kind: MapKind, bytes: &[u8]) -> Option<Header> {
    let header = Header::decode(kind, bytes)?;
    let block = Block(bytes);
    let agrees = match kind {
        MapKind::Buckets => {
            /// iterator, oldIterator, hashWriting, sameSizeGrow (runtime/map.go).
            const FLAGS: u8 = 0x0f;
            // nevacuate
            block.u8(8)? <= FLAGS && block.u64(32)? <= header.parts
        }
        MapKind::Swiss => {
            let (depth, shift, writing) = (block.u8(32)?, block.u8(33)?, block.u8(34)?);
            u32::from(shift) + u32::from(depth) == u64::BITS && writing <= 1
        }
    };
    (agrees && header.entries >= LEAST_ENTRIES && header.parts < MOST_PARTS).then_some(header)
}

/// Where the groups of each map's first table lie.
fn groups(memory: &dyn ReadAt<ProcAddr>, headers: &[Place]) -> Result<Vec<Option<ProcAddr>>, StateError> {
    /// Bytes of internal/runtime/maps/table.go, type table: used, capacity, growthLeft, localDepth, index, groups.
    const TABLE: u32 = 32;
    let read = |requests: &[Request]| gather(memory, requests).map_err(StateError::reading("maps"));
    let directories = read(&headers.iter().map(|place| (place.header.storage, 8)).collect::<Vec<_>>())?;
    let table = |n: usize| directories.get(n).ok().and_then(|bytes| Block(bytes).u64(0)).unwrap_or(0);
    let tables = read(&(0..headers.len()).map(|n| (ProcAddr(table(n)), TABLE)).collect::<Vec<_>>())?;
    let groups = (0..headers.len()).map(|n| {
        let block = Block(tables.get(n).ok()?);
        let (used, capacity) = (block.u16(0)?, block.u16(2)?);
        let (at, mask) = (block.u64(16)?, block.u64(24)?);
        let fits = used <= capacity && mask.checked_add(1)?.checked_mul(SLOTS)? == u64::from(capacity);
        fits.then_some(ProcAddr(at))
    });
    Ok(groups.collect())
}

/// The type that the runtime wrote for the object that begins at each address.
fn type_words(
    memory: &dyn ReadAt<ProcAddr>,
    state: &RuntimeState,
    index: &Index,
    objects: &[Option<ProcAddr>],
) -> Result<Vec<Option<ProcAddr>>, StateError> {
    let layout = state.layout();
    let place = |object: ProcAddr| {
        let span = index.find(object.0).filter(|span| span.spanclass & 1 == 0)?;
        let slot = span.slot_of(object);
        (object == slot.plus(span.header(layout))).then(|| span.type_word(layout, slot)).flatten()
    };
    let places: Vec<Option<ProcAddr>> = objects.iter().map(|object| place((*object)?)).collect();
    let requests: Vec<Request> = places.iter().map(|place| (place.unwrap_or(ProcAddr(0)), 8)).collect();
    let read = gather(memory, &requests).map_err(StateError::reading("types of map storage"))?;
    let words = places.iter().enumerate().map(|(n, place)| {
        (*place)?;
        Some(ProcAddr(Block(read.get(n).ok()?).u64(0)?))
    });
    Ok(words.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(values: [u64; 6]) -> Vec<u8> {
        values.iter().flat_map(|v| v.to_le_bytes()).collect()
    }

    #[test]
    fn a_header_agrees_with_itself() {
        let told = |kind, values| large(kind, &words(values)).map(|header| (header.entries, header.storage));
        let swiss = |values| told(MapKind::Swiss, values);
        let depth = |depth: u64, shift: u64, writing: u64| depth | shift << 8 | writing << 16;
        assert_eq!(swiss([700, 1, 0xc000, 4, depth(2, 62, 0), 0]), Some((700, ProcAddr(0xc000))));
        assert_eq!(swiss([700, 1, 0xc000, 4, depth(2, 62, 1), 5]), Some((700, ProcAddr(0xc000))));
        for no in [
            [700, 1, 0xc000, 4, depth(2, 61, 0), 0],
            [700, 1, 0xc000, 4, depth(2, 62, 2), 0],
            [700, 1, 0xc000, 3, depth(2, 62, 0), 0],
            [5000, 1, 0xc000, 4, depth(2, 62, 0), 0],
            [7, 1, 0xc000, 4, depth(2, 62, 0), 0],
            [700, 1, 0xc001, 4, depth(2, 62, 0), 0],
            [700, 1, 0, 4, depth(2, 62, 0), 0],
            [700, 1, 0xc000, 4, depth(200, 62, 0), 0],
        ] {
            assert_eq!(swiss(no), None, "{no:?}");
        }
        let buckets = |values| told(MapKind::Buckets, values);
        let flags = |flags: u64, log2: u64| flags | log2 << 8 | 77 << 32;
        assert_eq!(buckets([700, flags(4, 7), 0xc000, 0, 0, 0]), Some((700, ProcAddr(0xc000))));
        assert_eq!(buckets([700, flags(8, 7), 0xc000, 0xd000, 100, 0]), Some((700, ProcAddr(0xc000))));
        for no in [
            [700, flags(16, 7), 0xc000, 0, 0, 0],
            [700, flags(0, 3), 0xc000, 0, 0, 0],
            [700, flags(0, 7), 0xc000, 0, 129, 0],
            [700, flags(0, 7), 0, 0, 0, 0],
            [700, flags(0, 99), 0xc000, 0, 0, 0],
        ] {
            assert_eq!(buckets(no), None, "{no:?}");
        }
    }
}
