//! Goroutines by creation site over time: a point per reading and the groups of the newest one.
//!
//! Apart from the counts of births and ends, because these come from reading memory and need no probe.
//! Sites are addresses here; naming them is `symbolize`'s.

use std::collections::BTreeMap;

use super::series::Series;
use crate::record::reading::{GoState, GoroutineGroup, Goroutines, Waits};
use crate::units::{KTime, ProcAddr};

/// Creation sites followed. Large programs have a few hundred `go` statements.
pub const MAX_SITES: usize = 1_024;
/// Points kept per site: 256 x 40 bytes x 1 024 sites is 10 MiB at worst.
pub const MAX_POINTS: usize = 256;
/// Groups kept per site from the newest reading, the largest first.
pub const MAX_GROUPS: usize = 32;

/// One site at one reading.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GoroutinePoint {
    pub time: KTime,
    pub count: u64,
    /// Of these, how many wait.
    pub waiting: u64,
    pub oldest_wait: Option<KTime>,
}

/// One creation site.
#[derive(Clone, PartialEq, Debug)]
pub struct GoroutineSite {
    pub points: Series<GoroutinePoint>,
    /// From the newest reading; empty where the site has no goroutine any more.
    pub groups: Vec<GoroutineGroup>,
}

/// All goroutines as of one reading.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GoroutineTotal {
    pub time: KTime,
    pub total: u64,
    pub skipped: u64,
    pub swapped: u64,
    pub stackless: u64,
}

/// The history of every creation site; the first goroutine's site is `None`.
#[derive(Clone, PartialEq, Debug)]
pub struct GoroutineHistory {
    sites: BTreeMap<Option<ProcAddr>, GoroutineSite>,
    totals: Series<GoroutineTotal>,
    sites_cut: u64,
    groups_cut: u64,
    /// Of the newest reading, which is bounded where it is made.
    waits: BTreeMap<Option<ProcAddr>, Vec<(KTime, u64)>>,
    waits_cut: u64,
}

impl Default for GoroutineHistory {
    fn default() -> Self {
        Self {
            sites: BTreeMap::new(),
            totals: Series::new(MAX_POINTS),
            sites_cut: 0,
            groups_cut: 0,
            waits: BTreeMap::new(),
            waits_cut: 0,
        }
    }
}

impl GoroutineHistory {
    pub(super) fn apply(&mut self, time: KTime, reading: &Goroutines) {
        let Goroutines { groups, total, skipped, swapped, stackless } = reading;
        let mut now: BTreeMap<Option<ProcAddr>, Vec<&GoroutineGroup>> = BTreeMap::new();
        for group in groups {
            now.entry(group.created_at).or_default().push(group);
        }
        let before = self.totals.last().map(|t| t.time);
        self.admit(before, &now);
        for (site, held) in &mut self.sites {
            let groups = now.remove(site).unwrap_or_default();
            held.points.push(point(time, &groups));
            let mut groups: Vec<GoroutineGroup> = groups.into_iter().cloned().collect();
            groups.sort_by(|a, b| {
                b.count
                    .cmp(&a.count)
                    .then_with(|| a.stack.cmp(&b.stack))
                    .then_with(|| (a.entry, a.state, &a.wait).cmp(&(b.entry, b.state, &b.wait)))
            });
            self.groups_cut += groups.len().saturating_sub(MAX_GROUPS) as u64;
            groups.truncate(MAX_GROUPS);
            held.groups = groups;
        }
        // What is left found no room.
        self.sites_cut += now.len() as u64;
        self.totals.push(GoroutineTotal {
            time,
            total: *total,
            skipped: *skipped,
            swapped: *swapped,
            stackless: *stackless,
        });
    }

    /// Makes room for sites not seen before, those with most goroutines first; a site whose goroutines are all
    /// gone gives its place up.
    fn admit(&mut self, before: Option<KTime>, now: &BTreeMap<Option<ProcAddr>, Vec<&GoroutineGroup>>) {
        let mut new: Vec<(u64, Option<ProcAddr>)> = now
            .iter()
            .filter(|(site, _)| !self.sites.contains_key(*site))
            .map(|(site, groups)| (sum(groups.iter().map(|g| g.count)), *site))
            .collect();
        new.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
        if self.sites.len() + new.len() > MAX_SITES {
            let gone: Vec<Option<ProcAddr>> = self
                .sites
                .iter()
                .filter(|(site, s)| !now.contains_key(*site) && s.points.last().is_none_or(|p| p.count == 0))
                .map(|(site, _)| *site)
                .take(self.sites.len() + new.len() - MAX_SITES)
                .collect();
            for site in gone {
                self.sites.remove(&site);
                self.sites_cut += 1;
            }
        }
        for (_, site) in new {
            if self.sites.len() >= MAX_SITES {
                break;
            }
            let mut points = Series::new(MAX_POINTS);
            if let Some(time) = before {
                // The reading before this one saw all sites and not this one: it had none then.
                points.push(GoroutinePoint { time, count: 0, waiting: 0, oldest_wait: None });
            }
            self.sites.insert(site, GoroutineSite { points, groups: Vec::new() });
        }
    }

    pub(super) fn waits(&mut self, waits: &Waits) {
        self.waits = waits.sites.iter().map(|site| (site.created_at, site.since.clone())).collect();
        self.waits_cut = self.waits_cut.saturating_add(waits.over);
    }

    /// Since when the goroutines of a site wait, as of the newest reading: moments and how many.
    pub fn waits_of(&self, site: Option<ProcAddr>) -> &[(KTime, u64)] {
        self.waits.get(&site).map_or(&[], Vec::as_slice)
    }
    /// Waits left out, over all readings.
    pub fn waits_cut(&self) -> u64 {
        self.waits_cut
    }
    pub fn sites(&self) -> &BTreeMap<Option<ProcAddr>, GoroutineSite> {
        &self.sites
    }
    pub fn totals(&self) -> &Series<GoroutineTotal> {
        &self.totals
    }
    /// Sites that found no room or gave theirs up.
    pub fn sites_cut(&self) -> u64 {
        self.sites_cut
    }
    /// Groups left out, over all readings.
    pub fn groups_cut(&self) -> u64 {
        self.groups_cut
    }
}

fn point(time: KTime, groups: &[&GoroutineGroup]) -> GoroutinePoint {
    GoroutinePoint {
        time,
        count: sum(groups.iter().map(|g| g.count)),
        waiting: sum(groups
            .iter()
            .filter(|g| matches!(g.state, GoState::Waiting | GoState::Leaked))
            .map(|g| g.count)),
        oldest_wait: groups.iter().filter_map(|g| g.oldest_wait).min(),
    }
}

fn sum(counts: impl Iterator<Item = u64>) -> u64 {
    counts.fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(site: u64, count: u64) -> GoroutineGroup {
        GoroutineGroup {
            created_at: Some(ProcAddr(site)),
            entry: ProcAddr(1),
            state: GoState::Waiting,
            wait: Some("chan receive".into()),
            stack: vec![ProcAddr(2)],
            count,
            oldest_wait: None,
            examples: Vec::new(),
        }
    }

    fn reading(groups: Vec<GoroutineGroup>) -> Goroutines {
        Goroutines { total: groups.iter().map(|g| g.count).sum(), groups, ..Goroutines::default() }
    }

    #[test]
    fn a_site_that_appears_late_had_none_before() {
        let mut h = GoroutineHistory::default();
        h.apply(KTime(1), &reading(vec![group(1, 5)]));
        h.apply(KTime(2), &reading(vec![group(1, 5), group(2, 3)]));
        h.apply(KTime(3), &reading(vec![group(2, 4)]));
        let counts = |site| -> Vec<(u64, u64)> {
            h.sites()[&Some(ProcAddr(site))].points.iter().map(|p| (p.time.0, p.count)).collect()
        };
        assert_eq!(counts(1), [(1, 5), (2, 5), (3, 0)]);
        assert_eq!(counts(2), [(1, 0), (2, 3), (3, 4)]);
    }

    #[test]
    fn sites_are_capped_the_largest_stay_and_the_cut_is_counted() {
        let mut h = GoroutineHistory::default();
        let many: Vec<_> = (0..MAX_SITES as u64 + 20).map(|i| group(i, i + 1)).collect();
        h.apply(KTime(1), &reading(many));
        assert_eq!(h.sites().len(), MAX_SITES);
        assert_eq!(h.sites_cut(), 20);
        assert!(!h.sites().contains_key(&Some(ProcAddr(0))));
        // All gone but one new: the new one takes the place of one that is gone.
        h.apply(KTime(2), &reading(vec![]));
        h.apply(KTime(3), &reading(vec![group(99_999, 1)]));
        assert!(h.sites().contains_key(&Some(ProcAddr(99_999))));
        assert_eq!(h.sites().len(), MAX_SITES);
    }
}
