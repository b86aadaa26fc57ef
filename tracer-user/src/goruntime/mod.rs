//! All knowledge of the Go runtime: versions, layouts, names, probe sites and the state in a process's memory.
//!
//! Only this room names a runtime symbol, a runtime structure's field or a Go version. It reads foreign bytes
//! through `memory::ReadAt` and does no other I/O.

pub mod layout;
pub mod layouts;
pub mod state;
