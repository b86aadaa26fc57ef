//! The heap's objects as text: what `tracer heap` prints, by type, by size or by site.

use std::io::{self, Write};

use super::growth;
use super::lines::Lines;
use super::live::live_sites;
use super::model::{Heap, HeapCensus, HeapType, SizeClass};
use super::{Exporter, Report};
use crate::analyze::figures;

/// Rows shown; the JSON report has them all.
const ROWS: usize = 40;

/// What a row is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum By {
    Type,
    Size,
    /// Where it was allocated, as Go's own memory profile knows it.
    Site,
}

/// Every object of the heap that survived the last GC, grouped.
#[derive(Clone, Copy, Debug)]
pub struct HeapText {
    pub by: By,
}

impl Exporter for HeapText {
    fn write(&self, report: &Report, out: &mut dyn Write) -> io::Result<()> {
        let mut lines = Lines::default();
        match report.heap.as_ref().and_then(|heap| Some((heap, heap.census.as_ref()?))) {
            Some((heap, census)) => {
                head(&mut lines, census);
                if self.by != By::Site {
                    lines.blank();
                }
                match self.by {
                    By::Type => by_type(&mut lines, heap, census),
                    By::Size => by_size(&mut lines, heap, census),
                    By::Site => live_sites(&mut lines, report, ROWS),
                }
                if self.by == By::Type {
                    sampling(&mut lines, heap);
                }
                losses(&mut lines, census);
            }
            None => lines.line("the heap was not read"),
        }
        for remark in &report.session.remarks {
            lines.labelled("note: ", remark);
        }
        lines.explain_errors();
        out.write_all(lines.finish().as_bytes())
    }
}

fn head(lines: &mut Lines, c: &HeapCensus) {
    let objects = |bytes, n| format!("{} in {}", figures::bytes(bytes), figures::counted(n, "object"));
    let live = if c.gc_cycle == 0 && c.gc_cycle_end.is_none() {
        format!(
            "no GC cycle has completed: {} allocated, garbage included",
            objects(c.new_bytes, c.new_objects)
        )
    } else {
        let cycle = match c.gc_cycle_end {
            Some(end) => format!("cycles {} to {end}", c.gc_cycle),
            None => format!("cycle {}", c.gc_cycle),
        };
        format!(
            "{} survived GC {cycle}; {} allocated since, garbage included",
            objects(c.bytes, c.objects),
            objects(c.new_bytes, c.new_objects)
        )
    };
    lines.labelled("", &live);
    let arenas =
        c.arena_bytes.map(|bytes| format!("; {} in user arenas, not counted", figures::bytes(bytes)));
    let rest = format!(
        "in {}; {} in stacks and the collector's buffers{}",
        figures::counted(c.spans, "span"),
        figures::bytes(c.stack_bytes),
        arenas.unwrap_or_default()
    );
    lines.labelled("", &rest);
}

/// One line of the table.
struct Row {
    bytes: u64,
    objects: u64,
    /// Shown behind the figures where they are scaled from a sample.
    sampled: bool,
    what: String,
}

impl Row {
    fn line(&self, total: u64) -> String {
        let share =
            if total > 0 { figures::percent(self.bytes as f64 / total as f64) } else { String::new() };
        let about = if self.sampled { "~" } else { "" };
        let bytes = format!("{about}{}", figures::bytes(self.bytes));
        let objects = format!("{about}{}", figures::count(self.objects));
        format!("  {bytes:>9} {share:>7} {objects:>9}  {}", self.what)
    }
}

fn by_type(lines: &mut Lines, heap: &Heap, census: &HeapCensus) {
    table(lines, rows_by_type(heap, is_unproven(census)), census, "type");
}

fn rows_by_type(heap: &Heap, unproven: bool) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    if let Some(types) = &heap.types {
        rows.extend(types.iter().map(type_row));
    }
    let known = heap.types.is_some();
    for class in heap.size_classes.iter().filter(|c| c.noscan == Some(true) || !known) {
        let (objects, bytes) = amount(class, unproven);
        let kind = if class.noscan == Some(true) { "no pointers" } else { "with pointers" };
        let size = match class.bytes {
            Some(bytes) => format!("{}-byte class", figures::count(bytes)),
            None => "larger than the classes".to_owned(),
        };
        let what = format!("{kind}, {size}{}", growth::words(class.growth.as_ref()));
        rows.push(Row { bytes, objects, sampled: false, what });
    }
    rows
}

fn type_row(t: &HeapType) -> Row {
    let what = match &t.type_name {
        Some(name) if t.candidates.is_empty() => name.clone(),
        Some(names) => format!("one of {names}"),
        None => "with pointers, type not known".to_owned(),
    };
    let what = what + &growth::words(t.growth.as_ref());
    Row { bytes: t.bytes, objects: t.objects, sampled: t.objects_stderr.is_some(), what }
}

/// A size class in words.
pub(super) fn class_words(bytes: Option<u64>, noscan: Option<bool>) -> String {
    let size =
        bytes.map_or_else(|| "larger than 32 KiB".to_owned(), |b| format!("{} bytes", figures::count(b)));
    match noscan {
        Some(true) => format!("{size}, no pointers"),
        Some(false) => format!("{size}, with pointers"),
        None => size,
    }
}

fn by_size(lines: &mut Lines, heap: &Heap, census: &HeapCensus) {
    let unproven = is_unproven(census);
    let rows = heap.size_classes.iter().map(|class| {
        let (objects, bytes) = amount(class, unproven);
        let since = class.new_objects.filter(|n| *n > 0 && !unproven);
        let since = since.map(|n| format!(", {} new since", figures::count(n))).unwrap_or_default();
        let grown = growth::words(class.growth.as_ref());
        Row {
            bytes,
            objects,
            sampled: false,
            what: format!("{}{since}{grown}", class_words(class.bytes, class.noscan)),
        }
    });
    table(lines, rows.collect(), census, "size");
}

/// The largest types or, where those are not known, size classes of what lives: a few lines of a longer report.
pub(super) fn short_table(lines: &mut Lines, heap: &Heap, top: usize) {
    let Some(census) = &heap.census else { return };
    if is_unproven(census) {
        return;
    }
    let rows = sorted(rows_by_type(heap, false));
    let cycle = census.gc_cycle_end.unwrap_or(census.gc_cycle);
    lines.line(&format!("what survived GC cycle {cycle}, by type"));
    for row in rows.iter().take(top) {
        lines.line(&row.line(census.bytes));
    }
    if rows.len() > top {
        lines.line(&format!("  and {} more", figures::counted((rows.len() - top) as u64, "row")));
    }
    sampling(lines, heap);
    losses(lines, census);
}

/// Before the first GC everything is new.
fn is_unproven(census: &HeapCensus) -> bool {
    census.gc_cycle_end.unwrap_or(census.gc_cycle) == 0
}

fn amount(class: &SizeClass, unproven: bool) -> (u64, u64) {
    match (class.new_objects, class.new_bytes) {
        (Some(objects), Some(bytes)) if unproven => (objects, bytes),
        _ => (class.objects, class.total_bytes),
    }
}

fn sorted(mut rows: Vec<Row>) -> Vec<Row> {
    rows.retain(|r| r.objects > 0);
    rows.sort_by(|a, b| (b.bytes, b.objects).cmp(&(a.bytes, a.objects)).then_with(|| a.what.cmp(&b.what)));
    rows
}

fn table(lines: &mut Lines, rows: Vec<Row>, census: &HeapCensus, title: &str) {
    let rows = sorted(rows);
    let total = if is_unproven(census) { census.new_bytes } else { census.bytes };
    lines.line(&format!("  {:>9} {:>7} {:>9}  {title}", "bytes", "share", "objects"));
    for row in rows.iter().take(ROWS) {
        lines.line(&row.line(total));
    }
    if rows.len() > ROWS {
        let rest = rows.iter().skip(ROWS).fold(0_u64, |sum, r| sum.saturating_add(r.bytes));
        let more = figures::counted((rows.len() - ROWS) as u64, "row");
        lines.line(&format!("  {:>9}  in {more} more", figures::bytes(rest)));
    }
}

fn sampling(lines: &mut Lines, heap: &Heap) {
    let Some(types) = heap.types.as_ref().filter(|all| all.iter().any(|t| t.objects_stderr.is_some())) else {
        return;
    };
    let looked = types.iter().fold(0_u64, |sum, t| sum.saturating_add(t.samples));
    let sentence = format!(
        "~ is scaled from {} that were looked at, evenly spread over each size class",
        figures::counted(looked, "object")
    );
    lines.labelled("note: ", &sentence);
}

fn losses(lines: &mut Lines, c: &HeapCensus) {
    let lost = [
        (c.torn_spans, "changed each time they were read"),
        (c.swapped_spans, "are swapped out and were left alone"),
        (c.unread_spans, "could not be read"),
    ];
    for (n, why) in lost.into_iter().filter(|(n, _)| *n > 0) {
        lines.labelled("note: ", &format!("{} {why} and are in no figure", figures::counted(n, "span")));
    }
}
