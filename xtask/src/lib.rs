//! The project's own tasks, one per file, as functions that the tests call too.
//!
//! What a task needs from outside (packages, toolchains, kernels) it brings itself by the ordinary clients, or it refuses with one
//! sentence that says what to install. Nothing here is part of the product.
#![expect(
    clippy::print_stderr,
    reason = "a task says on stderr what it is doing; stdout is kept for what it was asked for"
)]

pub mod accuracy;
pub mod apt;
pub mod bench;
pub mod captures;
pub mod command;
pub mod demo;
pub mod digest;
pub mod dist;
pub mod ebpf;
pub mod fixtures;
pub mod fresh;
pub mod fuzz;
pub mod go_matrix;
pub mod kernels;
pub mod layouts;
pub mod project;
pub mod setup;
pub mod test;
pub mod tidy;
pub mod toolchains;
pub mod vm;
