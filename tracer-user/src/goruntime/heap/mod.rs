//! The objects of the heap, found from outside: spans, their bits, and what type an object is of.
//!
//! Apart from `state`, which reads variables: here are pages full of objects, read in few large calls. Nothing is
//! held still while it is read, so that a span which can change meanwhile is looked at twice and counts only if it stayed
//! the same; what does not settle is counted as torn. No pointer found in an object is followed unless a span or the image holds it.

mod bits;
pub mod census;
mod fits;
pub mod followed;
pub mod held;
mod index;
pub mod map_headers;
mod marks;
mod picks;
pub mod placed;
mod pointer_bits;
mod sample;
mod sampled;
mod spans;
pub mod typing;
