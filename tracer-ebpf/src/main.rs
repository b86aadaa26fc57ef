//! Entry points of the eBPF object, and nothing else: which program runs at a probe.
//!
//! There is one program. The attach cookie says what the probed function's registers mean, so that every
//! probe of a session hangs on one uprobe_multi link. No Go version and no Go struct offset lives here:
//! the user side puts them into [`maps::TARGETS`].
#![no_std]
#![no_main]
// The BPF target has no AtomicU64 arithmetic in core; two instructions are written out in atomic.rs.
#![feature(asm_experimental_arch)]

mod atomic;
mod count;
mod goabi;
mod maps;
mod sample;
mod stack;
mod target;

use aya_ebpf::{
    EbpfContext as _, helpers::generated::{bpf_get_attach_cookie, bpf_ktime_get_ns}, macros::uprobe, programs::ProbeContext,
};
use tracer_common::{
    cookie::{Cookie, HITS_ONLY, Shape},
    counter::Counter,
};

/// Runs at every probe of every target. Minimum kernel: 5.15 (attach cookies).
#[uprobe]
pub fn tracer(ctx: ProbeContext) -> u32 {
    // SAFETY: the helper takes the program's own context and returns a number.
    let bits = unsafe { bpf_get_attach_cookie(ctx.as_ptr()) };
    let Some(cookie) = Cookie::from_bits(bits) else {
        maps::lose(Counter::BadCookie);
        aya_log_ebpf::warn!(&ctx, "a probe carries the cookie {:x}, which no program knows", bits);
        return 0;
    };
    let Some(control) = target::control(cookie.slot) else {
        return 0;
    };
    let timed = maps::hit(cookie.probe);
    if cookie.flags & HITS_ONLY != 0 {
        return 0;
    }
    // SAFETY: the helper takes nothing.
    let began = if timed { unsafe { bpf_ktime_get_ns() } } else { 0 };
    match cookie.shape {
        Shape::GoBorn => count::goroutine_born(&ctx, cookie),
        Shape::GoEnd => count::goroutine_ended(&ctx, cookie, control),
        Shape::SampleEnd => sample::end(&ctx, cookie, control),
        Shape::SampleBegin | Shape::SampleAt if !sample::begins(&ctx, cookie, control) => {}
        Shape::SampleBegin | Shape::SampleAt | Shape::Alloc | Shape::MapWrite | Shape::MapDelete | Shape::MapGrow => {
            count::with_stack(&ctx, cookie, control);
        }
    }
    if began != 0 {
        // SAFETY: as above.
        maps::took(cookie.probe, unsafe { bpf_ktime_get_ns() }.wrapping_sub(began));
    }
    0
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
