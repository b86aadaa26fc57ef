//! A finding in the model's words. No figure is made here.

use super::build::{frame, frames};
use super::growth;
use super::model::{ClassSite, CodePlace, Finding, GrowingClass, Pinned, Subject, WindowCall, Windows};
use crate::analyze::{self, HeapPart, PartOf};
use crate::symbolize::evidence;

pub(super) fn finding(f: &analyze::Finding) -> Finding {
    let within = f.live.and_then(|live| live.within);
    let mut out = Finding {
        id: f.id(),
        rule: f.rule.to_owned(),
        verdict: f.verdict.name().to_owned(),
        title: f.title.clone(),
        url: format!("docs/findings/{}.md", f.rule),
        subject: match &f.subject {
            analyze::Subject::Site(id) => Subject::Site(id.clone()),
            analyze::Subject::GoroutineSite(id) => Subject::GoroutineSite(id.clone()),
            analyze::Subject::Map(id) => Subject::Map(id.clone()),
            analyze::Subject::Type(name) => Subject::Type(name.clone()),
            analyze::Subject::SizeClass(size) => {
                Subject::SizeClass(size.map_or_else(|| "large".to_owned(), |s| s.to_string()))
            }
        },
        place: f.place.as_ref().map(frame),
        type_name: f.type_name.clone(),
        cause: f.cause.map(|c| c.name().to_owned()),
        live_objects: f.live.map(|live| live.objects.round() as u64),
        live_objects_stderr: f.live.map(|live| live.objects_stderr).filter(|error| *error > 0.0),
        live_objects_low: within.map(|live| live.objects.low.round() as u64),
        live_objects_high: within.map(|live| live.objects.high.round() as u64),
        live_bytes: f.live.map(|live| live.bytes.round() as u64),
        live_bytes_stderr: f.live.map(|live| live.bytes_stderr).filter(|error| *error > 0.0),
        live_bytes_low: within.map(|live| live.bytes.low.round() as u64),
        live_bytes_high: within.map(|live| live.bytes.high.round() as u64),
        bytes_per_s: None,
        goroutines_per_s: None,
        entries_per_s: None,
        entries: None,
        low: 0.0,
        high: 0.0,
        confidence: f.confidence,
        limit_eta_s: None,
        count: None,
        wait: None,
        oldest_wait_s: None,
        stack: frames(&f.stack),
        code: f.code.as_ref().map(|code| code.places.iter().map(place).collect()),
        code_more: f.code.as_ref().map(|code| code.more).filter(|more| *more > 0),
        blocked_at: Vec::new(),
        size_classes: Vec::new(),
        related: f.related.clone(),
        evidence: f.evidence.clone(),
        advice: f.advice.clone(),
    };
    match &f.growth {
        analyze::Growth::Heap { slope, parts, .. } => {
            out.bytes_per_s = Some(slope.per_unit);
            (out.low, out.high) = (slope.low, slope.high);
            out.size_classes = parts.iter().filter_map(growing_class).collect();
        }
        analyze::Growth::Map(m) => {
            out.entries_per_s = Some(m.slope.per_unit);
            (out.low, out.high) = (m.slope.low, m.slope.high);
            out.entries = Some(m.entries);
        }
        analyze::Growth::Goroutines(g) => {
            out.goroutines_per_s = Some(g.slope.per_unit);
            (out.low, out.high) = (g.slope.low, g.slope.high);
            out.count = Some(g.count);
            out.wait.clone_from(&g.wait);
            out.oldest_wait_s = g.oldest_wait_s;
            out.blocked_at = frames(&g.blocked_at);
        }
    }
    out
}

/// Absent for what is known by its site: that is the finding's own.
fn growing_class(part: &HeapPart) -> Option<GrowingClass> {
    let PartOf::Class { size, .. } = part.what else { return None };
    Some(GrowingClass {
        bytes: size,
        types: part.types.iter().map(|t| t.names.join(" | ")).collect(),
        growth: growth::of_slope(part.slope),
        objects_per_s: part.objects_per_s,
        share: part.share,
        sites: part
            .candidates
            .iter()
            .map(|c| ClassSite { site: c.id.clone(), share: c.share, objects_per_s: c.objects_per_s })
            .collect(),
    })
}

fn place(place: &evidence::Place) -> CodePlace {
    CodePlace { stack: frames(&place.stack), cause: place.cause.name().to_owned() }
}

pub(super) fn pinned(pin: &evidence::PinRow) -> Pinned {
    let CodePlace { stack, cause } = place(&pin.place);
    Pinned {
        type_name: pin.type_name.clone(),
        stack,
        cause,
        since_t: pin.since_s,
        until_t: pin.until_s,
        calls: pin.calls,
        calls_per_s: pin.calls.map(|calls| calls as f64 / pin.counted_s),
        sample_calls: Some(pin.mean).filter(|mean| *mean > 0),
    }
}

/// Calls of windows that are worth a row.
const MAX_WINDOW_CALLS: usize = 50;

pub(super) fn windows(windows: &evidence::Windows, sizes: &[evidence::SizeClass]) -> Windows {
    let kept = |class: u8| windows.rows.iter().any(|row| row.class == class && row.kept > 0);
    let mut rows: Vec<&evidence::WindowRow> = windows.rows.iter().filter(|row| kept(row.class)).collect();
    rows.sort_by_key(|row| (std::cmp::Reverse((row.kept, row.taken)), row.class, row.returns_to));
    let call = |row: &&evidence::WindowRow| WindowCall {
        bytes: sizes.iter().find(|of| of.class == row.class).and_then(|of| of.size),
        stack: frames(&row.stack),
        cause: row.cause.name().to_owned(),
        sampled: row.taken,
        kept: row.kept,
    };
    let calls = rows.iter().take(MAX_WINDOW_CALLS).map(call).collect();
    Windows { opened: windows.opened, open_s: windows.open_s, calls }
}
