//! heap-growth: what lives after each GC grows.
//!
//! First the whole heap as the collector marked it must rise over enough cycles. Then what explains it: the size classes
//! whose per-cycle floor rises, with the types that grow in them and the sites of which ever more lives there or, where
//! allocations are only counted, that allocate there; and sites whose growth is spread over classes. A cache that is
//! still filling looks the same until it is full, so the verdict is suspect.

mod needs;
mod parts;
mod words;

use crate::analyze::shape::{Doubt, PATIENCE, Rise, SURE, Shape, seen_from, shape, warm};
use crate::analyze::{Answer, HeapPart, HeapTrend, NotYet, figures};
use crate::symbolize::evidence::Evidence;
use parts::{class_parts, site_parts};
pub(in crate::analyze) use words::{compose, sum};

pub const NAME: &str = "heap-growth";

/// GC cycles before anything is said; the first quarter of the time is warm-up and left out.
const MIN_CYCLES: usize = 12;
const MIN_SPAN_S: f64 = 10.0;
/// The smallest gain that is worth a line: this many bytes and this share of what lives.
const MIN_GAIN: f64 = 256.0 * 1024.0;
const MIN_GAIN_SHARE: f64 = 0.01;
const OFF: &str = "the GC is off (GOGC=off, no memory limit)";

pub fn judge(evidence: &Evidence) -> Vec<Answer> {
    let not_yet = |reason: String, needs: String| {
        vec![Answer::NotYet(NotYet { rule: NAME, subject: None, reason, needs })]
    };
    let Some(gc) = &evidence.gc else {
        return not_yet("the GC's figures have not been read".into(), "one reading".into());
    };
    let (Some(first), Some(last)) = (gc.points.first(), gc.points.last()) else {
        let off = if gc.is_off() { format!("{OFF} and ") } else { String::new() };
        return not_yet(
            format!("{off}no GC has run since attach ({})", figures::duration(gc.watched_s)),
            needs::first_cycles(gc),
        );
    };
    let span = last.t - first.t;
    if gc.points.len() < MIN_CYCLES || span < MIN_SPAN_S {
        let off = if gc.is_off() { format!(", and {OFF}") } else { String::new() };
        return not_yet(
            format!("{} since attach{off}", figures::counted(gc.points.len() as u64, "GC cycle")),
            needs::more_cycles(gc, evidence.at_s, span),
        );
    }
    let warm: Vec<(f64, f64)> =
        warm(&gc.points, |p| p.t).iter().map(|p| (p.t, p.live_bytes as f64)).collect();
    let worth = MIN_GAIN.max(MIN_GAIN_SHARE * gc.live_bytes.unwrap_or(0) as f64);
    let rise = match shape(&warm, worth) {
        Shape::Quiet => return vec![hidden(evidence, &warm, worth)],
        Shape::TooShort => {
            return not_yet(
                "GC cycles cover too little of the time after warm-up".into(),
                needs::a_fuller_series(gc, evidence.at_s),
            );
        }
        Shape::Unsettled(Doubt::Small, rise) => {
            return not_yet(
                format!(
                    "the live heap grew {}, so far by less than {}",
                    figures::byte_rate(rise.slope.per_unit),
                    figures::bytes(worth as u64)
                ),
                format!("about {} more", figures::duration(rise.missing_s(worth))),
            );
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
    let mut parts = class_parts(evidence, &total);
    for site in site_parts(evidence, &total) {
        let known =
            |part: &HeapPart| part.candidates.iter().any(|c| site.candidates.iter().any(|s| s.id == c.id));
        if !parts.iter().any(known) {
            parts.push(site);
        }
    }
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

/// A size class that rises where the whole heap does not: other objects come and go by more than it gained so far. Its
/// bytes are counted, so that it is seen earlier; whether the heap keeps it is for the heap to show, and where it cannot
/// soon there is nothing to wait for.
fn hidden(evidence: &Evidence, heap: &[(f64, f64)], worth: f64) -> Answer {
    let Some(seen_from) = seen_from(heap, worth) else { return Answer::Quiet };
    // Of many classes one drifts upwards by chance (C. E. Bonferroni).
    let sure = |rise: &Rise| rise.p * (evidence.size_classes.len() as f64) < SURE;
    let risen = evidence.size_classes.iter().filter_map(|class| {
        let bytes: Vec<(f64, f64)> =
            warm(&class.points, |p| p.t).iter().map(|p| (p.t, p.bytes as f64)).collect();
        match shape(&bytes, worth) {
            Shape::Rises(rise) | Shape::Unsettled(Doubt::Small, rise) if sure(&rise) => {
                let more_s = rise.missing_s(seen_from);
                (more_s <= PATIENCE * rise.span_s).then_some((class.size, rise, more_s))
            }
            _ => None,
        }
    });
    let Some((size, rise, more_s)) = risen.max_by(|a, b| a.1.gain.total_cmp(&b.1.gain)) else {
        return Answer::Quiet;
    };
    let of = size.map_or_else(|| "large objects".to_owned(), |b| format!("objects of {}", figures::bytes(b)));
    Answer::NotYet(NotYet {
        rule: NAME,
        subject: None,
        reason: format!(
            "{of} grew {}, which the whole heap does not show so far",
            figures::byte_rate(rise.slope.per_unit)
        ),
        needs: format!("about {} more", figures::duration(more_s)),
    })
}
