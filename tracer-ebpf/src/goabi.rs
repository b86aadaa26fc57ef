//! Go's internal calling convention (ABIInternal): which machine register holds which argument.
//!
//! Source: src/internal/abi/abi_amd64.go and src/cmd/compile/abi-internal.md. Stable since Go 1.17.
//!
//! Arguments are read volatile, where they are asked for: else the compiler moves the reads and chooses among them by
//! computing an address in the context, which the verifier refuses.

use aya_ebpf::{EbpfContext as _, bindings::pt_regs, programs::ProbeContext};

/// The registers at a probe.
#[derive(Clone, Copy)]
pub struct Registers(*const pt_regs);

#[cfg(bpf_target_arch = "x86_64")]
impl Registers {
    #[inline(always)]
    pub fn of(ctx: &ProbeContext) -> Self {
        Self(ctx.as_ptr().cast::<pt_regs>())
    }
    /// First argument: RAX.
    #[inline(always)]
    pub fn arg0(self) -> u64 {
        // SAFETY: the context of a uprobe program is a pt_regs, readable for the whole run.
        unsafe { (&raw const (*self.0).rax).read_volatile() }
    }
    /// Second argument: RBX.
    #[inline(always)]
    pub fn arg1(self) -> u64 {
        // SAFETY: as above.
        unsafe { (&raw const (*self.0).rbx).read_volatile() }
    }
    /// Third argument: RCX.
    #[inline(always)]
    pub fn arg2(self) -> u64 {
        // SAFETY: as above.
        unsafe { (&raw const (*self.0).rcx).read_volatile() }
    }
    /// The frame pointer: RBP.
    #[inline(always)]
    pub fn frame_pointer(self) -> u64 {
        // SAFETY: as above.
        unsafe { (*self.0).rbp }
    }
    /// The current g: R14.
    #[inline(always)]
    pub fn g(self) -> u64 {
        // SAFETY: as above.
        unsafe { (&raw const (*self.0).r14).read_volatile() }
    }
    /// First result: RAX.
    #[inline(always)]
    pub fn result(self) -> u64 {
        self.arg0()
    }
    /// The stack pointer.
    #[inline(always)]
    pub fn sp(self) -> u64 {
        // SAFETY: as above.
        unsafe { (*self.0).rsp }
    }
}
