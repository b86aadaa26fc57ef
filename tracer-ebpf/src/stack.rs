//! The user stack at a probe: walked by frame pointers, hashed to an id, sent the first time it is seen.
//!
//! Not bpf_get_stack: its walk ends by dereferencing the null frame pointer at the bottom of every goroutine's
//! stack, a page fault that costs 700 ns a hit (docs/design/0002). Here the walk stops at null, and reads the
//! stack in pieces of up to 1 KiB instead of frame by frame.

use aya_ebpf::{
    helpers::generated::{bpf_ktime_get_ns, bpf_probe_read_user, bpf_ringbuf_output},
    programs::ProbeContext,
};
use tracer_common::{
    control::{CodeRange, STACK_ENDS, TargetControl},
    cookie::{AT_CALL, CALLER_AT_SP, Cookie},
    counter::Counter,
    event::{Header, KIND_STACK, MAX_FRAMES, STACK_CUT, STACK_HEADER_BYTES, STACK_TRUNCATED, StackHeader},
};

use crate::{
    atomic,
    goabi::Registers,
    maps::{self, PINS, RING, SCRATCH, SENT},
};

/// Scratch buffers per CPU. A task that preempts a probe may hit one itself; more than four deep on one CPU
/// is counted as [`Counter::ScratchBusy`].
pub const SCRATCHES: usize = 4;
const _: () = assert!(SCRATCHES.is_power_of_two());

const BPF_RB_NO_WAKEUP: u64 = 1;
/// Bytes of stack read at once. Go frames are mostly below 200 bytes.
const WINDOW: u64 = 1024;
const PAGE: u64 = 4096;
/// Rounds of the walk: with the caller that is taken before it, as many frames as a record carries.
const ROUNDS: usize = MAX_FRAMES - 1;

/// Room for one stack record and for a piece of the target's stack.
#[repr(C)]
pub struct Scratch {
    owner: u64,
    /// Where [`forget`] puts a value down and picks it up.
    put_down: u64,
    /// Address in the target of the window's first byte, and how many bytes were read. These two, the count
    /// of frames and the flags live in memory and not in locals: what the verifier reads from memory is
    /// unknown to it, so the ways out of the walk look alike and are verified once instead of 127 times.
    base: u64,
    valid: u64,
    what: u64,
    record: StackHeader,
    frames: [u64; MAX_FRAMES + 1],
    /// 16 bytes longer than what is read into it, so that a masked offset plus a frame stays inside.
    window: [u8; WINDOW as usize + 16],
}

/// A stack in a scratch buffer of ours. [`Taken::free`] must be called on every path.
pub struct Taken {
    scratch: *mut Scratch,
    pub id: u64,
    /// What `take` was given, forgotten meanwhile.
    pub what: u64,
}

/// Walks the current user stack. `None`: no scratch buffer was free (counted); the caller uses id 0.
#[inline(always)]
pub fn take(ctx: &ProbeContext, cookie: Cookie, control: &TargetControl, what: u64) -> Option<Taken> {
    let scratch = claim()?;
    let registers = Registers::of(ctx);
    // SAFETY: the buffer is ours.
    unsafe {
        (*scratch).base = 0;
        (*scratch).valid = 0;
        (*scratch).record.frames = 0;
        (*scratch).record.flags = 0;
        (*scratch).what = what;
    }
    // Two targets of one executable have the same stacks; each gets its own record of them.
    let mut hash = SEED ^ u64::from(cookie.slot);
    let mut ret = 0;
    if cookie.flags & CALLER_AT_SP != 0 {
        if fill(scratch, registers.sp()) {
            ret = word(scratch, 0);
            hash = push(scratch, hash, ret);
        } else {
            maps::lose(Counter::CallerUnreadable);
        }
    }
    if cookie.flags & AT_CALL != 0 {
        ret = PINS.get(u32::from(cookie.probe)).map_or(0, |pin| pin.returns_to);
        hash = push(scratch, hash, ret);
    }
    hash = forget(scratch, hash);
    ret = forget(scratch, ret);
    let mut fp = registers.frame_pointer();
    let mut i = 0;
    // Null ends the chain: a goroutine's first frame and a thread's start with it.
    while fp != 0 && i < ROUNDS {
        // SAFETY: the buffer is ours.
        let (base, valid) = unsafe { ((*scratch).base, (*scratch).valid) };
        let mut at = fp.wrapping_sub(base);
        if at > WINDOW || at + 16 > valid {
            // Another stack is never in the window, so that looking here finds every change of stacks.
            if ends_at(control, ret) {
                fp = 0;
                break;
            }
            if !fill(scratch, fp) {
                maps::lose(Counter::StackCut);
                flag(scratch, STACK_CUT);
                fp = 0;
                break;
            }
            at = 0;
        }
        ret = word(scratch, at + 8);
        hash = push(scratch, hash, ret);
        fp = word(scratch, at);
        i += 1;
    }
    // The count of rounds is not looked at: to the verifier it differs at each of the 127 ways out.
    if fp != 0 {
        maps::lose(Counter::StackTruncated);
        flag(scratch, STACK_TRUNCATED);
    }
    // 0 is the unknown stack.
    let id = if hash == 0 { 1 } else { hash };
    // SAFETY: the buffer is ours.
    let what = unsafe { (&raw const (*scratch).what).read_volatile() };
    Some(Taken { scratch, id, what })
}

/// The same value, of which the verifier no longer knows what it may be: it walks the loop once for all ways into
/// it that look alike, and again for each that differs.
#[inline(always)]
fn forget(scratch: *mut Scratch, value: u64) -> u64 {
    // SAFETY: the buffer is ours.
    unsafe {
        let word = &raw mut (*scratch).put_down;
        word.write_volatile(value);
        word.read_volatile()
    }
}

/// True where the saved frame pointer behind this return address belongs to no frame of this stack: it is what
/// the register happened to hold when the runtime switched stacks or a thread began.
#[inline(always)]
fn ends_at(control: &TargetControl, ret: u64) -> bool {
    let mut i = 0;
    while i < STACK_ENDS {
        let CodeRange { from, bytes } = control.stack_ends[i];
        if ret.wrapping_sub(from) < bytes {
            return true;
        }
        i += 1;
    }
    false
}

/// Appends a return address.
#[inline(always)]
fn push(scratch: *mut Scratch, hash: u64, ret: u64) -> u64 {
    // SAFETY: the buffer is ours; the index is masked to below the array's length.
    unsafe {
        let at = (*scratch).record.frames & 127;
        *(&raw mut (*scratch).frames).cast::<u64>().add(at as usize) = ret;
        (*scratch).record.frames = at + 1;
    }
    mix(hash, ret)
}

#[inline(always)]
fn flag(scratch: *mut Scratch, flag: u32) {
    // SAFETY: the buffer is ours.
    unsafe { (*scratch).record.flags |= flag };
}

/// Reads the stack from `base` up, to the end of its page at most: the next page may belong to nobody.
#[inline(always)]
fn fill(scratch: *mut Scratch, base: u64) -> bool {
    let mut bytes = PAGE - (base & (PAGE - 1));
    if bytes > WINDOW {
        bytes = WINDOW;
    }
    // A frame's two words may straddle the page.
    if bytes < 16 {
        bytes = 16;
    }
    // SAFETY: the buffer is ours and `bytes` is at most its length; the read fails rather than faults.
    unsafe {
        let failed = bpf_probe_read_user((&raw mut (*scratch).window).cast(), bytes as u32, base as *const _);
        (*scratch).base = base;
        (*scratch).valid = if failed == 0 { bytes } else { 0 };
        failed == 0
    }
}

/// The word at offset `at` of the window; masked, so a wrong offset reads a wrong word and nothing else.
#[inline(always)]
fn word(scratch: *mut Scratch, at: u64) -> u64 {
    let at = (at & (WINDOW - 1)) as usize;
    // SAFETY: at most WINDOW - 1 + 8 bytes in, inside the buffer's WINDOW + 16.
    unsafe { (&raw const (*scratch).window).cast::<u8>().add(at).cast::<u64>().read_unaligned() }
}

const SEED: u64 = 0x9E37_79B9_7F4A_7C15;

/// FxHash's step (rustc-hash): rotate, xor, multiply.
#[inline(always)]
fn mix(hash: u64, word: u64) -> u64 {
    (hash.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95)
}

impl Taken {
    /// Sends the stack unless it was sent before. `false`: the ring was full (counted); the caller then counts this
    /// hit under the unknown stack, so that the next hit tries again.
    #[inline(always)]
    pub fn send_once(&self, cookie: Cookie, control: &TargetControl) -> bool {
        // SAFETY: the key is a plain word.
        if unsafe { SENT.get(&self.id) }.is_some() {
            return true;
        }
        // SAFETY: the scratch buffer is ours; the length is bounded by the mask.
        let failed = unsafe {
            let frames = (*self.scratch).record.frames & 127;
            (*self.scratch).record.header = Header {
                kind: KIND_STACK,
                slot: cookie.slot,
                epoch: control.epoch,
                ktime_ns: bpf_ktime_get_ns(),
            };
            (*self.scratch).record.id = self.id;
            bpf_ringbuf_output(
                (&raw const RING).cast_mut().cast(),
                (&raw mut (*self.scratch).record).cast(),
                STACK_HEADER_BYTES as u64 + u64::from(frames) * 8,
                BPF_RB_NO_WAKEUP,
            )
        };
        if failed != 0 {
            maps::lose(Counter::RingFull);
            return false;
        }
        // A full LRU table evicts; failing that the stack is only sent again.
        let _resent_later = SENT.insert(&self.id, &1, 0).is_err();
        true
    }

    #[inline(always)]
    pub fn free(self) {
        release(self.scratch);
    }
}

/// A free scratch buffer of this CPU, marked as taken.
#[inline(always)]
fn claim() -> Option<*mut Scratch> {
    let all = SCRATCH.get_ptr_mut(0)?.cast::<Scratch>();
    let mut i = 0;
    while i < SCRATCHES {
        // SAFETY: `i` is below SCRATCHES.
        let scratch = unsafe { all.add(i) };
        // SAFETY: an aligned word of a map value; taking a taken buffer writes the 1 that is there.
        if unsafe { atomic::swap(&raw mut (*scratch).owner, 1) } == 0 {
            let i = forget(scratch, i as u64) as usize & (SCRATCHES - 1);
            // SAFETY: the same buffer; the mask says so to the verifier.
            return Some(unsafe { all.add(i) });
        }
        i += 1;
    }
    maps::lose(Counter::ScratchBusy);
    None
}

#[inline(always)]
fn release(scratch: *mut Scratch) {
    // SAFETY: the buffer is ours; a plain store of an aligned word gives it back.
    unsafe { (&raw mut (*scratch).owner).write_volatile(0) };
}
