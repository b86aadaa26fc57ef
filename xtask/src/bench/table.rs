//! The page: one row per measure, with its n, interval, bound and whether it held. It writes text and measures nothing.

use std::fmt::Write as _;

use super::machine::Machine;
use super::statistics::Estimate;

/// What a measure must meet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Bound {
    pub(super) text: String,
    pub(super) holds: bool,
}

/// One measure.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Row {
    pub(super) what: String,
    n: usize,
    mean: String,
    interval: String,
    worst: String,
    pub(super) bound: Option<Bound>,
}

impl Row {
    pub(super) fn of(what: String, estimate: &Estimate, show: impl Fn(f64) -> String) -> Self {
        let Estimate { mean, low, high, n } = *estimate;
        // The interval of an inverse is told from small to large as well.
        let interval =
            if low.is_finite() { format!("{} to {}", show(low), show(high)) } else { "-".to_owned() };
        Self { what, n, mean: show(mean), interval, worst: "-".to_owned(), bound: None }
    }

    pub(super) fn worst(mut self, worst: String) -> Self {
        self.worst = worst;
        self
    }

    pub(super) fn bounded(mut self, bound: Bound) -> Self {
        self.bound = Some(bound);
        self
    }
}

/// Three digits that count.
pub(super) fn figure(x: f64) -> String {
    if x.abs() >= 100.0 { format!("{x:.0}") } else { format!("{x:.1}") }
}

/// A chapter of the page.
#[derive(Clone, Debug)]
pub(super) struct Chapter {
    pub(super) title: &'static str,
    pub(super) how: &'static str,
    pub(super) machine: Machine,
    pub(super) rows: Vec<Row>,
}

/// All chapters that `before` has or that were measured now, in the order of `titles`.
pub(super) fn page(chapters: &[Chapter], before: &str, titles: &[&str]) -> String {
    let mut text = String::from(HEAD);
    for title in titles {
        if let Some(chapter) = chapters.iter().find(|chapter| chapter.title == *title) {
            text.push_str(&chapter.text());
        } else if let Some(old) = before.split(HEADING).skip(1).find(|old| old.lines().next() == Some(title))
        {
            writeln!(text, "{HEADING}{}", old.trim_end()).expect("writing to a string does not fail");
        }
    }
    text
}

const HEADING: &str = "\n## ";

impl Chapter {
    fn text(&self) -> String {
        let Self { title, how, machine, rows } = self;
        let mut text = String::new();
        writeln!(text, "{HEADING}{title}\n\n{how}\n\n{}\n", machine.line())
            .expect("writing to a string does not fail");
        text.push_str(
            "| measure | n | mean | 95 % interval | worst | bound | held |\n|---|---|---|---|---|---|---|\n",
        );
        for Row { what, n, mean, interval, worst, bound } in rows {
            let (bound, held) = match bound {
                Some(Bound { text, holds }) => (text.as_str(), if *holds { "yes" } else { "**no**" }),
                None => ("-", "-"),
            };
            writeln!(text, "| {what} | {n} | {mean} | {interval} | {worst} | {bound} | {held} |")
                .expect("writing to a string does not fail");
        }
        text
    }
}

/// The measures that missed their bound.
pub(super) fn missed(chapters: &[Chapter]) -> Vec<&Row> {
    let rows = chapters.iter().flat_map(|chapter| &chapter.rows);
    rows.filter(|row| row.bound.as_ref().is_some_and(|bound| !bound.holds)).collect()
}

const HEAD: &str = "\
# Benchmarks

Written by `cargo xtask bench` (root, some three hours), or chapter by chapter; `cargo xtask bench --check` also fails where a bound is
missed. No test and no CI run looks at these figures: they belong to one machine and the commit that each chapter names.

A ratio is measured by toggling the tools on one running target, in a random order within each round, so that what else the machine does
falls on all of them. A bound on a mean holds only where the whole interval is within it; a bound on the worst looks at every run.
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missed_bound_is_named_and_shown() {
        let estimate = Estimate { mean: 2.0, low: 1.5, high: 2.5, n: 9 };
        let row = |holds| {
            Row::of("thing".into(), &estimate, |x| format!("{x:.1} s"))
                .bounded(Bound { text: "<= 1 s".into(), holds })
        };
        let [kernel, cpu, commit, go, other, load] = ["k", "c", "abc", "1", "o", "0"].map(String::from);
        let machine = Machine { kernel, cpu, commit, go, other, load };
        let times = Chapter { title: "Times", how: "By clock.", machine, rows: vec![row(true), row(false)] };
        let chapters = [times];
        assert_eq!(missed(&chapters), [&row(false)]);
        let before = "# Page\n\n## Sizes\n\nBy ruler.\n\n## Times\n\nOld.\n\n## Gone\n\nOld.\n";
        let page = page(&chapters, before, &["Sizes", "Times", "Weights"]);
        assert!(
            page.contains("\n\n## Sizes\n\nBy ruler.\n\n## Times\n\nBy clock.\n\nCommit abc; kernel k;"),
            "{page}"
        );
        assert!(!page.contains("Old.") && !page.contains("Weights"), "{page}");
        assert!(page.contains("| thing | 9 | 2.0 s | 1.5 s to 2.5 s | - | <= 1 s | **no** |"), "{page}");
    }
}
