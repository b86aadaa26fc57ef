//! Rows of probed calls: how often each ran, which is counted, since when.

use super::Clock;
use super::evidence::{PinRow, Place};
use super::memo::Named;
use crate::aggregate::Ledger;
use crate::goruntime::names::cause;

pub(super) fn pins(ledger: &Ledger, clock: Clock, named: &mut Named<'_>) -> Vec<PinRow> {
    let (hits, read_at) = (ledger.tallies().hits(), ledger.tallies().read_at());
    let rows = ledger.pins().all().iter().map(|pin| {
        let call = pin.call;
        let type_name = call.type_addr.and_then(|of| named.type_info(of)).map(|info| info.name);
        let cause = cause::of(&[&named.function(call.site.callee)], type_name.as_deref());
        let place = Place { stack: named.user_stack(&[call.site.returns_to]).frames, cause };
        let end = pin.until.into_iter().chain(read_at).min();
        let counted_s = end.map_or(0.0, |end| end.seconds_since(pin.since).max(0.0));
        PinRow {
            returns_to: call.site.returns_to.0,
            type_name,
            place,
            since_s: clock.at(pin.since),
            until_s: pin.until.map(|until| clock.at(until)),
            calls: hits.get(call.probe as usize).copied().filter(|_| counted_s > 0.0),
            counted_s,
            mean: call.mean,
        }
    });
    rows.collect()
}
