//! Goroutines as text: the table in a report, and the full grouping of `tracer goroutines`.

use std::collections::BTreeSet;
use std::io::{self, Write};

use super::growth;
use super::lines::{Lines, place};
use super::model::{GoroutineGroup, GoroutineSite, Goroutines, WaitTimes};
use super::{Exporter, Report};
use crate::analyze::figures;

/// Frames shown per group.
const FRAMES: usize = 12;

/// Every goroutine, grouped by creation site and wait, the largest group first.
#[derive(Clone, Copy, Debug, Default)]
pub struct GoroutineText;

impl Exporter for GoroutineText {
    fn write(&self, report: &Report, out: &mut dyn Write) -> io::Result<()> {
        let mut lines = Lines::default();
        let Some(g) = &report.goroutines else {
            lines.line("goroutines were not read");
            return out.write_all(lines.finish().as_bytes());
        };
        let read: u64 = g.sites.iter().fold(0, |sum, s| sum.saturating_add(s.count));
        let mut head = format!(
            "{} in {}",
            figures::counted(g.live.unwrap_or(read), "goroutine"),
            figures::counted(groups(g).len() as u64, "group")
        );
        let changed = g.skipped.unwrap_or(0).saturating_sub(g.swapped.unwrap_or(0));
        if changed > 0 {
            head.push_str("; ");
            head.push_str(&figures::count(changed));
            head.push_str(" changed while they were read and are in no group");
        }
        lines.labelled("", &head);
        if let Some(sentence) = swapped(g) {
            lines.labelled("", &sentence);
        }
        // A site's waits stand in its largest group.
        let mut shown = BTreeSet::new();
        for (site, group) in groups(g) {
            lines.blank();
            lines.line(&title(group));
            match &site.created_by {
                Some(frame) => lines.frame("  started  ", frame, ""),
                None => lines.line("  started  by the program's start"),
            }
            lines.line(&format!("  runs     {}", group.entry));
            if let Some(waits) = site.wait_s.as_ref().filter(|w| w.goroutines > 1 && shown.insert(&site.site))
            {
                lines.labelled("  waits    ", &waiting(waits));
            }
            for (i, frame) in group.stack.iter().take(FRAMES).enumerate() {
                lines.frame(if i == 0 { "  at       " } else { "           " }, frame, "");
            }
            if group.stack.len() > FRAMES {
                let more = (group.stack.len() - FRAMES) as u64;
                lines.line(&format!("           and {} more", figures::counted(more, "frame")));
            }
            if !group.example_goids.is_empty() {
                let ids: Vec<String> = group.example_goids.iter().map(u64::to_string).collect();
                lines.labelled("  ids      ", &ids.join(" "));
            }
        }
        out.write_all(lines.finish().as_bytes())
    }
}

/// "half of 28 have waited 12s or longer, one in ten 31s".
fn waiting(w: &WaitTimes) -> String {
    format!(
        "half of {} have waited {} or longer, one in ten {}",
        figures::count(w.goroutines),
        figures::duration(w.p50),
        figures::duration(w.p90)
    )
}

/// What was left alone because it is swapped out.
pub(super) fn swapped(g: &Goroutines) -> Option<String> {
    let mut parts = Vec::new();
    if let Some(n) = g.stackless.filter(|n| *n > 0) {
        parts.push(format!("{} without a stack", figures::counted(n, "goroutine")));
    }
    if let Some(n) = g.swapped.filter(|n| *n > 0) {
        parts.push(format!("{} in no group", figures::counted(n, "goroutine")));
    }
    (!parts.is_empty()).then(|| {
        format!("swapped-out pages were not read, so as not to bring them back: {}", parts.join(", "))
    })
}

fn title(group: &GoroutineGroup) -> String {
    let age = group
        .oldest_wait_s
        .map(|age| format!(", oldest at least {}", figures::duration(age)))
        .unwrap_or_default();
    format!("{}  {}{age}", figures::count(group.count), group.state)
}

/// Groups over all sites, the largest first.
fn groups(g: &Goroutines) -> Vec<(&GoroutineSite, &GoroutineGroup)> {
    let mut all: Vec<_> = g.sites.iter().flat_map(|s| s.groups.iter().map(move |group| (s, group))).collect();
    // Sites and groups come in a fixed order, and the sort is stable.
    all.sort_by_key(|(_, group)| std::cmp::Reverse(group.count));
    all
}

/// The largest classes of the user's goroutines, one line each.
pub(super) fn short_table(lines: &mut Lines, g: &Goroutines, top: usize) {
    let user: Vec<_> = groups(g).into_iter().filter(|(site, _)| !site.internal).collect();
    if user.is_empty() {
        return;
    }
    lines.line("goroutines by creation site");
    for (site, group) in user.iter().take(top) {
        let from = site
            .created_by
            .as_ref()
            .map_or_else(|| "the program's start".to_owned(), |f| format!("{} {}", f.function, place(f)));
        // A site's growth stands beside its largest group.
        let largest = site.groups.first() == Some(group);
        let grown = growth::goroutine_words(site.growth.as_ref().filter(|_| largest));
        lines.line(&format!("  {:>8}  {:<14} {from}{grown}", figures::count(group.count), group.state));
    }
    if user.len() > top {
        lines.line(&format!("  and {} more", figures::counted((user.len() - top) as u64, "group")));
    }
    let own = g.sites.iter().filter(|s| s.internal).fold(0_u64, |sum, s| sum.saturating_add(s.count));
    if own > 0 {
        lines.line(&format!("  {:>8}  of the runtime's own", figures::count(own)));
    }
}
