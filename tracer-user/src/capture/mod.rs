//! One file format: a recording keeps every record of a session and the name sections of the image it watched.
//!
//! A recording is whole blocks with checksums ([`format`]): what a crash or a full disk cut off is its end, never its
//! beginning. [`recorder`] writes beside the session and never makes it wait; [`reader`] takes any bytes. This room
//! knows no Go and no target. docs/design/0003 says why the format is as it is.

pub mod create;
pub mod format;
pub mod reader;
pub mod recorder;
pub mod sections;

use std::io;

pub use create::NewFile;
pub use reader::{End, Item, read};
pub use recorder::{Part, Recorder};
pub use sections::Sections;

/// Why a recording cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    #[error("not a recording of tracer; give a file that --record wrote")]
    NotRecording,
    #[error(
        "a recording of format {found} by tracer {by}, and this tracer reads format {ours}; replay it with that one"
    )]
    Version { found: u16, by: String, ours: u16 },
    #[error("damaged recording: {what} (at offset {offset}); record again, or get an undamaged copy of it")]
    Damaged { offset: u64, what: &'static str },
    #[error("cannot read the recording: {0}")]
    Read(#[source] io::Error),
    #[error("cannot record to {path}: {why}; give --record another path")]
    Create { path: String, why: String },
    #[error("cannot start the thread that writes the recording: {0}")]
    Thread(#[source] io::Error),
}
