//! Package variables that hold maps, found without symbols: where compiled code passes a map's type and a variable's
//! word to one of the runtime's map functions (`lea type, rax; mov variable, rbx; call runtime.mapassign_faststr`).
//!
//! It tells variables of a map type only: a map in a field of something else is found when it grows.

use std::collections::BTreeMap;

use super::super::image::GoImage;
use crate::binary::operands::{Call, Value};
use crate::goruntime::names::types::Kind;
use crate::units::ImageAddr;

/// A variable of a map type.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct MapVariable {
    /// The word that points at the map's header.
    pub address: ImageAddr,
    pub type_addr: ImageAddr,
}

/// Variables kept: a program with more has them made by a generator.
const MAX_VARIABLES: usize = 4_096;

/// Functions that take a map's type and a map (runtime/map_*.go; the names did not change with the new maps).
const FAMILIES: [&str; 5] = [
    "runtime.mapaccess",
    "runtime.mapassign",
    "runtime.mapdelete",
    "runtime.mapiterinit",
    "runtime.mapIterStart",
];

pub(super) fn takes_map(function: &str) -> bool {
    FAMILIES.iter().any(|family| function.starts_with(family))
}

/// What was passed as a map, with its type. A variable with two types is no map variable: some code means something else
/// by its word.
#[derive(Default)]
pub(super) struct Collected(BTreeMap<ImageAddr, Option<ImageAddr>>);

impl Collected {
    /// A call of a function that takes a map.
    pub(super) fn see(&mut self, call: &Call) {
        if let [Value::Address(type_addr), Value::WordAt(at), ..] = call.arguments {
            self.0.entry(at).and_modify(|t| *t = t.filter(|t| *t == type_addr)).or_insert(Some(type_addr));
        }
    }

    pub(super) fn variables(self, image: &GoImage) -> Vec<MapVariable> {
        let module = image.module();
        let is_variable =
            |at: ImageAddr| at.0.is_multiple_of(8) && (module.data.contains(at) || module.bss.contains(at));
        let is_map = |at| image.type_info(at).is_ok_and(|info| info.kind == Kind::Map);
        self.0
            .into_iter()
            .filter_map(|(address, type_addr)| Some(MapVariable { address, type_addr: type_addr? }))
            .filter(|v| is_variable(v.address) && is_map(v.type_addr))
            .take(MAX_VARIABLES)
            .collect()
    }
}
