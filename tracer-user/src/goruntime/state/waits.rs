//! Counts since when goroutines wait, by creation site. Apart from their grouping, which keeps the oldest of a group.

use std::collections::BTreeMap;

use crate::record::reading::{SiteWaits, Waits};
use crate::units::{KTime, ProcAddr};

/// Different moments over all sites: a row of 24 bytes each. There are as many as GC cycles that first saw somebody park.
const MAX_ROWS: usize = 32 << 10;

/// Waits under count.
#[derive(Default)]
pub(super) struct WaitCounts {
    sites: BTreeMap<u64, BTreeMap<u64, u64>>,
    rows: usize,
    over: u64,
}

impl WaitCounts {
    /// One goroutine that was created at `site` (0: by no `go` statement) and waits at least since that moment.
    pub(super) fn add(&mut self, site: u64, since: u64) {
        let held = self.sites.entry(site).or_default();
        if let Some(n) = held.get_mut(&since) {
            *n += 1;
        } else if self.rows < MAX_ROWS {
            self.rows += 1;
            held.insert(since, 1);
        } else {
            self.over += 1;
        }
    }

    pub(super) fn finish(self) -> Waits {
        let sites = self.sites.into_iter().map(|(site, since)| SiteWaits {
            created_at: (site != 0).then_some(ProcAddr(site)),
            since: since.into_iter().map(|(t, n)| (KTime(t), n)).collect(),
        });
        Waits { sites: sites.collect(), over: self.over }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_moments_are_one_row_and_those_past_the_cap_are_counted() {
        let mut counts = WaitCounts::default();
        for since in [7, 5, 7] {
            counts.add(9, since);
        }
        counts.add(0, 5);
        for since in 0..MAX_ROWS as u64 {
            counts.add(8, since + 100);
        }
        counts.add(9, 7);
        let waits = counts.finish();
        let of = |site| waits.sites.iter().find(|s| s.created_at == site).map(|s| s.since.clone());
        assert_eq!(of(Some(ProcAddr(9))), Some(vec![(KTime(5), 1), (KTime(7), 3)]));
        assert_eq!(of(None), Some(vec![(KTime(5), 1)]));
        assert_eq!(waits.over, 3);
    }
}
