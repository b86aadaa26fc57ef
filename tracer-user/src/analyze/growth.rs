//! How fast one row of a report grows, and how much of that sampling alone could have made.
//!
//! Apart from `shape`, which decides what may be called a rise: a row's rate is shown whatever its shape, with its
//! interval and its p-value, and accuses nobody. It is the rate that a finding on the row would state: of the floors of
//! the series, without the first quarter of its time, where programs warm up.

use super::shape::{floors, warm};
use super::stats::trend::MIN_POINTS;
use super::stats::{Slope, mann_kendall, theil_sen};
use crate::symbolize::evidence::GoroutinePoint;

/// One figure at one moment with the error it was measured with.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Point {
    pub t: f64,
    pub value: f64,
    /// One standard error; 0 for what was counted.
    pub stderr: f64,
}

/// A row's growth.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct RowGrowth {
    /// Per second.
    pub slope: Slope,
    /// Two-sided Mann-Kendall p-value.
    pub p: f64,
    /// Points it rests on, before they were put together to floors.
    pub points: u32,
}

/// A count is a whole number where what it follows lies evenly between that and the next: the standard deviation of
/// that, 1/sqrt(12). It matters where few are counted, and readings in step with births would hide it.
const WHOLE: f64 = 0.288_675;

/// Gains below this many standard errors may be the sample's own.
const BEYOND: f64 = 3.0;
const Z95: f64 = 1.959_963_984_540_054;

/// Counts of goroutines, with the error of whole numbers.
pub fn of_counts(points: &[GoroutinePoint]) -> Vec<Point> {
    points.iter().map(|p| Point { t: p.t, value: p.count as f64, stderr: WHOLE }).collect()
}

/// The growth of a row whose points are one per GC cycle; absent where there are too few after warm-up.
pub fn over_cycles(points: &[Point]) -> Option<RowGrowth> {
    over_readings(warm(points, |p| p.t))
}

/// The same for points that need no warm-up, such as counts of goroutines.
pub fn over_readings(points: &[Point]) -> Option<RowGrowth> {
    let values: Vec<(f64, f64)> = points.iter().map(|p| (p.t, p.value)).collect();
    let values = floors(&values);
    if values.len() < MIN_POINTS {
        return None;
    }
    let slope = widened(theil_sen(&values)?, points);
    Some(RowGrowth { slope, p: mann_kendall(&values)?.p, points: points.len() as u32 })
}

/// The standard error of the last value less the first. Objects that stay in a sample make the same error at both
/// ends, so that this is an upper bound.
fn error_of_gain(points: &[Point]) -> f64 {
    match (points.first(), points.last()) {
        (Some(first), Some(last)) => first.stderr.hypot(last.stderr),
        _ => 0.0,
    }
}

/// Whether a gain is more than sampling errors make. Neighbours in a series of one sample share their errors: such a
/// series drifts like a random walk, which tests of trend, made for independent errors, take for a trend.
pub(super) fn beyond_error(gain: f64, points: &[Point]) -> bool {
    gain > BEYOND * error_of_gain(points)
}

/// The slope with its interval made wider by the sampling errors of both ends: Sen's interval knows the scatter about
/// the line only. The two are independent, so their half-widths add by squares.
pub(super) fn widened(slope: Slope, points: &[Point]) -> Slope {
    let (Some(first), Some(last)) = (points.first(), points.last()) else { return slope };
    let span = last.t - first.t;
    let error = if span > 0.0 { Z95 * error_of_gain(points) / span } else { 0.0 };
    let Slope { per_unit, low, high } = slope;
    Slope {
        per_unit,
        low: per_unit - (per_unit - low).hypot(error),
        high: per_unit + (high - per_unit).hypot(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(n: u32, per_s: f64, stderr: f64) -> Vec<Point> {
        (0..n).map(f64::from).map(|t| Point { t, value: 100.0 + per_s * t, stderr }).collect()
    }

    #[test]
    fn a_line_has_its_slope_and_too_few_points_have_none() {
        let growth = over_cycles(&line(16, 3.0, 0.0)).expect("twelve after warm-up");
        assert!((growth.slope.per_unit - 3.0).abs() < 1e-9 && growth.p < 0.001, "{growth:?}");
        assert_eq!(growth.points, 12);
        assert_eq!(over_cycles(&line(8, 3.0, 0.0)).map(|g| g.points), Some(6));
        assert_eq!(over_cycles(&line(7, 3.0, 0.0)), None);
        assert_eq!(over_readings(&[]), None);
    }

    #[test]
    fn sampling_errors_widen_the_interval() {
        // 1.96 * sqrt(2) * 5 over 10 seconds.
        let growth = over_readings(&line(11, 3.0, 5.0)).expect("enough points");
        assert!((growth.slope.high - growth.slope.per_unit - 1.385_9).abs() < 1e-3, "{growth:?}");
        assert!((growth.slope.per_unit - growth.slope.low - 1.385_9).abs() < 1e-3, "{growth:?}");
        assert!(beyond_error(21.3, &line(11, 3.0, 5.0)) && !beyond_error(21.1, &line(11, 3.0, 5.0)));
    }
}
