//! Chooses the one instruction of a function where a probe is safe, cheap and passed exactly once per call.
//!
//! Apart because a wrong choice kills the target or lies about counts: the whole argument is on this page. A
//! breakpoint inside an instruction is fatal, so the function must decode without an invalid byte from its entry
//! to its exact end. The entry itself runs again after the stack has grown, so a site lies behind the stack check.

use iced_x86::InstructionInfoFactory;
use tracer_common::cookie::Shape;

use super::super::error::GoError;
use super::super::image::GoImage;
use super::hooks::Hook;
use crate::binary::x86::{self, Emulates, Insn, Reg, SiteKind};
use crate::units::{FileOffset, ImageAddr};

/// One probe site, proven.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProbeSite {
    pub function: String,
    pub shape: Shape,
    pub address: ImageAddr,
    pub file_offset: FileOffset,
    /// From the function's entry.
    pub offset: u64,
    pub instruction: SiteKind,
    /// The instruction as the file has it, to be compared with memory before and after.
    pub bytes: Vec<u8>,
    /// The caller's return address is at the stack pointer and rbp is still the caller's; otherwise the frame
    /// pointer is set up and a walk from rbp finds the caller.
    pub caller_at_sp: bool,
}

/// Chooses the site of a hook.
pub fn probe_site(image: &GoImage, hook: &Hook, emulates: Emulates) -> Result<ProbeSite, GoError> {
    let no_site = |why: String| GoError::NoSite { function: hook.function.clone(), why };
    let function = image
        .function(&hook.function)
        .ok_or_else(|| no_site("it is not in the function table".to_owned()))?;
    if function.assembly {
        return Err(no_site("it is written in assembly".to_owned()));
    }
    let bytes = image.text_bytes(&function)?;
    let chosen = choose(&bytes, function.entry, hook.needs, emulates).map_err(no_site)?;
    let file_offset = image
        .file_offset(chosen.address)
        .ok_or_else(|| no_site("its code is not in an executable segment of the file".to_owned()))?;
    let offset = chosen.address.0 - function.entry.0;
    Ok(ProbeSite {
        function: function.name,
        shape: hook.shape,
        address: chosen.address,
        file_offset,
        offset,
        instruction: chosen.kind,
        bytes: bytes[offset as usize..offset as usize + chosen.len].to_vec(),
        caller_at_sp: chosen.caller_at_sp,
    })
}

/// An instruction that the rules allow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Candidate {
    pub address: ImageAddr,
    pub kind: SiteKind,
    /// Bytes of the instruction.
    pub len: usize,
    pub caller_at_sp: bool,
}

/// How far the function's frame is set up before an instruction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum FrameState {
    /// Nothing pushed: the return address is at rsp, rbp is the caller's.
    Fresh,
    /// `push rbp` ran; `mov rbp, rsp` should follow.
    Pushed,
    /// `sub rsp, N` ran (go1.19 and 1.20); the saved rbp goes to N-8 and rbp will point there.
    Grown { size: u64, saved: bool },
    /// rbp points at the caller's saved rbp, the return address is above it.
    Framed,
    /// Something else was done to rsp or rbp.
    Unknown,
}

impl FrameState {
    /// Some(caller_at_sp) where the caller can be found.
    fn caller_at_sp(self) -> Option<bool> {
        match self {
            Self::Fresh => Some(true),
            Self::Framed => Some(false),
            Self::Pushed | Self::Grown { .. } | Self::Unknown => None,
        }
    }

    fn after(self, insn: &Insn, info: &mut InstructionInfoFactory) -> Self {
        match self {
            Self::Fresh if insn.is_push_rbp() => return Self::Pushed,
            Self::Pushed if insn.is_mov_rbp_rsp() => return Self::Framed,
            // Locals below a frame that stands; rbp is untouched.
            Self::Framed if insn.stack_growth().is_some() => return Self::Framed,
            Self::Fresh => {
                if let Some(size) = insn.stack_growth() {
                    return Self::Grown { size, saved: false };
                }
            }
            Self::Grown { size, saved: false } if insn.saves_rbp_at() == size.checked_sub(8) => {
                return Self::Grown { size, saved: true };
            }
            Self::Grown { size, saved: true } if insn.points_rbp_at() == size.checked_sub(8) => {
                return Self::Framed;
            }
            _ => {}
        }
        if insn.writes_stack_or_frame(info) { Self::Unknown } else { self }
    }
}

/// The rules, on the bytes of one whole function; an error says why none of its instructions will do.
pub fn choose(
    bytes: &[u8],
    entry: ImageAddr,
    needs: &[Reg],
    emulates: Emulates,
) -> Result<Candidate, String> {
    let insns = x86::decode(bytes, entry).map_err(|e| format!("its bytes are not all instructions: {e}"))?;
    let check = x86::stack_check_len(&insns);
    // Jumps into the straight line would make a site there run more or less than once per call.
    let mut targets: Vec<ImageAddr> = insns.iter().filter_map(Insn::jump_target).collect();
    targets.sort_unstable();
    let is_target = |at: ImageAddr| targets.binary_search(&at).is_ok();
    if check == 0 && is_target(entry) {
        return Err("it jumps back to its entry and its stack check is not of a known form".to_owned());
    }
    // A switch through a table may jump anywhere in the body.
    let unknown_targets = insns.iter().any(Insn::is_indirect_jump);
    let mut live: Vec<Reg> = needs.to_vec();
    live.push(Reg::R14);

    let mut info = InstructionInfoFactory::new();
    let mut state = FrameState::Fresh;
    let mut candidates: Vec<Candidate> = Vec::new();
    let mut ended = "the function ends";
    for (index, insn) in insns.iter().enumerate().skip(check) {
        let at_entry = index == 0;
        if !at_entry && is_target(insn.address()) {
            ended = "a jump leads into the straight line";
            break;
        }
        // Only the first instructions of a frame are certainly no case of a switch.
        if unknown_targets && !insn.is_push_rbp() && insn.stack_growth().is_none() {
            ended = "a jump table may lead into the body";
            break;
        }
        if let (Some(kind), Some(caller_at_sp)) = (insn.site_kind(emulates), state.caller_at_sp())
            // The kernel's rewrite of a 5-byte nop pushes below rsp: only where Go's stack check left room.
            && (kind != SiteKind::Nop5 || check > 0)
        {
            candidates.push(Candidate { address: insn.address(), kind, len: insn.len(), caller_at_sp });
        }
        if insn.ends_straight_line() {
            ended = "control leaves the straight line";
            break;
        }
        if insn.writes(&mut info, &live) {
            ended = "an argument register is overwritten";
            break;
        }
        state = state.after(insn, &mut info);
    }
    // The kinds are ordered by cost; of equals the first in line.
    candidates
        .into_iter()
        .min_by_key(|c| (c.kind, c.address))
        .ok_or_else(|| format!("no instruction that the kernel emulates before {ended}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEW: Emulates = Emulates { long_nops: true };
    const OLD: Emulates = Emulates { long_nops: false };
    const ENTRY: ImageAddr = ImageAddr(0x1000);
    const ALLOC: &[Reg] = &[Reg::Rax, Reg::Rbx];

    /// cmp rsp,[r14+0x10]; jbe +0x20
    const CHECK: &[u8] = &[0x49, 0x3b, 0x66, 0x10, 0x76, 0x20];
    const PUSH: &[u8] = &[0x55];
    const MOV: &[u8] = &[0x48, 0x89, 0xe5];
    /// sub rsp,0x20
    const SUB: &[u8] = &[0x48, 0x83, 0xec, 0x20];
    const NOP: &[u8] = &[0x90];
    const NOP5: &[u8] = &[0x0f, 0x1f, 0x44, 0, 0];
    /// mov rax,[rsp+8]: the first argument is gone.
    const LOSE_RAX: &[u8] = &[0x48, 0x8b, 0x44, 0x24, 8];
    /// mov [rsp+0x30],rax: a spill, nothing is lost.
    const SPILL: &[u8] = &[0x48, 0x89, 0x44, 0x24, 0x30];
    /// je +1
    const JE: &[u8] = &[0x74, 1];
    const CALL: &[u8] = &[0xe8, 0, 1, 0, 0];
    const RET: &[u8] = &[0xc3];

    fn chosen(parts: &[&[u8]], emulates: Emulates) -> Result<(u64, SiteKind, bool), String> {
        choose(&parts.concat(), ENTRY, ALLOC, emulates)
            .map(|c| (c.address.0 - ENTRY.0, c.kind, c.caller_at_sp))
    }

    #[test]
    fn the_push_behind_the_check() {
        let parts = [CHECK, PUSH, MOV, SUB, SPILL, JE, RET, RET];
        assert_eq!(chosen(&parts, NEW), Ok((6, SiteKind::Push, true)));
        assert_eq!(chosen(&parts, OLD), Ok((6, SiteKind::Push, true)));
    }

    #[test]
    fn a_nop_behind_the_frame_is_better_where_it_is_emulated() {
        assert_eq!(chosen(&[CHECK, PUSH, MOV, SUB, NOP, RET], OLD), Ok((14, SiteKind::Nop, false)));
        let parts = [CHECK, PUSH, MOV, SUB, SPILL, NOP, NOP5, RET];
        assert_eq!(chosen(&parts, NEW), Ok((20, SiteKind::Nop5, false)));
        assert_eq!(chosen(&parts, OLD), Ok((19, SiteKind::Nop, false)));
    }

    #[test]
    fn a_five_byte_nop_only_where_the_stack_was_checked() {
        assert_eq!(chosen(&[PUSH, MOV, NOP5, RET], NEW), Ok((0, SiteKind::Push, true)));
    }

    #[test]
    fn nothing_between_push_and_frame_pointer() {
        assert_eq!(chosen(&[CHECK, PUSH, NOP, MOV, SUB, RET], NEW), Ok((6, SiteKind::Push, true)));
    }

    #[test]
    fn nothing_behind_the_loss_of_an_argument() {
        let parts = [CHECK, PUSH, MOV, SUB, LOSE_RAX, NOP, RET];
        assert_eq!(chosen(&parts, NEW), Ok((6, SiteKind::Push, true)));
        assert!(chosen(&[CHECK, LOSE_RAX, NOP, RET], NEW).is_err());
    }

    #[test]
    fn the_old_frame() {
        // go1.19: sub rsp,0x20; mov [rsp+0x18],rbp; lea rbp,[rsp+0x18]
        let save = &[0x48, 0x89, 0x6c, 0x24, 0x18][..];
        let point = &[0x48, 0x8d, 0x6c, 0x24, 0x18][..];
        assert_eq!(
            chosen(&[CHECK, SUB, save, point, SPILL, NOP, RET], NEW),
            Ok((0x19, SiteKind::Nop, false))
        );
        assert_eq!(chosen(&[CHECK, SUB, save, point, JE, RET, RET], NEW), Ok((20, SiteKind::Jcc, false)));
        // Another slot than the one on top is no frame.
        let wrong = &[0x48, 0x8d, 0x6c, 0x24, 0x10][..];
        assert!(chosen(&[CHECK, SUB, save, wrong, NOP, RET], NEW).is_err());
        assert!(chosen(&[CHECK, SUB, NOP, save, RET], NEW).is_err());
    }

    #[test]
    fn the_instruction_that_ends_the_line_is_the_last_candidate() {
        assert_eq!(chosen(&[CHECK, CALL, NOP, RET], NEW), Ok((6, SiteKind::Call, true)));
        assert_eq!(chosen(&[CHECK, JE, NOP, RET], NEW), Ok((6, SiteKind::Jcc, true)));
        assert!(chosen(&[CHECK, RET, NOP, RET], NEW).is_err());
    }

    #[test]
    fn a_jump_into_the_line_ends_it() {
        // jmp from the end to the nop at 14: that nop runs once per round.
        let back = |to: i8| [0xeb, (to - 19) as u8];
        let parts = |jump: &[u8]| chosen(&[CHECK, PUSH, MOV, SUB, NOP, RET, RET, jump], NEW);
        assert_eq!(parts(&back(15)), Ok((14, SiteKind::Nop, false)));
        assert_eq!(parts(&back(14)), Ok((6, SiteKind::Push, true)));
        assert_eq!(parts(&back(7)), Ok((6, SiteKind::Push, true)));
        assert!(parts(&back(6)).is_err(), "the push itself runs again");
        // The jump to the entry is the one after the stack was grown.
        assert_eq!(parts(&back(0)), Ok((14, SiteKind::Nop, false)));
    }

    #[test]
    fn an_unknown_stack_check_is_refused() {
        // cmp rsp,[r14+0x20]; jbe; push; jmp entry
        let odd = &[0x49, 0x3b, 0x66, 0x20, 0x76, 1, 0x55, 0xeb, 0xf7][..];
        assert!(chosen(&[odd], NEW).expect_err("refused").contains("stack check"));
    }

    #[test]
    fn behind_a_jump_table_only_the_prologue_is_sure() {
        // jmp rax
        let jump = &[0xff, 0xe0][..];
        assert_eq!(chosen(&[CHECK, PUSH, MOV, SUB, NOP5, jump], NEW), Ok((6, SiteKind::Push, true)));
        assert!(chosen(&[CHECK, NOP5, jump], NEW).is_err());
    }

    #[test]
    fn a_byte_that_is_no_instruction_refuses_the_function() {
        assert!(chosen(&[CHECK, PUSH, MOV, RET, &[0x06]], NEW).expect_err("refused").contains("0x100b"));
        assert!(chosen(&[CHECK, PUSH, MOV, RET, &[0xe8, 0]], NEW).is_err());
        assert!(chosen(&[], NEW).is_err());
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_give_an_emulated_instruction_or_none(
            tail in proptest::collection::vec(proptest::num::u8::ANY, 0..60),
            check in proptest::bool::ANY,
        ) {
            let bytes = if check { [CHECK, &tail].concat() } else { tail };
            for emulates in [NEW, OLD] {
                if let Ok(c) = choose(&bytes, ENTRY, ALLOC, emulates) {
                    let at = (c.address.0 - ENTRY.0) as usize;
                    let again = x86::decode(&bytes[at..at + c.len], c.address).expect("an instruction");
                    proptest::prop_assert_eq!(again.len(), 1);
                    proptest::prop_assert_eq!(again[0].site_kind(emulates), Some(c.kind));
                    proptest::prop_assert!(!check || at >= CHECK.len());
                }
            }
        }
    }
}
