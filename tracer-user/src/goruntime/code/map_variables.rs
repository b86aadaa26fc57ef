//! Package variables that hold maps, found without symbols: where compiled code passes a map's type and a variable's
//! word to one of the runtime's map functions (`lea type, rax; mov variable, rbx; call runtime.mapassign_faststr`).
//!
//! Apart because it reads all of the program's code once, which takes a moment for a large one. It tells variables of
//! a map type only: a map in a field of something else is found when it grows.

use std::collections::BTreeMap;

use super::super::image::GoImage;
use crate::binary::operands::{self, Value};
use crate::binary::x86;
use crate::goruntime::names::types::Kind;
use crate::memory::ReadAt as _;
use crate::units::ImageAddr;

/// A variable of a map type.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct MapVariable {
    /// The word that points at the map's header.
    pub address: ImageAddr,
    pub type_addr: ImageAddr,
}

/// What was found, and what was not looked at.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct MapVariables {
    pub variables: Vec<MapVariable>,
    /// Functions whose code could not be read or decoded.
    pub undecoded: u64,
}

/// Variables kept: a program with more has them made by a generator.
const MAX_VARIABLES: usize = 4_096;
/// Code scanned at a time.
const WINDOW: u64 = 1 << 20;
/// Code beyond this is not looked at: the largest known Go programs have a third of it.
const MAX_TEXT: u64 = 1 << 30;
/// `call rel32`.
const CALL: u8 = 0xe8;
const CALL_LEN: u64 = 5;

/// Functions that take a map's type and a map (runtime/map_*.go; the names did not change with the new maps).
const FAMILIES: [&str; 5] = [
    "runtime.mapaccess",
    "runtime.mapassign",
    "runtime.mapdelete",
    "runtime.mapiterinit",
    "runtime.mapIterStart",
];

/// Looks through the main module's code.
pub fn map_variables(image: &GoImage) -> MapVariables {
    let mut targets: Vec<ImageAddr> = image
        .function_names(|name| FAMILIES.iter().any(|family| name.starts_with(family)))
        .iter()
        .filter_map(|name| image.function(name).map(|f| f.entry))
        .collect();
    targets.sort_unstable();
    let mut found = MapVariables::default();
    // A variable with two types is no map variable: some code means something else by its word.
    let mut types: BTreeMap<ImageAddr, Option<ImageAddr>> = BTreeMap::new();
    for function in callers(image, &targets) {
        let calls = image
            .text_bytes(&function)
            .ok()
            .and_then(|bytes| x86::decode(&bytes, function.entry).ok())
            .map(|insns| operands::calls(&insns));
        let Some(calls) = calls else {
            found.undecoded += 1;
            continue;
        };
        for call in calls.into_iter().filter(|c| targets.binary_search(&c.target).is_ok()) {
            let (Value::Address(type_addr), Value::WordAt(at)) = (call.first, call.second) else { continue };
            types.entry(at).and_modify(|t| *t = t.filter(|t| *t == type_addr)).or_insert(Some(type_addr));
        }
    }
    let module = image.module();
    let is_variable =
        |at: ImageAddr| at.0.is_multiple_of(8) && (module.data.contains(at) || module.bss.contains(at));
    let is_map = |at| image.type_info(at).is_ok_and(|info| info.kind == Kind::Map);
    found.variables = types
        .into_iter()
        .filter_map(|(address, type_addr)| Some(MapVariable { address, type_addr: type_addr? }))
        .filter(|v| is_variable(v.address) && is_map(v.type_addr))
        .take(MAX_VARIABLES)
        .collect();
    found
}

/// Functions with a byte pattern that may be a call of one of `targets`; decoding them tells.
fn callers(image: &GoImage, targets: &[ImageAddr]) -> Vec<super::super::image::Function> {
    let text = image.module().text;
    let end = text.end.min(ImageAddr(text.start.0.saturating_add(MAX_TEXT)));
    let memory = image.memory();
    let mut functions = Vec::new();
    let mut done = text.start;
    let mut from = text.start;
    while from < end {
        // Windows overlap by a call, so that none is cut.
        let len = (end.0 - from.0).min(WINDOW + CALL_LEN);
        let mut bytes = vec![0; len as usize];
        if memory.read(from, &mut bytes).is_ok() {
            for (i, window) in bytes.windows(CALL_LEN as usize).enumerate() {
                if window[0] != CALL {
                    continue;
                }
                let at = from.0 + i as u64;
                let distance = i32::from_le_bytes([window[1], window[2], window[3], window[4]]);
                let target = ImageAddr((at + CALL_LEN).wrapping_add_signed(i64::from(distance)));
                if ImageAddr(at) < done || targets.binary_search(&target).is_err() {
                    continue;
                }
                if let Some(function) = image.function_at(ImageAddr(at)) {
                    done = function.end;
                    functions.push(function);
                }
            }
        }
        from = ImageAddr(from.0 + WINDOW);
    }
    functions
}
