//! How large the slot is that an address lies in.
//!
//! Apart from `marks`, which tells whether something lives: this is asked of an object that was handed out a moment ago by a
//! call that does not say how many bytes it asked for. One look; what is not clear from it is not told.

use super::marks::spans_of;
use super::spans::{self, Decoded, decode};
use crate::goruntime::state::{RuntimeState, StateError};
use crate::memory::ReadAt;
use crate::memory::gather::Gathered;
use crate::record::reading::AllocClass;
use crate::units::{Bytes, ProcAddr};

/// What lies at an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Placed {
    /// An object of the heap: its class and the bytes of its slot.
    Object(AllocClass, Bytes),
    /// No object of the heap: a stack, or data of the program.
    Elsewhere,
    /// It changed while it was read, or could not be read.
    Untold,
}

/// Looks once.
pub fn placed(
    memory: &dyn ReadAt<ProcAddr>,
    state: &RuntimeState,
    address: ProcAddr,
) -> Result<Placed, StateError> {
    let at = match spans_of(memory, state.layout(), state.vars().mheap, &[address])?.first() {
        Some(Some(ProcAddr(0))) => return Ok(Placed::Elsewhere),
        Some(Some(at)) => *at,
        _ => return Ok(Placed::Untold),
    };
    let mut read = Gathered::default();
    spans::structures(memory, state.layout(), std::iter::once(at), &mut read)?;
    let Ok(block) = read.get(0) else { return Ok(Placed::Untold) };
    Ok(match decode(block, state.layout()) {
        Decoded::InUse(span) if span.holds(address) => {
            let class = if span.class() == 0 { AllocClass::Large } else { AllocClass::Small(span.class()) };
            Placed::Object(class, span.slot)
        }
        Decoded::Manual { .. } => Placed::Elsewhere,
        _ => Placed::Untold,
    })
}
