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

/// What the look through the code brings, for those who read.
pub(super) struct CodeLook {
    pub(super) variables: Receiver<Vec<Known>>,
    pub(super) sites: CodeSites,
}

/// The sites of the program's code, and of which types they were told.
pub(super) struct CodeSites {
    coming: Receiver<call_sites::CallSites>,
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
        let (to_maps, variables) = sync_channel(1);
        let (to_sites, coming) = sync_channel(1);
        let (image, bias) = (Arc::clone(&target.image), target.bias);
        std::thread::Builder::new().name("code".into()).spawn(move || {
            wait_for_others();
            let Program { variables, sites } = call_sites::program(&image);
            let known = variables.iter().map(|v| Known {
                at: Place::Variable(bias.to_proc(v.address)),
                type_addr: bias.to_proc(v.type_addr),
            });
            // A session that has ended needs them no more.
            drop(to_maps.send(known.collect()));
            drop(to_sites.send(sites));
        })?;
        let sites = CodeSites {
            coming,
            found: None,
            bias,
            asked: BTreeSet::new(),
            told: BTreeSet::new(),
            unasked: 0,
        };
        Ok(Self { variables, sites })
    }
}

impl CodeSites {
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

    /// The sites of the types that were met since; `None` where there is nothing new, or the code is still looked through after
    /// `patience`.
    pub(super) fn news(&mut self, patience: Duration) -> Option<Readout> {
        if self.found.is_none() {
            self.found = self.coming.recv_timeout(patience).ok();
        }
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
