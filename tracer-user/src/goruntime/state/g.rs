//! One goroutine: its block of bytes decoded, and its stack walked by frame pointers.
//!
//! Apart from `goroutines` because it is pure: bytes in, figures out. Any bytes are taken without panic, and a
//! walk ends after [`MAX_FRAMES`] or where the chain leaves the stack.

use super::block::Block;
use crate::goruntime::layout::Layout;
use crate::record::reading::GoState;
use crate::units::ProcAddr;

/// Frames kept of one stack, innermost first.
pub(super) const MAX_FRAMES: usize = 128;

/// The bit that the GC sets while it scans a stack (runtime/runtime2.go, `_Gscan`).
const SCAN: u32 = 0x1000;
const RUNNING: u32 = 2;
const SYSCALL: u32 = 3;
const WAITING: u32 = 4;
const DEAD: u32 = 6;
const COPYSTACK: u32 = 8;
const LEAKED: u32 = 10;
const DEADEXTRA: u32 = 11;

/// The fields of `runtime.g` that we use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Goroutine {
    pub(super) goid: u64,
    /// `atomicstatus` without the scan bit.
    pub(super) status: u32,
    pub(super) created_at: u64,
    pub(super) entry: u64,
    pub(super) lo: u64,
    pub(super) hi: u64,
    sp: u64,
    pc: u64,
    bp: u64,
    syscall_sp: u64,
    syscall_pc: u64,
    syscall_bp: Option<u64>,
    wait_since: u64,
    wait_reason: u8,
    /// Counts, modulo 256, how often it stopped running (runtime/proc.go, casgstatus).
    runs: u8,
}

/// Bytes to read of a `g`: up to the last field used.
pub(super) fn block_size(layout: &Layout) -> usize {
    let last = layout.g_startpc.max(layout.g_gopc).max(layout.g_tracking_seq);
    (last + 8).min(layout.g_size) as usize
}

impl Goroutine {
    /// Absent when the block is short, the status is none the runtime has, or the stack is upside down.
    pub(super) fn decode(block: &[u8], layout: &Layout) -> Option<Self> {
        let b = Block(block);
        let syscall_bp = match layout.g_syscallbp {
            Some(offset) => Some(b.u64(offset)?),
            None => None,
        };
        let goid = b.u64(layout.g_goid)?;
        // The first goroutine is made by the assembly that starts the program (runtime/asm_amd64.s, rt0_go), and
        // no `go` statement stands at its gopc; the runtime leaves "created by" out for it as well.
        let created_at = if goid == 1 { 0 } else { b.u64(layout.g_gopc)? };
        let goroutine = Self {
            goid,
            status: b.u32(layout.g_atomicstatus)? & !SCAN,
            created_at,
            entry: b.u64(layout.g_startpc)?,
            lo: b.u64(layout.g_stack_lo)?,
            hi: b.u64(layout.g_stack_hi)?,
            sp: b.u64(layout.g_sched_sp)?,
            pc: b.u64(layout.g_sched_pc)?,
            bp: b.u64(layout.g_sched_bp)?,
            syscall_sp: b.u64(layout.g_syscallsp)?,
            syscall_pc: b.u64(layout.g_syscallpc)?,
            syscall_bp,
            wait_since: b.u64(layout.g_waitsince)?,
            wait_reason: b.u8(layout.g_waitreason)?,
            runs: b.u8(layout.g_tracking_seq)?,
        };
        // An ended goroutine may have given its stack back (0, 0).
        let sane = !goroutine.is_alive() || goroutine.lo < goroutine.hi;
        (goroutine.is_status_legal() && sane).then_some(goroutine)
    }

    pub(super) fn is_status_legal(&self) -> bool {
        !self.is_alive() || self.state().is_some()
    }

    /// Whether this is a goroutine now, rather than the rest of one that ended.
    pub(super) fn is_alive(&self) -> bool {
        !matches!(self.status, DEAD | DEADEXTRA)
    }

    pub(super) fn state(&self) -> Option<GoState> {
        Some(match self.status {
            0 => GoState::Idle,
            1 => GoState::Runnable,
            RUNNING => GoState::Running,
            SYSCALL => GoState::Syscall,
            WAITING => GoState::Waiting,
            COPYSTACK => GoState::CopyStack,
            9 => GoState::Preempted,
            LEAKED => GoState::Leaked,
            _ => return None,
        })
    }

    /// The number of its wait reason, where it waits.
    pub(super) fn wait_reason(&self) -> Option<u8> {
        matches!(self.status, WAITING | LEAKED).then_some(self.wait_reason)
    }

    /// Since when it is known to wait; the runtime sets this when a GC first sees it parked.
    pub(super) fn wait_since(&self) -> Option<u64> {
        (matches!(self.status, WAITING | LEAKED) && self.wait_since > 0).then_some(self.wait_since)
    }

    /// Whether `other`, read earlier, is the same goroutine at the same place, and did not run in between: one
    /// that waits in a loop comes back to the same place with another stack. What a running goroutine last
    /// saved says nothing about it, so only its identity is compared.
    pub(super) fn is_same_moment(&self, other: &Self) -> bool {
        let identity = |g: &Self| (g.goid, g.status, g.created_at, g.entry, g.lo, g.hi);
        let place = |g: &Self| match g.status {
            RUNNING | COPYSTACK => (0, 0, 0, 0),
            SYSCALL => (g.syscall_sp, g.syscall_pc, g.syscall_bp.unwrap_or(0), g.runs),
            _ => (g.sp, g.pc, g.bp, g.runs),
        };
        let reason = |g: &Self| g.wait_reason();
        identity(self) == identity(other) && place(self) == place(other) && reason(self) == reason(other)
    }

    /// Where its stack is to be read from; absent where it cannot be known from outside.
    pub(super) fn stack(&self, layout: &Layout) -> Option<Stack> {
        let (sp, pc, bp) = match self.status {
            RUNNING | COPYSTACK => return None,
            SYSCALL => (self.syscall_sp, self.syscall_pc, self.syscall_bp),
            _ => (self.sp, self.pc, Some(self.bp)),
        };
        if !(self.lo <= sp && sp < self.hi) || pc == 0 {
            return None;
        }
        let start = match bp {
            Some(bp) => Start::FramePointer(bp),
            // Before 1.23 entersyscall did not save it; but it is a Go function with a frame of its own, so it
            // pushed its caller's frame pointer right below its return address (layout of every such frame).
            None if layout.g_syscallbp.is_none() && sp >= self.lo + PUSHED_BELOW => Start::PushedBelow(sp),
            None => Start::FramePointer(0),
        };
        let from = if let Start::PushedBelow(sp) = start { sp - PUSHED_BELOW } else { sp };
        Some(Stack { from, hi: self.hi, pc, start })
    }
}

/// Return address and saved frame pointer.
const PUSHED_BELOW: u64 = 16;

/// What is left to walk of a stack.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Stack {
    /// Lowest address to read.
    pub(super) from: u64,
    hi: u64,
    /// The innermost frame; 0 when it is in the list already.
    pc: u64,
    start: Start,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Start {
    /// The frame pointer itself.
    FramePointer(u64),
    /// The frame pointer lies 16 bytes below this stack pointer.
    PushedBelow(u64),
}

impl Stack {
    /// How many bytes to read at `from`, at most `cap`.
    pub(super) fn window(&self, cap: u64) -> u64 {
        self.hi.saturating_sub(self.from).min(cap)
    }

    /// Adds frames from `window`, the bytes at `from`. Returns what is left when the chain goes on beyond it.
    pub(super) fn walk(&self, window: &[u8], frames: &mut Vec<ProcAddr>) -> Option<Stack> {
        let word = |addr: u64| Block(window).u64(u32::try_from(addr.checked_sub(self.from)?).ok()?);
        if self.pc != 0 {
            frames.push(ProcAddr(self.pc));
        }
        let mut lowest = self.from;
        let mut fp = match self.start {
            Start::FramePointer(fp) => fp,
            Start::PushedBelow(sp) => {
                lowest = sp;
                word(sp - PUSHED_BELOW)?
            }
        };
        while frames.len() < MAX_FRAMES {
            // The chain goes up and stays in the stack; the outermost frame holds 0.
            let inside =
                fp >= lowest && fp.is_multiple_of(8) && fp.checked_add(16).is_some_and(|e| e <= self.hi);
            if !inside {
                return None;
            }
            let (Some(next), Some(ret)) = (word(fp), word(fp + 8)) else {
                return Some(Stack { from: fp, hi: self.hi, pc: 0, start: Start::FramePointer(fp) });
            };
            if ret == 0 {
                return None;
            }
            frames.push(ProcAddr(ret));
            lowest = fp + 1;
            fp = next;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn layout(minor: u32) -> &'static Layout {
        Layout::for_minor(minor).unwrap()
    }

    const LO: u64 = 0xc000_0000;
    const HI: u64 = LO + 0x800;

    fn block(minor: u32, status: u32) -> Vec<u8> {
        let l = layout(minor);
        let mut b = vec![0; block_size(l)];
        let mut put = |at: u32, v: u64| b[at as usize..at as usize + 8].copy_from_slice(&v.to_le_bytes());
        put(l.g_stack_lo, LO);
        put(l.g_stack_hi, HI);
        put(l.g_goid, 7);
        put(l.g_gopc, 0x4001);
        put(l.g_startpc, 0x5000);
        put(l.g_sched_sp, HI - 0x100);
        put(l.g_sched_pc, 0x6000);
        put(l.g_sched_bp, HI - 0xc0);
        put(l.g_waitsince, 99);
        b[l.g_atomicstatus as usize..l.g_atomicstatus as usize + 4].copy_from_slice(&status.to_le_bytes());
        b[l.g_waitreason as usize] = 14;
        b
    }

    fn goroutine(status: u32) -> Goroutine {
        Goroutine::decode(&block(26, status), layout(26)).unwrap()
    }

    /// A stack whose frame pointers are at these addresses, each with return address 0x1000 + its number.
    fn stack_bytes(chain: &[u64]) -> Vec<u8> {
        let mut bytes = vec![0; 0x800];
        for (i, &fp) in chain.iter().enumerate() {
            let at = (fp - LO) as usize;
            let next = chain.get(i + 1).copied().unwrap_or(0);
            bytes[at..at + 8].copy_from_slice(&next.to_le_bytes());
            bytes[at + 8..at + 16].copy_from_slice(&(0x1000 + i as u64).to_le_bytes());
        }
        bytes
    }

    fn frames(bytes: &[u8], goroutine: &Goroutine, window: u64) -> Vec<u64> {
        let mut frames = Vec::new();
        let mut stack = goroutine.stack(layout(26));
        while let Some(rest) = stack {
            let from = (rest.from - LO) as usize;
            stack = rest.walk(&bytes[from..from + rest.window(window) as usize], &mut frames);
        }
        frames.into_iter().map(|f| f.0).collect()
    }

    #[test]
    fn each_status_of_the_runtime_is_known_and_others_are_refused() {
        for (status, state) in [
            (1, GoState::Runnable),
            (2, GoState::Running),
            (3, GoState::Syscall),
            (4, GoState::Waiting),
            (0x1004, GoState::Waiting),
            (8, GoState::CopyStack),
            (9, GoState::Preempted),
            (10, GoState::Leaked),
        ] {
            assert_eq!(goroutine(status).state(), Some(state));
        }
        assert!(!goroutine(6).is_alive() && !goroutine(11).is_alive());
        for status in [5, 7, 12, 0x2004, u32::MAX] {
            assert_eq!(Goroutine::decode(&block(26, status), layout(26)), None, "{status:#x}");
        }
    }

    #[test]
    fn only_waiting_goroutines_have_a_reason_and_a_time() {
        assert_eq!((goroutine(4).wait_reason(), goroutine(4).wait_since()), (Some(14), Some(99)));
        assert_eq!((goroutine(1).wait_reason(), goroutine(1).wait_since()), (None, None));
    }

    #[test]
    fn the_walk_follows_frame_pointers_up_the_stack() {
        let chain = [HI - 0xc0, HI - 0x80, HI - 0x10];
        let bytes = stack_bytes(&chain);
        let whole = [0x6000, 0x1000, 0x1001, 0x1002];
        assert_eq!(frames(&bytes, &goroutine(4), 8192), whole);
        // The same in windows so small that each frame needs its own.
        assert_eq!(frames(&bytes, &goroutine(4), 16), whole);
        assert_eq!(frames(&bytes, &goroutine(2), 8192), [0_u64; 0]);
    }

    #[test]
    fn a_chain_that_turns_back_or_leaves_the_stack_ends_there() {
        let up_then_down = [HI - 0xc0, HI - 0x40, HI - 0x80];
        assert_eq!(frames(&stack_bytes(&up_then_down), &goroutine(4), 8192), [0x6000, 0x1000, 0x1001]);
        let mut circle = stack_bytes(&[HI - 0xc0]);
        let at = (HI - 0xc0 - LO) as usize;
        circle[at..at + 8].copy_from_slice(&(HI - 0xc0).to_le_bytes());
        assert_eq!(frames(&circle, &goroutine(4), 8192), [0x6000, 0x1000]);
        circle[at..at + 8].copy_from_slice(&(HI - 8).to_le_bytes());
        assert_eq!(frames(&circle, &goroutine(4), 8192), [0x6000, 0x1000]);
    }

    #[test]
    fn before_1_23_the_frame_pointer_of_a_syscall_lies_below_the_stack_pointer() {
        let l = layout(22);
        let mut b = block(22, SYSCALL);
        let sp = HI - 0x100;
        b[l.g_syscallsp as usize..l.g_syscallsp as usize + 8].copy_from_slice(&sp.to_le_bytes());
        b[l.g_syscallpc as usize..l.g_syscallpc as usize + 8].copy_from_slice(&0x7000_u64.to_le_bytes());
        let mut bytes = stack_bytes(&[HI - 0xc0, HI - 0x20]);
        let at = (sp - 16 - LO) as usize;
        bytes[at..at + 8].copy_from_slice(&(HI - 0xc0).to_le_bytes());
        let stack = Goroutine::decode(&b, l).unwrap().stack(l).unwrap();
        let mut frames = Vec::new();
        let from = (stack.from - LO) as usize;
        assert_eq!(stack.walk(&bytes[from..], &mut frames), None);
        assert_eq!(frames, [ProcAddr(0x7000), ProcAddr(0x1000), ProcAddr(0x1001)]);
        // A value that is no frame pointer above it leaves the innermost frame alone.
        bytes[at..at + 8].copy_from_slice(&(sp - 32).to_le_bytes());
        frames.clear();
        assert_eq!(stack.walk(&bytes[from..], &mut frames), None);
        assert_eq!(frames, [ProcAddr(0x7000)]);
    }

    #[test]
    fn a_goroutine_that_moved_is_not_the_same_moment() {
        let then = goroutine(4);
        assert!(goroutine(4).is_same_moment(&then));
        assert!(goroutine(0x1004).is_same_moment(&then));
        assert!(!goroutine(1).is_same_moment(&then));
        for moved in [
            Goroutine { goid: 8, ..then },
            Goroutine { sp: then.sp - 8, ..then },
            Goroutine { pc: then.pc + 1, ..then },
            Goroutine { lo: LO - 0x800, hi: HI - 0x800, ..then },
        ] {
            assert!(!moved.is_same_moment(&then));
        }
        let running = goroutine(2);
        assert!(Goroutine { sp: 1, pc: 2, ..running }.is_same_moment(&running));
    }

    proptest! {
        #[test]
        fn any_bytes_decode_and_walk_without_panic(
            block in proptest::collection::vec(any::<u8>(), 0..460),
            status in 0_u8..12,
            window in proptest::collection::vec(any::<u8>(), 0..600),
            minor in 19_u32..=27,
        ) {
            let l = layout(minor);
            let mut block = block;
            if let Some(low) = block.get_mut(l.g_atomicstatus as usize..l.g_atomicstatus as usize + 4) {
                low.copy_from_slice(&[status, 0, 0, 0]);
            }
            if let Some(g) = Goroutine::decode(&block, l) && let Some(mut stack) = g.stack(l) {
                let mut frames = Vec::new();
                // Each step either ends or goes up; the same bytes serve as every window.
                while let Some(rest) = stack.walk(&window, &mut frames) {
                    prop_assert!(rest.from > stack.from || frames.len() > 1 || rest.pc == 0);
                    if window.len() < 16 { break; }
                    stack = rest;
                }
                prop_assert!(frames.len() <= MAX_FRAMES);
            }
        }
    }
}
