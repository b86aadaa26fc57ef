//! What maps hold, read from their headers: entries and room, without a probe on any write.

use serde::{Deserialize, Serialize};

use crate::units::{Bytes, ProcAddr};

/// The maps that are known, as they were found.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Maps {
    pub maps: Vec<MapState>,
    /// Known maps that could not be read, or whose memory holds no map any more.
    pub skipped: u64,
    /// Maps that were found and not read because more were known than are followed.
    pub beyond_cap: u64,
}

/// What a look through the heap for large maps left out, and what it could not decide.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct MapSearch {
    /// Memory of the spans in which headers may lie.
    pub spans: Bytes,
    /// How much of it was not looked through this time; its turn comes in later cycles.
    pub waiting: Bytes,
    /// Spans that could not be read.
    pub unread: u64,
    /// Maps that were found and not kept because more were found than are.
    pub beyond_cap: u64,
    /// Of the maps that are known by such a look alone, those whose storage several types share.
    pub shared: Vec<SharedStorage>,
}

/// A map that may be of several types: nothing in the heap tells apart the types that share their storage.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SharedStorage {
    /// The map's header.
    pub map: ProcAddr,
    /// The descriptors of some of the types, the map's own or not.
    pub types: Vec<ProcAddr>,
    /// How many more there are.
    pub more: u32,
}

impl SharedStorage {
    /// Types told of one map.
    const MAX_TYPES: usize = 8;

    /// The first of these types, and how many that leaves out, `more` of them already.
    pub fn new(map: ProcAddr, mut types: Vec<ProcAddr>, more: u32) -> Self {
        let cut = types.len().saturating_sub(Self::MAX_TYPES);
        types.truncate(Self::MAX_TYPES);
        Self { map, types, more: more.saturating_add(u32::try_from(cut).unwrap_or(u32::MAX)) }
    }
}

/// One map.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MapState {
    /// The map's header.
    pub address: ProcAddr,
    /// The map type's descriptor.
    pub type_addr: ProcAddr,
    /// The package variable that holds the map; absent where it was found by its growth or in the heap.
    pub variable: Option<ProcAddr>,
    /// The map's hash seed: another one means another map, or one that was emptied.
    pub seed: u64,
    pub entries: u64,
    /// Slots, used or not, all of which stay allocated while the map lives. Absent where they were not counted.
    pub capacity: Option<u64>,
    /// Slots marked as deleted. They hold room until their table grows; before go1.24, until the next key of their bucket.
    /// Absent where they were not counted.
    pub tombstones: Option<u64>,
}
