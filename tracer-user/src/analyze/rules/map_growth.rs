//! map-growth: a map gets ever more entries.
//!
//! The number of entries, which is read and exact, must rise evenly, in its later part too. It is a suspect, never a
//! leak: a cache that is still filling looks the same until it is full.

use crate::analyze::shape::{Doubt, Rise, Shape, shape};
use crate::analyze::{
    Answer, Finding, Growth, MapGrowth, NotYet, Slope, Subject, Verdict, code, figures, own,
};
use crate::symbolize::evidence::{Cause, Evidence, Frame, MapRow, MapSite, PinRow, Places};

pub const NAME: &str = "map-growth";

/// Readings before anything is said of a map.
const MIN_READINGS: usize = 12;
/// Seconds before anything is said: shorter growth is a burst.
const MIN_SPAN_S: f64 = 10.0;
/// A map that does not grow for this long, and for this many times its longest pause before, has stopped: it may be
/// full, or dropped and not yet collected.
const STOPPED_S: f64 = 2.0;
const STOPPED_PAUSES: f64 = 2.0;
/// Fewer entries gained than this are not worth a line.
const MIN_GAIN: f64 = 100.0;
/// A call that runs less often than this share of the entries that come does not make them.
const ABLE: f64 = 0.5;
/// A map that is too new to judge is mentioned from this many entries on.
const NEW_MAP: u64 = 10_000;

pub fn judge(evidence: &Evidence) -> Vec<Answer> {
    let mut answers: Vec<Answer> = evidence
        .maps
        .iter()
        .map(|map| judge_map(map, evidence))
        .filter(|answer| *answer != Answer::Quiet)
        .collect();
    if answers.is_empty() {
        answers.push(Answer::Quiet);
    }
    answers
}

fn judge_map(map: &MapRow, evidence: &Evidence) -> Answer {
    let Some(held) = map.held else { return Answer::Quiet };
    let points: Vec<(f64, f64)> = map.points.iter().map(|p| (p.t, p.entries as f64)).collect();
    let (Some(first), Some(last)) = (points.first(), points.last()) else { return Answer::Quiet };
    let span_s = last.0 - first.0;
    let not_yet = |reason: String, more_s: f64| {
        let name = map.type_name.clone().unwrap_or_else(|| format!("map at {:#x}", map.address));
        let needs = format!("about {} more", figures::duration(more_s.max(1.0).ceil()));
        Answer::NotYet(NotYet { rule: NAME, subject: Some(name), reason, needs })
    };
    if points.len() < MIN_READINGS || span_s < MIN_SPAN_S {
        let grows = last.1 - first.1 >= MIN_GAIN;
        if !grows || held.entries < NEW_MAP {
            return Answer::Quiet;
        }
        let each = if points.len() > 1 { span_s / (points.len() - 1) as f64 } else { 1.0 };
        let missing = MIN_READINGS.saturating_sub(points.len()) as f64 * each;
        let so_far = figures::counted(points.len() as u64, "reading");
        return not_yet(format!("grows, {so_far} so far"), missing.max(MIN_SPAN_S - span_s));
    }
    match shape(&points, MIN_GAIN) {
        // Programs have many small maps.
        Shape::TooShort | Shape::Quiet | Shape::Unsettled(Doubt::Small, _) => Answer::Quiet,
        Shape::Unsettled(doubt, rise) => not_yet(
            format!(
                "{} more entries in {}, {}",
                figures::count(rise.gain as u64),
                figures::duration(rise.span_s),
                doubt.words()
            ),
            rise.span_s,
        ),
        Shape::Rises(rise) if let Some(pause_s) = stopped(&points) => not_yet(
            format!(
                "{} more entries in {}, but none for {}",
                figures::count(rise.gain as u64),
                figures::duration(rise.span_s),
                figures::duration(pause_s)
            ),
            rise.span_s,
        ),
        Shape::Rises(rise) => {
            let growth = MapGrowth { slope: rise.slope, entries: held.entries, capacity: held.capacity };
            Answer::Finding(Box::new(finding(map, growth, &rise, evidence)))
        }
    }
}

/// For how long it has not grown, where that is longer than it ever paused before. The trend of the whole cannot see
/// this: its end counts for no more than its other parts. Entries are counted, so that there is no noise to allow for.
fn stopped(points: &[(f64, f64)]) -> Option<f64> {
    let end = points.last()?.0;
    let (mut most, mut grown_at, mut longest) = (f64::NEG_INFINITY, points.first()?.0, 0.0_f64);
    for (t, entries) in points {
        if *entries > most {
            longest = longest.max(t - grown_at);
            (most, grown_at) = (*entries, *t);
        }
    }
    let pause = end - grown_at;
    (pause > STOPPED_S && pause > STOPPED_PAUSES * longest).then_some(pause)
}

fn finding(map: &MapRow, growth: MapGrowth, rise: &Rise, evidence: &Evidence) -> Finding {
    let module = evidence.module.as_deref();
    let what = map.type_name.as_deref().unwrap_or("a map of unknown type");
    let Slope { per_unit, low, high } = rise.slope;
    let rate = figures::per_second_interval("entries", per_unit, low, high);
    let writer = writer(map);
    let places = map.places.as_ref().map(writing);
    let counted = counted(map, places.as_ref(), &evidence.pins);
    let stack: Vec<Frame> = match (writer, &counted) {
        (Some(writer), _) => writer.stack.clone(),
        // Reflection writes, too, and is no place in the code.
        (None, Some(Counted { ran, .. })) if ran.len() == 1 && ran[0].1 >= ABLE * rise.slope.per_unit => {
            ran[0].0.clone()
        }
        _ => Vec::new(),
    };
    let place = own::place(&stack, module);
    Finding {
        rule: NAME,
        verdict: Verdict::Suspect,
        subject: Subject::Map(map.id.clone()),
        title: format!("{rate}, {what}"),
        place,
        stack,
        type_name: map.type_name.clone(),
        live: None,
        cause: None,
        evidence: sentences(map, writer, counted.as_ref(), places.as_ref(), module),
        code: places,
        growth: Growth::Map(growth),
        confidence: 1.0 - rise.p,
        advice: "delete entries when they are done with, or bound the map".to_owned(),
        related: Vec::new(),
    }
}

/// The site that writes most, else the one that made it grow most often.
fn writer(map: &MapRow) -> Option<&MapSite> {
    let known = || map.sites.iter().filter(|s| !s.stack.is_empty());
    known().filter(|s| s.writes > 0).max_by_key(|s| s.writes).or_else(|| known().max_by_key(|s| s.grows))
}

/// Of the places that have to do with such maps those that write.
fn writing(places: &Places) -> Places {
    let writes = places.places.iter().filter(|p| p.cause == Cause::MapAssign);
    Places { places: writes.cloned().collect(), more: places.more }
}

/// The calls that write to maps of one type, all of them probed.
struct Counted {
    /// Those that ran, with calls a second, most calls first.
    ran: Vec<(Vec<Frame>, f64)>,
    places: usize,
}

/// Where all places in the code that write to such maps are probed, and one of them ran.
fn counted(map: &MapRow, places: Option<&Places>, pins: &[PinRow]) -> Option<Counted> {
    let places = places.filter(|places| places.more == 0 && map.may_be.is_empty())?;
    let name = map.type_name.as_ref()?;
    let of_type = |pin: &&PinRow| {
        pin.type_name.as_ref() == Some(name) && pin.place.cause == Cause::MapAssign && pin.until_s.is_none()
    };
    let mut ran: Vec<(Vec<Frame>, f64)> = Vec::new();
    for place in &places.places {
        // Several copies of an inlined call are one place.
        let copies: Vec<&PinRow> =
            pins.iter().filter(of_type).filter(|pin| pin.place.stack == place.stack).collect();
        let calls: Option<u64> = copies.iter().map(|pin| pin.calls).sum();
        let seconds = copies.iter().map(|pin| pin.counted_s).fold(f64::INFINITY, f64::min);
        match calls.filter(|_| !copies.is_empty())? {
            0 => {}
            calls => ran.push((place.stack.clone(), calls as f64 / seconds)),
        }
    }
    ran.sort_by(|a, b| b.1.total_cmp(&a.1));
    (!ran.is_empty()).then_some(Counted { ran, places: places.places.len() })
}

impl Counted {
    fn sentence(&self, module: Option<&str>) -> String {
        let of = |(stack, rate): &(Vec<Frame>, f64)| {
            let place = own::place(stack, module);
            let name = place.as_ref().or(stack.first()).map_or("", |frame| frame.function.as_str());
            format!("{name} ({} a second)", figures::count(rate.round().max(1.0) as u64))
        };
        let named: Vec<String> = self.ran.iter().take(3).map(of).collect();
        let all = match self.places {
            1 => "the one place in the code that writes to such a map".to_owned(),
            n => format!("of {n} places in the code that write to such a map {} ran", self.ran.len()),
        };
        format!("{all}: {}", named.join(", "))
    }
}

fn sentences(
    map: &MapRow,
    writer: Option<&MapSite>,
    counted: Option<&Counted>,
    places: Option<&Places>,
    module: Option<&str>,
) -> Vec<String> {
    let mut said = Vec::new();
    if let (Some(first), Some(last)) = (map.points.first(), map.points.last()) {
        said.push(format!(
            "from {} to {} entries in {}",
            figures::count(first.entries),
            figures::count(last.entries),
            figures::duration(last.t - first.t)
        ));
    }
    if let (Some(writes), Some(deletes)) = (map.writes, map.deletes) {
        said.push(format!(
            "{} and {} since attach",
            figures::counted(writes, "write"),
            match deletes {
                0 => "no deletion".to_owned(),
                n => figures::counted(n, "deletion"),
            }
        ));
    }
    match writer {
        Some(site) if site.writes > 0 => {
            let share = site.writes as f64 / map.writes.unwrap_or(site.writes).max(1) as f64;
            said.push(format!("{} of the writes come from there", figures::percent(share)));
        }
        Some(site) => {
            let room = figures::counted(site.grows, "time");
            let rest = if counted.is_some() { "" } else { "; all its writers are seen with --events map" };
            said.push(format!("it made room {room} when written to from there{rest}"));
        }
        None if counted.is_some() => {}
        None if let Some(said_of) = places.and_then(|places| {
            let what = map.type_name.as_deref().unwrap_or("such a map");
            code::sentence(places, "writes to one", what, module)
        }) =>
        {
            said.push(said_of);
        }
        None => said.push("who writes to it is seen with --sampler all --events map".to_owned()),
    }
    if writer.is_none_or(|site| site.writes == 0) {
        said.extend(counted.map(|counted| counted.sentence(module)));
    }
    said
}
