//! Statistics: pure functions that cite their source, take no clock and know no Go.

mod normal;
mod quantiles;
pub mod trend;

pub use quantiles::{Quantiles, quantiles};
pub use trend::{Slope, Trend, mann_kendall, theil_sen};
