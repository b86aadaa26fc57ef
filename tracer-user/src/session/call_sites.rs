//! Where the program's code allocates what was met in its heap, and the variables that hold maps: one look through all of its
//! code, on a thread of its own. A first report does not wait for it, a last one only a moment.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        mpsc::{Receiver, sync_channel},
    },
    time::Duration,
};

use super::target::Target;
use crate::{
    aggregate::call_sites::MAX_TYPES,
    goruntime::{
        code::call_sites::{self, Program},
        state::maps::{Known, Place},
    },
    kernel::priority::wait_for_others,
    record::{
        Readout, Record,
        call_sites::{CallSite, CallSites, SitesOf},
    },
    units::{LoadBias, ProcAddr},
};

/// The look through the code, and of which types its sites were told.
pub(super) struct CodeLook {
    /// Once.
    coming: Receiver<Program>,
    found: Option<call_sites::CallSites>,
    bias: LoadBias,
    /// Met, and not told of yet.
    asked: BTreeSet<ProcAddr>,
    told: BTreeSet<ProcAddr>,
    /// The most types of one round that found no room.
    unasked: u64,
}

impl CodeLook {
    pub(super) fn start(target: &Target) -> std::io::Result<Self> {
        let (done, coming) = sync_channel(1);
        let image = Arc::clone(&target.image);
        std::thread::Builder::new().name("code".into()).spawn(move || {
            wait_for_others();
            // A session that has ended needs it no more.
            drop(done.send(call_sites::program(&image)));
        })?;
        let (asked, told) = (BTreeSet::new(), BTreeSet::new());
        Ok(Self { coming, found: None, bias: target.bias, asked, told, unasked: 0 })
    }

    /// The variables that hold maps, once: as soon as the code was looked through, which is waited for as long as `patience`.
    pub(super) fn variables(&mut self, patience: Duration) -> Option<Vec<Known>> {
        if self.found.is_some() {
            return None;
        }
        let Program { variables, sites } = self.coming.recv_timeout(patience).ok()?;
        self.found = Some(sites);
        let known = variables.iter().map(|v| Known {
            at: Place::Variable(self.bias.to_proc(v.address)),
            type_addr: self.bias.to_proc(v.type_addr),
        });
        Some(known.collect())
    }

    /// Takes up the types that these records name.
    pub(super) fn learn(&mut self, records: &[Record]) {
        let mut unasked = BTreeSet::new();
        for record in records {
            record.each_type(&mut |type_addr| {
                if self.told.contains(&type_addr) || self.asked.contains(&type_addr) {
                    return;
                }
                if self.asked.len() + self.told.len() < MAX_TYPES {
                    self.asked.insert(type_addr);
                } else {
                    unasked.insert(type_addr);
                }
            });
        }
        self.unasked = self.unasked.max(unasked.len() as u64);
    }

    /// The sites of the types that were met since; `None` where there is nothing new, or the code is still looked through.
    pub(super) fn news(&mut self) -> Option<Readout> {
        let found = self.found.as_ref().filter(|_| !self.asked.is_empty())?;
        let asked = std::mem::take(&mut self.asked);
        let types = asked.iter().map(|type_addr| {
            let sites = found.of(self.bias.to_image(*type_addr)).iter().map(|site| CallSite {
                returns_to: self.bias.to_proc(site.end),
                callee: self.bias.to_proc(site.callee),
            });
            SitesOf::new(*type_addr, sites.collect(), 0)
        });
        let types = types.collect();
        self.told.extend(asked);
        let call_sites::CallSites { calls, typed, without_type, undecoded, .. } = *found;
        Some(Readout::CallSites(CallSites {
            types,
            calls,
            typed,
            without_type,
            undecoded,
            unasked: self.unasked,
        }))
    }
}
