//! The `tracer` binary: nothing but a door to `cli`.
fn main() {}
