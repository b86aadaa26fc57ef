//! The report as text: what is read at 3 a.m. Findings first, then why, then the figures, then cost and losses.

use std::io::{self, Write};

use super::goroutines::{short_table, swapped};
use super::heap;
use super::lines::{Lines, WIDTH, place};
use super::live::live_sites;
use super::model::{
    Allocation, Finding, Frame, GrowingClass, MapRow, MapSearch, MapSite, Session, Subject, Undecided,
};
use super::{Exporter, Report};
use crate::analyze::figures;

/// Allocation sites shown.
const TOP_SITES: usize = 10;
/// Goroutine classes shown.
const TOP_CLASSES: usize = 8;
/// Types shown of what lives.
const TOP_TYPES: usize = 8;
/// Frames shown of a stack in a finding.
const FRAMES: usize = 5;

/// Text for a person.
#[derive(Clone, Copy, Debug, Default)]
pub struct Text;

impl Exporter for Text {
    fn write(&self, report: &Report, out: &mut dyn Write) -> io::Result<()> {
        let mut lines = Lines::default();
        head(&mut lines, report);
        for f in &report.findings {
            lines.blank();
            finding(&mut lines, report, f);
        }
        for u in &report.undecided {
            lines.blank();
            undecided(&mut lines, u);
        }
        if report.findings.is_empty() && report.undecided.is_empty() {
            lines.blank();
            lines.labelled("", &nothing_grows(report));
        }
        allocations(&mut lines, report);
        live_sites(&mut lines, report, TOP_SITES);
        maps(&mut lines, &report.maps);
        map_search(&mut lines, report.map_search);
        if let Some(g) = report.goroutines.as_ref().filter(|g| g.live.is_some()) {
            lines.blank();
            short_table(&mut lines, g, TOP_CLASSES);
        }
        if let Some(counted) = report.heap.as_ref().filter(|heap| heap.census.is_some()) {
            lines.blank();
            heap::short_table(&mut lines, counted, TOP_TYPES);
        }
        lines.blank();
        memory(&mut lines, report);
        losses(&mut lines, &report.session);
        if let Some(sentence) = report.goroutines.as_ref().and_then(swapped) {
            lines.labelled("note: ", &sentence);
        }
        next(&mut lines, report);
        lines.explain_errors();
        out.write_all(lines.finish().as_bytes())
    }
}

/// How little growth could be told is a matter of what else went up and down meanwhile.
fn nothing_grows(report: &Report) -> String {
    let looked_through = report.map_search.is_none_or(|search| search.waiting_bytes == 0);
    let maps = if looked_through && !report.maps.is_empty() { ", nor a map" } else { "" };
    format!(
        "Nothing grows that could be told from ups and downs in {}: not the live heap, nor the goroutines of any \
         site{maps}.",
        figures::duration(report.session.duration_s),
    )
}

fn head(lines: &mut Lines, report: &Report) {
    let t = &report.target;
    let name = t.exe.rsplit('/').next().unwrap_or("");
    let mut words = vec![name.to_owned(), format!("pid {}", t.pid), t.go_version.clone()];
    words.extend(t.uptime_s.map(|s| format!("up {}", figures::duration(s))));
    for (flag, word) in [(t.stripped, "stripped"), (t.cgo, "cgo"), (t.race, "race")] {
        if flag {
            words.push(word.to_owned());
        }
    }
    words.extend(t.limit.as_ref().map(|l| format!("{} limit {}", l.source, figures::bytes(l.bytes))));
    lines.line(&words.join("  "));

    let s = &report.session;
    let mut parts = vec![format!("watched {}", figures::duration(s.duration_s))];
    if let Some(cycles) = report.gc.as_ref().and_then(|gc| gc.cycles) {
        parts[0] = format!("{}, {}", parts[0], figures::counted(u64::from(cycles), "GC cycle"));
    }
    parts.extend(cost(s));
    parts.extend(copied(s));
    parts.push(
        if s.lower_bounds {
            "LOSSES: totals are lower bounds"
        } else if !s.complete {
            "some figures have no site, see below"
        } else {
            "nothing lost"
        }
        .to_owned(),
    );
    lines.parts(&parts);
    lines.labelled("engine: ", &s.sampler_reason);
    match s.ended_by.as_deref() {
        Some("target-exit") => lines.line("the target exited; this is what was seen until then"),
        Some("target-lost") => {
            lines.line("the target was lost, the notes say why; this is what was seen until then");
        }
        Some("stop-all") => lines.line("tracing was stopped on this host; this is what was seen until then"),
        Some("recording-cut") => lines.line("the recording ends early; this is what it holds"),
        None => lines.line("interim report: the session goes on"),
        _ => {}
    }
}

/// What tracing took from the target, and what tracer itself used.
fn cost(s: &Session) -> impl Iterator<Item = String> {
    let c = &s.cost;
    let target = c.estimated.map(|estimated| {
        let budget = c.budget.map(|b| format!(" (budget {})", figures::percent(b))).unwrap_or_default();
        format!("cost {} of a core{budget}", figures::percent(estimated))
    });
    let cpu = c.tracer_cpu_s.map(|s| format!("{s:.2} s of CPU"));
    let rss = c.tracer_rss_bytes.map(figures::bytes);
    let used: Vec<String> = cpu.into_iter().chain(rss).collect();
    let own = (!used.is_empty()).then(|| format!("tracer itself used {}", used.join(", ")));
    target.into_iter().chain(own)
}

/// What the probes charge to the target's cgroup.
fn copied(s: &Session) -> Option<String> {
    let bytes = s.cost.target_pages_bytes.filter(|bytes| *bytes > 0)?;
    Some(format!("{} of code pages copied in the target", figures::bytes(bytes)))
}

fn finding(lines: &mut Lines, report: &Report, f: &Finding) {
    let verdict = f.verdict.to_uppercase();
    let eta = f
        .limit_eta_s
        .map(|eta| format!("; limit reached in {} at this rate", figures::duration(eta)))
        .unwrap_or_default();
    if let Some(rate) = f.goroutines_per_s {
        let wait = f.wait.as_ref().map(|w| format!(" blocked in {w}")).unwrap_or_default();
        let age = f.oldest_wait_s.map(|age| format!(", oldest {}", figures::duration(age)));
        let what = format!(
            "{}, {}{wait}{}",
            figures::per_minute_interval("goroutines", rate, f.low, f.high),
            figures::count(f.count.unwrap_or(0)),
            age.unwrap_or_default()
        );
        lines.labelled(&format!("{verdict}  "), &what);
        frames(lines, "started", "by", &f.stack, "");
        frames(lines, "blocked", "in", &f.blocked_at, "");
    } else if let Some(rate) = f.entries_per_s {
        let what = format!(
            "{}, {} in it",
            figures::per_second_interval("entries", rate, f.low, f.high),
            figures::count(f.entries.unwrap_or(0))
        );
        lines.labelled(&format!("{verdict}  "), &what);
        lines.labelled("  map        ", f.type_name.as_deref().unwrap_or("of unknown type"));
        frames(lines, "written", "by", &own_first(f), "");
    } else {
        let rate = figures::byte_rate_interval(f.bytes_per_s.unwrap_or(0.0), f.low, f.high);
        lines.labelled(&format!("{verdict}  "), &format!("{rate} of live heap{eta}"));
        if !f.size_classes.is_empty() {
            let sizes: Vec<String> = f.size_classes.iter().map(size).collect();
            lines.labelled("  in         ", &sizes.join(", "));
        }
        match (&f.type_name, live(f)) {
            (Some(ty), Some(live)) => lines.labelled("  type       ", &format!("{ty}, {live}")),
            (Some(ty), None) => lines.labelled("  type       ", ty),
            (None, Some(live)) => lines.labelled("  live       ", &live),
            (None, None) => {}
        }
        if let Some(sizes) = sizes(report, f) {
            lines.labelled("  sizes      ", &sizes);
        }
        let user = own_first(f);
        frames(lines, "allocated", "by", &user, f.cause.as_deref().unwrap_or(""));
    }
    let mut label = "  because    ";
    for sentence in &f.evidence {
        lines.labelled(label, sentence);
        label = "             ";
    }
    lines.labelled("  do         ", &f.advice);
    if f.related.iter().any(|id| report.findings.iter().any(|o| o.id == *id)) {
        lines.labelled("  see also   ", &f.related.join(", "));
    }
}

/// "objects of 96 B (72 % of the growth)".
fn size(c: &GrowingClass) -> String {
    let name =
        c.bytes.map_or_else(|| "large objects".to_owned(), |b| format!("objects of {}", figures::bytes(b)));
    format!("{name} ({} of the growth)", figures::percent(c.share.min(1.0)))
}

/// "half up to 48 B, 99 % up to 4.0 KiB, the largest 1.2 MiB", where the objects of the finding's site differ in size.
fn sizes(report: &Report, f: &Finding) -> Option<String> {
    let Subject::Site(id) = &f.subject else { return None };
    let rows = report.allocations.iter().flatten().filter(|row| row.site == *id);
    let row =
        rows.filter(|row| f.type_name.is_none() || row.type_name == f.type_name || row.type_name.is_none());
    let sizes = row.max_by_key(|row| row.allocated.bytes)?.sizes?;
    if sizes.max == Some(sizes.p50) {
        return None;
    }
    let largest = sizes.max.map(|max| format!(", the largest {}", figures::bytes(max)));
    Some(format!(
        "half up to {}, 99 % up to {}{}",
        figures::bytes(sizes.p50),
        figures::bytes(sizes.p99),
        largest.unwrap_or_default()
    ))
}

/// "20 MiB live in 65 542 objects".
fn live(f: &Finding) -> Option<String> {
    let (bytes, objects) = (f.live_bytes?, f.live_objects?);
    let about = if f.live_objects_stderr.is_some() { "about " } else { "" };
    Some(format!("{about}{} live in {}", figures::bytes(bytes), figures::counted(objects, "object")))
}

/// The stack from the frame that names the finding on: what the standard library does below it is no news.
fn own_first(f: &Finding) -> Vec<Frame> {
    let from = f.place.as_ref().and_then(|p| f.stack.iter().position(|s| s == p)).unwrap_or(0);
    f.stack[from..].to_vec()
}

fn frames(lines: &mut Lines, first: &str, then: &str, stack: &[Frame], after: &str) {
    for (i, frame) in stack.iter().take(FRAMES).enumerate() {
        let label = if i == 0 { format!("  {first:<9}  ") } else { format!("  {then:>9}  ") };
        lines.frame(&label, frame, if i == 0 { after } else { "" });
    }
    if stack.len() > FRAMES {
        lines.line(&format!(
            "             and {} more",
            figures::counted((stack.len() - FRAMES) as u64, "frame")
        ));
    }
}

fn undecided(lines: &mut Lines, u: &Undecided) {
    let subject = u.subject.as_ref().map(|s| format!(" {s}:")).unwrap_or_default();
    lines.labelled("NOT YET  ", &format!("{}:{subject} {}; needs {}", u.rule, u.reason, u.needs));
}

fn allocations(lines: &mut Lines, report: &Report) {
    let (Some(rows), Some(total)) = (&report.allocations, &report.allocated_total) else { return };
    lines.blank();
    lines.labelled(
        "",
        &format!(
            "allocated since attach: {}{} in {}, {}",
            if report.session.lower_bounds { "at least " } else { "" },
            figures::bytes(total.bytes),
            figures::counted(total.objects, "object"),
            figures::counted(rows.len() as u64, "site")
        ),
    );
    for row in rows.iter().take(TOP_SITES) {
        let share = if total.bytes > 0 { row.allocated.bytes as f64 / total.bytes as f64 } else { 0.0 };
        let figures = format!(
            "  {:>8} {:>6} {:>9}  ",
            figures::bytes(row.allocated.bytes),
            figures::percent(share),
            figures::count(row.allocated.objects)
        );
        let (site, what) = site_line(row);
        let one = format!("{figures}{site}  {what}");
        if one.chars().count() <= WIDTH {
            lines.line(&one);
        } else {
            lines.line(&format!("{figures}{site}"));
            lines.line(&format!("{}{what}", " ".repeat(figures.chars().count() + 2)));
        }
    }
    if rows.len() > TOP_SITES {
        lines.line(&format!("  and {} more", figures::counted((rows.len() - TOP_SITES) as u64, "site")));
    }
}

fn map_search(lines: &mut Lines, search: Option<MapSearch>) {
    if let Some(MapSearch { span_bytes, waiting_bytes, .. }) =
        search.filter(|search| search.waiting_bytes > 0)
    {
        let (waiting, all) = (figures::bytes(waiting_bytes), figures::bytes(span_bytes));
        let said = format!(
            "large maps that did not grow are looked for in parts: {waiting} of {all} wait for later GC cycles"
        );
        lines.blank();
        lines.labelled("", &said);
    }
}

fn maps(lines: &mut Lines, rows: &[MapRow]) {
    if rows.is_empty() {
        return;
    }
    lines.blank();
    let counted: Option<u64> = rows.iter().map(|row| row.writes).sum();
    lines.labelled(
        "",
        &match counted {
            Some(writes) => format!(
                "maps, by entries; {} since attach, updates included (clear, maps.Clone and sync.Map go past the count)",
                figures::counted(writes, "write")
            ),
            None => "maps that grew since attach or are large, by entries".to_owned(),
        },
    );
    for row in rows.iter().take(TOP_SITES) {
        let entries = row.entries.map_or_else(|| "?".to_owned(), figures::count);
        let what = row.type_name.as_deref().unwrap_or("unknown type");
        lines.line(&format!("  {entries:>9}  {what} at {}", row.address));
        let facts = map_facts(row);
        if !facts.is_empty() {
            lines.labelled("             ", &facts.join(", "));
        }
        if let Some(who) = writer(row) {
            lines.labelled("             ", &who);
        }
    }
    if rows.len() > TOP_SITES {
        lines.line(&format!("  and {} more", figures::counted((rows.len() - TOP_SITES) as u64, "map")));
    }
}

fn map_facts(row: &MapRow) -> Vec<String> {
    let mut facts = Vec::new();
    if let Some(capacity) = row.capacity {
        facts.push(format!("room for {}", figures::count(capacity)));
    }
    if let Some(deleted) = row.tombstones.filter(|n| *n > 0) {
        facts.push(format!("{} deleted", figures::counted(deleted, "slot")));
    }
    if let Some(rate) = row.entries_per_s.filter(|_| row.low > Some(0.0)) {
        facts.push(format!("+{}", figures::event_rate(rate)));
    }
    if let (Some(writes), Some(deletes)) = (row.writes, row.deletes) {
        facts.push(format!(
            "{}, {}",
            figures::counted(writes, "write"),
            figures::counted(deletes, "deletion")
        ));
    }
    facts
}

/// The site that writes most; where writes are not counted, the one that made the map grow most often.
fn writer(row: &MapRow) -> Option<String> {
    let at = |site: &MapSite| match site.stack.first() {
        Some(f) => format!("{} {}", f.function, place(f)),
        None => "unknown stack".to_owned(),
    };
    if let Some(all) = row.writes.filter(|n| *n > 0) {
        let site = row.sites.iter().max_by_key(|site| site.writes)?;
        let share = site.writes.unwrap_or(0) as f64 / all as f64;
        return Some(format!("{} of the writes by {}", figures::percent(share), at(site)));
    }
    let site = row.sites.iter().filter(|site| site.grows > Some(0)).max_by_key(|site| site.grows)?;
    Some(format!("grown by {}", at(site)))
}

pub(super) fn site_line(row: &Allocation) -> (String, String) {
    let of = match (&row.type_name, &row.live_type) {
        (Some(of), _) => of.clone(),
        // What the live ones are that were looked at, which are not all.
        (None, Some(of)) => format!("live: {of}"),
        (None, None) => String::new(),
    };
    let what = [row.cause.as_str(), &of].join(" ");
    let site = match row.stack.first() {
        Some(f) => format!("{} {}", f.function, place(f)),
        None => "unknown stack".to_owned(),
    };
    (site, what.trim().to_owned())
}

fn memory(lines: &mut Lines, report: &Report) {
    let mut parts = Vec::new();
    if let Some(h) = &report.heap {
        let mut words = Vec::new();
        words.extend(h.live_bytes.map(|b| format!("heap {} live after GC", figures::bytes(b))));
        words.extend(h.goal_bytes.map(|b| format!("goal {}", figures::bytes(b))));
        parts.push(words.join(", "));
    }
    if let Some(gc) = &report.gc {
        let mut words = Vec::new();
        words.extend(gc.per_second.map(|r| format!("GC {}", figures::event_rate(r))));
        words.extend(gc.pause_s.map(|p| format!("pause p99 {}", figures::short_time(p.p99))));
        parts.push(words.join(", "));
    }
    if let Some(g) = report.goroutines.as_ref() {
        parts.extend(g.live.map(|n| figures::counted(n, "goroutine")));
        if let (Some(created), Some(ended)) = (g.created, g.ended) {
            parts.push(format!(
                "{} created and {} ended since attach",
                figures::count(created),
                figures::count(ended)
            ));
        }
    }
    lines.parts(&parts);
    if let Some(p) = &report.process {
        let mut words = vec![format!("RSS {}", figures::bytes(p.rss_bytes))];
        words.extend(p.go_heap_bytes.map(|b| format!("Go heap in use {}", figures::bytes(b))));
        words.extend(p.go_stack_bytes.map(|b| format!("stacks {}", figures::bytes(b))));
        words.extend(p.go_other_bytes.map(|b| format!("Go other {}", figures::bytes(b))));
        if let Some(idle) = report.heap.as_ref().and_then(|h| h.idle_bytes) {
            words.push(format!("heap idle {}", figures::bytes(idle)));
        }
        let outside = p.outside_go_bytes.filter(|b| *b > 0);
        // Pages that Go gave back and the kernel kept count as resident and not as Go's.
        let released = report.heap.as_ref().and_then(|h| h.released_bytes);
        words.extend(outside.map(|outside| {
            let how = if released.is_some_and(|r| r <= outside / 10) { "at least" } else { "about" };
            format!("outside Go {how} {}", figures::bytes(outside))
        }));
        lines.parts(&words);
    }
}

fn losses(lines: &mut Lines, s: &Session) {
    if !s.counters.is_empty() {
        let named: Vec<String> =
            s.counters.iter().map(|(name, n)| format!("{name} {}", figures::count(*n))).collect();
        let what = if s.lower_bounds { "lost (totals are lower bounds): " } else { "lost or cut: " };
        lines.labelled("", &format!("{what}{}", named.join(", ")));
    }
    for remark in &s.remarks {
        lines.labelled("note: ", remark);
    }
}

fn next(lines: &mut Lines, report: &Report) {
    if matches!(report.session.ended_by.as_deref(), Some("target-exit" | "target-lost")) {
        return;
    }
    let pid = report.target.pid;
    let goroutines = report.findings.iter().any(|f| f.goroutines_per_s.is_some());
    let unsited = report.allocations.is_none() && report.findings.iter().any(|f| f.bytes_per_s.is_some());
    if unsited {
        lines.line(&format!("next: tracer --pid {pid} --sampler all"));
    } else if goroutines {
        lines.line(&format!("next: tracer goroutines --pid {pid}"));
    }
}
