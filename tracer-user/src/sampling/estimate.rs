//! A value that was not counted but estimated, with its error.

/// An estimated amount and the variance of the estimate. Sums of independent samples add both.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Estimate {
    pub value: f64,
    /// In the square of the value's unit; 0 for what was counted.
    pub variance: f64,
}

impl Estimate {
    /// One standard error, in the value's unit.
    pub fn standard_error(self) -> f64 {
        self.variance.max(0.0).sqrt()
    }

    /// The same in another unit, such as bytes for objects.
    #[must_use]
    pub fn times(self, factor: f64) -> Self {
        Self { value: self.value * factor, variance: self.variance * factor * factor }
    }

    pub fn add(&mut self, other: Self) {
        self.value += other.value;
        self.variance += other.variance;
    }
}
