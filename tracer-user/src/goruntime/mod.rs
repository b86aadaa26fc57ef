//! ALL knowledge of Go: versions, layouts, symbols, formats. Nothing outside this room names a `runtime.` symbol.
//!
//! [`image`] is what one build's file tells (names, types, where data and probe sites are); it is immutable and
//! shared by all processes of that build. What a running process holds now is `state`'s.

pub mod buildinfo;
pub mod code;
pub mod error;
pub mod image;
pub mod moduledata;
pub mod names;
pub mod version;

pub use error::GoError;
pub use image::GoImage;
