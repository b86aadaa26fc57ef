//! What a series of floors does: rises and keeps rising, levels off, swings, or nothing.
//!
//! A trend test alone accuses warm-up, bounded caches and saw-teeth that happen to end high. So a rise must be
//! significant as a whole and in its later part, must not have slowed down and must not fall back between.
//! Numbers here were chosen against the synthetic series in the tests of the rules.

use super::stats::{Slope, mann_kendall, theil_sen};

/// Fewest points a shape is told from.
pub(super) const MIN_POINTS: usize = 8;
/// Series longer than twice this are cut into this many blocks, each represented by its lowest point. Neighbours
/// in a load curve depend on each other; floors of blocks much less, and a leak raises the floor.
const BLOCKS: usize = 12;
/// The whole series rises: two-sided p-value below this. Stricter than a single test needs, because a session
/// looks again and again.
const SURE: f64 = 0.002;
/// The whole might rise, so that it is worth waiting for: below this. Above it noise in one of many sites would
/// keep a session waiting.
const POSSIBLE: f64 = 0.01;
/// The same while the series is still short and a real rise can hide in its noise.
const HINTED: f64 = 0.1;
/// The later part rises: below this.
const LIKELY: f64 = 0.05;
/// A fall from a peak of more than this share of the gain is a swing.
const MAX_FALL: f64 = 0.5;
/// Rate of the last third to the middle against rate of the middle third to the first: below the first the
/// series has levelled off, below the second it is slowing down.
const LEVELLED: f64 = 0.25;
const SLOWING: f64 = 0.5;
/// The lower end of the slope's interval is at least this share of the slope: else it is hardly known.
const KNOWN: f64 = 0.25;
/// The gain is at least this many times the scatter of all points about the line. A rise that goes on always gets
/// there; a floor that drifted by chance does not.
const CLEAR: f64 = 3.0;
/// All points, floors or not, gain between this share of what the slope says and its inverse. A step has a small
/// slope and a large gain; chance in the floors has a slope and no gain.
const EVEN: f64 = 0.5;
/// The last quarter's rate is at least this share of the slope.
const STILL: f64 = 0.4;

/// A rise and how sure it is.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Rise {
    /// Per second.
    pub slope: Slope,
    /// Two-sided Mann-Kendall p-value.
    pub p: f64,
    pub span_s: f64,
    /// Slope times span.
    pub gain: f64,
    /// Deepest fall from a peak, as a share of the gain.
    pub fall: f64,
}

/// What a series does.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Shape {
    /// Fewer than [`MIN_POINTS`].
    TooShort,
    /// No rise worth the name, or it ended.
    Quiet,
    /// Something rises, but not yet so that it can be told from a swing or a warm-up.
    Unsettled(Doubt, Rise),
    Rises(Rise),
}

/// Why a rise is not believed yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Doubt {
    /// It may be chance.
    Chance,
    /// It fell back in between.
    FellBack,
    /// It is getting slower.
    Slowing,
    /// Its later part alone shows no rise.
    LaterPart,
    /// It came in a step or in leaps.
    Uneven,
}

impl Doubt {
    /// The clause that follows "grew ...,".
    pub(super) fn words(self) -> &'static str {
        match self {
            Doubt::Chance => "which may be chance",
            Doubt::FellBack => "but fell back in between",
            Doubt::Slowing => "but ever more slowly: a warm-up or a cache that fills looks like this",
            Doubt::LaterPart => "but not in the later part",
            Doubt::Uneven => "but in a step rather than steadily",
        }
    }
}

/// The shape of `points` (seconds, value), in order of time. A rise whose gain is below `worth` is quiet.
pub(super) fn shape(all: &[(f64, f64)], worth: f64) -> Shape {
    let points = floors(all);
    if points.len() < MIN_POINTS {
        return Shape::TooShort;
    }
    let (Some(slope), Some(trend)) = (theil_sen(&points), mann_kendall(&points)) else {
        return Shape::TooShort;
    };
    let span_s = points[points.len() - 1].0 - points[0].0;
    let gain = slope.per_unit * span_s;
    let possible = if all.len() < 2 * BLOCKS { HINTED } else { POSSIBLE };
    if slope.per_unit <= 0.0 || gain < worth || trend.p >= possible {
        return Shape::Quiet;
    }
    let scatter = scatter(all, slope.per_unit);
    if gain < scatter {
        return Shape::Quiet;
    }
    let rise = Rise { slope, p: trend.p, span_s, gain, fall: deepest_fall(&points) / gain };
    let pace = pace(&points);
    if pace < LEVELLED {
        return Shape::Quiet;
    }
    let later = &points[points.len() - (points.len() / 2).max(super::stats::trend::MIN_POINTS)..];
    let later_rises =
        theil_sen(later).is_some_and(|s| s.low > 0.0) && mann_kendall(later).is_some_and(|t| t.p < LIKELY);
    let even = quarter(all, 3).1 - quarter(all, 0).1;
    let even = even / (slope.per_unit * (quarter(all, 3).0 - quarter(all, 0).0));
    let (before, end) = (quarter(all, 2), quarter(all, 3));
    let still = (end.1 - before.1) / (end.0 - before.0) / slope.per_unit;
    if slope.low <= KNOWN * slope.per_unit || trend.p >= SURE || gain < CLEAR * scatter {
        Shape::Unsettled(Doubt::Chance, rise)
    } else if rise.fall > MAX_FALL {
        Shape::Unsettled(Doubt::FellBack, rise)
    } else if !(EVEN..=1.0 / EVEN).contains(&even) {
        Shape::Unsettled(Doubt::Uneven, rise)
    } else if pace < SLOWING || still < STILL {
        Shape::Unsettled(Doubt::Slowing, rise)
    } else if !later_rises {
        Shape::Unsettled(Doubt::LaterPart, rise)
    } else {
        Shape::Rises(rise)
    }
}

/// The lowest point of each block; short series as they are.
pub(super) fn floors(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    if points.len() < 2 * BLOCKS {
        return points.to_vec();
    }
    (0..BLOCKS)
        .filter_map(|b| {
            let block = &points[b * points.len() / BLOCKS..(b + 1) * points.len() / BLOCKS];
            block.iter().copied().min_by(|a, b| a.1.total_cmp(&b.1))
        })
        .collect()
}

fn deepest_fall(points: &[(f64, f64)]) -> f64 {
    let mut peak = f64::NEG_INFINITY;
    points.iter().fold(0.0, |deepest, (_, y)| {
        peak = peak.max(*y);
        f64::max(deepest, peak - y)
    })
}

/// The later rate over the earlier rate, between the medians of three thirds.
fn pace(points: &[(f64, f64)]) -> f64 {
    let third = |i| part(points, i, 3);
    let (first, middle, last) = (third(0), third(1), third(2));
    let early = (middle.1 - first.1) / (middle.0 - first.0);
    let late = (last.1 - middle.1) / (last.0 - middle.0);
    if early <= 0.0 {
        // It began late; whether it goes on is for the later part to show.
        return if late > 0.0 { 1.0 } else { 0.0 };
    }
    late / early
}

/// How far points lie from a line of that slope: the median absolute deviation, scaled to a normal
/// distribution's standard deviation (F. R. Hampel, JASA 69, 1974).
fn scatter(points: &[(f64, f64)], slope: f64) -> f64 {
    let mut residuals: Vec<f64> = points.iter().map(|(x, y)| y - slope * x).collect();
    let centre = median(&mut residuals);
    let mut off: Vec<f64> = residuals.iter().map(|r| (r - centre).abs()).collect();
    1.4826 * median(&mut off)
}

/// The median of values that are not empty.
fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[(values.len() - 1) / 2].midpoint(values[values.len() / 2])
}

/// The medians of one quarter.
fn quarter(points: &[(f64, f64)], i: usize) -> (f64, f64) {
    part(points, i, 4)
}

/// The medians of x and of y in the `i`-th of `of` equal parts. There are at least [`MIN_POINTS`] points.
fn part(points: &[(f64, f64)], i: usize, of: usize) -> (f64, f64) {
    let part = &points[i * points.len() / of..(i + 1) * points.len() / of];
    let of = |value: fn(&(f64, f64)) -> f64| median(&mut part.iter().map(value).collect::<Vec<_>>());
    (of(|p| p.0), of(|p| p.1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(f: impl Fn(f64) -> f64) -> Shape {
        let points: Vec<(f64, f64)> = (0..60).map(f64::from).map(|t| (t, f(t))).collect();
        shape(&points, 1.0)
    }

    #[test]
    fn shapes_are_told_apart() {
        assert!(matches!(of(|t| 5.0 * t), Shape::Rises(_)));
        assert_eq!(of(|_| 7.0), Shape::Quiet);
        assert_eq!(of(|t| -t), Shape::Quiet);
        assert_eq!(of(|t| 100.0 * (1.0 - (-t / 8.0).exp())), Shape::Quiet);
        assert_eq!(of(|t| t.min(25.0)), Shape::Quiet);
        assert!(!matches!(of(|t| t % 20.0), Shape::Rises(_)));
        assert!(!matches!(of(|t| if t < 40.0 { 1.0 } else { 500.0 }), Shape::Rises(_)));
        assert_eq!(shape(&[(0.0, 0.0), (1.0, 1.0)], 0.0), Shape::TooShort);
    }

    #[test]
    fn the_rate_of_a_clean_rise_is_exact() {
        let Shape::Rises(rise) = of(|t| 5.0 * t) else { panic!("a line rises") };
        assert!((rise.slope.per_unit - 5.0).abs() < 1e-9);
        assert!(rise.slope.low <= 5.0 && rise.slope.high >= 5.0);
        assert!(rise.fall.abs() < 1e-9);
    }
}
