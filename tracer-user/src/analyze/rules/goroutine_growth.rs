//! goroutine-growth: goroutines of one creation site grow in number.
//!
//! The floor of the count must rise, in its later part too; where births and ends are counted they must agree. Where only the `go`
//! statement is, what came and is not there ended.
//! It is a leak where those goroutines wait, the old ones keep waiting and none of them ends; else suspect.

use crate::analyze::growth::{of_counts, widened};
use crate::analyze::shape::{Doubt, Rise, Shape, shape};
use crate::analyze::{Answer, Finding, GoroutineGrowth, Growth, NotYet, Subject, Verdict, figures, own};
use crate::symbolize::evidence::{Evidence, GoroutinePoint, GoroutineSite, PinRow};

pub const NAME: &str = "goroutine-growth";

/// Readings before anything is said.
const MIN_READINGS: usize = 12;
/// Seconds before anything is said: shorter growth is a burst.
const MIN_SPAN_S: f64 = 10.0;
/// Fewer goroutines gained than this are not worth a line.
const MIN_GAIN: f64 = 5.0;
/// A site that is too new to judge is mentioned from this many goroutines on.
const NEW_SITE: u64 = 50;
/// Of the goroutines, this share waits.
const WAITING_SHARE: f64 = 0.9;
/// "None ends": at most this share of those created, or falls no deeper than twice that of the gain.
const ENDED_SHARE: f64 = 0.05;

/// How far what a `go` statement started and what readings show a moment before or after may differ.
const STARTED_ERROR: f64 = 0.1;

pub fn judge(evidence: &Evidence) -> Vec<Answer> {
    let not_yet = |reason: String, needs: String| {
        vec![Answer::NotYet(NotYet { rule: NAME, subject: None, reason, needs })]
    };
    let Some(goroutines) = evidence.goroutines.as_ref().filter(|g| g.total.is_some()) else {
        return not_yet("goroutines have not been read".into(), "one reading".into());
    };
    let longest = goroutines.sites.iter().map(|s| s.points.len()).max().unwrap_or(0);
    let span = goroutines.sites.iter().map(span_s).fold(0.0, f64::max);
    if longest < MIN_READINGS || span < MIN_SPAN_S {
        let each = if longest > 1 { span / (longest - 1) as f64 } else { 1.0 };
        let missing = MIN_READINGS.saturating_sub(longest) as f64 * each;
        return not_yet(
            format!("{} of goroutines so far", figures::counted(longest as u64, "reading")),
            format!("about {} more", figures::duration(missing.max(MIN_SPAN_S - span).max(1.0).ceil())),
        );
    }
    let mut answers: Vec<Answer> = goroutines
        .sites
        .iter()
        .filter(|s| !s.internal)
        .map(|s| judge_site(s, goroutines.counted_s.filter(|_| !goroutines.uncounted), evidence))
        .filter(|a| *a != Answer::Quiet)
        .collect();
    if answers.is_empty() {
        answers.push(Answer::Quiet);
    }
    answers
}

fn span_s(site: &GoroutineSite) -> f64 {
    match (site.points.first(), site.points.last()) {
        (Some(first), Some(last)) => last.t - first.t,
        _ => 0.0,
    }
}

fn judge_site(site: &GoroutineSite, counted_s: Option<f64>, all: &Evidence) -> Answer {
    let points: Vec<(f64, f64)> = site.points.iter().map(|p| (p.t, p.count as f64)).collect();
    let unsure = |reason: String, needs: String| {
        let place = site.created_by.as_ref().map(|f| f.function.clone());
        Answer::NotYet(NotYet { rule: NAME, subject: place, reason, needs })
    };
    let rise = match shape(&points, MIN_GAIN) {
        Shape::Quiet => return Answer::Quiet,
        Shape::TooShort if site.count < NEW_SITE => return Answer::Quiet,
        Shape::TooShort => {
            return unsure(
                format!("{} appeared a moment ago", figures::counted(site.count, "goroutine")),
                "a few more readings".into(),
            );
        }
        Shape::Unsettled(doubt, rise) => {
            let why = doubt.words();
            let more = if doubt == Doubt::Small { rise.missing_s(MIN_GAIN) } else { rise.span_s };
            return unsure(
                format!(
                    "{} more goroutines in {}, {why}",
                    figures::count(rise.gain as u64),
                    figures::duration(rise.span_s)
                ),
                format!("about {} more", figures::duration(more)),
            );
        }
        Shape::Rises(rise) => rise,
    };
    let births = match births(site, counted_s) {
        Births::Unknown => started(site, &all.pins),
        known => known,
    };
    if births == Births::Balanced {
        // As many ended as were created: what the readings caught is a swing.
        return Answer::Quiet;
    }
    Answer::Finding(Box::new(finding(site, &rise, births, all.module.as_deref())))
}

/// What the counts of births and ends say beside the readings.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Births {
    /// Nothing counts them, or what counts them contradicts the readings.
    Unknown,
    /// They account for the growth.
    Agree { created: u64, ended: u64 },
    /// The `go` statement ran so often in the last seconds; the readings say how many of these ended.
    Started { created: u64, ended: f64, seconds: f64 },
    /// Births and ends balance while the readings rise.
    Balanced,
}

fn births(site: &GoroutineSite, counted_s: Option<f64>) -> Births {
    let (Some(created), Some(ended), Some(_)) = (site.created, site.ended, counted_s) else {
        return Births::Unknown;
    };
    if created == 0 {
        return Births::Unknown;
    }
    let (Some(first), Some(last)) = (site.points.first(), site.points.last()) else {
        return Births::Unknown;
    };
    let net = created as f64 - ended as f64;
    let gain = last.count as f64 - first.count as f64;
    let tolerance = (0.25 * net.abs().max(gain.abs())).max(MIN_GAIN);
    if (net - gain).abs() <= tolerance {
        Births::Agree { created, ended }
    } else if net <= 0.0 && created > 0 {
        Births::Balanced
    } else {
        Births::Unknown
    }
}

/// By its `go` statement, where all copies of it are probed.
fn started(site: &GoroutineSite, pins: &[PinRow]) -> Births {
    let probed = |at: &u64| pins.iter().find(|pin| pin.returns_to == *at && pin.until_s.is_none());
    let pins: Option<Vec<&PinRow>> = site.created_at.iter().map(probed).collect();
    let Some(pins) = pins.filter(|pins| !pins.is_empty()) else { return Births::Unknown };
    let Some(created) = pins.iter().map(|pin| pin.calls).sum::<Option<u64>>() else { return Births::Unknown };
    let since = pins.iter().map(|pin| pin.since_s).fold(f64::NEG_INFINITY, f64::max);
    let seconds = pins.iter().map(|pin| pin.counted_s).fold(f64::INFINITY, f64::min);
    let Some(last) = site.points.last().filter(|last| last.t - since >= MIN_SPAN_S) else {
        return Births::Unknown;
    };
    let Some(before) = count_at(&site.points, since) else { return Births::Unknown };
    // The readings are older than the counters.
    let seen = created as f64 * ((last.t - since) / seconds).min(1.0);
    let gain = last.count as f64 - before;
    if gain <= 0.0 || gain > (1.0 + STARTED_ERROR) * seen + MIN_GAIN {
        return Births::Unknown;
    }
    Births::Started { created, ended: (seen - gain).max(0.0), seconds }
}

/// Between two readings as if it had grown evenly.
fn count_at(points: &[GoroutinePoint], t: f64) -> Option<f64> {
    let pair = points.windows(2).find(|pair| (pair[0].t..pair[1].t).contains(&t))?;
    let part = (t - pair[0].t) / (pair[1].t - pair[0].t);
    Some(pair[0].count as f64 + part * (pair[1].count as f64 - pair[0].count as f64))
}

fn finding(site: &GoroutineSite, rise: &Rise, births: Births, module: Option<&str>) -> Finding {
    let slope = widened(rise.slope, &of_counts(&site.points));
    let last = site.points.last();
    let waiting = last.map_or(0.0, |p| p.waiting as f64 / (p.count.max(1)) as f64);
    let oldest_wait_s = last.and_then(|p| p.oldest_wait_since.map(|since| p.t - since));
    let none_ends = match births {
        Births::Agree { created, ended } => ended as f64 <= ENDED_SHARE * created as f64,
        Births::Started { created, ended, .. } => ended <= (STARTED_ERROR * created as f64).max(MIN_GAIN),
        Births::Unknown | Births::Balanced => rise.fall <= 2.0 * ENDED_SHARE,
    };
    // The runtime sets a wait's start at the first GC after the park: without one only the counts can say that
    // the old ones stay.
    let old_ones_stay = match oldest_wait_s {
        Some(age) => age >= 0.5 * rise.span_s || matches!(births, Births::Agree { .. }),
        None => matches!(births, Births::Agree { .. }),
    };
    let leak = waiting >= WAITING_SHARE && none_ends && old_ones_stay;
    let largest = site.groups.iter().filter(|g| g.waits).max_by_key(|g| g.count);
    let wait = largest.map(|g| g.state.clone());
    let mut evidence = Vec::new();
    if let (Some(first), Some(last)) = (site.points.first(), last) {
        evidence.push(format!(
            "from {} to {} in {}",
            figures::count(first.count),
            figures::counted(last.count, "goroutine"),
            figures::duration(last.t - first.t)
        ));
    }
    if let Births::Started { created, ended, seconds } = births {
        let ran = figures::counted(created, "time");
        let ended = if none_ends {
            "hardly any of them ended".to_owned()
        } else {
            format!("about {} ended", figures::count(ended.round() as u64))
        };
        let rate = figures::count((created as f64 / seconds * 60.0).round() as u64);
        evidence.push(format!(
            "its go statement ran {ran} in the last {}, {rate} a minute; {ended}",
            figures::duration(seconds)
        ));
    }
    if let Births::Agree { created, ended } = births {
        evidence.push(match ended {
            0 => format!("{} created since attach, none ended", figures::count(created)),
            _ => format!(
                "{} created and {} ended since attach",
                figures::count(created),
                figures::count(ended)
            ),
        });
    }
    if let Some(age) = oldest_wait_s {
        evidence.push(format!(
            "{} of them wait, the longest for at least {}",
            if waiting >= 1.0 { "all".to_owned() } else { figures::percent(waiting) },
            figures::duration(age)
        ));
    } else if waiting > 0.0 {
        evidence.push(format!(
            "{} of them wait; since when will be known after the next GC",
            if waiting >= 1.0 { "all".to_owned() } else { figures::percent(waiting) }
        ));
    }
    if !leak {
        evidence.push(
            if waiting < WAITING_SHARE {
                "not all of them wait, so it may be load that grows"
            } else if none_ends {
                "it is not known yet whether the old ones stay"
            } else {
                "some do end, so it may be load that grows"
            }
            .to_owned(),
        );
    }
    let name = site.created_by.as_ref().map_or("the program's start", |f| f.function.as_str());
    Finding {
        rule: NAME,
        verdict: if leak { Verdict::Leak } else { Verdict::Suspect },
        subject: Subject::GoroutineSite(site.id.clone()),
        title: format!(
            "{}, started by {name}{}",
            figures::per_minute_interval("goroutines", slope.per_unit, slope.low, slope.high),
            wait.as_ref().map(|w| format!(", blocked in {w}")).unwrap_or_default()
        ),
        place: site.created_by.clone(),
        code: None,
        stack: site.created_by.iter().cloned().collect(),
        type_name: None,
        live: None,
        cause: None,
        growth: Growth::Goroutines(GoroutineGrowth {
            slope,
            count: site.count,
            entry: site.entry.clone(),
            blocked_at: largest.map(|g| blocked_at(&g.stack, module)).unwrap_or_default(),
            oldest_wait_s,
            heap: None,
            wait: wait.clone(),
        }),
        confidence: 1.0 - rise.p,
        evidence,
        advice: advice(wait.as_deref()).to_owned(),
        related: Vec::new(),
    }
}

/// From the innermost of the user's own frames; the whole stack where none is.
fn blocked_at(
    stack: &[crate::symbolize::evidence::Frame],
    module: Option<&str>,
) -> Vec<crate::symbolize::evidence::Frame> {
    let own = own::own_frames(stack, module);
    if own.is_empty() { stack.to_vec() } else { own.into_iter().cloned().collect() }
}

/// What usually ends such a wait. The runtime's wait reasons: runtime2.go, `waitReasonStrings`.
fn advice(wait: Option<&str>) -> &'static str {
    match wait.unwrap_or("") {
        w if w.starts_with("chan receive") => {
            "close the channel they receive from when its senders are done, or let them leave by a context"
        }
        w if w.starts_with("chan send") => {
            "make sure someone receives until they have sent, or let them leave by a context"
        }
        // Nothing wakes them, whatever their context says.
        w if w.starts_with("select (no cases)") => {
            "give their select a case that ends them, such as a context's"
        }
        w if w.starts_with("select") => {
            "no case of their select becomes ready: cancel the context it waits on, or add a case that ends them"
        }
        w if w.starts_with("sync.") || w.starts_with("semacquire") => {
            "find who holds the lock or never signals: they wait for it for ever"
        }
        w if w.starts_with("IO wait") => "set deadlines on their connections, or close them",
        w if w.starts_with("sleep") => "let them leave by a context instead of sleeping on",
        _ => "make sure each of them has a way to end, and bound how many are started",
    }
}
