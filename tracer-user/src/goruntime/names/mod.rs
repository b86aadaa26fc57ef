//! What an address is called: functions, lines, inlined frames, types.
//!
//! Apart because these answers come from the file's name sections alone, so that a recording that keeps them can
//! be named again without the file. Nothing here reads a process.

pub mod book;
pub mod cause;
pub mod inlining;
pub mod kept;
pub mod pcheader;
pub mod pclntab;
pub mod type_table;
pub mod types;
