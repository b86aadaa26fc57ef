//! What several fuzz targets share: programs to be changed, changes, and files put together from hostile parts.
//!
//! Nothing here is a parser under test.

pub mod base;
pub mod elf;
pub mod patch;
pub mod process;
pub mod reports;
