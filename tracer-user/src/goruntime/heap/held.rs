//! Whether an address at which something was once seen may still hold it.
//!
//! Apart from `followed`, which knows when its objects were allocated and looks at every cycle: here something was seen
//! at an address and nobody knows for how long it had been there, and cycles may pass between two looks. What lived
//! when it was seen is marked by each cycle that ends later, be it because it was reached or because it was allocated
//! while that cycle marked. So a clear bit says that it is gone. A set bit says that something is there: the same thing
//! only if no cycle was missed, for memory is not given out again within one. Of memory that is not the heap's, such as
//! stacks, marks say nothing: what is there may be there still.

use super::census::HeapShape;
use super::marks::{Elsewhere, Identity, Look, generation, look};
use super::spans::PER_CYCLE;
use crate::goruntime::state::{RuntimeState, StateError};
use crate::memory::ReadAt;
use crate::units::ProcAddr;

/// Looks that a cycle's end spoils are repeated this often; then nothing is told until the next time.
const ATTEMPTS: usize = 3;

/// What is known of one address since something was seen there.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Held {
    /// The last generation that told of it, or one read after it was seen; absent before the first look.
    told: Option<u32>,
    place: Option<Place>,
    missed: bool,
}

/// Where it lies: what lies elsewhere later is something else.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    Object(Identity),
    Elsewhere(Elsewhere),
}

impl Held {
    /// Whether what is there is known to be what was seen: an object of which no cycle was missed.
    pub fn is_same(&self) -> bool {
        !self.missed
    }

    /// What was seen a while ago.
    #[cfg(test)]
    pub(crate) fn missed() -> Self {
        Self { missed: true, ..Self::default() }
    }

    /// Whether this generation's marks tell something new of it.
    fn is_due(&self, now: u32) -> bool {
        self.told.is_some_and(|told| now.wrapping_sub(told).cast_signed() >= PER_CYCLE.cast_signed())
    }

    /// `false`: it is gone.
    fn judge(&mut self, look: Look, now: u32) -> bool {
        let next = self.told.is_some_and(|told| now.wrapping_sub(told) == PER_CYCLE);
        self.missed |= !next;
        let place = match look {
            Look::Untold => return true,
            Look::Free => return false,
            Look::Marked(identity) => Place::Object(identity),
            Look::Elsewhere(elsewhere) => Place::Elsewhere(elsewhere),
        };
        if self.place.is_some_and(|known| known != place) {
            return false;
        }
        self.missed |= matches!(place, Place::Elsewhere(_));
        self.place = Some(place);
        self.told = Some(now);
        true
    }
}

/// Looks at each address of which the last completed cycle tells something new; says for each whether it is gone.
pub fn gone(
    memory: &dyn ReadAt<ProcAddr>,
    state: &RuntimeState,
    shape: HeapShape,
    all: &mut [(ProcAddr, &mut Held)],
) -> Result<Vec<bool>, StateError> {
    let mut gone = vec![false; all.len()];
    if all.is_empty() {
        return Ok(gone);
    }
    let mut now = generation(memory, state)?;
    for (_, held) in all.iter_mut() {
        held.told.get_or_insert(now);
    }
    for _ in 0..ATTEMPTS {
        let due: Vec<usize> = (0..all.len()).filter(|n| all[*n].1.is_due(now)).collect();
        if due.is_empty() {
            break;
        }
        let addresses: Vec<ProcAddr> = due.iter().map(|n| all[*n].0).collect();
        let looks = look(memory, state, shape, now, &addresses)?;
        let after = generation(memory, state)?;
        if after == now {
            for (n, look) in due.into_iter().zip(looks) {
                gone[n] = !all[n].1.judge(look, now);
            }
            break;
        }
        now = after;
    }
    Ok(gone)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Bytes;

    const HERE: Identity = Identity { start: ProcAddr(8192), slot: Bytes(48), spanclass: 10 };
    const ANEW: Identity = Identity { start: ProcAddr(8192), slot: Bytes(64), spanclass: 12 };

    fn seen(generation: u32) -> Held {
        Held { told: Some(generation), ..Held::default() }
    }

    #[test]
    fn only_a_cycle_that_ended_later_tells() {
        assert!(!Held::default().is_due(400));
        let held = seen(6);
        assert!(!held.is_due(6) && held.is_due(8) && held.is_due(400));
        assert!(seen(u32::MAX - 1).is_due(0) && !seen(0).is_due(u32::MAX - 1), "the generation wraps");
    }

    #[test]
    fn a_clear_bit_says_gone_whatever_was_missed() {
        for now in [8, 10, 60] {
            assert!(!seen(6).judge(Look::Free, now));
        }
        let mut held = seen(6);
        assert!(held.judge(Look::Marked(HERE), 8) && held.is_same());
        assert!(!held.is_due(8));
        assert!(!held.judge(Look::Free, 20));
    }

    #[test]
    fn what_cannot_be_told_stays_and_is_asked_again() {
        let mut held = seen(6);
        assert!(held.judge(Look::Untold, 8) && held.is_due(8) && held.is_same());
        assert!(held.judge(Look::Marked(HERE), 10) && !held.is_same(), "a cycle was missed");
    }

    #[test]
    fn a_set_bit_is_the_same_object_only_without_a_gap() {
        let mut held = seen(6);
        assert!(held.judge(Look::Marked(HERE), 8) && held.judge(Look::Marked(HERE), 10) && held.is_same());
        assert!(held.judge(Look::Marked(HERE), 14) && !held.is_same());
        assert!(held.judge(Look::Marked(HERE), 16) && !held.is_same(), "it may have changed in the gap");
    }

    #[test]
    fn what_lies_elsewhere_now_is_something_else() {
        let stack = |start| Look::Elsewhere(Elsewhere::Manual(ProcAddr(start)));
        let places =
            [Look::Marked(HERE), Look::Marked(ANEW), stack(8192), Look::Elsewhere(Elsewhere::Outside)];
        for (a, first) in places.into_iter().enumerate() {
            for (b, second) in places.into_iter().enumerate() {
                let mut held = seen(6);
                assert!(held.judge(first, 8));
                assert_eq!(held.judge(second, 10), a == b, "{first:?}, then {second:?}");
            }
        }
        assert!(!{
            let mut held = seen(6);
            held.judge(stack(8192), 8) && held.judge(stack(16384), 10)
        });
    }

    #[test]
    fn marks_say_nothing_of_what_is_not_the_heaps() {
        let mut held = seen(6);
        for now in [8, 10, 40] {
            assert!(held.judge(Look::Elsewhere(Elsewhere::Outside), now));
            assert!(!held.is_same());
        }
    }
}
