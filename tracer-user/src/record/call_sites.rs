//! Where the program's code allocates objects of some types: read from its file, for the types that were met in its heap.

use serde::{Deserialize, Serialize};

use crate::units::ProcAddr;

/// The sites of some types, and how much of the code says its type.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct CallSites {
    pub types: Vec<SitesOf>,
    /// Calls in all of the code that allocate something of a type, the runtime's own left out.
    pub calls: u64,
    /// Those that name their type.
    pub typed: u64,
    /// Those that pass none: several variables in one object, bytes.
    pub without_type: u64,
    /// Functions whose code could not be read.
    pub undecoded: u64,
    /// Types that were met and not asked about, because too many were.
    pub unasked: u64,
}

/// The sites of one type, in address order.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SitesOf {
    /// The type's descriptor.
    pub type_addr: ProcAddr,
    pub sites: Vec<CallSite>,
    /// How many there are beyond these.
    pub more: u32,
}

/// One call instruction.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct CallSite {
    /// Where the call returns to.
    pub returns_to: ProcAddr,
    /// The function of the runtime that it calls.
    pub callee: ProcAddr,
}

impl SitesOf {
    /// Sites told of one type: a type with more is made everywhere.
    const MAX_SITES: usize = 16;

    /// The first of these sites, and how many that leaves out, `more` of them already.
    pub fn new(type_addr: ProcAddr, mut sites: Vec<CallSite>, more: u32) -> Self {
        let cut = sites.len().saturating_sub(Self::MAX_SITES);
        sites.truncate(Self::MAX_SITES);
        Self { type_addr, sites, more: more.saturating_add(u32::try_from(cut).unwrap_or(u32::MAX)) }
    }
}
