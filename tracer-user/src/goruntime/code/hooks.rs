//! Which of the runtime's functions stand for one allocation, one map write, one goroutine's birth and end.
//!
//! Apart because the set is chosen by what a program contains, never by its version: experiments, the race
//! detector and -asan builds link other functions than the release's default. Each set fires exactly once per
//! event; the reasons are written beside it.

use tracer_common::cookie::{MAP_FIRST, MAP_THIRD, Shape};

use super::super::image::{Function, GoImage};
use crate::binary::x86::Reg;

/// One function to probe.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hook {
    pub function: String,
    pub shape: Shape,
    /// Flags of the cookie that say which argument is which.
    pub flags: u8,
    /// Registers that must still hold the function's arguments at the site.
    pub needs: &'static [Reg],
}

impl Hook {
    fn new(function: impl Into<String>, shape: Shape, needs: &'static [Reg]) -> Self {
        Self { function: function.into(), shape, flags: 0, needs }
    }
}

/// Size in the first argument, type in the second.
const ALLOC: &[Reg] = &[Reg::Rax, Reg::Rbx];
/// Map type in the first, map in the second.
const MAP: &[Reg] = &[Reg::Rax, Reg::Rbx];
/// A table's method: the table, the map's type, the map.
const TABLE: &[Reg] = &[Reg::Rax, Reg::Rbx, Reg::Rcx];
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

/// Functions that together stand for one kind of event.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct HookSet {
    pub hooks: Vec<Hook>,
    /// Functions of the set with copies inlined into others, which no probe on the function sees: what the set
    /// counts is a lower bound. Only profile-guided builds have any.
    pub inlined: Vec<String>,
}

/// The set that every allocation passes exactly once.
///
/// Without size-specialised functions everything goes through `mallocgc`. With them, compiled code calls them
/// directly, and `mallocgc` hands each request either to one of them or to one of the four leaves; so they and the
/// leaves are the set and `mallocgc` is not in it. Their SlowPath twins are called by them: never counted.
/// Requests of size 0 reach `mallocgc` and return before the leaves; a probe there drops them by size.
///
/// A profile-guided build (go1.24 on, where `mallocgc` became small enough) may inline `mallocgc` into newobject,
/// makeslice and the like, or a leaf into `mallocgc`. The five leaves then replace `mallocgc` if they are whole.
///
/// One exception is known: inside `runtime/secret.Do` (GOEXPERIMENT=runtimesecret) a tiny request is handed on to
/// mallocgcSmallNoScanSC2 and counts twice.
pub fn alloc_hooks(image: &GoImage) -> HookSet {
    let mut specialised = image.function_names(is_specialised);
    specialised.dedup();
    let leaves: Vec<String> = LEAVES.iter().map(|n| (*n).to_owned()).collect();
    let sets = if specialised.is_empty() {
        let mut five = leaves;
        five.push("runtime.mallocgcTiny".to_owned());
        vec![vec!["runtime.mallocgc".to_owned()], five]
    } else {
        specialised.extend(leaves);
        vec![specialised]
    };
    let all: Vec<&str> = sets.iter().flatten().map(String::as_str).collect();
    let inlined = image.inlined(&all);
    let is_whole = |set: &&Vec<String>| {
        set.iter().all(|n| !inlined.contains(n)) && set.iter().any(|n| image.function(n).is_some())
    };
    let chosen = sets.iter().find(is_whole).unwrap_or(&sets[0]);
    HookSet {
        hooks: present(image, chosen, Shape::Alloc, ALLOC),
        inlined: chosen.iter().filter(|n| inlined.contains(*n)).cloned().collect(),
    }
}

fn is_specialised(name: &str) -> bool {
    SPECIALISED.iter().any(|family| {
        name.strip_prefix(family).is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
    })
}

/// Every `m[k] = v` in compiled code and in reflect calls one of the first once. Every `delete(m, k)` calls one of the
/// others, which from go1.24 on end in the map's own `Delete`, once; a small one of them is inlined into reflect's, so
/// that one is probed where it is. Some deletions from an empty map end before it.
///
/// Around them go maps.Clone, `clear`, a loop that deletes every key, which becomes `clear`, and sync.Map from go1.24
/// on (internal/runtime/maps, internal/sync).
pub fn map_hooks(image: &GoImage) -> HookSet {
    const WRITE: [&str; 6] = [
        "runtime.mapassign",
        "runtime.mapassign_fast32",
        "runtime.mapassign_fast32ptr",
        "runtime.mapassign_fast64",
        "runtime.mapassign_fast64ptr",
        "runtime.mapassign_faststr",
    ];
    const DELETE: [&str; 4] = [
        "runtime.mapdelete",
        "runtime.mapdelete_fast32",
        "runtime.mapdelete_fast64",
        "runtime.mapdelete_faststr",
    ];
    const METHOD: &str = "internal/runtime/maps.(*Map).Delete";
    let mut hooks = present(image, &WRITE, Shape::MapWrite, MAP);
    let mut family: Vec<&str> = WRITE.into();
    let method = image.function(METHOD).is_some() && image.inlined(&[METHOD]).is_empty();
    if method {
        hooks.extend(methods(present(image, &[METHOD], Shape::MapDelete, MAP), MAP_FIRST));
    } else {
        family.extend(DELETE);
        hooks.extend(present(image, &DELETE, Shape::MapDelete, MAP));
    }
    HookSet { hooks, inlined: image.inlined(&family).into_iter().collect() }
}

/// The same hooks, with the map where `flags` say.
fn methods(hooks: Vec<Hook>, flags: u8) -> impl Iterator<Item = Hook> {
    hooks.into_iter().map(move |hook| Hook { flags, ..hook })
}

/// Calls that make room in a map, a handful in the life of most: up to go1.23 `hashGrow` (runtime/map.go), later a
/// table's `rehash`, which grows or splits it, and the first table made (internal/runtime/maps, table.go and map.go).
/// A map that was made large enough passes none of them.
pub fn map_growth_hooks(image: &GoImage) -> HookSet {
    const OLD: &str = "runtime.hashGrow";
    const REHASH: &str = "internal/runtime/maps.(*table).rehash";
    const PARTS: [&str; 2] = ["internal/runtime/maps.(*table).grow", "internal/runtime/maps.(*table).split"];
    const TO_TABLE: &str = "internal/runtime/maps.(*Map).growToTable";
    let inlined = image.inlined(&[OLD, REHASH, PARTS[0], PARTS[1], TO_TABLE]);
    let whole = |name: &&str| !inlined.contains(*name);
    let tables: &[&str] = if whole(&REHASH) { &[REHASH] } else { &PARTS };
    let mut hooks = present(image, &[OLD], Shape::MapGrow, MAP);
    hooks.extend(methods(present(image, tables, Shape::MapGrow, TABLE), MAP_THIRD));
    hooks.extend(methods(present(image, &[TO_TABLE], Shape::MapGrow, MAP), MAP_FIRST));
    let missed = tables.iter().chain(&[OLD, TO_TABLE]).filter(|name| !whole(name));
    HookSet { hooks, inlined: missed.map(|name| (*name).to_owned()).collect() }
}

/// How this program's maps are made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MapKind {
    /// runtime/map.go: buckets of eight, up to go1.23 and with GOEXPERIMENT=noswissmap in 1.24 and 1.25.
    Buckets,
    /// internal/runtime/maps: tables of groups, from go1.24 on.
    Swiss,
}

/// By what is linked in; absent in a program without maps that grow.
pub fn map_kind(image: &GoImage) -> Option<MapKind> {
    if image.function("runtime.hashGrow").is_some() {
        return Some(MapKind::Buckets);
    }
    let swiss = image.function("internal/runtime/maps.(*Map).growToTable");
    swiss.is_some().then_some(MapKind::Swiss)
}

/// Births: `newproc1`, once per `go` statement (and per coroutine). Ends: `gdestroy` where it exists (go1.22 on),
/// called by goexit0 and by coroutine exits; before that, or where it was inlined, `goexit0`, which the runtime
/// only calls through a pointer.
pub fn goroutine_hooks(image: &GoImage) -> HookSet {
    const BIRTH: &str = "runtime.newproc1";
    const END: &str = "runtime.gdestroy";
    let inlined = image.inlined(&[BIRTH, END]);
    let mut hooks = present(image, &[BIRTH], Shape::GoBorn, GO_BORN);
    let whole = image.function(END).is_some() && !inlined.contains(END);
    hooks.extend(present(image, &[if whole { END } else { "runtime.goexit0" }], Shape::GoEnd, GO_END));
    HookSet { hooks, inlined: inlined.into_iter().filter(|n| n == BIRTH).collect() }
}

/// Functions whose callers a walk by frame pointers must not look for: a thread's first function, and those that
/// switch from a goroutine's stack to the thread's and never return to it. Go 1.24 and earlier leave the frame
/// pointer there as it was, so that the walk would go on in a stack that has moved or belongs to another thread;
/// later versions clear it (runtime/asm_amd64.s: mstart, mcall, morestack).
pub fn stack_ends(image: &GoImage) -> Vec<Function> {
    ["runtime.mstart", "runtime.mcall", "runtime.morestack"]
        .iter()
        .filter_map(|n| image.function(n))
        .collect()
}

fn present<N: AsRef<str>>(image: &GoImage, names: &[N], shape: Shape, needs: &'static [Reg]) -> Vec<Hook> {
    let there = names.iter().map(AsRef::as_ref).filter(|n| image.function(n).is_some());
    there.map(|n| Hook::new(n, shape, needs)).collect()
}
