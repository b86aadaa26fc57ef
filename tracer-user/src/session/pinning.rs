//! When to pin what: asks once a second which type's allocations to follow, and has its calls probed.

use std::{
    collections::BTreeSet,
    hash::{BuildHasher as _, RandomState},
    time::{Duration, Instant},
};

use super::{
    governor::{Ask, Governor},
    pinner,
};
use crate::{
    aggregate::Ledger,
    control::{
        pins::{Wanted, wanted},
        windows::{Call, Step, Windows},
    },
    record::call_sites::{CallSite, SitesOf},
    symbolize::{Evidence, Names},
    units::ProcAddr,
};

/// How often evidence is looked at for it.
const EVERY: Duration = Duration::from_secs(1);

/// What was pinned, and when to look again.
pub(super) struct Pinning {
    /// Types that are or were pinned: none is a second time.
    pinned: BTreeSet<String>,
    windows: Windows,
    looked: Instant,
}

impl Pinning {
    /// `share`: of a processor, that tracing may take. Half of it is for hits.
    pub(super) fn new(share: f64) -> Self {
        Self { pinned: BTreeSet::new(), windows: Windows::new(share / 2.0), looked: Instant::now() }
    }

    pub(super) fn is_due(&mut self) -> bool {
        let due = self.looked.elapsed() >= EVERY;
        if due {
            self.looked = Instant::now();
        }
        due
    }

    /// Asks for the probes of one more type, where one is worth it, and for a moment of those on the allocator where no type says who
    /// makes what grows.
    pub(super) fn tend(&mut self, evidence: &Evidence, ledger: &Ledger, names: &dyn Names, by: &Governor) {
        if let Some(Wanted { type_name, mean }) = wanted(evidence, &self.pinned) {
            let is_it =
                |of: &&SitesOf| names.type_info(of.type_addr).is_some_and(|info| info.name == type_name);
            for of in ledger.call_sites().all().filter(|of| !of.sites.is_empty()).filter(is_it) {
                let call = |site: &CallSite| pinner::Wanted { returns_to: site.returns_to, mean };
                let calls = of.sites.iter().map(call).collect();
                by.ask(Ask::Pin(pinner::Ask { type_addr: Some(of.type_addr), calls }));
            }
            self.pinned.insert(type_name);
        }
        let step = self.windows.step(evidence, &self.pinned, chance());
        match step {
            Step::Wait => {}
            Step::Open(window) => drop(by.ask(Ask::Open(window))),
            Step::Pin(calls) => {
                let call =
                    |call: &Call| pinner::Wanted { returns_to: ProcAddr(call.returns_to), mean: call.mean };
                let calls = calls.iter().map(call).collect();
                by.ask(Ask::Pin(pinner::Ask { type_addr: None, calls }));
            }
        }
    }
}

/// From 0 to 1.
fn chance() -> f64 {
    RandomState::new().hash_one(0) as f64 / u64::MAX as f64
}
