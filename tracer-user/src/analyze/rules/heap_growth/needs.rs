//! What heap-growth waits for, in words: GC cycles, and when they can be expected. Says nothing of what grows.

use super::{MIN_CYCLES, MIN_SPAN_S};
use crate::analyze::figures;
use crate::symbolize::evidence::GcState;

/// A program that gives no other reason to collect is made to that often (runtime/proc.go, forcegcperiod); not with
/// GOGC=off (runtime/mgc.go, gcTrigger.test).
const FORCED_S: f64 = 120.0;
/// Gaps between cycles that the present rate is taken from.
const RECENT: usize = 4;
/// A program fell silent where the last cycle is that many seconds and that many gaps ago.
const SILENT_S: f64 = 10.0;
const SILENT_GAPS: f64 = 4.0;

/// When the next cycles come.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Pace {
    /// One in so many seconds.
    Each(f64),
    /// The runtime makes them, the last one so many seconds ago.
    Forced(f64),
}

fn pace(gc: &GcState, now: f64) -> Pace {
    let since = since(gc, now);
    // One that came when the runtime makes one was made by it.
    let forced = gaps(gc).next().is_some_and(|gap| gap >= FORCED_S);
    if gc.gogc >= 0 && (fell_silent(gc, now) || forced) {
        Pace::Forced(since)
    } else {
        Pace::Each(mean_gap(gc).max(since))
    }
}

/// Seconds since the last cycle.
fn since(gc: &GcState, now: f64) -> f64 {
    gc.points.last().map_or(gc.watched_s, |last| (now - last.t).max(0.0))
}

/// Seconds between cycles, the last gap first.
fn gaps(gc: &GcState) -> impl Iterator<Item = f64> {
    gc.points.windows(2).rev().take(RECENT).map(|two| two[1].t - two[0].t)
}

fn mean_gap(gc: &GcState) -> f64 {
    match gaps(gc).count() {
        0 => gc.watched_s,
        n => gaps(gc).sum::<f64>() / n as f64,
    }
}

fn fell_silent(gc: &GcState, now: f64) -> bool {
    since(gc, now) > SILENT_S.max(SILENT_GAPS * mean_gap(gc))
}

/// Before the first cycle.
pub(super) fn first_cycles(gc: &GcState) -> String {
    match gc.memory_limit {
        _ if gc.gogc >= 0 => {
            format!("{MIN_CYCLES} GC cycles; a quiet Go program makes one every 2 minutes")
        }
        Some(limit) => format!(
            "{MIN_CYCLES} GC cycles; with GOGC=off they begin near the memory limit of {}",
            figures::bytes(limit)
        ),
        None => format!(
            "{MIN_CYCLES} GC cycles: set GOGC or GOMEMLIMIT, or make the program collect (its \
             /debug/pprof/heap?gc=1 does); --sampler all counts what each site allocates meanwhile"
        ),
    }
}

/// After `gc`'s first cycle, with too few of them or too short a span from the first to the last.
pub(super) fn more_cycles(gc: &GcState, now: f64, span: f64) -> String {
    let missing = MIN_CYCLES.saturating_sub(gc.points.len());
    let longer = MIN_SPAN_S - span;
    if missing == 0 && !fell_silent(gc, now) {
        return format!("about {} more", figures::duration(longer.max(0.0).ceil()));
    }
    // One that comes later than all others makes the span longer.
    let missing = missing.max(1);
    let cycles = format!("{missing} more GC cycle{}", if missing == 1 { "" } else { "s" });
    if gc.is_off() {
        return format!("{cycles}, which come only when the program itself collects");
    }
    let about = |wait: f64| figures::duration(wait.max(longer).ceil());
    match pace(gc, now) {
        Pace::Each(each) => {
            format!("{cycles}, about {} at the present rate", about(missing as f64 * each))
        }
        Pace::Forced(since) => format!(
            "{cycles}, about {}: a quiet Go program makes one every 2 minutes, the last was {} ago",
            about(missing as f64 * FORCED_S - since),
            figures::duration(since)
        ),
    }
}

/// There are enough cycles, but too many of them close together.
pub(super) fn a_fuller_series(gc: &GcState, now: f64) -> String {
    if gc.is_off() {
        return "more GC cycles, which come only when the program itself collects".to_owned();
    }
    match pace(gc, now) {
        Pace::Each(each) => {
            format!("more GC cycles; at present one comes every {}", figures::short_time(each))
        }
        Pace::Forced(_) => "more GC cycles; a quiet Go program makes one every 2 minutes".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::symbolize::evidence::GcPoint;

    fn cycles(moments: &[f64]) -> GcState {
        let point = |(t, cycle): (&f64, u32)| GcPoint { t: *t, cycle, live_bytes: 1 << 20 };
        let points: Vec<GcPoint> = moments.iter().zip(1..).map(point).collect();
        GcState { watched_s: points.last().map_or(40.0, |p| p.t), points, gogc: 100, ..GcState::default() }
    }

    #[test]
    fn the_present_rate_is_that_of_the_last_cycles() {
        let burst = cycles(&[0.1, 0.2, 0.3, 0.4]);
        assert_eq!(more_cycles(&burst, 0.4, 0.3), "8 more GC cycles, about 10s at the present rate");
        // Silent since: the next comes two minutes after the last.
        assert_eq!(
            more_cycles(&burst, 40.4, 0.3),
            "8 more GC cycles, about 15m20s: a quiet Go program makes one every 2 minutes, the last was 40s ago"
        );
        // The runtime made the last one.
        let forced = cycles(&[0.1, 0.2, 0.3, 0.4, 120.5]);
        assert!(more_cycles(&forced, 121.5, 120.4).starts_with("7 more GC cycles, about 13m59s: a quiet"));
        // Enough of them, in too short a time.
        let enough: Vec<f64> = (1..=20).map(|n| f64::from(n) / 10.0).collect();
        assert_eq!(more_cycles(&cycles(&enough), 2.1, 1.9), "about 9s more");
        assert!(
            more_cycles(&cycles(&enough), 42.0, 1.9).starts_with("1 more GC cycle, about 1m20s: a quiet")
        );
        // Slower than before, and not yet silent.
        let slower = cycles(&[1.0, 2.0, 4.0, 8.0, 16.0]);
        assert_eq!(pace(&slower, 17.0), Pace::Each(3.75));
        assert_eq!(pace(&slower, 24.0), Pace::Each(8.0));
        assert_eq!(pace(&cycles(&[30.0]), 31.0), Pace::Each(30.0));
        let needs = a_fuller_series(&burst, 40.4);
        assert_eq!(needs, "more GC cycles; a quiet Go program makes one every 2 minutes");
    }

    #[test]
    fn with_gogc_off_nothing_is_promised() {
        let of = |moments: &[f64], memory_limit| GcState { gogc: -1, memory_limit, ..cycles(moments) };
        for gc in [of(&[], None), of(&[], Some(1 << 30)), of(&[1.0, 2.0], None)] {
            let needs = if gc.points.is_empty() { first_cycles(&gc) } else { more_cycles(&gc, 200.0, 1.0) };
            assert!(!needs.contains("2 minutes") && !needs.contains("about"), "{needs}");
        }
        assert!(first_cycles(&of(&[], None)).contains("set GOGC or GOMEMLIMIT"));
        assert!(first_cycles(&of(&[], Some(1 << 30))).contains("near the memory limit of 1.0 GiB"));
        // Near its limit it collects as any other does, but is not made to.
        assert_eq!(pace(&of(&[1.0, 2.0], Some(1 << 30)), 200.0), Pace::Each(198.0));
        assert!(first_cycles(&cycles(&[])).contains("2 minutes"));
    }
}
