//! Rows of maps: what was read of each, joined by address and type with the calls that were counted on it.

use std::collections::{BTreeMap, BTreeSet};

use super::Clock;
use super::call_sites;
use super::evidence::{Frame, MapHeld, MapPoint, MapRow, MapSearch, MapSite};
use super::memo::Named;
use super::stack::site_id;
use crate::aggregate::Ledger;
use crate::aggregate::maps::MapHistory;
use crate::record::census::Candidate;
use crate::record::reading::{MapCall, SharedStorage};
use crate::units::{LoadBias, ProcAddr};

/// The id of what has no known stack.
const UNKNOWN: &str = "unknown";

/// Calls by one site: writes, deletions, growths.
type Calls = (u64, u64, u64);

pub(super) fn maps(ledger: &Ledger, clock: Clock, named: &mut Named<'_>) -> Vec<MapRow> {
    let mut sites: BTreeMap<(ProcAddr, ProcAddr), BTreeMap<Vec<Frame>, Calls>> = BTreeMap::new();
    let (mut writes_counted, mut grows_counted) = (false, false);
    for (key, held) in ledger.tallies().map_calls() {
        let frames =
            ledger.stacks().get(key.stack).map(|s| named.user_stack(&s.frames).frames).unwrap_or_default();
        let calls = sites.entry((key.map, key.type_addr)).or_default().entry(frames).or_default();
        let (sum, counted) = match key.call {
            MapCall::Write => (&mut calls.0, &mut writes_counted),
            MapCall::Delete => (&mut calls.1, &mut writes_counted),
            MapCall::Grow => (&mut calls.2, &mut grows_counted),
        };
        *sum = sum.saturating_add(held.calls);
        *counted = true;
    }
    let read = ledger.maps().maps().iter().map(|(at, history)| ((*at, history.newest().type_addr), history));
    let mut all: BTreeMap<(ProcAddr, ProcAddr), Option<&MapHistory>> =
        read.map(|(k, h)| (k, Some(h))).collect();
    for key in sites.keys() {
        all.entry(*key).or_insert(None);
    }
    let shared: BTreeMap<ProcAddr, &SharedStorage> =
        ledger.maps().search().into_iter().flat_map(|search| &search.shared).map(|s| (s.map, s)).collect();
    let bias = ledger.session().subject().map(|subject| subject.bias).unwrap_or_default();
    let mut rows: Vec<MapRow> = all
        .into_iter()
        .map(|(key, history)| {
            let mut row = row(key, history, sites.remove(&key).unwrap_or_default(), (clock, bias), named);
            if let Some(shared) =
                shared.get(&key.0).filter(|_| row.sites.is_empty() && row.variable.is_none())
            {
                may_be(&mut row, shared, named);
            }
            // Of one type alone: the calls of the others that share its storage may be the ones.
            if row.may_be.is_empty() {
                row.places = call_sites::places(ledger, [Candidate { type_addr: key.1, array: true }], named);
            }
            let sum = |calls: fn(&MapSite) -> u64| row.sites.iter().map(calls).fold(0, u64::saturating_add);
            // Writes and deletions are probed together.
            (row.writes, row.deletes, row.grows) = (
                writes_counted.then(|| sum(|s| s.writes)),
                writes_counted.then(|| sum(|s| s.deletes)),
                grows_counted.then(|| sum(|s| s.grows)),
            );
            row
        })
        .collect();
    rows.sort_by_key(|r| std::cmp::Reverse((r.held.map(|h| h.entries), r.writes)));
    rows
}

/// What the newest look through the heap left out.
pub(super) fn search(ledger: &Ledger) -> Option<MapSearch> {
    ledger.maps().search().map(|search| MapSearch {
        span_bytes: search.spans.0,
        waiting_bytes: search.waiting.0,
        unread_spans: search.unread,
        beyond_cap: search.beyond_cap,
    })
}

/// A type without a name (made while the program runs) leaves the row unknown rather than sure.
fn may_be(row: &mut MapRow, shared: &SharedStorage, named: &mut Named<'_>) {
    let names: Option<BTreeSet<String>> =
        shared.types.iter().map(|of| named.type_info(*of).map(|info| info.name)).collect();
    let names: Vec<String> = names.unwrap_or_default().into_iter().collect();
    let more = (shared.more > 0).then(|| format!("{} more", shared.more));
    let said: Vec<&str> = names.iter().chain(&more).map(String::as_str).collect();
    if said.len() != 1 {
        row.type_name = (!names.is_empty()).then(|| said.join(" | "));
        row.id = format!("map@{:#x}", row.address);
        row.may_be = names;
    }
}

fn row(
    (address, type_addr): (ProcAddr, ProcAddr),
    history: Option<&MapHistory>,
    calls: BTreeMap<Vec<Frame>, Calls>,
    (clock, bias): (Clock, LoadBias),
    named: &mut Named<'_>,
) -> MapRow {
    let mut sites: Vec<MapSite> = calls
        .into_iter()
        .map(|(stack, (writes, deletes, grows))| MapSite {
            id: if stack.is_empty() { UNKNOWN.to_owned() } else { site_id(&stack) },
            stack,
            writes,
            deletes,
            grows,
        })
        .collect();
    // Rows come sorted by frames, so that a stable sort gives one order.
    sites.sort_by_key(|s| std::cmp::Reverse((s.writes.saturating_add(s.deletes), s.grows)));
    let type_name = named.type_info(type_addr).map(|t| t.name);
    let newest = history.map(MapHistory::newest);
    let variable = newest.and_then(|m| m.variable).map(|v| v.0);
    let by_site = sites.iter().filter(|s| s.id != UNKNOWN).max_by_key(|s| s.grows).map(|s| s.id.clone());
    let what = type_name.as_deref().unwrap_or("map");
    let id = match (by_site, variable) {
        (Some(site), _) => format!("{what}@{site}"),
        // Where the program is loaded differs from run to run.
        (None, Some(variable)) => format!("{what}@{:#x}", bias.to_image(ProcAddr(variable)).0),
        (None, None) => format!("{what}@{address}"),
    };
    MapRow {
        id,
        type_name,
        may_be: Vec::new(),
        address: address.0,
        variable,
        held: newest.map(|m| MapHeld { entries: m.entries, capacity: m.capacity, tombstones: m.tombstones }),
        points: history
            .map(|h| h.points().iter().map(|(t, n)| MapPoint { t: clock.at(*t), entries: *n }).collect())
            .unwrap_or_default(),
        writes: None,
        deletes: None,
        grows: None,
        sites,
        places: None,
    }
}
