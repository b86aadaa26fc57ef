//! What a hit costs the program on this host, by the kind of instruction under the probe: measured on functions of tracer's own.
//!
//! It probes tracer and never a target. What a probe's program does beyond counting the hit is not in it: that is timed in place
//! ([`Tables::spending`](super::tables::Tables::spending)), for it depends on what the program finds there.

use std::{
    arch::naked_asm,
    time::{Duration, Instant},
};

use tracer_common::{
    control::{MAX_PROBES, OWN_SLOT, TargetControl},
    cookie::{Cookie, HITS_ONLY, Shape},
};

use super::{attach::Site, error::KernelError, object::Kernel, tables::Tables};
use crate::{
    record::Slot,
    units::{FileOffset, Pid},
};

/// An instruction that probes are put on. The kernel treats each kind in a way of its own (arch/x86/kernel/uprobes.c).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Instruction {
    Nop5,
    Nop,
    Push,
    Call,
    Jcc,
}

impl Instruction {
    pub const ALL: [Self; 5] = [Self::Nop5, Self::Nop, Self::Push, Self::Call, Self::Jcc];

    /// A function of ours that begins with one.
    fn function(self) -> extern "C" fn() {
        match self {
            Self::Nop5 => nop5,
            Self::Nop => nop,
            Self::Push => push,
            Self::Call => call,
            Self::Jcc => jcc,
        }
    }

    fn probe(self) -> u16 {
        MAX_PROBES as u16 + self as u16
    }
}

// Functions start at multiples of 16: no instruction here straddles two pages.

#[unsafe(naked)]
extern "C" fn nop5() {
    naked_asm!(".byte 0x0f, 0x1f, 0x44, 0x00, 0x00", "ret")
}

#[unsafe(naked)]
extern "C" fn nop() {
    naked_asm!("nop", "ret")
}

#[unsafe(naked)]
extern "C" fn push() {
    naked_asm!("push rbp", "pop rbp", "ret")
}

#[unsafe(naked)]
extern "C" fn call() {
    naked_asm!("call 2f", "ret", "2:", "ret")
}

#[unsafe(naked)]
extern "C" fn jcc() {
    naked_asm!("jne 2f", "nop", "2:", "ret")
}

/// Nanoseconds per hit, counted by the program and nothing done with it.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct HitCosts {
    ns: [f64; Instruction::ALL.len()],
}

impl HitCosts {
    pub fn ns(&self, of: Instruction) -> f64 {
        self.ns[of as usize]
    }
}

/// Calls before anything is timed: the kernel makes a call of a five-byte nop at its first hit.
const WARM_UP: usize = 64;
/// The cost is the median of so many batches: one in which the thread lost its processor does not count.
const BATCHES: usize = 25;
const BATCH: usize = 100;

impl Kernel {
    /// Measures every kind. `own` is the row of this process `pid`, and `offset` says where in its executable file an address of ours lies.
    /// Takes some 2 ms a kind, and an attach and a detach.
    pub fn calibrate(
        &mut self,
        tables: &Tables,
        pid: Pid,
        own: TargetControl,
        offset: impl Fn(u64) -> Option<FileOffset>,
    ) -> Result<HitCosts, KernelError> {
        self.set_target(Slot(OWN_SLOT), own)?;
        let failed = |why: &str| KernelError::Calibration(why.to_owned());
        let mut sites = Vec::new();
        for kind in Instruction::ALL {
            let offset = offset(kind.function() as usize as u64);
            let offset = offset.ok_or_else(|| failed("tracer's own code is in no file"))?;
            let cookie = Cookie {
                shape: Shape::GoEnd,
                flags: HITS_ONLY,
                slot: OWN_SLOT,
                probe: kind.probe(),
                place: 0,
            };
            sites.push(Site { offset, cookie });
        }
        let mut costs = HitCosts::default();
        let bare: Vec<f64> = Instruction::ALL.iter().map(|kind| per_call(kind.function())).collect();
        let attachment = self.attach("/proc/self/exe", pid, &sites)?;
        for (kind, bare) in Instruction::ALL.iter().zip(bare) {
            let probed = per_call(kind.function());
            let hits: u64 = tables.hits_of(kind.probe())?;
            if (hits as usize) < BATCHES * BATCH {
                return Err(failed("its probes were not hit"));
            }
            costs.ns[*kind as usize] = (probed - bare).max(0.0);
        }
        drop(attachment);
        Ok(costs)
    }
}

/// Nanoseconds of one call.
fn per_call(function: extern "C" fn()) -> f64 {
    let run = |calls: usize| -> Duration {
        let began = Instant::now();
        for _ in 0..calls {
            std::hint::black_box(function)();
        }
        began.elapsed()
    };
    let _warm = run(WARM_UP);
    let mut batches: Vec<Duration> = (0..BATCHES).map(|_| run(BATCH)).collect();
    batches.sort_unstable();
    batches[BATCHES / 2].as_secs_f64() * 1e9 / BATCH as f64
}
