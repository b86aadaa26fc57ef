//! What a series of floors does: rises and keeps rising, levels off, swings, or nothing.
//!
//! A trend test alone accuses warm-up, bounded caches and saw-teeth that happen to end high. So a rise must be
//! significant as a whole and in its later part, must not have slowed down and must not fall back between.
//!
//! Blocks, parts and the warm-up are equal shares of time, never of points: a point comes with each GC cycle, and these
//! become rarer as a heap grows, so that what a growing heap did at last would be in few of them.
//! Numbers here were chosen against the synthetic series in the tests of the rules.

use super::stats::{Slope, mann_kendall, theil_sen};

/// Fewest points a shape is told from.
pub(super) const MIN_POINTS: usize = 8;
/// Series longer than twice this are cut into this many blocks of time, each represented by its lowest point. Neighbours
/// in a load curve depend on each other; floors of blocks much less, and a leak raises the floor.
const BLOCKS: usize = 12;
/// The whole series rises: two-sided p-value below this. Stricter than a single test needs, because a session
/// looks again and again.
pub(super) const SURE: f64 = 0.002;
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

/// A sure gain that is too small is waited for, up to so many times as long as it was watched.
pub(super) const PATIENCE: f64 = 10.0;

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

impl Rise {
    /// Seconds until the gain is so large, if it goes on.
    pub(super) fn missing_s(&self, gain: f64) -> f64 {
        (self.span_s * (gain / self.gain - 1.0)).max(1.0).ceil()
    }
}

/// What a series does.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Shape {
    /// Fewer than [`MIN_POINTS`], or in fewer blocks of its time.
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
    /// Some part of its time has no point.
    Gap,
    /// All else is sure, but it is not worth a line so far.
    Small,
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
            Doubt::Gap => "but what it did in part of that time was not seen",
            Doubt::Small => "which is little so far",
        }
    }
}

/// The shape of `points` (seconds, value), in order of time. A rise whose gain is below `worth` is in doubt where it is
/// sure otherwise and would be worth it soon, and else quiet.
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
    if slope.per_unit <= 0.0 || trend.p >= possible {
        return Shape::Quiet;
    }
    let rise = Rise { slope, p: trend.p, span_s, gain, fall: deepest_fall(&points) / gain };
    match risen(all, &points, rise) {
        shape if gain >= worth => shape,
        Shape::Rises(rise) if PATIENCE * gain >= worth => Shape::Unsettled(Doubt::Small, rise),
        _ => Shape::Quiet,
    }
}

/// The shape of `all`, whose floors rise.
fn risen(all: &[(f64, f64)], points: &[(f64, f64)], rise: Rise) -> Shape {
    let Rise { slope, gain, .. } = rise;
    let scatter = scatter(all, slope.per_unit);
    if gain < scatter {
        return Shape::Quiet;
    }
    let quarters = [0, 2, 3].map(|i| middle(all, i, 4));
    let (Some(pace), [Some(start), Some(before), Some(end)]) = (pace(points), quarters) else {
        return Shape::Unsettled(Doubt::Gap, rise);
    };
    if pace < LEVELLED {
        return Shape::Quiet;
    }
    // Six floors of the whole would leave no room for one that lies too high, where cycles are rare.
    let later = floors(later_half(all));
    let later_rises =
        theil_sen(&later).is_some_and(|s| s.low > 0.0) && mann_kendall(&later).is_some_and(|t| t.p < LIKELY);
    let even = rate(start, end) / slope.per_unit;
    let still = rate(before, end) / slope.per_unit;
    if slope.low <= KNOWN * slope.per_unit || rise.p >= SURE || gain < CLEAR * scatter {
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

/// The gain from which a rise of this series would be seen in what else it does; absent where it falls.
pub(super) fn seen_from(all: &[(f64, f64)], worth: f64) -> Option<f64> {
    let slope = theil_sen(&floors(all))?;
    (slope.high > 0.0).then(|| worth.max(CLEAR * scatter(all, slope.per_unit)))
}

/// The lowest point of each block that has one; short series as they are.
pub(super) fn floors(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    if points.len() < 2 * BLOCKS {
        return points.to_vec();
    }
    let lowest = |b| part(points, b, BLOCKS).iter().copied().min_by(|a, b| a.1.total_cmp(&b.1));
    (0..BLOCKS).filter_map(lowest).collect()
}

/// Without the first quarter of its time, in which programs warm up. `t`: when a point was taken.
pub(super) fn warm<T>(points: &[T], t: impl Fn(&T) -> f64) -> &[T] {
    &points[share(points, t, 1, 4)..]
}

fn deepest_fall(points: &[(f64, f64)]) -> f64 {
    let mut peak = f64::NEG_INFINITY;
    points.iter().fold(0.0, |deepest, (_, y)| {
        peak = peak.max(*y);
        f64::max(deepest, peak - y)
    })
}

/// The later rate over the earlier rate, between the medians of three thirds. Absent where one has no point.
fn pace(points: &[(f64, f64)]) -> Option<f64> {
    let third = |i| middle(points, i, 3);
    let (first, middle, last) = (third(0)?, third(1)?, third(2)?);
    let (early, late) = (rate(first, middle), rate(middle, last));
    if early <= 0.0 {
        // It began late; whether it goes on is for the later part to show.
        return Some(if late > 0.0 { 1.0 } else { 0.0 });
    }
    Some(late / early)
}

/// The points of the later half of the time, at least as many as a trend is told from.
fn later_half(points: &[(f64, f64)]) -> &[(f64, f64)] {
    let fewest = points.len().saturating_sub(super::stats::trend::MIN_POINTS);
    &points[share(points, |p| p.0, 1, 2).min(fewest)..]
}

/// From one point to another.
fn rate(from: (f64, f64), to: (f64, f64)) -> f64 {
    (to.1 - from.1) / (to.0 - from.0)
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

/// The medians of x and of y in the `i`-th of `of` parts; absent where no point is in it.
fn middle(points: &[(f64, f64)], i: usize, of: usize) -> Option<(f64, f64)> {
    let part = part(points, i, of);
    let of = |value: fn(&(f64, f64)) -> f64| median(&mut part.iter().map(value).collect::<Vec<_>>());
    (!part.is_empty()).then(|| (of(|p| p.0), of(|p| p.1)))
}

/// The points in the `i`-th of `of` parts that are equal in time.
fn part(points: &[(f64, f64)], i: usize, of: usize) -> &[(f64, f64)] {
    let before = |i| share(points, |p| p.0, i, of);
    &points[before(i)..before(i + 1).max(before(i))]
}

/// How many points lie in the first `i` of `of` parts that are equal in time; with `i` = `of` all do. They are in order
/// of time.
fn share<T>(points: &[T], t: impl Fn(&T) -> f64, i: usize, of: usize) -> usize {
    let (Some(first), Some(last)) = (points.first(), points.last()) else { return 0 };
    if i == of {
        return points.len();
    }
    let until = t(first) + (t(last) - t(first)) * i as f64 / of as f64;
    points.partition_point(|p| t(p) < until)
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
    fn little_growth_is_quiet_only_where_it_is_not_sure() {
        let little = |f: fn(f64) -> f64| {
            let points: Vec<(f64, f64)> = (0..60).map(f64::from).map(|t| (t, f(t))).collect();
            shape(&points, 1000.0)
        };
        assert!(matches!(little(|t| 5.0 * t), Shape::Unsettled(Doubt::Small, rise) if rise.gain < 1000.0));
        assert_eq!(little(|t| 1.5 * t), Shape::Quiet, "eleven times as long");
        assert_eq!(little(|_| 7.0), Shape::Quiet);
        assert_eq!(little(|t| t.min(25.0)), Shape::Quiet);
        assert_eq!(little(|t| if t < 40.0 { 1.0 } else { 500.0 }), Shape::Quiet);
        assert_eq!(little(|t| 3.0 * (t % 20.0)), Shape::Quiet);
    }

    #[test]
    fn parts_are_equal_in_time_however_points_are_spread() {
        // Twelve in the first second, then one a second.
        let crowd = (0..12).map(|n| f64::from(n) / 12.0);
        let points: Vec<(f64, f64)> = crowd.chain((1..=24).map(f64::from)).map(|t| (t, t)).collect();
        let cut = |i, of| part(&points, i, of).iter().map(|p| p.0).collect::<Vec<_>>();
        assert_eq!(cut(3, 4), [18.0, 19.0, 20.0, 21.0, 22.0, 23.0, 24.0]);
        assert_eq!(cut(1, 12), [2.0, 3.0]);
        assert_eq!((0..4).map(|i| cut(i, 4).len()).sum::<usize>(), points.len());
        assert_eq!(warm(&points, |p| p.0)[..1], [(6.0, 6.0)]);
        assert_eq!(later_half(&points)[..1], [(12.0, 12.0)]);
        assert_eq!(floors(&points)[..3], [(0.0, 0.0), (2.0, 2.0), (4.0, 4.0)]);
        assert_eq!((part(&[], 0, 4).len(), warm(&[], |p: &(f64, f64)| p.0).len()), (0, 0));
        assert_eq!(part(&[(1.0, 1.0); 3], 3, 4).len(), 3, "all of one moment");
    }

    #[test]
    fn a_part_that_was_not_seen_leaves_a_rise_in_doubt() {
        let seen = (0..30).chain(50..80).map(f64::from);
        let points: Vec<(f64, f64)> = seen.map(|t| (t, 5.0 * t)).collect();
        assert!(matches!(shape(&points, 1.0), Shape::Rises(_)), "half a quarter is enough");
        let seen = (0..21).chain(60..80).map(f64::from);
        let points: Vec<(f64, f64)> = seen.map(|t| (t, 5.0 * t)).collect();
        let shape = shape(&points, 1.0);
        assert!(matches!(shape, Shape::TooShort | Shape::Unsettled(Doubt::Gap, _)), "{shape:?}");
        let few: Vec<(f64, f64)> = points.iter().copied().step_by(2).collect();
        assert!(matches!(super::shape(&few, 1.0), Shape::Unsettled(Doubt::Gap, _)));
    }

    #[test]
    fn the_rate_of_a_clean_rise_is_exact() {
        let Shape::Rises(rise) = of(|t| 5.0 * t) else { panic!("a line rises") };
        assert!((rise.slope.per_unit - 5.0).abs() < 1e-9);
        assert!(rise.slope.low <= 5.0 && rise.slope.high >= 5.0);
        assert!(rise.fall.abs() < 1e-9);
    }
}
