//! An executable file before anything of Go is known: ELF structure, x86-64 instructions, DWARF of structures.
//!
//! Apart from `goruntime` because nothing here depends on the language the file was written in. It reads only
//! through [`crate::memory::ReadAt`], only what it needs (an executable may be larger than what we may use),
//! and treats every byte as hostile: any input gives a value or a [`BinaryError`], never a panic.

pub mod behind;
pub mod dwarf;
pub mod elf;
pub mod file;
pub mod flow;
pub mod operands;
pub mod x86;

use crate::memory::ReadFault;
use crate::units::FileOffset;

/// Why a file cannot be used as an x86-64 executable.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BinaryError {
    /// The file is something else altogether.
    #[error("not an ELF file")]
    NotElf,
    /// A sound ELF file of a kind that is not supported.
    #[error("not supported: {what}")]
    Refused { what: &'static str },
    /// The file contradicts itself.
    #[error("damaged executable: {what} (at file offset {offset})")]
    Damaged { offset: FileOffset, what: &'static str },
    /// The file could not be read.
    #[error("executable: {0}")]
    Read(#[from] ReadFault),
}
