//! Which maps to read: those that were seen to grow, and those that package variables hold.
//!
//! Apart from the reader because the variables are found by a look through all of the program's code, on a thread of
//! its own: a first report does not wait for it, a last one only a moment.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        mpsc::{Receiver, sync_channel},
    },
    time::Duration,
};

use super::target::Target;
use crate::{
    goruntime::{
        code::{
            hooks::{MapKind, map_kind},
            map_variables::map_variables,
        },
        image::GoImage,
        state::maps::{Known, MAX_MAPS, Place},
    },
    record::reading::{Counts, MapCall},
    units::{LoadBias, ProcAddr},
};

/// The maps that are known so far.
pub(super) struct MapFinder {
    kind: MapKind,
    variables: Vec<Known>,
    /// Where they come from, once.
    coming: Receiver<Vec<Known>>,
    /// By header; a map of another type may come to lie where one was.
    grown: BTreeMap<ProcAddr, ProcAddr>,
}

impl MapFinder {
    /// Absent where the program has no maps that grow.
    pub(super) fn start(target: &Target) -> std::io::Result<Option<Self>> {
        let Some(kind) = map_kind(&target.image) else { return Ok(None) };
        let (found, coming) = sync_channel(1);
        let (image, bias) = (Arc::clone(&target.image), target.bias);
        std::thread::Builder::new().name("map variables".into()).spawn(move || {
            // A session that has ended needs them no more.
            drop(found.send(of_variables(&image, bias)));
        })?;
        Ok(Some(Self { kind, variables: Vec::new(), coming, grown: BTreeMap::new() }))
    }

    pub(super) fn kind(&self) -> MapKind {
        self.kind
    }

    /// Takes up the maps that were called on since.
    pub(super) fn learn(&mut self, counts: &Counts) {
        for count in counts.map_calls.iter().filter(|c| c.call != MapCall::Delete && c.map != ProcAddr(0)) {
            // Beyond what is ever read there is nothing to remember; the reading counts them.
            if self.grown.len() <= MAX_MAPS || self.grown.contains_key(&count.map) {
                self.grown.insert(count.map, count.type_addr);
            }
        }
    }

    /// The maps to read; variables that are still looked for are waited for as long as `patience`.
    pub(super) fn known(&mut self, patience: Duration) -> Vec<Known> {
        if let Ok(found) = self.coming.recv_timeout(patience) {
            self.variables = found;
        }
        let mut known = self.variables.clone();
        let grown = self.grown.iter();
        known.extend(grown.map(|(at, type_addr)| Known { at: Place::Header(*at), type_addr: *type_addr }));
        known
    }
}

fn of_variables(image: &GoImage, bias: LoadBias) -> Vec<Known> {
    map_variables(image)
        .variables
        .iter()
        .map(|v| Known { at: Place::Variable(bias.to_proc(v.address)), type_addr: bias.to_proc(v.type_addr) })
        .collect()
}
