//! tracer: finds out, from outside, what leaks in a Go program that is already running.
//!
//! The library behind the `tracer` binary. Data goes one way: what touches a target (`host`, `kernel`,
//! `goruntime`) makes [`record::Record`]s; what thinks (`aggregate`, `symbolize`, `analyze`, `report`)
//! only ever sees records. ARCHITECTURE.md has the map and the rules.

pub mod aggregate;
pub mod analyze;
pub mod binary;
pub mod capture;
pub mod cli;
pub mod control;
pub mod goruntime;
pub mod host;
pub mod kernel;
pub mod memory;
pub mod record;
pub mod report;
pub mod sampling;
pub mod session;
pub mod symbolize;
pub mod units;
