//! Does a series rise, how fast, and how sure is that: rank statistics that no outlier and no odd distribution
//! upsets.
//!
//! - Slope: the median of all pairwise slopes (H. Theil, Proc. Kon. Ned. Akad. v. Wetensch. A 53, 1950; P. K.
//!   Sen, "Estimates of the Regression Coefficient Based on Kendall's Tau", JASA 63 (324), 1968, 1379-1389).
//! - Its interval: Sen 1968 in R. O. Gilbert's form ("Statistical Methods for Environmental Pollution
//!   Monitoring", 1987, section 16.5): the pairwise slopes of rank (N -+ C) / 2 with C = z * sqrt(Var S).
//! - Trend test: H. B. Mann, Econometrica 13, 1945; M. G. Kendall, "Rank Correlation Methods", 1975, with his
//!   variance for ties and the continuity correction.

use super::normal::two_sided_p;

/// Fewest points for which the normal approximation of S is used; Kendall 1975 asks for about 10 for the test
/// and Gilbert accepts fewer with few ties. Callers ask for more.
pub const MIN_POINTS: usize = 6;
/// Pairs grow with the square of the points: above this callers thin the series first.
pub const MAX_POINTS: usize = 128;
/// The standard normal value of a two-sided 95 % interval.
const Z95: f64 = 1.959_963_984_540_054;

/// A slope per unit of x with its 95 % interval.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Slope {
    pub per_unit: f64,
    pub low: f64,
    pub high: f64,
}

/// The Mann-Kendall statistic and its two-sided p-value.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Trend {
    pub s: i64,
    pub z: f64,
    pub p: f64,
}

/// The slope of `points` (x, y); `None` with fewer than [`MIN_POINTS`] points or without two different x.
pub fn theil_sen(points: &[(f64, f64)]) -> Option<Slope> {
    let points = thinned(points);
    if points.len() < MIN_POINTS {
        return None;
    }
    let mut slopes = Vec::with_capacity(points.len() * (points.len() - 1) / 2);
    for (i, (x0, y0)) in points.iter().enumerate() {
        for (x1, y1) in &points[i + 1..] {
            let slope = (y1 - y0) / (x1 - x0);
            if slope.is_finite() {
                slopes.push(slope);
            }
        }
    }
    if slopes.is_empty() {
        return None;
    }
    slopes.sort_by(f64::total_cmp);
    let n = slopes.len() as f64;
    let c = Z95 * variance_of_s(&points).sqrt();
    // Gilbert's ranks are 1-based: the M1-th and the (M2 + 1)-th; between ranks the values are interpolated.
    let low = at_rank(&slopes, (n - c) / 2.0);
    let high = at_rank(&slopes, n.midpoint(c) + 1.0);
    Some(Slope { per_unit: at_rank(&slopes, n.midpoint(1.0)), low, high })
}

/// Tests `points`, which are in order of x, for a monotone trend in y; `None` with fewer than [`MIN_POINTS`].
pub fn mann_kendall(points: &[(f64, f64)]) -> Option<Trend> {
    let points = thinned(points);
    if points.len() < MIN_POINTS {
        return None;
    }
    let mut s = 0_i64;
    for (i, (_, y0)) in points.iter().enumerate() {
        for (_, y1) in &points[i + 1..] {
            s += match y1.total_cmp(y0) {
                std::cmp::Ordering::Greater => 1,
                std::cmp::Ordering::Less => -1,
                std::cmp::Ordering::Equal => 0,
            };
        }
    }
    let var = variance_of_s(&points);
    let z = if var > 0.0 { (s - s.signum()) as f64 / var.sqrt() } else { 0.0 };
    Some(Trend { s, z, p: two_sided_p(z) })
}

/// Kendall's variance of S: `n(n-1)(2n+5)/18` less `t(t-1)(2t+5)/18` for each group of t equal values.
fn variance_of_s(points: &[(f64, f64)]) -> f64 {
    let term = |n: usize| (n * (n - 1) * (2 * n + 5)) as f64;
    let mut ys: Vec<f64> = points.iter().map(|(_, y)| *y).collect();
    ys.sort_by(f64::total_cmp);
    let ties: f64 = ys.chunk_by(|a, b| a.total_cmp(b).is_eq()).map(|run| term(run.len())).sum();
    (term(points.len()) - ties) / 18.0
}

/// The value of 1-based rank `rank`, linear between ranks, clamped to the ends.
fn at_rank(sorted: &[f64], rank: f64) -> f64 {
    let rank = rank.clamp(1.0, sorted.len() as f64);
    let below = rank.floor();
    let (i, part) = (below as usize - 1, rank - below);
    match sorted.get(i + 1) {
        Some(above) if part > 0.0 => sorted[i] + (above - sorted[i]) * part,
        _ => sorted[i],
    }
}

/// At most [`MAX_POINTS`] of the points, evenly spread, both ends among them.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    if points.len() <= MAX_POINTS {
        return points.to_vec();
    }
    (0..MAX_POINTS).map(|i| points[i * (points.len() - 1) / (MAX_POINTS - 1)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(xs: &[f64], ys: &[f64]) -> Vec<(f64, f64)> {
        xs.iter().copied().zip(ys.iter().copied()).collect()
    }

    fn near(got: f64, want: f64) {
        assert!((got - want).abs() < 2e-6 * want.abs().max(1.0), "{got} is not {want}");
    }

    /// Expected: slope and p from scipy 1.x (`stats.theilslopes`, `stats.norm.sf` of Kendall's z), the interval
    /// from numpy's interpolation at Gilbert's ranks.
    #[test]
    fn equals_scipy_on_three_series() {
        let check = |xs: &[f64], ys: &[f64], slope: [f64; 3], s: i64, p: f64| {
            let points = series(xs, ys);
            let got = theil_sen(&points).expect("enough points");
            near(got.per_unit, slope[0]);
            near(got.low, slope[1]);
            near(got.high, slope[2]);
            let trend = mann_kendall(&points).expect("enough points");
            assert_eq!(trend.s, s);
            near(trend.p, p);
        };
        let ten: Vec<f64> = (1..=10).map(f64::from).collect();
        check(
            &ten,
            &[10.0, 15.0, 14.0, 20.0, 18.0, 25.0, 23.0, 30.0, 31.0, 29.0],
            [2.25, 1.681_520_236_418_909_7, 2.922_361_679_601_039],
            35,
            0.002_357_527_595_795_49,
        );
        let twelve: Vec<f64> = (0..12).map(f64::from).collect();
        check(
            &twelve,
            &[5.0, 5.0, 6.0, 6.0, 6.0, 7.0, 5.0, 8.0, 8.0, 9.0, 7.0, 9.0],
            [0.375, 0.168_678_393_245_237_84, 0.5],
            43,
            0.003_150_339_653_793_734_3,
        );
        check(
            &[0.0, 1.0, 3.0, 4.0, 7.0, 8.0, 11.0],
            &[9.5, 9.0, 8.7, 8.9, 6.0, 5.5, 2.0],
            [-0.5, -0.967_143_650_566_380_6, -0.15],
            -19,
            0.006_863_794_985_449_044,
        );
    }

    #[test]
    fn one_wild_point_moves_nothing() {
        let mut points: Vec<(f64, f64)> = (0..20).map(|i| (f64::from(i), f64::from(i) * 3.0)).collect();
        points[7].1 = 1e12;
        let slope = theil_sen(&points).expect("enough points");
        near(slope.per_unit, 3.0);
        assert!(slope.low > 2.9 && slope.high < 3.1, "{slope:?}");
    }

    #[test]
    fn a_constant_has_no_trend_and_few_points_have_no_answer() {
        let flat: Vec<(f64, f64)> = (0..30).map(|i| (f64::from(i), 4.0)).collect();
        near(mann_kendall(&flat).expect("enough points").p, 1.0);
        near(theil_sen(&flat).expect("enough points").per_unit, 0.0);
        assert_eq!(theil_sen(&flat[..5]), None);
        assert_eq!(mann_kendall(&flat[..5]), None);
        let one_moment = [(1.0, 1.0); 8];
        assert_eq!(theil_sen(&one_moment), None);
    }
}
