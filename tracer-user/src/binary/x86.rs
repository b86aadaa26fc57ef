//! x86-64 instructions, linearly decoded: references, branches, stack checks, and what the kernel emulates.
//!
//! Apart because probing a wrong byte kills the target: everything that judges an instruction is here, in one
//! page, and knows no Go symbol. It never guesses: bytes that do not decode to the exact end are an error.

use iced_x86::{
    Code, ConditionCode, Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory, Mnemonic,
    OpAccess, OpKind, Register,
};

use crate::units::ImageAddr;

/// Longer functions exist (generated tables), but none that is probed or read for references.
pub const MAX_FUNCTION: u64 = 256 << 10;

/// Bytes that are not instructions, or that end inside one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("no valid instruction at {at}")]
pub struct DecodeError {
    pub at: ImageAddr,
}

/// One decoded instruction and where it lies in its function.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Insn {
    pub(super) raw: Instruction,
}

/// What a kernel's uprobes run without a single step. Everything else costs ten times as much per hit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Emulates {
    /// Multi-byte nops are emulated, and 5-byte ones turned into a call: Linux 6.18 and later.
    pub long_nops: bool,
}

/// The kinds of instruction a probe may sit on, cheapest first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum SiteKind {
    /// A nop of five bytes: becomes a call, no trap at all.
    Nop5,
    Nop,
    Push,
    Call,
    Jcc,
}

impl SiteKind {
    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nop5 => "nop5",
            Self::Nop => "nop",
            Self::Push => "push",
            Self::Call => "call",
            Self::Jcc => "jcc",
        }
    }
}

/// Registers whose value a probe reads.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Reg {
    Rax,
    Rbx,
    Rcx,
    /// Go's current goroutine.
    R14,
}

impl Reg {
    fn iced(self) -> Register {
        match self {
            Self::Rax => Register::RAX,
            Self::Rbx => Register::RBX,
            Self::Rcx => Register::RCX,
            Self::R14 => Register::R14,
        }
    }
}

/// Decodes all of `bytes`. The last instruction ends exactly where the bytes end.
pub fn decode(bytes: &[u8], start: ImageAddr) -> Result<Vec<Insn>, DecodeError> {
    if bytes.len() as u64 > MAX_FUNCTION {
        return Err(DecodeError { at: start });
    }
    let mut decoder = Decoder::with_ip(64, bytes, start.0, DecoderOptions::NONE);
    let mut insns = Vec::with_capacity(bytes.len() / 4);
    while decoder.can_decode() {
        let at = ImageAddr(decoder.ip());
        let raw = decoder.decode();
        if raw.is_invalid() {
            return Err(DecodeError { at });
        }
        insns.push(Insn { raw });
    }
    Ok(insns)
}

/// The addresses that instructions refer to by `[rip + displacement]`, in address order; where a thread's own variable
/// lies is none of them.
pub fn pc_relative(insns: &[Insn]) -> impl Iterator<Item = ImageAddr> + '_ {
    let next = insns.iter().skip(1).map(Some).chain([None]);
    insns
        .iter()
        .zip(next)
        .filter(|(i, next)| {
            i.raw.is_ip_rel_memory_operand() && !next.is_some_and(|n| n.is_thread_local_by(i))
        })
        .map(|(i, _)| ImageAddr(i.raw.ip_rel_memory_address()))
}

impl Insn {
    /// It goes to a thread's memory by the offset that the instruction before it loaded: how a C linker resolves thread
    /// local variables of a position-independent executable (initial-exec).
    fn is_thread_local_by(&self, load: &Insn) -> bool {
        let base = self.raw.memory_base();
        self.raw.memory_segment() == Register::FS
            && base != Register::None
            && load.raw.mnemonic() == Mnemonic::Mov
            && load.raw.op0_register() == base
    }

    pub fn address(&self) -> ImageAddr {
        ImageAddr(self.raw.ip())
    }

    pub fn end(&self) -> ImageAddr {
        ImageAddr(self.raw.next_ip())
    }

    pub fn len(&self) -> usize {
        self.raw.len()
    }

    pub fn is_empty(&self) -> bool {
        self.raw.len() == 0
    }

    /// Where a direct jump, conditional jump or call goes.
    pub fn target(&self) -> Option<ImageAddr> {
        matches!(self.raw.op0_kind(), OpKind::NearBranch16 | OpKind::NearBranch32 | OpKind::NearBranch64)
            .then(|| ImageAddr(self.raw.near_branch_target()))
    }

    /// Where a jump (not a call) inside the function may go.
    pub fn jump_target(&self) -> Option<ImageAddr> {
        (self.raw.flow_control() != FlowControl::Call).then(|| self.target()).flatten()
    }

    /// A jump through a register or memory: may go anywhere.
    pub fn is_indirect_jump(&self) -> bool {
        self.raw.flow_control() == FlowControl::IndirectBranch
    }

    /// After this one the next instruction in line need not run.
    pub fn ends_straight_line(&self) -> bool {
        self.raw.flow_control() != FlowControl::Next
    }

    /// The kind of probe site this instruction makes, where the kernel emulates it.
    ///
    /// arch/x86/kernel/uprobes.c: branch_setup_xol_ops takes e8, e9, eb, 0x90 (any prefix) and jcc, not with a
    /// 0x66 prefix; push_setup_xol_ops takes 50 to 57, bare or with one REX byte. An unconditional jump is
    /// emulated too but never needed.
    pub fn site_kind(&self, emulates: Emulates) -> Option<SiteKind> {
        match self.raw.code() {
            Code::Nopw | Code::Nopd | Code::Nopq => Some(SiteKind::Nop),
            Code::Nop_rm16 | Code::Nop_rm32 | Code::Nop_rm64 if emulates.long_nops => {
                Some(if self.is_nop5() { SiteKind::Nop5 } else { SiteKind::Nop })
            }
            Code::Push_r64 if self.raw.len() <= 2 => Some(SiteKind::Push),
            Code::Call_rel32_64 if self.raw.len() == 5 => Some(SiteKind::Call),
            _ if self.raw.is_jcc_short_or_near() && matches!(self.raw.len(), 2 | 6) => Some(SiteKind::Jcc),
            _ => None,
        }
    }

    /// `0f 1f 44 00 00`, the one encoding that the kernel turns into a call: it compares the bytes.
    fn is_nop5(&self) -> bool {
        let raw = &self.raw;
        raw.code() == Code::Nop_rm32
            && raw.len() == 5
            && raw.memory_base() == Register::RAX
            && raw.memory_index() == Register::RAX
            && raw.memory_index_scale() == 1
            && raw.memory_displacement64() == 0
    }

    /// Whether running this instruction may change any of `regs`, and what it does to stack and frame pointer.
    pub fn writes(&self, info: &mut InstructionInfoFactory, regs: &[Reg]) -> bool {
        self.writes_any(info, |r| regs.iter().any(|x| x.iced() == r))
    }

    pub fn writes_stack_or_frame(&self, info: &mut InstructionInfoFactory) -> bool {
        self.writes_any(info, |r| r == Register::RSP || r == Register::RBP)
    }

    fn writes_any(&self, info: &mut InstructionInfoFactory, wanted: impl Fn(Register) -> bool) -> bool {
        info.info(&self.raw).used_registers().iter().any(|u| {
            matches!(
                u.access(),
                OpAccess::Write | OpAccess::CondWrite | OpAccess::ReadWrite | OpAccess::ReadCondWrite
            ) && wanted(u.register().full_register())
        })
    }

    /// `push rbp`.
    pub fn is_push_rbp(&self) -> bool {
        self.raw.code() == Code::Push_r64 && self.raw.op0_register() == Register::RBP
    }

    /// `mov rbp, rsp`.
    pub fn is_mov_rbp_rsp(&self) -> bool {
        self.raw.mnemonic() == Mnemonic::Mov
            && self.raw.op0_kind() == OpKind::Register
            && self.raw.op0_register() == Register::RBP
            && self.raw.op1_kind() == OpKind::Register
            && self.raw.op1_register() == Register::RSP
    }

    /// The constant of `sub rsp, N` (or of `add rsp, -N`, which is one byte shorter for 128).
    pub fn stack_growth(&self) -> Option<u64> {
        if self.raw.op_count() != 2
            || self.raw.op0_kind() != OpKind::Register
            || self.raw.op0_register() != Register::RSP
        {
            return None;
        }
        let constant = self.raw.try_immediate(1).ok()? as i64;
        match self.raw.mnemonic() {
            Mnemonic::Sub => u64::try_from(constant).ok(),
            Mnemonic::Add => u64::try_from(constant.checked_neg()?).ok(),
            _ => None,
        }
    }

    /// The displacement of `mov [rsp+N], rbp`.
    pub fn saves_rbp_at(&self) -> Option<u64> {
        (self.raw.mnemonic() == Mnemonic::Mov
            && self.raw.op0_kind() == OpKind::Memory
            && self.raw.op1_kind() == OpKind::Register
            && self.raw.op1_register() == Register::RBP)
            .then(|| self.stack_displacement())
            .flatten()
    }

    /// The displacement of `lea rbp, [rsp+N]`.
    pub fn points_rbp_at(&self) -> Option<u64> {
        (self.raw.mnemonic() == Mnemonic::Lea && self.raw.op0_register() == Register::RBP)
            .then(|| self.stack_displacement())
            .flatten()
    }

    fn stack_displacement(&self) -> Option<u64> {
        (self.raw.memory_base() == Register::RSP && self.raw.memory_index() == Register::None)
            .then(|| self.raw.memory_displacement64())
    }

    /// `cmp reg, [r14+0x10]` or `+0x18`: the stack pointer against the goroutine's limit
    /// (cmd/internal/obj/x86/obj6.go `stacksplit`; g.stackguard0 and stackguard1).
    fn compares_limit(&self, reg: Register) -> bool {
        self.raw.code() == Code::Cmp_r64_rm64
            && self.raw.op0_register() == reg
            && self.raw.op1_kind() == OpKind::Memory
            && self.raw.memory_base() == Register::R14
            && self.raw.memory_index() == Register::None
            && matches!(self.raw.memory_displacement64(), 0x10 | 0x18)
    }

    fn is_jbe(&self) -> bool {
        self.raw.is_jcc_short_or_near() && self.raw.condition_code() == ConditionCode::be
    }
}

/// How many instructions at the start are the stack check; 0 where there is none.
///
/// Three forms (cmd/internal/obj/x86/obj6.go `stacksplit`): `cmp rsp, limit; jbe`; for larger frames
/// `lea r12, [rsp-N]; cmp r12, limit; jbe`; for huge ones `mov r12, rsp; sub r12, N; jb; cmp r12, limit; jbe`.
pub fn stack_check_len(insns: &[Insn]) -> usize {
    let r12 = |i: &Insn, mnemonic| i.raw.mnemonic() == mnemonic && i.raw.op0_register() == Register::R12;
    match insns {
        [cmp, jbe, ..] if cmp.compares_limit(Register::RSP) && jbe.is_jbe() => 2,
        [lea, cmp, jbe, ..]
            if r12(lea, Mnemonic::Lea) && cmp.compares_limit(Register::R12) && jbe.is_jbe() =>
        {
            3
        }
        [mov, sub, jb, cmp, jbe, ..]
            if r12(mov, Mnemonic::Mov)
                && r12(sub, Mnemonic::Sub)
                && jb.raw.is_jcc_short_or_near()
                && jb.raw.condition_code() == ConditionCode::b
                && cmp.compares_limit(Register::R12)
                && jbe.is_jbe() =>
        {
            5
        }
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEW: Emulates = Emulates { long_nops: true };
    const OLD: Emulates = Emulates { long_nops: false };

    fn one(bytes: &[u8]) -> Insn {
        let insns = decode(bytes, ImageAddr(0x1000)).expect("valid");
        assert_eq!(insns.len(), 1);
        insns[0]
    }

    #[test]
    fn what_a_c_linker_keeps_of_a_thread_is_no_reference() {
        // mov 0x100(%rip),%r14; mov %fs:(%r14),%r14; lea 0x10(%rip),%rax (runtime.allocmcache, go1.26, cgo PIE).
        let load = [0x4c, 0x8b, 0x35, 0, 1, 0, 0];
        let (thread, lea) = ([0x64, 0x4d, 0x8b, 0x36], [0x48, 0x8d, 0x05, 0x10, 0, 0, 0]);
        let insns = decode(&[&load[..], &thread, &lea].concat(), ImageAddr(0x1000)).unwrap();
        assert_eq!(pc_relative(&insns).collect::<Vec<_>>(), [ImageAddr(0x1022)]);
        let insns = decode(&[&load[..], &lea].concat(), ImageAddr(0x1000)).unwrap();
        assert_eq!(pc_relative(&insns).count(), 2);
    }

    #[test]
    fn the_kernels_list() {
        let check = |bytes: &[u8], new, old| {
            assert_eq!((one(bytes).site_kind(NEW), one(bytes).site_kind(OLD)), (new, old), "{bytes:02x?}");
        };
        check(&[0x55], Some(SiteKind::Push), Some(SiteKind::Push));
        check(&[0x41, 0x56], Some(SiteKind::Push), Some(SiteKind::Push));
        check(&[0x90], Some(SiteKind::Nop), Some(SiteKind::Nop));
        check(&[0x66, 0x90], Some(SiteKind::Nop), Some(SiteKind::Nop));
        check(&[0x0f, 0x1f, 0x44, 0, 0], Some(SiteKind::Nop5), None);
        check(&[0x0f, 0x1f, 0x40, 0], Some(SiteKind::Nop), None);
        check(&[0xe8, 1, 0, 0, 0], Some(SiteKind::Call), Some(SiteKind::Call));
        check(&[0x76, 5], Some(SiteKind::Jcc), Some(SiteKind::Jcc));
        check(&[0x0f, 0x86, 5, 0, 0, 0], Some(SiteKind::Jcc), Some(SiteKind::Jcc));
        // mov rbp,rsp; sub rsp,0x60; ret; lea; push imm; push [mem]; xchg r8,rax; pause.
        for bytes in [
            &[0x48, 0x89, 0xe5][..],
            &[0x48, 0x83, 0xec, 0x60],
            &[0xc3],
            &[0x48, 0x8d, 0x05, 0, 0, 0, 0],
            &[0x6a, 0],
            &[0xff, 0x30],
            &[0x49, 0x90],
            &[0xf3, 0x90],
        ] {
            check(bytes, None, None);
        }
    }

    #[test]
    fn decoding_stops_at_a_bad_or_cut_instruction() {
        assert_eq!(decode(&[0x90, 0x06], ImageAddr(0x10)), Err(DecodeError { at: ImageAddr(0x11) }));
        assert_eq!(decode(&[0x90, 0xe8, 0], ImageAddr(0x10)), Err(DecodeError { at: ImageAddr(0x11) }));
        assert_eq!(decode(&[], ImageAddr(0x10)), Ok(Vec::new()));
    }

    #[test]
    fn references_come_in_address_order_and_of_every_kind() {
        // lea rax,[rip+0x10]; cmp dword [rip+0x20],0; mov [rip-4],rcx
        let bytes = [
            0x48, 0x8d, 0x05, 0x10, 0, 0, 0, 0x83, 0x3d, 0x20, 0, 0, 0, 0, 0x48, 0x89, 0x0d, 0xfc, 0xff,
            0xff, 0xff,
        ];
        let insns = decode(&bytes, ImageAddr(0x1000)).expect("valid");
        let found: Vec<u64> = pc_relative(&insns).map(|a| a.0).collect();
        assert_eq!(found, [0x1007 + 0x10, 0x100e + 0x20, 0x1015 - 4]);
    }

    #[test]
    fn the_forms_of_the_stack_check() {
        let check = |bytes: &[u8], len| {
            assert_eq!(stack_check_len(&decode(bytes, ImageAddr(0)).expect("valid")), len, "{bytes:02x?}");
        };
        check(&[0x49, 0x3b, 0x66, 0x10, 0x76, 0x20, 0x55], 2);
        check(&[0x49, 0x3b, 0x66, 0x18, 0x0f, 0x86, 0, 1, 0, 0, 0x55], 2);
        check(&[0x4c, 0x8d, 0x64, 0x24, 0xd0, 0x4d, 0x3b, 0x66, 0x10, 0x76, 0x20, 0x55], 3);
        check(
            &[
                0x4c, 0x8d, 0xa4, 0x24, 0, 0xf0, 0xff, 0xff, 0x4d, 0x3b, 0x66, 0x10, 0x0f, 0x86, 0, 1, 0, 0,
                0x55,
            ],
            3,
        );
        // The limit of another goroutine, another condition, no check.
        check(&[0x49, 0x3b, 0x66, 0x20, 0x76, 0x20], 0);
        check(&[0x49, 0x3b, 0x66, 0x10, 0x77, 0x20], 0);
        check(&[0x55, 0x48, 0x89, 0xe5], 0);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_decode_or_fail(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            if let Ok(insns) = decode(&bytes, ImageAddr(0x1000)) {
                let mut info = InstructionInfoFactory::new();
                let mut at = 0x1000;
                for i in &insns {
                    proptest::prop_assert_eq!(i.address().0, at);
                    at = i.end().0;
                    let _ = (i.site_kind(NEW), i.target(), i.stack_growth(), i.saves_rbp_at(), i.points_rbp_at());
                    let _ = i.writes(&mut info, &[Reg::Rax]);
                }
                proptest::prop_assert_eq!(at, 0x1000 + bytes.len() as u64);
                let _ = (pc_relative(&insns).count(), stack_check_len(&insns));
            }
        }
    }
}
