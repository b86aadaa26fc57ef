//! Evidence + Judgement -> [`model::Report`] -> bytes. One exporter per file, each writes to what it is given.
//!
//! Nothing here opens a file, asks a clock or judges. What comes from the target (function names, paths, type
//! names) is printed with control characters escaped.

pub mod build;
pub mod diff;
pub mod diff_input;
mod diff_lines;
mod finding;
pub mod folded;
pub mod goroutines;
mod growth;
pub mod heap;
mod heap_rows;
pub mod json;
pub mod jsonl;
mod lines;
mod live;
pub mod model;
pub mod moment;
pub mod pprof;
pub mod pprof_proto;
mod profile;
mod sizes;
pub mod text;

use std::io::{self, Write};

pub use build::{SessionFacts, TargetFacts, report};
pub use lines::printable;
pub use model::Report;

/// A report format.
pub trait Exporter {
    fn write(&self, report: &Report, out: &mut dyn Write) -> io::Result<()>;
}

#[cfg(test)]
mod tests;
