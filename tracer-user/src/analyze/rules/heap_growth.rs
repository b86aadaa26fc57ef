//! heap-growth: what lives after each GC grows.
//!
//! First the whole heap as the collector marked it must rise over enough cycles; then the size classes whose
//! per-cycle floor rises and explains a share of it; then, where allocations are counted, the sites that
//! allocate in those classes. A leak keeps what it allocates, so the likeliest site is the one that allocates
//! about as much as the class grows. Objects are not followed, so the verdict is suspect.

use crate::analyze::shape::{Rise, Shape, shape};
use crate::analyze::{
    Answer, Candidate, ClassGrowth, Finding, Growth, HeapTrend, NotYet, Slope, Subject, Verdict, figures, own,
};
use crate::symbolize::evidence::{Allocations, Cause, Evidence, GcState, SizeClass};

pub const NAME: &str = "heap-growth";

/// GC cycles before anything is said; the first quarter is warm-up and left out.
const MIN_CYCLES: usize = 12;
const MIN_SPAN_S: f64 = 10.0;
/// The smallest gain that is worth a line: this many bytes and this share of what lives.
const MIN_GAIN: f64 = 256.0 * 1024.0;
const MIN_GAIN_SHARE: f64 = 0.01;
/// A class is named from this share of the whole growth on.
const MIN_CLASS_SHARE: f64 = 0.05;
/// Sites named per class, and the smallest share of its allocations that is worth naming.
const MAX_CANDIDATES: usize = 5;
const MIN_SITE_SHARE: f64 = 0.001;
/// A site can carry the growth of a class if it allocates at least this share of it.
const ABLE: f64 = 0.7;

pub fn judge(evidence: &Evidence) -> Vec<Answer> {
    let not_yet = |reason: String, needs: String| {
        vec![Answer::NotYet(NotYet { rule: NAME, subject: None, reason, needs })]
    };
    let Some(gc) = &evidence.gc else {
        return not_yet("the GC's figures have not been read".into(), "one reading".into());
    };
    if gc.points.is_empty() {
        return not_yet(
            format!("no GC has run since attach ({})", figures::duration(gc.watched_s)),
            format!("{MIN_CYCLES} GC cycles; a quiet Go program makes one every 2 minutes"),
        );
    }
    let span = gc.points[gc.points.len() - 1].t - gc.points[0].t;
    if gc.points.len() < MIN_CYCLES || span < MIN_SPAN_S {
        return not_yet(
            format!("{} since attach", figures::counted(gc.points.len() as u64, "GC cycle")),
            needs_cycles(gc, span),
        );
    }
    let warm: Vec<(f64, f64)> =
        gc.points[gc.points.len() / 4..].iter().map(|p| (p.t, p.live_bytes as f64)).collect();
    let worth = MIN_GAIN.max(MIN_GAIN_SHARE * gc.live_bytes.unwrap_or(0) as f64);
    let rise = match shape(&warm, worth) {
        Shape::Quiet => return vec![Answer::Quiet],
        Shape::TooShort => {
            return not_yet("too few GC cycles after warm-up".into(), needs_cycles(gc, span));
        }
        Shape::Unsettled(doubt, rise) => {
            let why = doubt.words();
            return not_yet(
                format!("the live heap grew {}, {why}", figures::byte_rate(rise.slope.per_unit)),
                format!("about {} more", figures::duration(rise.span_s)),
            );
        }
        Shape::Rises(rise) => rise,
    };
    let cycles = gc.cycles.unwrap_or(gc.points.len() as u32);
    let total = HeapTrend { slope: rise.slope, p: rise.p, cycles, span_s: rise.span_s };
    let mut parts: Vec<ClassGrowth> = evidence
        .size_classes
        .iter()
        .filter_map(|c| class_growth(c, &total, evidence.allocations.as_ref()))
        .collect();
    if parts.is_empty() {
        return not_yet(
            format!(
                "the live heap grows {}, but no size class stands out yet",
                figures::byte_rate(rise.slope.per_unit)
            ),
            format!("about {} more", figures::duration(span / 2.0)),
        );
    }
    parts.sort_by(|a, b| b.slope.per_unit.total_cmp(&a.slope.per_unit));
    parts
        .into_iter()
        .map(|part| Answer::Finding(Box::new(compose(vec![part], total, evidence.module.as_deref()))))
        .collect()
}

fn needs_cycles(gc: &GcState, span: f64) -> String {
    let missing = MIN_CYCLES.saturating_sub(gc.points.len());
    let each = gc.watched_s / gc.points.len().max(1) as f64;
    let wait = (missing as f64 * each).max(MIN_SPAN_S - span);
    if missing == 0 {
        format!("about {} more", figures::duration(wait.ceil()))
    } else {
        format!(
            "{} more GC cycle{}, about {} at the present rate",
            missing,
            if missing == 1 { "" } else { "s" },
            figures::duration(wait.ceil())
        )
    }
}

fn class_growth(
    class: &SizeClass,
    total: &HeapTrend,
    allocations: Option<&Allocations>,
) -> Option<ClassGrowth> {
    let warm = &class.points[class.points.len() / 4..];
    let bytes: Vec<(f64, f64)> = warm.iter().map(|p| (p.t, p.bytes as f64)).collect();
    let worth = MIN_CLASS_SHARE * total.slope.per_unit * total.span_s;
    let Shape::Rises(Rise { slope, .. }) = shape(&bytes, worth) else { return None };
    let share = slope.per_unit / total.slope.per_unit;
    if share < MIN_CLASS_SHARE {
        return None;
    }
    let objects_per_s = match class.size {
        Some(size) if size > 0 => slope.per_unit / size as f64,
        _ => {
            let objects: Vec<(f64, f64)> = warm.iter().map(|p| (p.t, p.objects as f64)).collect();
            crate::analyze::stats::theil_sen(&objects)?.per_unit
        }
    };
    Some(ClassGrowth {
        class: class.class,
        size: class.size,
        slope,
        objects_per_s,
        share,
        first_bytes: warm.first()?.bytes,
        last_bytes: warm.last()?.bytes,
        candidates: allocations.map(|a| candidates(class.class, slope, objects_per_s, a)).unwrap_or_default(),
        sites_counted: allocations.is_some(),
    })
}

/// The sites that allocate in a class, the likeliest first: those that allocate enough to carry the growth, by
/// how near their rate is to it; then the others by share.
fn candidates(class: u8, growth: Slope, objects_per_s: f64, allocations: &Allocations) -> Vec<Candidate> {
    if allocations.counted_s <= 0.0 {
        return Vec::new();
    }
    let mut rows: Vec<(f64, Candidate)> = Vec::new();
    let in_class = |s: &crate::symbolize::evidence::AllocSite| s.classes.get(&class).copied();
    // Large objects differ in size, so they are weighed in bytes; the objects of one class all weigh the same.
    let weigh = |a: crate::symbolize::evidence::Amount| {
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
        rows.push((
            distance,
            Candidate {
                id: site.id.clone(),
                stack: site.stack.clone(),
                type_name: site.type_name.clone(),
                cause: site.cause,
                share,
                objects_per_s: amount.objects as f64 / allocations.counted_s,
            },
        ));
    }
    rows.sort_by(|a, b| a.0.total_cmp(&b.0));
    rows.truncate(MAX_CANDIDATES);
    rows.into_iter().map(|(_, c)| c).collect()
}

/// One finding for classes that grow from one cause. `parts` are not empty, the fastest first.
pub(in crate::analyze) fn compose(
    parts: Vec<ClassGrowth>,
    total: HeapTrend,
    module: Option<&str>,
) -> Finding {
    let slope = parts.iter().fold(Slope { per_unit: 0.0, low: 0.0, high: 0.0 }, |sum, p| Slope {
        per_unit: sum.per_unit + p.slope.per_unit,
        low: sum.low + p.slope.low,
        high: sum.high + p.slope.high,
    });
    let lead = parts.iter().find(|p| !p.candidates.is_empty());
    let first = lead.and_then(|p| p.candidates.first());
    let place = first.and_then(|c| own::place(&c.stack, module));
    let rate = figures::byte_rate_interval(slope.per_unit, slope.low, slope.high);
    let sizes: Vec<String> = parts.iter().map(|p| size_name(p.size)).collect();
    let title = match &place {
        Some(f) => format!("{rate} of live heap, likely allocated by {}", f.function),
        None => format!("{rate} of live heap in {}", listed(&sizes)),
    };
    let mut evidence = vec![format!(
        "what lives after GC grows {} over {} GC cycles ({} after warm-up)",
        figures::byte_rate(total.slope.per_unit),
        total.cycles,
        figures::duration(total.span_s)
    )];
    for p in &parts {
        evidence.push(format!(
            "{} grew from {} to {}: {} of the growth",
            size_name(p.size),
            figures::bytes(p.first_bytes),
            figures::bytes(p.last_bytes),
            figures::percent(p.share.min(1.0))
        ));
        for (i, c) in p.candidates.iter().take(3).enumerate() {
            let frame = own::place(&c.stack, module);
            evidence.push(format!(
                "{}{} makes {} of the {}, {} while {} stay",
                if i == 0 { "" } else { "also " },
                frame.map(|f| f.function).unwrap_or_default(),
                figures::percent(c.share),
                size_name(p.size),
                figures::event_rate(c.objects_per_s),
                figures::event_rate(p.objects_per_s)
            ));
        }
    }
    let sites_counted = parts.iter().any(|p| p.sites_counted);
    if !sites_counted {
        evidence.push("which code allocates them needs --sampler all".to_owned());
    } else if first.is_none() {
        evidence.push("no counted site allocates in these classes since attach".to_owned());
    }
    Finding {
        rule: NAME,
        verdict: Verdict::Suspect,
        subject: match (first, parts.first()) {
            (Some(c), _) => Subject::Site(c.id.clone()),
            (None, Some(p)) => Subject::SizeClass(p.size),
            (None, None) => Subject::SizeClass(None),
        },
        title,
        stack: first.map(|c| c.stack.clone()).unwrap_or_default(),
        type_name: first.and_then(|c| c.type_name.clone()),
        cause: first.map(|c| c.cause),
        confidence: 1.0 - total.p,
        advice: advice(first.map(|c| c.cause), sites_counted).to_owned(),
        place,
        growth: Growth::Heap { slope, total, parts },
        evidence,
        related: Vec::new(),
    }
}

/// "objects of 96 B", "objects above 32 KiB".
pub(in crate::analyze) fn size_name(size: Option<u64>) -> String {
    match size {
        Some(size) => format!("objects of {}", figures::bytes(size)),
        None => "large objects".to_owned(),
    }
}

fn listed(names: &[String]) -> String {
    match names {
        [] => String::new(),
        [one] => one.clone(),
        [first, rest @ ..] if rest.len() == 1 => format!("{first} and {}", rest[0]),
        [first, rest @ ..] => format!("{first} and {} other sizes", rest.len()),
    }
}

fn advice(cause: Option<Cause>, sites_counted: bool) -> &'static str {
    match cause {
        None if !sites_counted => "run with --sampler all to see which code allocates them",
        None => "watch longer: what grows was allocated before attach or is not counted",
        Some(Cause::MapAssign | Cause::MapGrowth | Cause::MakeMap) => {
            "delete entries when they are done with, or bound the map"
        }
        Some(Cause::AppendGrowth) => "bound the slice, or copy out what is still needed",
        Some(Cause::Closure | Cause::Timer) => "stop what keeps the callbacks registered",
        Some(_) => "find what keeps them: a map, slice or list that is only ever added to",
    }
}
