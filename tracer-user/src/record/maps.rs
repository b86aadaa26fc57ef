//! What maps hold, read from their headers: entries and room, without a probe on any write.

use serde::{Deserialize, Serialize};

use crate::units::ProcAddr;

/// The maps that are known, as they were found.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Maps {
    pub maps: Vec<MapState>,
    /// Known maps that could not be read, or whose memory holds no map any more.
    pub skipped: u64,
    /// Maps that were found and not read because more were known than are followed.
    pub beyond_cap: u64,
}

/// One map.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MapState {
    /// The map's header.
    pub address: ProcAddr,
    /// The map type's descriptor.
    pub type_addr: ProcAddr,
    /// The package variable that holds the map; absent where it was found by its growth.
    pub variable: Option<ProcAddr>,
    /// The map's hash seed: another one means another map, or one that was emptied.
    pub seed: u64,
    pub entries: u64,
    /// Slots, used or not, all of which stay allocated while the map lives. Absent where they were not counted.
    pub capacity: Option<u64>,
    /// Deleted slots that hold room until their table grows. Absent where they were not counted, and in maps before
    /// go1.24, which use a deleted slot again at once.
    pub tombstones: Option<u64>,
}
