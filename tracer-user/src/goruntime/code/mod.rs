//! Where the runtime's data and the places worth probing are, found in the program's own instructions.
//!
//! Apart because it answers from code, not from tables: what holds for stripped programs of every release. It
//! chooses and proves places; attaching to them is `kernel`'s.

pub mod call_sites;
mod callers;
pub mod exits;
pub mod hooks;
pub mod map_variables;
pub mod pins;
pub mod recipes;
pub mod sites;
