//! What each kind of probe counts: allocations by stack, type and class; map calls; goroutines by site.

use aya_ebpf::{helpers::generated::bpf_probe_read_user, programs::ProbeContext};
use tracer_common::{
    control::{AllocControl, LARGE_STEPS, SMALL_STEPS, TargetControl},
    cookie::{Cookie, MAP_FIRST, MAP_THIRD, Shape},
    counter::Counter,
    key::{
        AllocKey, CLASS_BELOW_TINY, CLASS_LARGE, GoKey, MAP_DELETE, MAP_GROW, MAP_WRITE, MapKey,
    },
};

use crate::{
    goabi::Registers,
    maps::{self, ALLOCS, GOROUTINES, MAP_CALLS, add, lose},
    sample,
    stack::{self, Taken},
};

/// What a stack is taken for; small numbers, which the verifier can forget.
const MAP_CALL: u64 = 0;
const ALLOCATION: u64 = 1;
const SAMPLE: u64 = 2;

/// An allocation or a call on a map, counted by stack, or a sampled allocation. The stack is taken in one place only,
/// because the verifier walks every copy of the loop.
#[inline(always)]
pub fn with_stack(ctx: &ProbeContext, cookie: Cookie, control: &TargetControl) {
    let what = match cookie.shape {
        Shape::Alloc => ALLOCATION,
        Shape::SampleBegin | Shape::SampleAt => SAMPLE,
        _ => MAP_CALL,
    };
    // Size 0 allocates nothing in Go.
    if what == ALLOCATION && Registers::of(ctx).arg0() == 0 {
        return;
    }
    let taken = stack::take(ctx, cookie, control, what);
    match taken.as_ref().map_or(what, |t| t.what) {
        ALLOCATION => alloc(ctx, cookie, control, taken.as_ref()),
        SAMPLE => sample::begin(ctx, cookie, control, taken.as_ref()),
        _ => map_call(ctx, cookie, control, taken.as_ref()),
    }
    if let Some(taken) = taken {
        taken.free();
    }
}

/// An allocation of `arg0` bytes of type `arg1` (0: none given).
#[inline(always)]
fn alloc(ctx: &ProbeContext, cookie: Cookie, control: &TargetControl, taken: Option<&Taken>) {
    let registers = Registers::of(ctx);
    let size = registers.arg0();
    let type_addr = registers.arg1();
    let (class, pages_bytes) = classify(&control.alloc, size, type_addr);
    let mut key = AllocKey { stack: taken.map_or(0, |t| t.id), type_addr, class, slot: u32::from(cookie.slot) };
    let mut value = ALLOCS.get_ptr_mut(&key);
    if value.is_none() {
        // A new key's stack goes first: whoever reads the count finds the frames in the ring.
        if taken.is_some_and(|t| !t.send_once(cookie, control)) {
            key.stack = 0;
        }
        value = maps::entry(&ALLOCS, &key);
    }
    let Some(value) = value else {
        lose(Counter::AllocTableFull);
        return;
    };
    // SAFETY: `value` points at this CPU's map value; the fields are aligned words.
    unsafe {
        add(&raw mut (*value).objects, 1);
        add(&raw mut (*value).requested, size);
        if pages_bytes != 0 {
            add(&raw mut (*value).pages_bytes, pages_bytes);
        }
    }
}

/// The class code and, for large objects, the bytes of whole pages (mallocgc in runtime/malloc.go).
#[inline(always)]
pub fn classify(alloc: &AllocControl, size: u64, type_addr: u64) -> (u32, u64) {
    let mut total = size;
    if size > u64::from(alloc.header_above)
        && size <= u64::from(alloc.max_small)
        && has_pointers(alloc, type_addr)
    {
        total += u64::from(alloc.header_bytes);
    }
    if size > u64::from(alloc.max_small) {
        let page = u64::from(alloc.page_bytes);
        return (CLASS_LARGE, (size + page - 1) & !(page - 1));
    }
    let class = if total <= 1024 - 8 {
        let step = ((total + 7) >> 3) as usize;
        if step < SMALL_STEPS { alloc.class_of_step8[step] } else { 0 }
    } else {
        let step = ((total - 1024 + 127) >> 7) as usize;
        if step < LARGE_STEPS { alloc.class_of_step128[step] } else { 0 }
    };
    let tiny = if size < u64::from(alloc.tiny_below) { CLASS_BELOW_TINY } else { 0 };
    (u32::from(class) | tiny, 0)
}

#[inline(always)]
fn has_pointers(alloc: &AllocControl, type_addr: u64) -> bool {
    if type_addr == 0 {
        return false;
    }
    let mut bytes = 0u64;
    let from = type_addr + u64::from(alloc.type_ptr_bytes);
    // SAFETY: reads 8 bytes of the target into a local; fails rather than faults.
    if unsafe { bpf_probe_read_user((&raw mut bytes).cast(), 8, from as *const _) } != 0 {
        lose(Counter::TypeUnreadable);
        return false;
    }
    bytes != 0
}

/// A call that writes to, deletes from or grows a map; updates count like inserts.
#[inline(always)]
fn map_call(ctx: &ProbeContext, cookie: Cookie, control: &TargetControl, taken: Option<&Taken>) {
    let registers = Registers::of(ctx);
    // All three before choosing: the verifier takes no computed address in the context.
    let (first, second, third) = (registers.arg0(), registers.arg1(), registers.arg2());
    let (type_addr, map) = if cookie.flags & MAP_FIRST != 0 {
        (second, first)
    } else if cookie.flags & MAP_THIRD != 0 {
        (second, third)
    } else {
        (first, second)
    };
    let event = match cookie.shape {
        Shape::MapDelete => MAP_DELETE,
        Shape::MapGrow => MAP_GROW,
        _ => MAP_WRITE,
    };
    let slot = u32::from(cookie.slot);
    let mut key = MapKey { stack: taken.map_or(0, |t| t.id), type_addr, map, slot, event };
    let mut value = MAP_CALLS.get_ptr_mut(&key);
    if value.is_none() {
        if taken.is_some_and(|t| !t.send_once(cookie, control)) {
            key.stack = 0;
        }
        value = maps::entry(&MAP_CALLS, &key);
    }
    match value {
        Some(value) => add(value, 1),
        None => lose(Counter::MapTableFull),
    }
}

/// A goroutine is created by the `go` statement that returns to `arg2`.
#[inline(always)]
pub fn goroutine_born(ctx: &ProbeContext, cookie: Cookie) {
    let key = GoKey { created_at: Registers::of(ctx).arg2(), slot: u64::from(cookie.slot) };
    match maps::entry(&GOROUTINES, &key) {
        // SAFETY: this CPU's map value.
        Some(value) => add(unsafe { &raw mut (*value).created }, 1),
        None => lose(Counter::GoroutineTableFull),
    }
}

/// The goroutine whose g is `arg0` ended; its creation site is still in the g.
#[inline(always)]
pub fn goroutine_ended(ctx: &ProbeContext, cookie: Cookie, control: &TargetControl) {
    let from = Registers::of(ctx).arg0().wrapping_add(u64::from(control.g_gopc));
    let mut created_at = 0u64;
    // SAFETY: reads 8 bytes of the target into a local; fails rather than faults.
    if unsafe { bpf_probe_read_user((&raw mut created_at).cast(), 8, from as *const _) } != 0 {
        lose(Counter::GoroutineUnreadable);
        return;
    }
    let key = GoKey { created_at, slot: u64::from(cookie.slot) };
    match maps::entry(&GOROUTINES, &key) {
        // SAFETY: this CPU's map value.
        Some(value) => add(unsafe { &raw mut (*value).ended }, 1),
        None => lose(Counter::GoroutineTableFull),
    }
}
