//! Who allocates, as moments showed in which the allocator was probed: by size class and by the call in the program's own code.
//!
//! Apart from `samples`, which estimates amounts: what a probe slows it sees less of, so that nothing here is scaled by time. What
//! callers keep is compared with what others keep of the same class.

use std::collections::BTreeMap;

use super::PcKind;
use super::evidence::{Cause, WindowRow, Windows};
use super::memo::Named;
use super::rows::class_of;
use super::stack::site_id;
use crate::aggregate::Ledger;
use crate::aggregate::samples::SampleGroup;
use crate::goruntime::names::cause::is_runtime;
use crate::units::{ProcAddr, StackId};

/// Cycles that an object must have outlived.
const OUTLIVES: usize = 2;

/// What is seen of one call and one size class.
#[derive(Default)]
struct Seen {
    taken: u64,
    kept: u64,
    /// By stack: kept, and taken.
    stacks: BTreeMap<StackId, (u64, u64)>,
}

/// What they showed, and how many of the objects have no stack: those are in no call's share.
pub(super) fn windows(ledger: &Ledger, named: &mut Named<'_>) -> (Option<Windows>, u64) {
    let all = ledger.windows();
    if all.opened == 0 {
        return (None, 0);
    }
    let store = ledger.samples();
    let mut calls: BTreeMap<StackId, Option<ProcAddr>> = BTreeMap::new();
    let mut key = |group: &SampleGroup, named: &mut Named<'_>| {
        if group.pin.is_some() {
            return None;
        }
        let call = *calls.entry(group.stack).or_insert_with(|| own_call(ledger, named, group.stack));
        let (class, noscan) = class(group, named);
        Some((class, noscan, call?))
    };
    let (mut seen, mut unknown): (BTreeMap<(u8, bool, ProcAddr), Seen>, u64) = (BTreeMap::new(), 0);
    for (group, held) in store.groups() {
        if group.pin.is_none() && ledger.stacks().get(group.stack).is_none() {
            unknown = unknown.saturating_add(held.taken);
        }
        if let Some(key) = key(group, named) {
            let seen = seen.entry(key).or_default();
            seen.taken += held.taken;
            seen.stacks.entry(group.stack).or_default().1 += held.taken;
        }
    }
    let ended: Vec<_> = store.points().iter().map(|point| point.time).collect();
    // A point may be told a moment after its cycle ended.
    let before = ended.len().checked_sub(OUTLIVES + 1).and_then(|n| ended.get(n)).copied();
    for (group, born) in store.living() {
        if before.is_some_and(|before| born < before)
            && let Some(key) = key(&group, named)
        {
            let seen = seen.entry(key).or_default();
            seen.kept += 1;
            seen.stacks.entry(group.stack).or_default().0 += 1;
        }
    }
    let rows = seen.into_iter().map(|((class, noscan, call), Seen { taken, kept, stacks })| {
        let most = stacks.into_iter().max_by_key(|(stack, counts)| (*counts, *stack)).map(|(stack, _)| stack);
        let (stack, cause) = most
            .and_then(|id| ledger.stacks().get(id))
            .map_or((Vec::new(), Cause::Other), |stack| named.allocation(stack, None));
        WindowRow { class, noscan, returns_to: call.0, id: site_id(&stack), stack, cause, taken, kept }
    });
    let open_s = all.open_us as f64 / 1e6;
    (Some(Windows { opened: all.opened, open_s, rows: rows.collect() }), unknown)
}

/// The innermost call that the program's own code made.
fn own_call(ledger: &Ledger, named: &mut Named<'_>, stack: StackId) -> Option<ProcAddr> {
    let frames = &ledger.stacks().get(stack)?.frames;
    // The last of the frames at an address is the function itself, those before it are inlined.
    let mut own = |pc: &ProcAddr| {
        named.frames(*pc, PcKind::Return).last().is_some_and(|frame| !is_runtime(&frame.function))
    };
    frames.iter().copied().find(|pc| own(pc))
}

/// The size class as the heap has it, and whether what it holds has no pointers.
fn class(group: &SampleGroup, named: &mut Named<'_>) -> (u8, bool) {
    let of_type = group.type_addr.and_then(|of| named.type_info(of));
    let noscan = group.type_addr.is_none() || of_type.is_some_and(|of| of.pointer_bytes == 0);
    (class_of(group.class, noscan), noscan)
}
