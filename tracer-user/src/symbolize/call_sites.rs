//! Places in the program's code, by the types they allocate. Calls that read the same are one place.

use std::collections::BTreeSet;

use super::evidence::{Code, Place, Places};
use super::memo::Named;
use super::stack::outside_the_runtime;
use crate::aggregate::Ledger;
use crate::goruntime::names::cause;
use crate::record::census::Candidate;

pub(super) fn code(ledger: &Ledger) -> Option<Code> {
    ledger.call_sites().code().map(|code| Code {
        calls: code.calls,
        typed: code.typed,
        without_type: code.without_type,
        undecoded: code.undecoded,
    })
}

/// The places outside the runtime of all of these types together; absent where one of them was not asked about.
pub(super) fn places(
    ledger: &Ledger,
    types: impl IntoIterator<Item = Candidate>,
    named: &mut Named<'_>,
) -> Option<Places> {
    let (mut places, mut more) = (BTreeSet::new(), 0_u64);
    for Candidate { type_addr, array } in types {
        let of = ledger.call_sites().of(type_addr)?;
        more = more.saturating_add(u64::from(of.more));
        let type_name = named.type_info(type_addr).map(|info| info.name);
        for site in &of.sites {
            let callee = named.function(site.callee);
            let cause = cause::of(&[&callee], type_name.as_deref());
            // A call that makes one object makes no array of several.
            if array && cause::is_of_one_object(cause) {
                continue;
            }
            let stack = named.user_stack(&[site.returns_to]).frames;
            // What the runtime makes for itself names none of the program's code.
            if outside_the_runtime(&stack).is_some() {
                places.insert(Place { stack, cause });
            }
        }
    }
    Some(Places { places: places.into_iter().collect(), more })
}
