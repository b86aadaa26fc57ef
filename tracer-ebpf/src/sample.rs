//! Sampled allocations: chosen where the allocator is entered, sent where it hands out the object.
//!
//! Between the two the sample waits under its goroutine. An allocation that is not sampled costs the subtraction at the
//! entry and a look-up that finds nothing at the exit. The runtime may allocate inside the allocator (it starts a
//! collection from there); the depth on the stack tells whose exit is whose, and is the same after the stack has moved.
//! Where one place is reached through one call alone, and its object still lies there, one probe does both.

use aya_ebpf::{
    helpers::generated::{bpf_get_prandom_u32, bpf_ktime_get_ns, bpf_probe_read_user, bpf_ringbuf_output},
    programs::ProbeContext,
};
use tracer_common::{
    control::TargetControl,
    cookie::{AT_CALL, BY_OBJECT, CALLER_AT_SP, Cookie, IN_CALLEE, PLACE_STACK, Shape},
    counter::Counter,
    event::{Header, KIND_SAMPLE, SAMPLE_BYTES, SAMPLE_MARKING, SAMPLE_STATELESS, Sample, chooser},
    key::{Pending, PendingKey},
    sample,
};

use crate::{
    atomic,
    count::classify,
    goabi::Registers,
    maps::{DISTANCES, PENDING, PINS, PIN_DISTANCES, RING, lose},
    stack::Taken,
};

const BPF_RB_NO_WAKEUP: u64 = 1;
/// A sample that waits longer never gets its address: a goroutine that assists the collector waits for a cycle at most.
const WAITS_NS: u64 = 10_000_000_000;

/// Takes the allocation's bytes, or one object or call, off this CPU's distance to the next sample; whether the allocation is one.
#[inline(always)]
pub fn begins(ctx: &ProbeContext, cookie: Cookie, control: &TargetControl) -> bool {
    let (mut size, mean, left) = if cookie.flags & AT_CALL != 0 {
        let Some(pin) = PINS.get(u32::from(cookie.probe)) else {
            return false;
        };
        // Each call counts as one, whatever it asks for.
        (1, pin.mean, PIN_DISTANCES.get_ptr_mut(u32::from(cookie.probe)))
    } else {
        (Registers::of(ctx).arg0(), control.sample.mean, DISTANCES.get_ptr_mut(u32::from(cookie.slot)))
    };
    // Size 0 allocates nothing in Go; what is negative as a signed number is no size.
    if size == 0 || size > i64::MAX as u64 || mean == 0 {
        return false;
    }
    if cookie.flags & BY_OBJECT != 0 {
        size = 1;
    }
    let Some(left) = left else {
        return false;
    };
    // SAFETY: a word of this CPU's map value, aligned. A task that preempts this one here finds 0 or less, and takes
    // no sample until the next distance is drawn.
    let before = unsafe { atomic::fetch_add(left, size.wrapping_neg()) } as i64;
    if !sample::hits(before, size) {
        return false;
    }
    // SAFETY: the helper takes nothing.
    let random = unsafe { bpf_get_prandom_u32() };
    let next = sample::distance(mean, random as u32);
    // SAFETY: as above.
    unsafe { atomic::swap(left, next as u64) };
    true
}

/// Remembers a sampled allocation until its object has an address.
#[inline(always)]
pub fn begin(ctx: &ProbeContext, cookie: Cookie, control: &TargetControl, taken: Option<&Taken>) {
    let registers = Registers::of(ctx);
    let g = registers.g();
    let (mut size, mut type_addr, mut chosen_by) = (registers.arg0(), registers.arg1(), 0);
    if cookie.flags & AT_CALL != 0 {
        let Some(pin) = PINS.get(u32::from(cookie.probe)) else {
            return;
        };
        (size, type_addr, chosen_by) = (pin.size, pin.type_addr, chooser(cookie.probe, pin.era) + 1);
    }
    if cookie.shape == Shape::SampleAt {
        let stack = match taken {
            Some(taken) if taken.send_once(cookie, control) => taken.id,
            _ => 0,
        };
        let (class, _) = classify(&control.alloc, size, type_addr);
        let chosen = Pending { stack, type_addr, size, depth: 0, ktime_ns: 0, class, pin: chosen_by };
        return send(cookie, control, g, address(registers, cookie), &chosen);
    }
    let (sp, fp) = (registers.sp(), registers.frame_pointer());
    let frame = if cookie.flags & CALLER_AT_SP != 0 { sp } else { fp.wrapping_add(8) };
    let Some(depth) = depth(control, g, frame) else {
        lose(Counter::SampleUnreadable);
        return;
    };
    // SAFETY: the helper takes nothing.
    let now = unsafe { bpf_ktime_get_ns() };
    let mut key = PendingKey { g, slot: u32::from(cookie.slot), inner: 0 };
    // SAFETY: the key is plain words; the value is only read.
    if let Some(waiting) = unsafe { PENDING.get(&key) } {
        // An allocation inside the one that waits is deeper; else that one never got its address.
        if depth > waiting.depth && now.wrapping_sub(waiting.ktime_ns) < WAITS_NS {
            key.inner = 1;
            // SAFETY: as above.
            if unsafe { PENDING.get(&key) }.is_some() {
                lose(Counter::SampleUnanswered);
            }
        } else {
            lose(Counter::SampleUnanswered);
        }
    }
    let stack = match taken {
        Some(taken) if taken.send_once(cookie, control) => taken.id,
        _ => 0,
    };
    let (class, _) = classify(&control.alloc, size, type_addr);
    let pending = Pending { stack, type_addr, size, depth, ktime_ns: now, class, pin: chosen_by };
    if PENDING.insert(&key, &pending, 0).is_err() {
        lose(Counter::SampleTableFull);
    }
}

/// The allocator has an object: if its allocation was sampled, the sample is sent.
#[inline(always)]
pub fn end(ctx: &ProbeContext, cookie: Cookie, control: &TargetControl) {
    let registers = Registers::of(ctx);
    let (g, fp) = (registers.g(), registers.frame_pointer());
    let mut key = PendingKey { g, slot: u32::from(cookie.slot), inner: 0 };
    // SAFETY: the key is plain words; the value is only read, and copied before anybody may change it.
    let Some(&(mut pending)) = (unsafe { PENDING.get(&key) }) else {
        return;
    };
    let mut frame = fp;
    if cookie.flags & IN_CALLEE != 0 {
        let Some(outer) = word(fp) else {
            return;
        };
        frame = outer;
    }
    let depth = depth(control, g, frame.wrapping_add(8));
    if depth != Some(pending.depth) {
        // Another allocation of this goroutine, inside the one that waits.
        key.inner = 1;
        // SAFETY: as above.
        match unsafe { PENDING.get(&key) } {
            Some(&inner) if depth == Some(inner.depth) => pending = inner,
            _ => return,
        }
    }
    let _gone_already = PENDING.remove(&key).is_err();
    send(cookie, control, g, address(registers, cookie), &pending);
}

/// The object's address, from where the cookie's place says; 0: it cannot be read.
#[inline(always)]
fn address(registers: Registers, cookie: Cookie) -> u64 {
    let (result, sp) = (registers.result(), registers.sp());
    if cookie.place & PLACE_STACK != 0 {
        let offset = u64::from(cookie.place & !PLACE_STACK) * 8;
        word(sp.wrapping_add(offset)).unwrap_or(0)
    } else {
        result
    }
}

/// Sends an allocation that was chosen, now that its object has an address.
#[inline(always)]
fn send(cookie: Cookie, control: &TargetControl, g: u64, address: u64, chosen: &Pending) {
    if address == 0 {
        lose(Counter::SampleUnreadable);
        return;
    }
    let (marking, generation) = (half(control.sample.marking), half(control.sample.generation));
    let flags = match (marking, generation) {
        (Some(0), Some(_)) => 0,
        (Some(_), Some(_)) => SAMPLE_MARKING,
        _ => {
            lose(Counter::SampleUnreadable);
            SAMPLE_STATELESS
        }
    };
    let mut record = Sample {
        header: Header {
            kind: KIND_SAMPLE,
            slot: cookie.slot,
            epoch: control.epoch,
            // SAFETY: the helper takes nothing.
            ktime_ns: unsafe { bpf_ktime_get_ns() },
        },
        address,
        stack: chosen.stack,
        type_addr: chosen.type_addr,
        size: chosen.size,
        g,
        class: chosen.class,
        generation: generation.unwrap_or(0),
        flags,
        pin: chosen.pin,
    };
    // SAFETY: a plain record of the stated length on this program's stack.
    let failed = unsafe {
        bpf_ringbuf_output(
            (&raw const RING).cast_mut().cast(),
            (&raw mut record).cast(),
            SAMPLE_BYTES as u64,
            BPF_RB_NO_WAKEUP,
        )
    };
    if failed != 0 {
        lose(Counter::SampleRingFull);
    }
}

/// How far below the end of its goroutine's stack an address lies.
#[inline(always)]
fn depth(control: &TargetControl, g: u64, at: u64) -> Option<u64> {
    word(g.wrapping_add(u64::from(control.g_stack_hi))).map(|end| end.wrapping_sub(at))
}

/// A word of the target.
#[inline(always)]
fn word(at: u64) -> Option<u64> {
    let mut value = 0u64;
    // SAFETY: reads 8 bytes of the target into a local; fails rather than faults.
    let failed = unsafe { bpf_probe_read_user((&raw mut value).cast(), 8, at as *const _) };
    (failed == 0).then_some(value)
}

/// Half a word of the target.
#[inline(always)]
fn half(at: u64) -> Option<u32> {
    let mut value = 0u32;
    // SAFETY: reads 4 bytes of the target into a local; fails rather than faults.
    let failed = unsafe { bpf_probe_read_user((&raw mut value).cast(), 4, at as *const _) };
    (failed == 0).then_some(value)
}
