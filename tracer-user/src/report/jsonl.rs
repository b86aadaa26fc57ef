//! A session as lines of JSON, written as it goes: the header, each new point, findings when they are made, and at the
//! end every row and a last line. For log shippers and for CI, which read what there is even if the session breaks.
//!
//! Apart from `json` because it remembers what it has said. docs/jsonl.md has the schema.

use std::collections::BTreeSet;
use std::io::{self, Write};

use super::Report;
use super::model::{LINES_SCHEMA, Line};

/// What was said so far.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Lines {
    begun: bool,
    cycle: Option<u32>,
    process_t: Option<f64>,
    findings: BTreeSet<String>,
}

impl Lines {
    /// Writes what is new in the report; everything that is only known at the end where this is the last one.
    pub fn write(&mut self, report: &Report, last: bool, out: &mut dyn Write) -> io::Result<()> {
        let t = report.session.duration_s;
        if !self.begun {
            self.begun = true;
            line(
                out,
                &Line::Session {
                    schema: LINES_SCHEMA,
                    tracer_version: &report.tracer_version,
                    kernel: &report.kernel,
                    target: &report.target,
                    session: &report.session,
                },
            )?;
        }
        for point in report.heap.iter().flat_map(|h| &h.series) {
            if self.cycle.is_none_or(|said| point.gc_cycle > said) {
                self.cycle = Some(point.gc_cycle);
                line(out, &Line::Heap(*point))?;
            }
        }
        for point in report.process.iter().flat_map(|p| &p.series) {
            if self.process_t.is_none_or(|said| point.t > said) {
                self.process_t = Some(point.t);
                line(out, &Line::Process(*point))?;
            }
        }
        if let Some((g, live)) = report.goroutines.as_ref().and_then(|g| Some((g, g.live?))) {
            line(out, &Line::Goroutines { t, live, created: g.created, ended: g.ended })?;
        }
        for finding in &report.findings {
            // At the end once more: its figures are better then.
            if self.findings.insert(finding.id.clone()) || last {
                line(out, &Line::Finding { t, finding })?;
            }
        }
        if last { end(report, t, out) } else { Ok(()) }
    }
}

fn end(report: &Report, t: f64, out: &mut dyn Write) -> io::Result<()> {
    for undecided in &report.undecided {
        line(out, &Line::Undecided { t, undecided })?;
    }
    for size_class in report.heap.iter().flat_map(|h| &h.size_classes) {
        line(out, &Line::SizeClass { t, size_class })?;
    }
    if let Some(heap_census) = report.heap.as_ref().and_then(|h| h.census.as_ref()) {
        line(out, &Line::HeapCensus { t, heap_census })?;
    }
    for heap_type in report.heap.iter().flat_map(|h| h.types.iter().flatten()) {
        line(out, &Line::HeapType { t, heap_type })?;
    }
    if let Some(heap_profile) = &report.heap_profile {
        line(out, &Line::HeapProfile { t, heap_profile })?;
    }
    for allocation in report.allocations.iter().flatten() {
        line(out, &Line::Allocation { t, allocation })?;
    }
    for goroutine_site in report.goroutines.iter().flat_map(|g| &g.sites) {
        line(out, &Line::GoroutineSite { t, goroutine_site })?;
    }
    for map in &report.maps {
        line(out, &Line::Map { t, map })?;
    }
    if let Some(map_search) = report.map_search {
        line(out, &Line::MapSearch { t, map_search })?;
    }
    line(out, &Line::End { t, session: &report.session })
}

fn line(out: &mut dyn Write, line: &Line<'_>) -> io::Result<()> {
    serde_json::to_writer(&mut *out, line).map_err(io::Error::from)?;
    out.write_all(b"\n")
}
