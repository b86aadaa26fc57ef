//! A share of objects that were chosen alike.

use statrs::function::beta::inv_beta_reg;

use super::interval::{Interval, TAIL};

impl Interval {
    /// The exact 95 % interval of a share of which `found` of `of` were seen: C. J. Clopper and E. S. Pearson, Biometrika 26 (1934).
    /// Of none it is 0 to 1.
    pub fn of_share(found: u64, of: u64) -> Self {
        let found = found.min(of);
        let (x, n) = (found as f64, of as f64);
        let low = if found == 0 { 0.0 } else { inv_beta_reg(x, n - x + 1.0, TAIL) };
        let high = if found == of { 1.0 } else { inv_beta_reg(x + 1.0, n - x, 1.0 - TAIL) };
        Self { low, high }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By the definition: where a tail of the binomial sum is 2.5 %.
    #[test]
    fn ends_are_the_exact_ones() {
        let near = |found, of, low: f64, high: f64| {
            let interval = Interval::of_share(found, of);
            assert!((interval.low - low).abs() < 1e-6 && (interval.high - high).abs() < 1e-6, "{interval:?}");
        };
        near(0, 0, 0.0, 1.0);
        near(0, 10, 0.0, 0.308_497_1);
        near(5, 10, 0.187_086_0, 0.812_914_0);
        near(69, 69, 0.947_942_4, 1.0);
        near(1, 400, 0.000_063_293, 0.013_849_770);
    }

    proptest::proptest! {
        #[test]
        fn any_counts_have_an_interval(found in 0_u64..1 << 40, more in 0_u64..1 << 40) {
            let Interval { low, high } = Interval::of_share(found, found + more);
            let share = found as f64 / ((found + more) as f64).max(1.0);
            proptest::prop_assert!((0.0..=share + 1e-9).contains(&low) && (share - 1e-9..=1.0).contains(&high));
        }
    }
}
