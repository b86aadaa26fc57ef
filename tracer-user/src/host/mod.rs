//! A process seen from outside: its memory, its /proc files, how to find it and how to start it.
//!
//! Knows Linux and nothing of Go or eBPF. Never writes to a target and never stops one.

mod address_space;
pub mod cgroup;
pub mod discovery;
mod error;
pub mod launch;
mod maps;
pub mod memory;
pub mod privileges;
pub mod process;
pub mod registry;
mod stat;
mod swap;
pub mod texts;

pub use error::HostError;
