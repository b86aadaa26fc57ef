//! From a sample back to what was sampled: inclusion probabilities, estimates and their errors.
//!
//! Pure and cited: no clock, no I/O, no Go. It never knows what a sample is of; callers say how it was drawn.

mod estimate;
mod poisson;

pub use estimate::Estimate;
pub use poisson::ByBytes;
