//! When to pin what: asks once a second which type's allocations to follow, has its calls probed, and lets go of those that run
//! too often.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use super::pinner::{Ask, Pinner};
use crate::{
    aggregate::Ledger,
    analyze::figures::event_rate,
    control::pins::{Counted, Wanted, counted, too_hot, wanted},
    symbolize::{Evidence, Names},
    units::ProcAddr,
};

/// How often evidence is looked at for it.
const EVERY: Duration = Duration::from_secs(1);

/// What was pinned, and when to look again.
pub(super) struct Pinning {
    pinner: Pinner,
    /// Types that are or were pinned: none is a second time.
    pinned: BTreeSet<String>,
    /// The descriptors of those that are.
    types: BTreeMap<String, Vec<ProcAddr>>,
    counted: Counted,
    looked: Instant,
}

impl Pinning {
    pub(super) fn new(pinner: Pinner) -> Self {
        Self {
            pinner,
            pinned: BTreeSet::new(),
            types: BTreeMap::new(),
            counted: Counted::new(),
            looked: Instant::now(),
        }
    }

    pub(super) fn is_due(&mut self) -> bool {
        let due = self.looked.elapsed() >= EVERY;
        if due {
            self.looked = Instant::now();
        }
        due
    }

    /// Asks for the probes of one more type, where one is worth it.
    pub(super) fn tend(&mut self, evidence: &Evidence, ledger: &Ledger, names: &dyn Names) {
        let now = counted(evidence);
        for (type_name, rate) in too_hot(&self.counted, &now) {
            let why = format!("they run {}, which would cost the program too much", event_rate(rate));
            for type_addr in self.types.remove(&type_name).unwrap_or_default() {
                self.pinner.unpin(type_addr, why.clone());
            }
        }
        self.counted = now;
        let Some(Wanted { type_name, mean }) = wanted(evidence, &self.pinned) else { return };
        let is_it = |of: &&crate::record::call_sites::SitesOf| {
            names.type_info(of.type_addr).is_some_and(|info| info.name == type_name)
        };
        for of in ledger.call_sites().all().filter(|of| !of.sites.is_empty()).filter(is_it) {
            self.types.entry(type_name.clone()).or_default().push(of.type_addr);
            self.pinner.pin(Ask { type_addr: of.type_addr, sites: of.sites.clone(), mean });
        }
        self.pinned.insert(type_name);
    }

    pub(super) fn detach(self) {
        self.pinner.detach();
    }
}
