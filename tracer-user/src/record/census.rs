//! The heap census as a reading: every object of the heap counted by size class, as one GC cycle left it.
//!
//! Apart from the other readings because it says precisely what "live" means. An object has *survived* when the
//! mark phase of the last completed GC cycle found it reachable (or it was allocated while that mark phase ran,
//! which marks it too). What was allocated after that mark phase is *since*: part of it is garbage that the next
//! cycle will find. Objects of the tiny allocator share a block of 16 bytes, which counts as one object. Nothing
//! here is an estimate but the shares of types, which come from samples and say how many.

use serde::{Deserialize, Serialize};

use crate::units::{Bytes, ProcAddr};

/// All spans of the heap.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Census {
    /// The last completed GC cycle when the pass began: 0 before the first.
    pub cycle: u32,
    /// The same when it ended. Where the two differ, each span is as of its own cycle between them.
    pub cycle_end: u32,
    /// In order of class, objects with pointers before those without. Empty classes are left out.
    pub classes: Vec<CensusClass>,
    /// Spans that hold no heap objects: goroutine stacks and the collector's work buffers.
    pub manual: Spans,
    /// Chunks of user arenas (an experiment of the runtime), whose objects cannot be told apart.
    pub user_arenas: Spans,
    /// Spans in use that changed each time they were read, or contradicted themselves; in no class.
    pub torn: u64,
    /// Spans left alone because they, or their bits, are swapped out; in no class.
    pub swapped: u64,
    /// Spans that could not be read, or beyond the census's cap; in no class.
    pub unread: u64,
    /// Absent where they were not asked for, or there are too many spans to find objects in.
    pub types: Option<Vec<TypeShare>>,
}

/// A number of spans and their whole size.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Spans {
    pub spans: u64,
    pub bytes: Bytes,
}

/// Objects of one size class, with pointers or without.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct CensusClass {
    /// The runtime's number, 1..=67; 0 is everything larger.
    pub class: u8,
    /// The collector need not look into these objects: they hold no pointers.
    pub noscan: bool,
    /// Bytes one object takes; absent for class 0.
    pub size: Option<Bytes>,
    pub spans: u64,
    pub survived: Amount,
    pub since: Amount,
}

/// Objects and the bytes set aside for them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
pub struct Amount {
    pub objects: u64,
    pub bytes: Bytes,
}

impl Amount {
    pub fn add(&mut self, other: Amount) {
        self.objects = self.objects.saturating_add(other.objects);
        self.bytes = Bytes(self.bytes.0.saturating_add(other.bytes.0));
    }
}

/// How many of the objects looked at in one class are of one type.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct TypeShare {
    /// As in [`CensusClass`]; these objects hold pointers.
    pub class: u8,
    /// What they may be: one, several that cannot be told apart, or none that is known.
    pub candidates: Vec<Candidate>,
    /// Looked at and found to be of this type.
    pub hits: u64,
    /// Bytes of the hits.
    pub bytes: Bytes,
    /// Looked at in this class, all types together.
    pub looked_at: u64,
    /// In this class, as far as [`Population`] says.
    pub of: Amount,
    pub population: Population,
}

/// Which objects of a class are looked at for their types.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub enum Population {
    /// Those that survived the last completed cycle.
    Survived,
    /// No cycle has completed: all that were allocated.
    Allocated,
}

/// Types that objects may be of: more that cannot be told apart are as good as none.
pub const MAX_CANDIDATES: usize = 16;

/// A type that objects may be of.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Candidate {
    pub type_addr: ProcAddr,
    /// An array of it: what a slice of it points to.
    pub array: bool,
}
