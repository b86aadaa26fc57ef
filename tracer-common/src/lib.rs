//! The contract between the eBPF programs and the user side: wire records, control values, counters.
//!
//! `no_std`, plain data. Both sides compile this file; what is not here does not cross the kernel boundary.
//! It holds no Go version and no Go struct offset: those are values the user side fills in at run time.
#![no_std]

pub mod control;
pub mod cookie;
pub mod counter;
pub mod event;
pub mod key;
#[cfg(feature = "user")]
mod pod;
pub mod sample;
