//! What the heap's growth is made of: sites of which ever more lives, or size classes with the types that grow in them
//! and the sites that allocate there. Says nothing in words.

use crate::analyze::growth::{Point, beyond_error, over_cycles, widened};
use crate::analyze::shape::{Rise, Shape, shape, warm};
use crate::analyze::stats::theil_sen;
use crate::analyze::{
    Candidate, HeapPart, HeapTrend, Live, LiveWithin, PartOf, Seen, SitesBy, Slope, TypeGrowth,
};
use crate::sampling::Interval;
use crate::symbolize::evidence::{
    AllocSite, Allocations, Amount, Census, Evidence, PinRow, SizeClass, TypePoint, TypeRow, WindowRow,
    Windows,
};
use crate::symbolize::profile::{Amounts, HeapProfile, ProfileSite, SitePoint};

/// A class or site is named from this share of the whole growth on.
const MIN_SHARE: f64 = 0.05;
/// A type is named from this share of its class's growth on; or of what its class holds, where it is too early for a
/// trend of its own.
const MIN_TYPE_SHARE: f64 = 0.1;
const DOMINANT: f64 = 0.8;
/// Types named per class.
const MAX_TYPES: usize = 3;
/// Names that one type may have, where types cannot be told apart; more say nothing.
const MAX_NAMES: usize = 3;
/// Sites named per class, and the smallest share of its allocations that is worth naming.
const MAX_CANDIDATES: usize = 5;
const MIN_SITE_SHARE: f64 = 0.001;
/// A site can carry the growth of a class if it allocates at least this share of it.
const ABLE: f64 = 0.7;
/// A site of a sample keeps what a class grows by if it keeps this share of it, with a p-value below that.
const MIN_KEPT_SHARE: f64 = 0.25;
const SURE: f64 = 0.002;
/// Kept objects of a class that windows must have shown, and the share of them from which on a call is named.
const LEAST_SEEN: u64 = 20;
const MIN_SEEN_SHARE: f64 = 0.05;
/// Larger objects are in no class (runtime/sizeclasses.go, `_MaxSmallSize`).
const MAX_SMALL: u64 = 32_768;

/// Sites whose live bytes rise, by whoever followed their objects.
pub(super) fn site_parts(evidence: &Evidence, total: &HeapTrend) -> Vec<HeapPart> {
    let sites = evidence.profile.iter().flat_map(|profile| &profile.sites);
    sites.filter_map(|site| site_part(site, total)).collect()
}

fn site_part(site: &ProfileSite, total: &HeapTrend) -> Option<HeapPart> {
    let points = warm(&site.points, |p| p.t);
    let bytes = site_bytes(points);
    let objects: Vec<(f64, f64)> = points.iter().map(|p| (p.t, p.live.objects.value)).collect();
    let (first, last) = (points.first()?, points.last()?);
    let rise = rises(&bytes, total)?;
    let slope = widened(rise.slope, &bytes);
    let share = slope.per_unit / total.slope.per_unit;
    if share < MIN_SHARE || site.stack.is_empty() {
        return None;
    }
    let objects_per_s = theil_sen(&objects)?.per_unit;
    Some(HeapPart {
        what: PartOf::Site(live_of(site)),
        slope,
        objects_per_s,
        share,
        first_bytes: first.live.bytes.value as u64,
        last_bytes: last.live.bytes.value as u64,
        candidates: vec![Candidate {
            id: site.id.clone(),
            stack: site.stack.clone(),
            type_name: site.type_name.clone().or_else(|| site.live_type.clone()),
            cause: site.cause,
            share: 1.0,
            objects_per_s,
            live: Some(live_of(site)),
            seen: None,
        }],
        sites: SitesBy::Sample,
        types: Vec::new(),
    })
}

fn live_of(site: &ProfileSite) -> Live {
    let Amounts { objects, bytes } = site.amounts.live;
    let (of_objects, of_bytes) = site.amounts.live.intervals();
    Live {
        objects: objects.value,
        objects_stderr: objects.standard_error(),
        bytes: bytes.value,
        bytes_stderr: bytes.standard_error(),
        within: (objects.variance > 0.0).then_some(LiveWithin { objects: of_objects, bytes: of_bytes }),
    }
}

fn site_bytes(points: &[SitePoint]) -> Vec<Point> {
    let of =
        |p: &SitePoint| Point { t: p.t, value: p.live.bytes.value, stderr: p.live.bytes.standard_error() };
    points.iter().map(of).collect()
}

/// The sites whose objects are of this class and of which ever more lives, the fastest first. That the class grows is
/// known without them, so a significant slope is enough, if it makes up a good part of the class's.
fn keepers(class: &SizeClass, growth: Slope, profile: &HeapProfile) -> Vec<Candidate> {
    let in_class = |size: u64| class.size.map_or(size > MAX_SMALL, |of| size == of);
    let mut rows: Vec<Candidate> = Vec::new();
    for site in profile.sites.iter().filter(|s| !s.stack.is_empty()) {
        let all: u64 = site.sizes.iter().map(|(_, n)| n).sum();
        let here: u64 = site.sizes.iter().filter(|(size, _)| in_class(*size)).map(|(_, n)| n).sum();
        let Some(last) = site.points.last().filter(|_| here > 0 && here >= all / 2) else { continue };
        let Some(row) = over_cycles(&site_bytes(&site.points)) else { continue };
        let share = row.slope.per_unit / growth.per_unit;
        if row.slope.low <= 0.0 || row.p >= SURE || share < MIN_KEPT_SHARE {
            continue;
        }
        let size = last.live.bytes.value / last.live.objects.value.max(1.0);
        rows.push(Candidate {
            id: site.id.clone(),
            stack: site.stack.clone(),
            type_name: site.type_name.clone().or_else(|| site.live_type.clone()),
            cause: site.cause,
            share,
            objects_per_s: row.slope.per_unit / size.max(1.0),
            live: Some(live_of(site)),
            seen: None,
        });
    }
    rows.sort_by(|a, b| b.share.total_cmp(&a.share));
    rows.truncate(MAX_CANDIDATES);
    rows
}

/// The calls that keep most of what windows showed of a class, if that is enough to say it.
fn seen(class: u8, objects_per_s: f64, windows: &Windows, otherwise: SitesBy) -> (Vec<Candidate>, SitesBy) {
    let mut rows: Vec<&WindowRow> = windows.rows.iter().filter(|row| row.class == class).collect();
    let of: u64 = rows.iter().map(|row| row.kept).sum();
    if of < LEAST_SEEN {
        return (Vec::new(), otherwise);
    }
    rows.sort_by_key(|row| (std::cmp::Reverse(row.kept), row.returns_to));
    let candidates = rows.into_iter().filter(|row| !row.stack.is_empty()).filter_map(|row| {
        let share = row.kept as f64 / of as f64;
        let within = Interval::of_share(row.kept, of);
        (share >= MIN_SEEN_SHARE).then(|| Candidate {
            id: row.id.clone(),
            stack: row.stack.clone(),
            type_name: None,
            cause: row.cause,
            share,
            objects_per_s: share * objects_per_s,
            live: None,
            seen: Some(Seen { kept: row.kept, of, within }),
        })
    });
    let candidates = candidates.take(MAX_CANDIDATES).collect();
    (candidates, SitesBy::Windows { opened: windows.opened, open_s: windows.open_s })
}

/// A rise that is worth naming and that sampling alone does not make.
fn rises(points: &[Point], total: &HeapTrend) -> Option<Rise> {
    let worth = MIN_SHARE * total.slope.per_unit * total.span_s;
    let values: Vec<(f64, f64)> = points.iter().map(|p| (p.t, p.value)).collect();
    match shape(&values, worth) {
        Shape::Rises(rise) if beyond_error(rise.gain, points) => Some(rise),
        _ => None,
    }
}

/// Size classes whose floor rises.
pub(super) fn class_parts(evidence: &Evidence, total: &HeapTrend) -> Vec<HeapPart> {
    let part = |class| class_part(class, total, evidence);
    evidence.size_classes.iter().filter_map(part).collect()
}

fn class_part(class: &SizeClass, total: &HeapTrend, evidence: &Evidence) -> Option<HeapPart> {
    let warm = warm(&class.points, |p| p.t);
    let point = |value: u64, t| Point { t, value: value as f64, stderr: 0.0 };
    let bytes: Vec<Point> = warm.iter().map(|p| point(p.bytes, p.t)).collect();
    let Rise { slope, .. } = rises(&bytes, total)?;
    let share = slope.per_unit / total.slope.per_unit;
    if share < MIN_SHARE {
        return None;
    }
    let objects_per_s = match class.size {
        Some(size) if size > 0 => slope.per_unit / size as f64,
        _ => {
            let objects: Vec<(f64, f64)> = warm.iter().map(|p| (p.t, p.objects as f64)).collect();
            theil_sen(&objects)?.per_unit
        }
    };
    let mut types = evidence.census.as_ref().map(|c| types(class.class, slope, c)).unwrap_or_default();
    for of in &mut types {
        of.made_per_s = made_per_s(&of.names, evidence);
    }
    let (candidates, sites) = match (&evidence.allocations, &evidence.profile) {
        (Some(a), _) => (candidates(class.class, slope, objects_per_s, a, &types), SitesBy::Count),
        (None, Some(profile)) => (keepers(class, slope, profile), SitesBy::Sample),
        (None, None) => (Vec::new(), SitesBy::Nothing),
    };
    let (candidates, sites) = match &evidence.windows {
        Some(windows) if candidates.is_empty() => seen(class.class, objects_per_s, windows, sites),
        _ => (candidates, sites),
    };
    Some(HeapPart {
        what: PartOf::Class { class: class.class, size: class.size },
        slope,
        objects_per_s,
        share,
        first_bytes: warm.first()?.bytes,
        last_bytes: warm.last()?.bytes,
        candidates,
        sites,
        types,
    })
}

/// The types that grow in a class, the fastest first. Where it is too early to tell: the one type that most of the
/// class's objects are of.
fn types(class: u8, growth: Slope, census: &Census) -> Vec<TypeGrowth> {
    let known = census.types.iter().flatten().filter(|row| (1..=MAX_NAMES).contains(&row.candidates.len()));
    let here: Vec<(&TypeRow, &[TypePoint])> = known
        .filter_map(|row| {
            let of = row.classes.iter().find(|of| of.class == class)?;
            Some((row, of.points.as_slice()))
        })
        .collect();
    let grown = |row: &TypeRow, points: &[TypePoint], slope| {
        let last = points.last()?;
        let size = last.bytes as f64 / last.objects.max(1) as f64;
        let live = Live {
            objects: last.objects as f64,
            objects_stderr: last.objects_stderr,
            bytes: last.bytes as f64,
            bytes_stderr: last.objects_stderr * size,
            within: None,
        };
        Some(TypeGrowth {
            names: row.candidates.clone(),
            slope,
            live,
            places: row.places.clone(),
            made_per_s: None,
        })
    };
    let mut rising: Vec<TypeGrowth> = here
        .iter()
        .filter_map(|(row, points)| {
            let series = type_series(warm(points, |p| p.t));
            let values: Vec<(f64, f64)> = series.iter().map(|p| (p.t, p.value)).collect();
            let Shape::Rises(rise) = shape(&values, 0.0) else { return None };
            let slope = widened(rise.slope, &series);
            let enough = slope.per_unit >= MIN_TYPE_SHARE * growth.per_unit;
            (enough && beyond_error(rise.gain, &series)).then_some(())?;
            grown(row, points, Some(slope))
        })
        .collect();
    let speed = |t: &TypeGrowth| t.slope.map_or(0.0, |slope| slope.per_unit);
    rising.sort_by(|a, b| speed(b).total_cmp(&speed(a)));
    rising.truncate(MAX_TYPES);
    if !rising.is_empty() {
        return rising;
    }
    let held: u64 = census.classes.iter().filter(|c| c.class == class).map(|c| c.bytes).sum();
    let most = here.iter().max_by_key(|(_, points)| points.last().map_or(0, |p| p.bytes));
    let dominant = most.filter(|(_, points)| {
        points.last().is_some_and(|p| p.bytes as f64 >= DOMINANT * held as f64 && held > 0)
    });
    dominant.and_then(|(row, points)| grown(row, points, None)).into_iter().collect()
}

/// By all calls that make the type, where all of them are probed.
fn made_per_s(names: &[String], evidence: &Evidence) -> Option<f64> {
    let [name] = names else { return None };
    let of_type = |pin: &&PinRow| pin.type_name.as_ref() == Some(name) && pin.until_s.is_none();
    let pins: Vec<&PinRow> = evidence.pins.iter().filter(of_type).collect();
    let rates: Option<Vec<f64>> = pins.iter().map(|pin| Some(pin.calls? as f64 / pin.counted_s)).collect();
    rates.filter(|rates| !rates.is_empty()).map(|rates| rates.iter().sum())
}

/// Bytes of a type over time, with the error of the sample its objects were counted in.
fn type_series(points: &[TypePoint]) -> Vec<Point> {
    let size = |p: &TypePoint| p.bytes as f64 / p.objects.max(1) as f64;
    points
        .iter()
        .map(|p| Point { t: p.t, value: p.bytes as f64, stderr: p.objects_stderr * size(p) })
        .collect()
}

/// The sites that allocate in a class, the likeliest first: those of a type that grows there, if types are known;
/// of them those that allocate enough to carry the growth, by how near their rate is to it; then the others by share.
fn candidates(
    class: u8,
    growth: Slope,
    objects_per_s: f64,
    allocations: &Allocations,
    types: &[TypeGrowth],
) -> Vec<Candidate> {
    if allocations.counted_s <= 0.0 {
        return Vec::new();
    }
    let mut rows: Vec<(bool, f64, Candidate)> = Vec::new();
    let in_class = |s: &AllocSite| s.classes.get(&class).copied();
    // Large objects differ in size, so they are weighed in bytes; the objects of one class all weigh the same.
    let weigh = |a: Amount| {
        if class == 0 { a.rounded as f64 } else { a.objects as f64 }
    };
    let want = if class == 0 { growth.per_unit } else { objects_per_s };
    let all: f64 = allocations.sites.iter().filter_map(in_class).map(weigh).sum();
    for site in &allocations.sites {
        let Some(amount) = in_class(site) else { continue };
        let share = weigh(amount) / all;
        if site.stack.is_empty() || share < MIN_SITE_SHARE {
            continue;
        }
        let ratio = weigh(amount) / allocations.counted_s / want;
        let distance = if ratio >= ABLE { ratio.ln().abs() } else { 1e3 - share };
        let named = |t: &TypeGrowth| t.names.iter().any(|name| Some(name) == site.type_name.as_ref());
        rows.push((
            !types.iter().any(named),
            distance,
            Candidate {
                id: site.id.clone(),
                stack: site.stack.clone(),
                type_name: site.type_name.clone(),
                cause: site.cause,
                share,
                objects_per_s: amount.objects as f64 / allocations.counted_s,
                live: None,
                seen: None,
            },
        ));
    }
    rows.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
    rows.truncate(MAX_CANDIDATES);
    rows.into_iter().map(|(_, _, c)| c).collect()
}
