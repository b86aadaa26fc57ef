//! The 95 % interval of a total, also where few objects were sampled, or none.
//!
//! Why this interval and no other, with its measured coverage: docs/design/0011-intervals.md.

use statrs::function::gamma::gamma_lr;

use super::estimate::Estimate;

/// Both ends of a 95 % interval.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Interval {
    pub low: f64,
    pub high: f64,
}

impl Interval {
    /// The same in another unit, such as bytes for objects.
    #[must_use]
    pub fn times(self, factor: f64) -> Self {
        Self { low: self.low * factor, high: self.high * factor }
    }
}

/// What lies below the interval and above it, each.
pub(super) const TAIL: f64 = 0.025;
/// The standard normal quantile of 1 - `TAIL`.
const Z: f64 = 1.959_963_984_540_054;
/// From this shape on (for small objects: so many samples), Wilson and Hilferty's approximation is within 0.15 % of the
/// interval's half width (measured against the gamma distribution's own quantiles).
const MANY: f64 = 100.0;
/// Of the end, at which the search for it stops.
const PRECISION: f64 = 1e-6;
/// Halvings take 20 steps to that, Newton's about four.
const MOST_STEPS: u32 = 60;

/// The mid-P gamma interval of a weighted sum of counts: M. P. Fay and S. Kim, Biometrical Journal 59 (2017), after M. P.
/// Fay and E. J. Feuer, Statistics in Medicine 16 (1997). `found` is the sum and its variance, `next` what one more count
/// of the largest weight would add to both. For counts of one weight it is the mid-P interval of a Poisson count (A.
/// Cohen and Z. Yang, Statistics in Medicine 13, 1994): with no count, 0 to -ln(0.05) = 2.996 weights.
pub(super) fn mid_p(found: Estimate, next: Estimate) -> Interval {
    if next.variance <= 0.0 || next.value <= 0.0 {
        // Nothing goes unseen.
        return Interval { low: found.value, high: found.value };
    }
    let most = Estimate { value: found.value + next.value, variance: found.variance + next.variance };
    let half = |a: f64, b: f64| f64::midpoint(a, b);
    let middle = Gamma::of(Estimate {
        value: half(found.value, most.value),
        variance: half(found.variance, most.variance),
    });
    if middle.shape >= MANY {
        return Interval { low: middle.wilson_hilferty(-Z), high: middle.wilson_hilferty(Z) };
    }
    let (least, most) = (Gamma::of(found), Gamma::of(most));
    let below = |x: f64| half(least.below(x), most.below(x));
    let density = |x: f64| half(least.density(x), most.density(x));
    // Nothing is found above it: the distribution with more is below it with a probability of 1 - TAIL / 5 or more.
    let beyond = most.wilson_hilferty(Z + 1.0).max(8.0 * most.scale);
    let end = |tail, z: f64| quantile(tail, middle.wilson_hilferty(z), beyond, below, density);
    Interval { low: end(TAIL, -Z), high: end(1.0 - TAIL, Z) }
}

/// Where a distribution function reaches a probability: Newton's steps, and halving where one would leave the bracket.
fn quantile(
    probability: f64,
    near: f64,
    beyond: f64,
    below: impl Fn(f64) -> f64,
    density: impl Fn(f64) -> f64,
) -> f64 {
    let (mut from, mut to) = (0.0, beyond);
    let least = PRECISION * beyond;
    if below(least) >= probability {
        return 0.0;
    }
    let mut x = near.clamp(least, beyond);
    for _ in 0..MOST_STEPS {
        let off = below(x) - probability;
        if off >= 0.0 {
            to = x;
        } else {
            from = x;
        }
        let step = x - off / density(x);
        let next = if step > from && step < to { step } else { f64::midpoint(from, to) };
        let moved = (next - x).abs();
        x = next;
        if moved <= PRECISION * x {
            break;
        }
    }
    x
}

/// A gamma distribution of a given mean and variance; all of it at 0 where there is no mean.
#[derive(Clone, Copy)]
struct Gamma {
    shape: f64,
    scale: f64,
    /// ln of the density's constant factor, for the density of x / scale.
    ln_factor: f64,
}

impl Gamma {
    fn of(moments: Estimate) -> Self {
        let Estimate { value, variance } = moments;
        if value <= 0.0 || variance <= 0.0 {
            return Self { shape: 0.0, scale: 0.0, ln_factor: 0.0 };
        }
        let (shape, scale) = (value * value / variance, variance / value);
        Self { shape, scale, ln_factor: -statrs::function::gamma::ln_gamma(shape) }
    }

    /// The probability of a value of at most `x`, which is above 0.
    fn below(self, x: f64) -> f64 {
        if self.shape <= 0.0 { 1.0 } else { gamma_lr(self.shape, x / self.scale) }
    }

    fn density(self, x: f64) -> f64 {
        if self.shape <= 0.0 {
            return 0.0;
        }
        let x = x / self.scale;
        ((self.shape - 1.0) * x.ln() - x + self.ln_factor).exp() / self.scale
    }

    /// The quantile at `z` standard normal deviations: E. B. Wilson and M. M. Hilferty, Proceedings of the National
    /// Academy of Sciences 17 (1931).
    fn wilson_hilferty(self, z: f64) -> f64 {
        if self.shape <= 0.0 {
            return 0.0;
        }
        let ninth = 1.0 / (9.0 * self.shape);
        let root = (1.0 - ninth + z * ninth.sqrt()).max(0.0);
        self.shape * self.scale * root.powi(3)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{ByBytes, Total};
    use super::*;

    fn near(found: Interval, low: f64, high: f64) {
        let close = |a: f64, b: f64| (a - b).abs() <= 1e-6 * b.max(1e-3);
        assert!(close(found.low, low) && close(found.high, high), "{found:?} {low} {high}");
    }

    /// The roots of the mid-P equations, by SciPy 1.17 (`gammainc`, `brentq`).
    #[test]
    fn of_counts_it_is_the_mid_p_interval() {
        let one = Estimate { value: 1.0, variance: 1.0 };
        for (n, low, high) in [
            (0.0, 0.0, 2.995_732_273_6),
            (1.0, 0.050_020_344_8, 4.931_860_524_7),
            (2.0, 0.335_329_055_5, 6.607_959_747_5),
            (3.0, 0.763_096_297_8, 8.164_469_208_5),
            (5.0, 1.831_994_808_5, 11.082_415_665_0),
            (10.0, 5.079_521_847_2, 17.824_853_696_6),
            (30.0, 20.611_522_145_5, 42.286_138_824_8),
        ] {
            near(mid_p(Estimate { value: n, variance: n }, one), low, high);
        }
        // Byte weights: both ends in their unit.
        let weight = Estimate { value: 524_288.0, variance: 524_288.0_f64.powi(2) };
        near(mid_p(Estimate::default(), weight), 0.0, 2.995_732_273_6 * 524_288.0);
    }

    /// With many, what is left to the approximation: the true ends are SciPy's.
    #[test]
    fn of_many_it_is_as_near_as_is_said() {
        for (n, low, high) in [(100.0, 81.791_821_092, 121.103_490_898), (300.0, 267.467_263, 335.427_378)] {
            let of = mid_p(Estimate { value: n, variance: n }, Estimate { value: 1.0, variance: 1.0 });
            let half: f64 = (high - low) / 2.0;
            assert!((of.low - low).abs() < 0.0015 * half && (of.high - high).abs() < 0.0015 * half, "{of:?}");
        }
    }

    /// Half of all objects in the sample, or a twentieth, and two sizes: SciPy's again, of the same equations.
    #[test]
    fn what_was_seen_has_no_error() {
        let with = |p: f64, n: u64| {
            let size = 1_000_000_u64;
            let mean = (size as f64 / -(-p).ln_1p()).round() as u64;
            Total { step: 0.0, ..ByBytes { mean }.objects(n, size) }.interval()
        };
        let close = |of: Interval, low: f64, high: f64| {
            assert!((of.low - low).abs() < 2e-4 * low && (of.high - high).abs() < 2e-4 * high, "{of:?}");
        };
        close(with(0.5, 1), 1.003_650_22, 7.482_855_70);
        close(with(0.5, 3), 3.299_376_85, 13.384_080_04);
        close(with(0.9, 3), 3.000_013_89, 5.305_830_61);
        close(with(0.3, 10), 20.002_685_10, 55.302_554_28);
        close(with(0.05, 2), 7.936_710_77, 129.755_809_85);
        let design = ByBytes { mean: 4096 };
        let mut two = design.objects(3, 64).times(64.0);
        two.add(design.objects(2, 2048).times(2048.0));
        close(two.interval(), 10_250.993_873_87, 47_881.445_545_35);
    }

    #[test]
    fn objects_far_above_the_mean_are_counted() {
        let design = ByBytes { mean: 4096 };
        let of = design.objects(5, 1 << 20);
        assert_eq!((of.interval(), of.times(4.0).interval()), (at(5.0), at(20.0)));
        assert_eq!(design.objects(0, 1 << 20).interval(), at(0.0));
        assert_eq!(ByBytes { mean: 1 }.objects(7, 48).interval(), at(7.0));
    }

    fn at(point: f64) -> Interval {
        Interval { low: point, high: point }
    }

    /// Whatever sizes, means and numbers: finite ends, in order, about the estimate.
    #[test]
    fn no_figures_break_it() {
        for mean in [0, 1, 2, 3, 1000, 524_288, u64::MAX] {
            for size in [0, 1, 16, 700, 400_000, 1 << 40, u64::MAX] {
                for n in [0, 1, 2, 7, 99, 100, 101, 1 << 20, u64::MAX] {
                    let of = ByBytes { mean }.objects(n, size);
                    let Interval { low, high } = of.interval();
                    let ordered = low <= of.value + 0.5 && of.value <= high + 0.5;
                    assert!(
                        low >= 0.0 && high.is_finite() && ordered,
                        "{mean} {size} {n}: {low} {of:?} {high}"
                    );
                }
            }
        }
    }

    #[test]
    fn ends_do_not_jump_where_the_approximation_begins() {
        let one = Estimate { value: 1.0, variance: 1.0 };
        let of = |n: f64| mid_p(Estimate { value: n, variance: n }, one);
        let (before, after) = (of(MANY - 0.5001), of(MANY - 0.4999));
        let half = (after.high - after.low) / 2.0;
        assert!((before.low - after.low).abs().max((before.high - after.high).abs()) < 0.002 * half);
    }
}
