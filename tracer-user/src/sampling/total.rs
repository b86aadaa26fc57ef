//! What a sample says of the total it was drawn from: the estimate, its error, and what its interval is made of.
//!
//! Totals of one figure add up, whatever the sizes of their objects: a site's is the sum of its groups'. What the parts
//! were is not kept.

use super::estimate::Estimate;
use super::interval::{Interval, mid_p};

/// An estimated total, in objects or in their bytes.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Total {
    pub value: f64,
    /// In the square of the value's unit; 0 for what was counted.
    pub variance: f64,
    /// The part of the value that stands for objects that are not in the sample.
    pub(super) unseen: f64,
    /// What one more sampled object would add to that part and to the variance: of the sizes that are known of, the one
    /// that adds most variance. Nothing where every object is in the sample.
    pub(super) next: Estimate,
    /// The total is a multiple of it; 0 where the objects are of several sizes.
    pub(super) step: f64,
}

impl Total {
    /// What was counted, not estimated.
    pub fn exact(value: u64) -> Self {
        Self { value: value as f64, step: 1.0, ..Self::default() }
    }

    /// One standard error, in the value's unit.
    pub fn standard_error(self) -> f64 {
        self.estimate().standard_error()
    }

    /// Without what the interval is made of.
    pub fn estimate(self) -> Estimate {
        Estimate { value: self.value, variance: self.variance }
    }

    /// The size of each object, of a total in bytes; absent where they are of several.
    pub fn size(self) -> Option<f64> {
        Some(self.step).filter(|step| *step > 0.0)
    }

    /// The 95 % interval.
    pub fn interval(self) -> Interval {
        let Self { value, variance, unseen, next, step } = self;
        let of_unseen = mid_p(Estimate { value: unseen, variance }, next);
        let seen = value - unseen;
        let whole = |end: f64| if step > 0.0 { (end / step).round() * step } else { end };
        Interval { low: whole(seen + of_unseen.low), high: whole(seen + of_unseen.high) }
    }

    /// The same in another unit, such as bytes for objects.
    #[must_use]
    pub fn times(self, factor: f64) -> Self {
        let Self { value, variance, unseen, next, step } = self;
        Self {
            value: value * factor,
            variance: variance * factor * factor,
            unseen: unseen * factor,
            next: next.times(factor),
            step: step * factor,
        }
    }

    pub fn add(&mut self, other: Self) {
        if *self == Self::default() {
            *self = other;
            return;
        }
        let Self { value, variance, unseen, next, step } = other;
        self.value += value;
        self.variance += variance;
        self.unseen += unseen;
        if next.variance > self.next.variance {
            self.next = next;
        }
        #[expect(clippy::float_cmp, reason = "sizes are whole numbers, and the same or not")]
        if step != self.step {
            self.step = 0.0;
        }
    }
}
