//! Statistics: pure functions that cite their source, take no clock and know no Go.

mod normal;
pub mod trend;

pub use trend::{Slope, Trend, mann_kendall, theil_sen};
