//! When to pin what: asks once a second which type's allocations to follow, and has its calls probed.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use super::{governor::Governor, pinner::Ask};
use crate::{
    aggregate::Ledger,
    control::pins::{MAX_TYPES, Wanted, wanted},
    symbolize::{Evidence, Names},
};

/// How often evidence is looked at for it.
const EVERY: Duration = Duration::from_secs(1);

/// What was pinned, and when to look again.
pub(super) struct Pinning {
    /// Types that are or were pinned: none is a second time.
    pinned: BTreeSet<String>,
    looked: Instant,
}

impl Pinning {
    pub(super) fn new() -> Self {
        Self { pinned: BTreeSet::new(), looked: Instant::now() }
    }

    pub(super) fn is_due(&mut self) -> bool {
        let due = self.pinned.len() < MAX_TYPES && self.looked.elapsed() >= EVERY;
        if due {
            self.looked = Instant::now();
        }
        due
    }

    /// Asks for the probes of one more type, where one is worth it.
    pub(super) fn tend(&mut self, evidence: &Evidence, ledger: &Ledger, names: &dyn Names, by: &Governor) {
        let Some(Wanted { type_name, mean }) = wanted(evidence, &self.pinned) else { return };
        let is_it = |of: &&crate::record::call_sites::SitesOf| {
            names.type_info(of.type_addr).is_some_and(|info| info.name == type_name)
        };
        for of in ledger.call_sites().all().filter(|of| !of.sites.is_empty()).filter(is_it) {
            by.pin(Ask { type_addr: of.type_addr, sites: of.sites.clone(), mean });
        }
        self.pinned.insert(type_name);
    }
}
