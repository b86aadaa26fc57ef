//! The standard normal distribution's tail.

/// Two-sided tail probability of a standard normal value: `erfc(|z| / sqrt 2)`.
///
/// The rational Chebyshev fit of Numerical Recipes (Press et al., 2nd ed. 1992, section 6.2, `erfcc`), whose
/// relative error is below 1.2e-7 everywhere.
pub(super) fn two_sided_p(z: f64) -> f64 {
    let x = z.abs() / std::f64::consts::SQRT_2;
    let t = 1.0 / (1.0 + 0.5 * x);
    let fit = [
        -1.265_512_23,
        1.000_023_68,
        0.374_091_96,
        0.096_784_18,
        -0.186_288_06,
        0.278_868_07,
        -1.135_203_98,
        1.488_515_87,
        -0.822_152_23,
        0.170_872_77,
    ];
    let poly = fit.iter().rev().fold(0.0, |sum, c| sum * t + c);
    (t * (poly - x * x).exp()).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tails_equal_the_tables() {
        // Abramowitz and Stegun (1964), table 26.1.
        for (z, p) in [(0.0, 1.0), (1.0, 0.317_310_508), (1.959_963_985, 0.05), (3.0, 0.002_699_796)] {
            assert!((two_sided_p(z) - p).abs() < 1e-6, "{z}");
            assert!((two_sided_p(-z) - p).abs() < 1e-6, "{z}");
        }
    }
}
