//! The harness of the live tests: real Go programs, the real `tracer` binary, nothing faked.
//!
//! Apart from the tests so that each of them is a page about one promise. It starts and ends only processes of its own, by pid.

pub mod cell;
pub mod cgroup;
pub mod chain;
pub mod classes;
pub mod counting;
pub mod events;
pub mod followed;
pub mod go;
pub mod image;
pub mod instructions;
pub mod kernel_side;
pub mod layouts;
pub mod privileges;
pub mod readings;
pub mod real_programs;
pub mod report;
pub mod requirements;
pub mod scratch;
pub mod swap;
pub mod table;
pub mod target;
pub mod tracer;
pub mod typed;

mod lines;
