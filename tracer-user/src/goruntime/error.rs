//! The one error of everything that reads a Go program.
//!
//! Apart so that each kind of refusal has one place and one sentence. It holds plain values only; who prints it
//! adds the pid and what to do next.

use super::layout::Known;
use super::version::GoVersion;
use crate::binary::BinaryError;
use crate::memory::ReadFault;

/// Why a Go program, or a part of it, cannot be read or traced.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum GoError {
    /// Not a Go executable, or Go in a form that is not supported, named.
    #[error("not a Go program: {why}")]
    NotGo { why: String },
    /// A Go version outside what was verified.
    #[error("{found} is not supported (supported: {range})")]
    Unsupported { found: String, range: Box<str> },
    /// A Go version above what was verified, whose structures are not those of the newest known one.
    #[error("{found} is newer than this tracer, which knows {range}, and its runtime is another: {why}")]
    Newer { found: String, range: Box<str>, why: String },
    /// A structure of the runtime does not look as this version's should.
    #[error("the Go runtime's {field} is not as expected: {failed}")]
    Layout { field: &'static str, failed: String },
    /// A table of the executable contradicts itself.
    #[error("damaged Go executable: {what} (at {at:#x})")]
    Broken { what: &'static str, at: u64 },
    /// A function has no instruction that can be probed safely and cheaply.
    #[error("{function} cannot be probed: {why}")]
    NoSite { function: String, why: String },
    /// The file below the Go parts.
    #[error(transparent)]
    Binary(#[from] BinaryError),
    /// Bytes that could not be read.
    #[error(transparent)]
    Read(#[from] ReadFault),
}

impl GoError {
    pub(crate) fn newer(version: &GoVersion, known: Known, why: &str) -> Self {
        Self::Newer { found: version.to_string(), range: known.range().into(), why: why.to_owned() }
    }
}
