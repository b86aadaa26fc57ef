//! The kernel's door: load the eBPF object, attach, drain the ring, read the counting tables.
//!
//! Knows eBPF and nothing of Go: sites arrive as file offsets with cookies, sizes as a table. It decides
//! nothing; what to attach and when is the session's business. A uprobe is never placed on function return.

pub mod attach;
pub mod calibrate;
pub mod capability;
pub mod error;
mod multi;
pub mod object;
pub mod priority;
pub mod ring;
pub mod tables;

pub use attach::{AttachChoice, AttachKind, Attachment, Site};
pub use error::KernelError;
pub use object::Kernel;
