//! Estimates from sampled allocations against what they estimate, over many seeds.
//!
//! With `TRACER_ACCURACY` set, what came of it is added to that file, from which `cargo xtask accuracy` makes a page.

mod coverage;
mod errors;
mod replay;

use std::fs::OpenOptions;
use std::io::Write as _;

/// Adds a line to the page's figures, where one is being made.
fn tell(line: &str) {
    let Some(path) = std::env::var_os("TRACER_ACCURACY") else { return };
    let mut file = OpenOptions::new().create(true).append(true).open(path).unwrap();
    file.write_all(line.as_bytes()).unwrap();
}
