//! ALL knowledge of Go: versions, layouts, symbols, formats. Nothing outside this room names a `runtime.` symbol.
//!
//! [`image`] is what one build's file tells (names, types, where data and probe sites are); it is immutable and
//! shared by all processes of that build. [`state`] is what a running process holds now,
//! [`heap`] its objects. Foreign bytes are read
//! through `memory::ReadAt`; there is no other I/O.

pub mod buildinfo;
pub mod code;
pub mod error;
pub mod heap;
pub mod image;
pub mod layout;
pub mod layouts;
pub mod moduledata;
pub mod modules;
pub mod names;
pub mod state;
pub mod version;
mod version_text;

pub use error::GoError;
pub use image::GoImage;
