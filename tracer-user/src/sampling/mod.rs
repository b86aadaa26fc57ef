//! From a sample back to what was sampled: inclusion probabilities, estimates and their errors.
//!
//! Pure and cited: no clock, no I/O, no Go. It never knows what a sample is of; callers say how it was drawn.

mod estimate;
mod interval;
mod poisson;
mod share;
mod total;

pub use estimate::Estimate;
pub use interval::Interval;
pub use poisson::ByBytes;
pub use total::Total;
