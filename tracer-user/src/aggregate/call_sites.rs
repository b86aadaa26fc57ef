//! Where the program's code allocates which types, as it was told. It does not change while the program runs; this file
//! judges nothing.

use std::collections::BTreeMap;

use crate::record::call_sites::{CallSites, SitesOf};
use crate::units::ProcAddr;

/// Types of which sites are kept, some 300 bytes each: more than a census tells apart in minutes.
pub const MAX_TYPES: usize = 4_096;

/// The sites of each type that was asked about.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct CallSiteStore {
    types: BTreeMap<ProcAddr, SitesOf>,
    /// The newest account of all of the code, without types.
    code: Option<CallSites>,
    /// Types beyond the cap.
    cut: u64,
}

impl CallSiteStore {
    pub(super) fn apply(&mut self, mut told: CallSites) {
        for of in std::mem::take(&mut told.types) {
            // A recording may say what it likes.
            let of = SitesOf::new(of.type_addr, of.sites, of.more);
            if self.types.len() < MAX_TYPES || self.types.contains_key(&of.type_addr) {
                self.types.insert(of.type_addr, of);
            } else {
                self.cut = self.cut.saturating_add(1);
            }
        }
        self.code = Some(told);
    }

    /// Absent where nobody asked about the type.
    pub fn of(&self, type_addr: ProcAddr) -> Option<&SitesOf> {
        self.types.get(&type_addr)
    }

    /// Every type that was asked about.
    pub fn all(&self) -> impl Iterator<Item = &SitesOf> {
        self.types.values()
    }

    /// How much of the code says its type; absent before the code was looked through.
    pub fn code(&self) -> Option<&CallSites> {
        self.code.as_ref()
    }

    pub fn cut(&self) -> u64 {
        self.cut.saturating_add(self.code.as_ref().map_or(0, |code| code.unasked))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::call_sites::CallSite;

    #[test]
    fn what_recordings_say_is_bounded() {
        let site = |n: u64| CallSite { returns_to: ProcAddr(n), callee: ProcAddr(1) };
        let of = |n: u64| SitesOf { type_addr: ProcAddr(n), sites: (0..100).map(site).collect(), more: 1 };
        let types = (0..MAX_TYPES as u64 + 3).map(of).collect();
        let mut store = CallSiteStore::default();
        store.apply(CallSites { types, calls: 9, ..CallSites::default() });
        assert_eq!(store.cut(), 3);
        let first = store.of(ProcAddr(0)).expect("told");
        assert_eq!((first.sites.len(), first.more), (16, 85));
        assert_eq!(store.of(ProcAddr(MAX_TYPES as u64 + 1)), None);
        assert_eq!(store.code().map(|code| (code.calls, code.types.len())), Some((9, 0)));
    }
}
