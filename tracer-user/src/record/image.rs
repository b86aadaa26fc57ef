//! What names need to know of a target's image besides its bytes: does not change, so it is no record.

use serde::{Deserialize, Serialize};

use crate::units::ImageAddr;

/// Where a build's name sections lie, as linked.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Image {
    /// The minor version of its Go, which some numbers in the tables depend on.
    pub minor: u32,
    /// Path of the main module.
    pub module: Option<String>,
    /// The function table, from its header on.
    pub functions: ImageAddr,
    pub functions_len: u64,
    /// What the function table's offsets count from.
    pub text: ImageAddr,
    /// What the offsets of inline trees count from.
    pub inline_trees: ImageAddr,
    /// The range of type descriptors and their names.
    pub types_start: ImageAddr,
    pub types_end: ImageAddr,
}
