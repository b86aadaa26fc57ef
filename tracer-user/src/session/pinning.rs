//! When to pin what: asks once a second which type's allocations to follow and which calls to count, and has them probed.

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
        counted::{Count, Counting},
        pins::{Call, Thinning, Wanted, wanted},
        windows::{Step, Windows},
    },
    goruntime::names::cause::{self, Cause},
    record::{
        call_sites::{CallSite, SitesOf},
        samples::MAX_FOLLOWED,
    },
    symbolize::{Evidence, Names, PcKind},
    units::ProcAddr,
};

/// How often evidence is looked at for it, on average: never in a rhythm that one of the program's could meet.
const EVERY: Duration = Duration::from_secs(1);

/// What was pinned, and when to look again.
pub(super) struct Pinning {
    /// Types that are or were pinned: none is a second time.
    pinned: BTreeSet<String>,
    /// Calls that are or were probed.
    calls: BTreeSet<ProcAddr>,
    thinning: Thinning,
    counting: Counting,
    begun: Instant,
    /// Absent where probes cannot come and go quickly.
    windows: Option<Windows>,
    next: Instant,
}

impl Pinning {
    /// `share`: of a processor, that tracing may take. Half of it is for hits. `quick`: all probes of a kind hang on one link.
    pub(super) fn new(share: f64, quick: bool) -> Self {
        let windows = quick.then(|| Windows::new(share / 2.0));
        let begun = Instant::now();
        Self {
            pinned: BTreeSet::new(),
            calls: BTreeSet::new(),
            thinning: Thinning::new(MAX_FOLLOWED),
            counting: Counting::default(),
            begun,
            windows,
            next: begun + EVERY,
        }
    }

    pub(super) fn is_due(&mut self) -> bool {
        let due = Instant::now() >= self.next;
        if due {
            self.next = Instant::now() + EVERY.mul_f64(0.5 + chance());
        }
        due
    }

    /// Asks for the probes of one more type, where one is worth it, and for a moment of those on the allocator where no type says who
    /// makes what grows.
    pub(super) fn tend(&mut self, evidence: &Evidence, ledger: &Ledger, names: &dyn Names, by: &Governor) {
        if let Some(Wanted { type_name, mean }) = wanted(evidence, &self.pinned) {
            self.pin_type(&type_name, mean, |_| true, ledger, names, by);
            self.pinned.insert(type_name);
        }
        match self.counting.step(evidence) {
            Some(Count::Calls(calls)) => self.pin(None, calls, by),
            Some(Count::WritesTo(type_name)) => {
                let writes = |callee: ProcAddr| {
                    let callee = names.frames(callee, PcKind::Entry).pop();
                    callee.is_some_and(|of| cause::of(&[&of.function], Some(&type_name)) == Cause::MapAssign)
                };
                self.pin_type(&type_name, 0, writes, ledger, names, by);
            }
            None => {}
        }
        let room = MAX_FOLLOWED.saturating_sub(ledger.samples().held());
        let seconds = self.begun.elapsed().as_secs_f64();
        let thinner = self.thinning.step(&evidence.pins, room, seconds);
        if !thinner.is_empty() {
            by.ask(Ask::Thin(thinner));
        }
        let Some(windows) = &mut self.windows else { return };
        match windows.step(evidence, &self.pinned, chance()) {
            Step::Wait => {}
            Step::Open(window) => drop(by.ask(Ask::Open(window))),
            Step::Pin(calls) => self.pin(None, calls, by),
        }
    }

    /// Probes the calls that pass a type of that name, and of which the function they call is `meant`.
    fn pin_type(
        &mut self,
        type_name: &str,
        mean: u64,
        meant: impl Fn(ProcAddr) -> bool,
        ledger: &Ledger,
        names: &dyn Names,
        by: &Governor,
    ) {
        let is_it = |of: &&SitesOf| names.type_info(of.type_addr).is_some_and(|info| info.name == type_name);
        for of in ledger.call_sites().all().filter(is_it) {
            let sites = of.sites.iter().filter(|site| meant(site.callee));
            let call = |site: &CallSite| Call { returns_to: site.returns_to, mean };
            self.pin(Some(of.type_addr), sites.map(call).collect(), by);
        }
    }

    /// Calls that have a probe already keep it.
    fn pin(&mut self, type_addr: Option<ProcAddr>, mut calls: Vec<Call>, by: &Governor) {
        calls.retain(|call| self.calls.insert(call.returns_to));
        if !calls.is_empty() {
            by.ask(Ask::Pin(pinner::Ask { type_addr, calls }));
        }
    }
}

/// From 0 to 1.
fn chance() -> f64 {
    RandomState::new().hash_one(0) as f64 / u64::MAX as f64
}
