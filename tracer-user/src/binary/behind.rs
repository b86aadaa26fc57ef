//! Behind a call: the first instruction that a kernel emulates, while the result still lies in a place that a probe reads.
//!
//! Apart from `flow`, which proves something of all paths of a function: this follows one straight line, from a call to the next
//! place that a jump leads to. It never guesses: what an instruction does and is not understood loses the result.

use std::collections::BTreeSet;

use iced_x86::InstructionInfoFactory;

use super::flow::{Effect, Memory, Place, RSP, effect};
use super::x86::{Emulates, Insn, SiteKind};
use crate::units::ImageAddr;

/// An instruction that will do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Behind {
    pub address: ImageAddr,
    pub kind: SiteKind,
    /// Bytes of it.
    pub len: usize,
    /// Where the result is before it runs: the result register, or a slot of the stack.
    pub place: Place,
    /// Nothing but the call leads there: no jump of the function may go anywhere.
    pub alone: bool,
}

/// Bytes of a stack slot that holds a word.
const WORD: u32 = 8;

/// The first such instruction behind the call at `call`; offsets from the stack pointer are below `stack`.
pub fn behind(insns: &[Insn], call: usize, emulates: Emulates, stack: u32) -> Option<Behind> {
    let joins: BTreeSet<ImageAddr> = insns.iter().filter_map(Insn::jump_target).collect();
    let alone = !insns.iter().any(Insn::is_indirect_jump);
    let mut info = InstructionInfoFactory::new();
    let mut held = BTreeSet::from([Place::RESULT]);
    for insn in insns.get(call + 1..)? {
        if joins.contains(&insn.address()) || held.is_empty() {
            return None;
        }
        let readable = |place: &&Place| match place {
            Place::Register(_) => **place == Place::RESULT,
            Place::Stack(at) => *at < stack && at.is_multiple_of(WORD),
        };
        if let (Some(kind), Some(place)) = (insn.site_kind(emulates), held.iter().find(readable)) {
            return Some(Behind { address: insn.address(), kind, len: insn.len(), place: *place, alone });
        }
        if insn.ends_straight_line() {
            return None;
        }
        pass(&mut held, &effect(insn, &mut info));
    }
    None
}

fn pass(held: &mut BTreeSet<Place>, effect: &Effect) {
    match effect {
        Effect::Copy { from, to } if held.contains(from) => drop(held.insert(*to)),
        Effect::Copy { from: _, to } => drop(held.remove(to)),
        Effect::Call => held.clear(),
        Effect::Writes { registers, memory } => held.retain(|place| match *place {
            Place::Register(n) => registers >> n & 1 == 0,
            Place::Stack(_) if registers >> RSP & 1 == 1 => false,
            Place::Stack(at) => match *memory {
                Memory::None => true,
                Memory::Stack(from, bytes) => at + WORD <= from || from.saturating_add(bytes.max(1)) <= at,
                Memory::Anywhere => false,
            },
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::binary::x86;

    const ENTRY: u64 = 0x1000;
    const NEW: Emulates = Emulates { long_nops: true };
    /// call +0x300
    const CALL: &[u8] = &[0xe8, 0, 3, 0, 0];
    /// mov [rsp+0x18], rax
    const SPILL: &[u8] = &[0x48, 0x89, 0x44, 0x24, 0x18];
    /// mov eax, 1
    const LOSE: &[u8] = &[0xb8, 1, 0, 0, 0];
    /// mov [rsp+0x18], rcx
    const OVERWRITE: &[u8] = &[0x48, 0x89, 0x4c, 0x24, 0x18];
    /// mov [rcx], rdx
    const ANYWHERE: &[u8] = &[0x48, 0x89, 0x11];
    /// je +0
    const JE: &[u8] = &[0x74, 0];
    const RET: &[u8] = &[0xc3];

    fn of(pieces: &[&[u8]]) -> Option<(u64, Place)> {
        let insns = x86::decode(&pieces.concat(), ImageAddr(ENTRY)).expect("instructions");
        behind(&insns, 0, NEW, 0x1000).map(|b| (b.address.0 - ENTRY, b.place))
    }

    #[test]
    fn the_result_is_followed_to_the_next_place_that_is_emulated() {
        assert_eq!(of(&[CALL, CALL]), Some((5, Place::RESULT)));
        assert_eq!(of(&[CALL, SPILL, LOSE, JE]), Some((15, Place::Stack(0x18))));
        assert_eq!(of(&[CALL, SPILL, JE]), Some((10, Place::RESULT)));
        // mov rcx, rax; mov [rsp+0x18], rcx: a copy of a copy.
        assert_eq!(of(&[CALL, &[0x48, 0x89, 0xc1], OVERWRITE, LOSE, CALL]), Some((18, Place::Stack(0x18))));
    }

    #[test]
    fn what_is_lost_overwritten_or_joined_is_not_read() {
        assert_eq!(of(&[CALL, LOSE, CALL]), None);
        assert_eq!(of(&[CALL, SPILL, LOSE, OVERWRITE, CALL]), None);
        assert_eq!(of(&[CALL, SPILL, LOSE, ANYWHERE, CALL]), None);
        assert_eq!(of(&[CALL, RET, CALL]), None);
        // jmp back to just behind the first call.
        assert_eq!(of(&[CALL, CALL, &[0xeb, 0xf9]]), None);
        assert_eq!(of(&[CALL]), None);
    }

    #[test]
    fn what_a_jump_through_a_register_may_reach_is_not_the_calls_alone() {
        let alone = |pieces: &[&[u8]]| {
            let insns = x86::decode(&pieces.concat(), ImageAddr(ENTRY)).expect("instructions");
            behind(&insns, 0, NEW, 0x1000).map(|b| b.alone)
        };
        assert_eq!(alone(&[CALL, SPILL, JE, RET]), Some(true));
        // jmp rcx, as a switch makes it.
        assert_eq!(alone(&[CALL, SPILL, JE, RET, &[0xff, 0xe1]]), Some(false));
    }

    proptest::proptest! {
        #[test]
        fn any_instructions_are_followed(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200), call in 0_usize..40) {
            if let Ok(insns) = x86::decode(&bytes, ImageAddr(ENTRY)) {
                let found = behind(&insns, call, NEW, 0x1000);
                if let Some(found) = found {
                    proptest::prop_assert!(insns.iter().any(|i| i.address() == found.address));
                }
            }
        }
    }
}
