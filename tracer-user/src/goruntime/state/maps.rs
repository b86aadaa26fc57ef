//! Maps from their headers: entries, room and deleted slots of both generations of Go's maps.
//!
//! A map's address came from a probe or a variable some time ago: by now its memory may hold anything. A header that
//! contradicts itself is no map; the hash seed tells one map from the next at an address. Keys and values are never
//! looked at. A read of one map costs a header, and its tables only as long as there is budget for them.

mod buckets;

use super::block::Block;
pub use crate::goruntime::code::hooks::MapKind;
use crate::memory::ReadAt;
use crate::memory::gather::{Request, gather};
use crate::record::reading::{MapState, Maps};
use crate::units::ProcAddr;

/// A map to be read.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Known {
    pub at: Place,
    pub type_addr: ProcAddr,
}

/// Where a map is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Place {
    /// A package variable of a map type points at it, or is nil.
    Variable(ProcAddr),
    /// Its header was here.
    Header(ProcAddr),
}

/// Maps read at once: each costs some 50 bytes and what lies between it and the next, in batches.
pub const MAX_MAPS: usize = 4_096;
/// What is read at once beyond headers, of all maps together; what would go beyond it is not known of the map.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Budget {
    /// Each holds up to 1024 slots.
    tables: u64,
    /// Each holds 8 slots: of most maps all, of large ones none.
    buckets: u64,
}

const BUDGET: Budget = Budget { tables: 16_384, buckets: 8_192 };
/// No map has more entries: each takes at least a byte of a 47-bit address space.
const MAX_ENTRIES: u64 = 1 << 47;

/// Reads `known`; what is beyond [`MAX_MAPS`] is counted.
pub fn read(memory: &dyn ReadAt<ProcAddr>, kind: MapKind, known: &[Known]) -> Maps {
    let (now, later) = known.split_at(known.len().min(MAX_MAPS));
    let mut maps = Maps { beyond_cap: later.len() as u64, ..Maps::default() };
    let headers = headers(memory, now, &mut maps.skipped);
    let addresses: Vec<ProcAddr> = headers.iter().map(|(address, _)| *address).collect();
    let mut budget = BUDGET;
    for ((address, known), header) in headers.into_iter().zip(blocks::<HEADER>(memory, &addresses)) {
        let variable = match known.at {
            Place::Variable(at) => Some(at),
            Place::Header(_) => None,
        };
        let found = header
            .and_then(|header| Found::of(memory, kind, (address, &header), known.type_addr, &mut budget));
        let Some(Found { seed, entries, capacity, tombstones }) = found else {
            maps.skipped += 1;
            continue;
        };
        let type_addr = known.type_addr;
        maps.maps.push(MapState { address, type_addr, variable, seed, entries, capacity, tombstones });
    }
    maps
}

/// The headers' addresses, variables followed. A nil map is no map: it holds nothing and is left out unsaid.
fn headers(memory: &dyn ReadAt<ProcAddr>, known: &[Known], skipped: &mut u64) -> Vec<(ProcAddr, Known)> {
    let variables: Vec<ProcAddr> = known
        .iter()
        .filter_map(|k| match k.at {
            Place::Variable(at) => Some(at),
            Place::Header(_) => None,
        })
        .collect();
    let mut pointers = blocks::<8>(memory, &variables).into_iter();
    let mut found: Vec<(ProcAddr, Known)> = Vec::with_capacity(known.len());
    for k in known {
        match k.at {
            Place::Header(at) => found.push((at, *k)),
            Place::Variable(_) => match pointers.next().flatten().map(u64::from_le_bytes) {
                None => *skipped += 1,
                Some(0) => {}
                Some(at) => found.push((ProcAddr(at), *k)),
            },
        }
    }
    // A variable's name says more than where it grew: variables sort first.
    found.sort_by_key(|(address, k)| (*address, k.at));
    found.dedup_by_key(|(address, _)| *address);
    found
}

/// Blocks of `N` bytes at each address, absent where they cannot be read. What lies close together is copied as one: a
/// large map's tables are thousands.
fn blocks<const N: usize>(memory: &dyn ReadAt<ProcAddr>, at: &[ProcAddr]) -> Vec<Option<[u8; N]>> {
    let mut blocks = Vec::with_capacity(at.len());
    for some in at.chunks(TOGETHER) {
        let requests: Vec<Request> = some.iter().map(|at| (*at, N as u32)).collect();
        match gather(memory, &requests) {
            Ok(read) => blocks.extend((0..some.len()).map(|n| read.get(n).ok()?.try_into().ok())),
            Err(_) => blocks.resize(blocks.len() + some.len(), None),
        }
    }
    blocks
}

/// Blocks read together: with what may lie between them, at most some 4 MiB.
const TOGETHER: usize = 512;

/// Bytes of either header: runtime.hmap and internal/runtime/maps.Map.
pub const HEADER: usize = 48;
/// Slots of a bucket, and of a group.
pub const SLOTS: u64 = 8;

/// A header whose words agree with each other, as far as it says alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    pub entries: u64,
    pub seed: u64,
    /// Buckets, or tables in the directory: a power of two; none in a Swiss map of one group.
    pub parts: u64,
    /// The buckets, the directory or the one group; 0 where there is none yet.
    pub storage: ProcAddr,
}

impl Header {
    /// `bytes` are [`HEADER`] of them; `None`: this is no map's header.
    pub fn decode(kind: MapKind, bytes: &[u8]) -> Option<Self> {
        let header = match kind {
            MapKind::Buckets => Self::buckets(Block(bytes)),
            MapKind::Swiss => Self::swiss(Block(bytes)),
        };
        header.filter(|header| header.storage.0.is_multiple_of(8))
    }

    /// runtime/map.go, type hmap: count, flags, B, noverflow, hash0, buckets, oldbuckets. The same from go1.19 to
    /// go1.23.
    fn buckets(block: Block<'_>) -> Option<Self> {
        /// loadFactorNum / loadFactorDen: at most 6.5 entries per bucket before it grows; while it does, twice that.
        const MOST_PER_BUCKET: u64 = 14;
        let entries = block.u64(0)?;
        let log2 = block.u8(9)?;
        let (storage, old) = (block.u64(16)?, block.u64(24)?);
        let parts = 1_u64.checked_shl(u32::from(log2)).filter(|n| *n < MAX_ENTRIES / SLOTS)?;
        let fits = entries <= SLOTS.max(parts * MOST_PER_BUCKET) && old.is_multiple_of(8);
        // A small map makes its bucket with the first key.
        let has_room = storage != 0 || (entries == 0 && log2 == 0 && old == 0);
        let seed = u64::from(block.u32(12)?);
        (fits && has_room).then_some(Self { entries, seed, parts, storage: ProcAddr(storage) })
    }

    /// internal/runtime/maps/map.go, type Map: used, seed, dirPtr, dirLen, globalDepth; the same from go1.24 to 1.27.
    fn swiss(block: Block<'_>) -> Option<Self> {
        let (entries, seed) = (block.u64(0)?, block.u64(8)?);
        let (storage, parts, depth) = (ProcAddr(block.u64(16)?), block.u64(24)?, block.u8(32)?);
        let fits = if parts == 0 {
            entries <= SLOTS && depth == 0 && (storage.0 != 0 || entries == 0)
        } else {
            parts <= MAX_ENTRIES
                && parts == 1_u64.checked_shl(u32::from(depth))?
                && storage.0 != 0
                && entries <= parts.saturating_mul(MAX_TABLE)
        };
        (fits && entries < MAX_ENTRIES).then_some(Self { entries, seed, parts, storage })
    }
}

/// What a map's header and what it leads to say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Found {
    seed: u64,
    entries: u64,
    capacity: Option<u64>,
    tombstones: Option<u64>,
}

impl Found {
    fn of(
        memory: &dyn ReadAt<ProcAddr>,
        kind: MapKind,
        (address, bytes): (ProcAddr, &[u8]),
        map_type: ProcAddr,
        budget: &mut Budget,
    ) -> Option<Self> {
        let header = Header::decode(kind, bytes)?;
        let Header { entries, seed, parts, storage } = header;
        match kind {
            MapKind::Buckets => {
                let slots = if storage.0 == 0 { 0 } else { parts * SLOTS };
                // Those that a growing map has not moved yet lie elsewhere.
                let moving = Block(bytes).u64(24)? != 0;
                let tombstones = match storage.0 {
                    0 => Some(0),
                    _ if moving => None,
                    _ => buckets::deleted(memory, storage, parts, map_type, &mut budget.buckets),
                };
                // The same buckets afterwards, or what was counted was memory given up.
                let tombstones = tombstones.filter(|_| storage_of(memory, address) == Some((storage.0, 0)));
                Some(Self { seed, entries, capacity: Some(slots), tombstones })
            }
            MapKind::Swiss if parts == 0 => Self::small(memory, header, address),
            MapKind::Swiss => {
                let room = if parts <= budget.tables {
                    budget.tables -= parts;
                    Room::of(memory, storage, parts)
                        .filter(|_| storage_of(memory, address) == Some((storage.0, parts)))
                } else {
                    None
                };
                // The tables were read after the header: between the two the map may have gone on.
                let tombstones = room.and_then(|r| r.filled.checked_sub(r.entries));
                Some(Self { seed, entries, capacity: room.map(|r| r.slots), tombstones })
            }
        }
    }

    /// A map of at most eight entries: one group and no table.
    fn small(memory: &dyn ReadAt<ProcAddr>, header: Header, address: ProcAddr) -> Option<Self> {
        /// internal/runtime/maps/group.go, ctrlDeleted.
        const DELETED: u8 = 0xfe;
        let Header { entries, seed, storage: group, .. } = header;
        if group.0 == 0 {
            return Some(Self { seed, entries, capacity: Some(0), tombstones: Some(0) });
        }
        let controls = memory.read_u64(group).ok()?.to_le_bytes();
        let deleted = controls.into_iter().map(|control| u64::from(control == DELETED)).sum();
        let same = storage_of(memory, address) == Some((group.0, 0));
        Some(Self { seed, entries, capacity: same.then_some(SLOTS), tombstones: same.then_some(deleted) })
    }
}

/// What a header says now of where its storage is, and of the directory's length or of the buckets it moves from: another
/// place than before, and what was read there was memory given up.
fn storage_of(memory: &dyn ReadAt<ProcAddr>, header: ProcAddr) -> Option<(u64, u64)> {
    let mut words = [0; 16];
    memory.read(header.plus(16), &mut words).ok()?;
    let words = Block(&words);
    words.u64(0).zip(words.u64(8))
}

/// internal/runtime/maps/table.go, maxTableCapacity.
const MAX_TABLE: u64 = 1_024;

/// What a map's tables offer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Room {
    slots: u64,
    /// Slots that are taken, by entries or by what was deleted.
    filled: u64,
    entries: u64,
}

impl Room {
    /// The sum over the tables of a directory, in which a table may stand several times in a row. Absent where one of
    /// them cannot be read or is none.
    fn of(memory: &dyn ReadAt<ProcAddr>, directory: ProcAddr, tables: u64) -> Option<Self> {
        let mut pointers = vec![0; usize::try_from(tables).ok()?.checked_mul(8)?];
        memory.read(directory, &mut pointers).ok()?;
        let mut at: Vec<ProcAddr> = pointers
            .chunks_exact(8)
            .map(|word| ProcAddr(u64::from_le_bytes(word.try_into().expect("a chunk of eight bytes"))))
            .collect();
        at.dedup();
        let mut room = Self::default();
        for table in blocks::<8>(memory, &at) {
            let Self { slots, filled, entries } = Self::of_table(table?)?;
            room.slots += slots;
            room.filled += filled;
            room.entries += entries;
        }
        Some(room)
    }

    /// internal/runtime/maps/table.go, type table: used, capacity, growthLeft, 16 bits each.
    fn of_table(table: [u8; 8]) -> Option<Self> {
        let block = Block(&table);
        let [used, capacity, left] = [block.u16(0)?, block.u16(2)?, block.u16(4)?].map(u64::from);
        // resetGrowthLeft: 7 of 8 slots may be filled, all but one in a table of one group.
        let most = if capacity <= 8 { capacity.checked_sub(1)? } else { capacity / 8 * 7 };
        let filled = most.checked_sub(left)?;
        let fits = capacity.is_power_of_two() && capacity <= MAX_TABLE && used <= filled;
        fits.then_some(Self { slots: capacity, filled, entries: used })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::memory::Flat;

    const BASE: u64 = 0x10_000;

    fn words(values: &[u64]) -> Vec<u8> {
        values.iter().flat_map(|v| v.to_le_bytes()).collect()
    }

    fn one(kind: MapKind, bytes: &[u8]) -> Maps {
        let known = Known { at: Place::Header(ProcAddr(BASE)), type_addr: ProcAddr(1) };
        read(&Flat { base: BASE, bytes }, kind, &[known])
    }

    /// used 700, two tables that share a directory of four.
    fn swiss() -> Vec<u8> {
        let table = |used: u64, capacity: u64, left: u64| used | capacity << 16 | left << 32;
        let mut bytes = words(&[700, 77, BASE + 48, 4, 2, 0]);
        bytes.extend(words(&[BASE + 80, BASE + 80, BASE + 88, BASE + 96]));
        bytes.extend(words(&[table(400, 512, 40), table(200, 256, 4), table(100, 128, 12)]));
        bytes
    }

    #[test]
    fn tables_are_summed_once_each() {
        let [map] = one(MapKind::Swiss, &swiss()).maps[..] else { panic!("a map") };
        assert_eq!((map.entries, map.seed, map.capacity), (700, 77, Some(896)));
        // 448 - 40 - 400, 224 - 4 - 200, 112 - 12 - 100.
        assert_eq!(map.tombstones, Some(8 + 20));
    }

    #[test]
    fn a_small_map_has_one_group() {
        let mut bytes = words(&[3, 9, BASE + 48, 0, 0, 0]);
        bytes.extend([1, 2, 0xfe, 3, 0x80, 0x80, 0x80, 0x80]);
        let [map] = one(MapKind::Swiss, &bytes).maps[..] else { panic!("a map") };
        assert_eq!((map.entries, map.capacity, map.tombstones), (3, Some(8), Some(1)));
    }

    #[test]
    fn buckets_give_slots() {
        let bytes = words(&[100, 5 << 32 | 4 << 8, 0xc000, 0, 0, 0]);
        let [map] = one(MapKind::Buckets, &bytes).maps[..] else { panic!("a map") };
        assert_eq!((map.entries, map.seed, map.capacity, map.tombstones), (100, 5, Some(128), None));
    }

    /// A map of two buckets of 40 bytes, of which the second leads to a third, behind its type.
    fn buckets(old: u64) -> Vec<u8> {
        let mut bytes = words(&[9, 5 << 32 | 1 << 8, BASE + 136, old, 0, 0]);
        bytes.resize(48 + 88, 0);
        bytes[48 + 82] = 40;
        for (top, overflow) in
            [([7, 1, 8, 1, 9, 0, 0, 0], 0), ([9; 8], BASE + 216), ([1, 9, 0, 0, 0, 0, 0, 0], 0)]
        {
            bytes.extend(top);
            bytes.extend(words(&[1, 1, 1, overflow]));
        }
        bytes
    }

    #[test]
    fn deleted_slots_of_buckets_are_counted_in_overflowing_ones_too() {
        let known = Known { at: Place::Header(ProcAddr(BASE)), type_addr: ProcAddr(BASE + 48) };
        let tombstones = |bytes: &[u8]| {
            let maps = read(&Flat { base: BASE, bytes }, MapKind::Buckets, &[known]).maps;
            maps.first().map(|map| (map.capacity, map.tombstones))
        };
        assert_eq!(tombstones(&buckets(0)), Some((Some(16), Some(3))));
        assert_eq!(tombstones(&buckets(0x8000)), Some((Some(16), None)), "while it grows");
        let mut ring = buckets(0);
        ring[248..256].copy_from_slice(&(BASE + 216).to_le_bytes());
        assert_eq!(tombstones(&ring), Some((Some(16), None)), "a chain without an end");
        let mut of_no_map = buckets(0);
        of_no_map[48 + 82] = 7;
        assert_eq!(tombstones(&of_no_map), Some((Some(16), None)));
    }

    #[test]
    fn what_contradicts_itself_is_no_map() {
        for bytes in [
            words(&[700, 77, BASE + 48, 3, 2, 0]),
            words(&[9, 77, BASE + 48, 0, 0, 0]),
            words(&[1 << 50, 77, BASE + 48, 4, 2, 0]),
            words(&[5, 77, BASE + 49, 0, 0, 0]),
            words(&[700, 77, 0, 4, 2, 0]),
        ] {
            let maps = one(MapKind::Swiss, &bytes);
            assert_eq!((maps.maps.len(), maps.skipped), (0, 1));
        }
        for bytes in [words(&[1000, 4 << 8, 0xc000, 0, 0, 0]), words(&[1, 0, 0, 0, 0, 0])] {
            assert_eq!(one(MapKind::Buckets, &bytes).skipped, 1);
        }
    }

    #[test]
    fn a_variable_is_followed_and_nil_is_no_map() {
        let mut bytes = swiss();
        let variable = BASE + bytes.len() as u64;
        bytes.extend(words(&[BASE, 0]));
        let known: Vec<Known> = [
            Place::Header(ProcAddr(BASE)),
            Place::Variable(ProcAddr(variable)),
            Place::Variable(ProcAddr(variable + 8)),
            Place::Variable(ProcAddr(1)),
        ]
        .map(|at| Known { at, type_addr: ProcAddr(1) })
        .into();
        let maps = read(&Flat { base: BASE, bytes: &bytes }, MapKind::Swiss, &known);
        assert_eq!((maps.maps.len(), maps.skipped), (1, 1));
        assert_eq!(maps.maps[0].variable, Some(ProcAddr(variable)));
    }

    proptest! {
        #[test]
        fn any_memory_is_read_or_skipped(
            bytes in proptest::collection::vec(any::<u8>(), 0..400),
            header in proptest::collection::vec(any::<u64>(), 6),
            tables in 0_u64..70,
            swiss in any::<bool>(),
        ) {
            let mut all = words(&header);
            // Likely enough to be a directory to be followed.
            all[16..24].copy_from_slice(&(BASE + 48).to_le_bytes());
            all[24..32].copy_from_slice(&tables.to_le_bytes());
            all.extend(bytes);
            let maps = one(if swiss { MapKind::Swiss } else { MapKind::Buckets }, &all);
            prop_assert_eq!(maps.maps.len() as u64 + maps.skipped, 1);
        }
    }
}
