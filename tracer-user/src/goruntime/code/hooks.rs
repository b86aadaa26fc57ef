//! Which of the runtime's functions stand for one allocation, one map write, one goroutine's birth and end.
//!
//! Apart because the set is chosen by what a program contains, never by its version: experiments, the race
//! detector and -asan builds link other functions than the release's default. Each set fires exactly once per
//! event; the reasons are written beside it.

use tracer_common::cookie::Shape;

use super::super::image::GoImage;
use crate::binary::x86::Reg;

/// One function to probe.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hook {
    pub function: String,
    pub shape: Shape,
    /// Registers that must still hold the function's arguments at the site.
    pub needs: &'static [Reg],
}

impl Hook {
    fn new(function: impl Into<String>, shape: Shape, needs: &'static [Reg]) -> Self {
        Self {
            function: function.into(),
            shape,
            needs,
        }
    }
}

/// Size in the first argument, type in the second.
const ALLOC: &[Reg] = &[Reg::Rax, Reg::Rbx];
/// Map type in the first, map in the second.
const MAP: &[Reg] = &[Reg::Rax, Reg::Rbx];
/// newproc1(fn, callergp, callerpc, ...): the creation site is the third.
const GO_BORN: &[Reg] = &[Reg::Rcx];
/// gdestroy(gp), goexit0(gp).
const GO_END: &[Reg] = &[Reg::Rax];

/// mallocgc's own four workers in programs that have size-specialised functions (runtime/malloc.go).
const LEAVES: [&str; 4] = [
    "runtime.mallocgcLarge",
    "runtime.mallocgcSmallNoscan",
    "runtime.mallocgcSmallScanNoHeader",
    "runtime.mallocgcSmallScanHeader",
];

/// Families of size-specialised functions (runtime/malloc_generated.go): go1.27, and go1.26 with
/// GOEXPERIMENT=sizespecializedmalloc, which has TinySize<n> where go1.27 has TinySC<n>.
const SPECIALISED: [&str; 4] = [
    "runtime.mallocgcTinySC",
    "runtime.mallocgcTinySize",
    "runtime.mallocgcSmallNoScanSC",
    "runtime.mallocgcSmallScanNoHeaderSC",
];

/// The set that every allocation passes exactly once.
///
/// Without size-specialised functions everything goes through `mallocgc`. With them, compiled code calls them
/// directly, and `mallocgc` hands each request either to one of them or to one of the four leaves; so they and the
/// leaves are the set and `mallocgc` is not in it. Their SlowPath twins are called by them: never counted.
/// Requests of size 0 reach `mallocgc` and return before the leaves; a probe there drops them by size.
///
/// One exception is known: inside `runtime/secret.Do` (GOEXPERIMENT=runtimesecret) a tiny request is handed on to
/// mallocgcSmallNoScanSC2 and counts twice.
pub fn alloc_hooks(image: &GoImage) -> Vec<Hook> {
    let is_specialised = |name: &str| {
        SPECIALISED.iter().any(|family| {
            name.strip_prefix(family)
                .is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
        })
    };
    let specialised: Vec<String> = image.function_names(is_specialised);
    if specialised.is_empty() {
        return present(image, &["runtime.mallocgc"], Shape::Alloc, ALLOC);
    }
    let mut hooks: Vec<Hook> = specialised
        .into_iter()
        .map(|name| Hook::new(name, Shape::Alloc, ALLOC))
        .collect();
    hooks.extend(present(image, &LEAVES, Shape::Alloc, ALLOC));
    hooks
}

/// Every `m[k] = v` in compiled code and in reflect calls one of these once; none calls another. Copies made by
/// maps.Clone and internal growth go around them (internal/runtime/maps).
pub fn map_hooks(image: &GoImage) -> Vec<Hook> {
    const FAMILY: [&str; 6] = [
        "runtime.mapassign",
        "runtime.mapassign_fast32",
        "runtime.mapassign_fast32ptr",
        "runtime.mapassign_fast64",
        "runtime.mapassign_fast64ptr",
        "runtime.mapassign_faststr",
    ];
    present(image, &FAMILY, Shape::MapWrite, MAP)
}

/// Births: `newproc1`, once per `go` statement (and per coroutine). Ends: `gdestroy` where it exists (go1.22 on),
/// called by goexit0 and by coroutine exits; before that `goexit0`.
pub fn goroutine_hooks(image: &GoImage) -> Vec<Hook> {
    let mut hooks = present(image, &["runtime.newproc1"], Shape::GoBorn, GO_BORN);
    let mut ends = present(image, &["runtime.gdestroy"], Shape::GoEnd, GO_END);
    if ends.is_empty() {
        ends = present(image, &["runtime.goexit0"], Shape::GoEnd, GO_END);
    }
    hooks.append(&mut ends);
    hooks
}

fn present(
    image: &GoImage,
    names: &[&'static str],
    shape: Shape,
    needs: &'static [Reg],
) -> Vec<Hook> {
    let there = names.iter().filter(|n| image.function(n).is_some());
    there.map(|n| Hook::new(*n, shape, needs)).collect()
}
