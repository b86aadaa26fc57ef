//! The rules. Each is a function from evidence to answers and keeps no memory.

pub mod goroutine_growth;
pub mod heap_growth;
pub mod map_growth;

use super::Answer;
use crate::symbolize::evidence::Evidence;

/// One rule.
pub type Rule = fn(&Evidence) -> Vec<Answer>;

/// Every rule with the name reports use.
pub const RULES: &[(&str, Rule)] = &[
    (goroutine_growth::NAME, goroutine_growth::judge),
    (heap_growth::NAME, heap_growth::judge),
    (map_growth::NAME, map_growth::judge),
];
