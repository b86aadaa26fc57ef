//! Trends and waiting times of rows in the model's words: bytes or goroutines per second with interval, p-value and
//! points; quantiles of how long goroutines have waited.

use super::model::{GoroutineGrowth, Growth, WaitTimes};
use crate::analyze::growth::{Point, RowGrowth, of_counts, over_cycles, over_readings};
use crate::analyze::stats::quantiles;
use crate::analyze::{Slope, figures};
use crate::symbolize::evidence::{ClassPoint, GoroutinePoint, TypeInClass};
use crate::symbolize::profile::SitePoint;

/// Less likely than this to be chance: worth a word beside a row. A verdict asks for more.
const TOLD: f64 = 0.01;

/// "+625 KiB/s" beside a row that grew for sure.
pub(super) fn words(growth: Option<&Growth>) -> String {
    match growth {
        Some(g) if g.low > 0.0 && g.p_value.is_some_and(|p| p < TOLD) => {
            format!("  {}", figures::byte_rate(g.bytes_per_s))
        }
        _ => String::new(),
    }
}

/// The same for goroutines.
pub(super) fn goroutine_words(growth: Option<&GoroutineGrowth>) -> String {
    match growth {
        Some(g) if g.low > 0.0 && g.p_value < TOLD => {
            format!("  +{}", figures::event_rate(g.goroutines_per_s))
        }
        _ => String::new(),
    }
}

/// What a finding says of a part.
pub(super) fn of_slope(slope: Slope) -> Growth {
    Growth { bytes_per_s: slope.per_unit, low: slope.low, high: slope.high, p_value: None, gc_cycles: None }
}

fn of_row(row: RowGrowth) -> Growth {
    Growth { p_value: Some(row.p), gc_cycles: Some(row.points), ..of_slope(row.slope) }
}

/// A size class.
pub(super) fn of_class(points: &[ClassPoint]) -> Option<Growth> {
    let points: Vec<Point> =
        points.iter().map(|p| Point { t: p.t, value: p.bytes as f64, stderr: 0.0 }).collect();
    over_cycles(&points).map(of_row)
}

/// A type in all its size classes, whose points are of the same moments.
pub(super) fn of_type(classes: &[TypeInClass]) -> Option<Growth> {
    let mut sum: Vec<Point> = Vec::new();
    for class in classes {
        let points = class.points.iter().map(|p| {
            let size = p.bytes as f64 / p.objects.max(1) as f64;
            Point { t: p.t, value: p.bytes as f64, stderr: p.objects_stderr * size }
        });
        if sum.is_empty() {
            sum = points.collect();
            continue;
        }
        for (sum, point) in sum.iter_mut().zip(points) {
            sum.value += point.value;
            sum.stderr = sum.stderr.hypot(point.stderr);
        }
    }
    over_cycles(&sum).map(of_row)
}

/// What one site allocated and still lives.
pub(super) fn of_site(points: &[SitePoint]) -> Option<Growth> {
    let point =
        |p: &SitePoint| Point { t: p.t, value: p.live.bytes.value, stderr: p.live.bytes.standard_error() };
    over_cycles(&points.iter().map(point).collect::<Vec<_>>()).map(of_row)
}

/// How long goroutines have waited, from seconds and numbers of them.
pub(super) fn wait_times(waits: &[(f64, u64)]) -> Option<WaitTimes> {
    let found = quantiles(waits.iter().map(|(s, n)| ((s.max(0.0) * 1e3) as u64, *n)))?;
    let s = |ms: u64| ms as f64 / 1e3;
    Some(WaitTimes {
        p50: s(found.p50),
        p90: s(found.p90),
        p99: s(found.p99),
        max: s(found.max),
        goroutines: waits.iter().fold(0, |sum, (_, n)| sum.saturating_add(*n)),
    })
}

/// The goroutines of one creation site.
pub(super) fn of_goroutines(points: &[GoroutinePoint]) -> Option<GoroutineGrowth> {
    over_readings(&of_counts(points)).map(|RowGrowth { slope, p, points: _ }| GoroutineGrowth {
        goroutines_per_s: slope.per_unit,
        low: slope.low,
        high: slope.high,
        p_value: p,
    })
}
