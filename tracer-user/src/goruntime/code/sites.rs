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
    let no_site = |why: String| GoError::NoSite {
        function: hook.function.clone(),
        why,
    };
    let function = image
        .function(&hook.function)
        .ok_or_else(|| no_site("it is not in the function table".to_owned()))?;
    if function.assembly {
        return Err(no_site("it is written in assembly".to_owned()));
    }
    let bytes = image.text_bytes(&function)?;
    let chosen = choose(&bytes, function.entry, hook.needs, emulates).map_err(no_site)?;
    let file_offset = image.file_offset(chosen.address).ok_or_else(|| {
        no_site("its code is not in an executable segment of the file".to_owned())
    })?;
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

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Candidate {
    address: ImageAddr,
    kind: SiteKind,
    len: usize,
    caller_at_sp: bool,
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
        if insn.writes_stack_or_frame(info) {
            Self::Unknown
        } else {
            self
        }
    }
}

/// The rules, on bytes alone.
fn choose(
    bytes: &[u8],
    entry: ImageAddr,
    needs: &[Reg],
    emulates: Emulates,
) -> Result<Candidate, String> {
    let insns = x86::decode(bytes, entry)
        .map_err(|e| format!("its bytes are not all instructions: {e}"))?;
    let check = x86::stack_check_len(&insns);
    // Jumps into the straight line would make a site there run more or less than once per call.
    let mut targets: Vec<ImageAddr> = insns.iter().filter_map(Insn::jump_target).collect();
    targets.sort_unstable();
    let is_target = |at: ImageAddr| targets.binary_search(&at).is_ok();
    if check == 0 && is_target(entry) {
        return Err(
            "it jumps back to its entry and its stack check is not of a known form".to_owned(),
        );
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
            candidates.push(Candidate {
                address: insn.address(),
                kind,
                len: insn.len(),
                caller_at_sp,
            });
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
