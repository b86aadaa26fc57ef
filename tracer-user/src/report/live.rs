//! What lives per site, as text: the table in a report, from samples of the runtime's or of ours.

use std::cmp::Reverse;

use super::Report;
use super::growth;
use super::lines::{Lines, WIDTH};
use super::model::{Allocated, Allocation, HeapProfile};
use super::text::site_line;
use crate::analyze::figures;

/// Behind an interval, where nothing has said of it how sure it is.
const SAID: &str = ", 95 %";

/// The sites with the most live bytes, one or two lines each.
pub(super) fn live_sites(lines: &mut Lines, report: &Report, top: usize) {
    let (Some(profile), Some(rows)) = (&report.heap_profile, &report.allocations) else { return };
    let mut known: Vec<_> = rows.iter().filter_map(|row| Some((row, row.live?))).collect();
    known.retain(|(row, live)| live.objects > 0 || since_gc(row).is_some());
    let living = known.iter().filter(|(_, live)| live.objects > 0).count();
    // What was allocated since the last GC may be the leak: it counts for a place among the first.
    let bytes = |(row, live): &(&Allocation, Allocated)| {
        live.bytes.saturating_add(since_gc(row).map_or(0, |since| since.bytes))
    };
    known.sort_by_key(|row| Reverse(bytes(row)));
    lines.blank();
    let of = of_what(profile);
    lines.labelled(
        "",
        &format!(
            "{of}: {} in {}, {}{}",
            with_interval(profile.live, SAID),
            figures::counted(profile.live.objects, "object"),
            figures::counted(living as u64, "site"),
            Some(profile.allocated_since_gc)
                .filter(|since| since.objects > 0)
                .map(|since| format!("; {} allocated since, garbage included", with_interval(since, SAID)))
                .unwrap_or_default()
        ),
    );
    let all_known = profile.unknown.is_none() && profile.former_sample_bytes.is_none();
    if let Some(most) = profile.live.bytes_high.filter(|_| profile.live.objects == 0 && all_known) {
        let words =
            format!("no sample of it lives, which is not none: less than {} (95 %)", figures::bytes(most));
        lines.labelled("note: ", &words);
    }
    for (row, live) in known.iter().take(top) {
        let share = live.bytes as f64 / profile.live.bytes.max(1) as f64;
        let figures = format!(
            "  {:>20} {:>6} {:>9}  ",
            with_interval(*live, ""),
            figures::percent(share),
            figures::count(live.objects)
        );
        let (site, what) = site_line(row);
        let what = what + &growth::words(row.growth.as_ref());
        let since = since_gc(row).map(|since| format!(" (+{} since)", figures::bytes(since.bytes)));
        let what = what + &since.unwrap_or_default();
        let what = what.trim_start();
        let one = format!("{figures}{site}  {what}");
        if one.chars().count() <= WIDTH {
            lines.line(one.trim_end());
        } else {
            lines.line(&format!("{figures}{site}"));
            lines.line(&format!("{}{what}", " ".repeat(figures.chars().count() + 2)));
        }
    }
    if known.len() > top {
        lines.line(&format!("  and {} more", figures::counted((known.len() - top) as u64, "site")));
    }
    if let Some(unknown) = profile.unknown {
        lines.labelled(
            "note: ",
            &format!(
                "of {} more it is not known whether they live: a GC cycle passed that nobody looked at",
                with_interval(unknown, SAID)
            ),
        );
    }
    if let Some(former) = profile.former_sample_bytes {
        lines.labelled(
            "note: ",
            &format!(
                "the program changed its sampling rate from {} to {}; objects sampled before are scaled wrongly",
                figures::bytes(former),
                figures::bytes(profile.sample_bytes.unwrap_or(0))
            ),
        );
    }
}

/// What was allocated since the last GC, which is in no figure as of it.
fn since_gc(row: &Allocation) -> Option<Allocated> {
    row.allocated_since_gc.filter(|since| since.objects > 0)
}

/// What the total is of, and by whose samples.
fn of_what(profile: &HeapProfile) -> String {
    let collected = profile.as_of != "now";
    let by = match profile.source {
        "pins" if profile.sample_calls <= Some(1) => "all of it followed".to_owned(),
        "pins" => "a sample of it followed".to_owned(),
        "samples" if profile.sample_bytes <= Some(1) => "every allocation followed".to_owned(),
        "samples" => format!("one sample per {}", figures::bytes(profile.sample_bytes.unwrap_or(0))),
        _ if collected => return "live after the last GC, by Go's own memory profile".to_owned(),
        _ => return "allocated so far (no GC yet), by Go's own memory profile".to_owned(),
    };
    if profile.source == "pins" {
        let what = if collected { "live after the last GC of what" } else { "what" };
        return format!("{what} the probed calls allocated since they are probed, {by}");
    }
    // A GC may have run, before the first sample was taken or unseen.
    let what = if collected {
        "live after the last GC of what was allocated since attach"
    } else {
        "allocated since attach (no GC has told yet what of it lives)"
    };
    format!("{what}, {by}")
}

/// "105 MiB (91..119, 95 %)"; rows leave out what the line above them says.
fn with_interval(amount: Allocated, after: &str) -> String {
    match (amount.bytes_low, amount.bytes_high) {
        (Some(low), Some(high)) => figures::bytes_interval(amount.bytes, low, high, after),
        _ => figures::bytes(amount.bytes),
    }
}

#[cfg(test)]
mod tests {
    use crate::report::model::Allocated;
    use crate::report::tests::{sampled, written};
    use crate::report::text::Text;

    #[test]
    fn where_nothing_was_sampled_it_is_said_how_much_that_could_be() {
        let of = |sample_bytes| {
            let mut report = sampled();
            let heap = report.heap_profile.as_mut().unwrap();
            let bytes_high = (sample_bytes > 1).then_some(1_570_626);
            (heap.sample_bytes, heap.live) =
                (Some(sample_bytes), Allocated { bytes_high, ..Allocated::default() });
            report.allocations = Some(Vec::new());
            written(&report, &Text)
        };
        // Three times the mean: exp(-3) is one in twenty.
        let words = "note: no sample of it lives, which is not none: less than 1.5 MiB (95 %)";
        assert!(of(524_288).contains(words), "{}", of(524_288));
        assert!(!of(1).contains("no sample"));
    }
}
