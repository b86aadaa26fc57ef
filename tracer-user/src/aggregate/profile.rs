//! The runtime's memory profile over time: the newest reading, which holds everything since the process started, and a
//! point per GC cycle with what lived of each bucket.
//!
//! Points are of what the runtime has published: swept to the end, one cycle behind, without the garbage that a
//! sweep under way has not reached. Buckets are told apart by a hash of their stack and size, so that a history costs
//! eight bytes per bucket and point. Nothing is scaled here.

use std::collections::BTreeMap;
use std::hash::BuildHasher as _;

use foldhash::quality::FixedState;

use super::numbers::Numbers;
use super::series::Series;
use crate::record::census::MAX_CANDIDATES;
use crate::record::profile::{Bucket, LiveRow, LiveSampled, Profile};
use crate::units::KTime;

/// Points kept: as many as the statistics look at.
pub const MAX_POINTS: usize = 128;
/// Buckets followed, those with most live bytes first: 128 points of 4 096 rows of 8 bytes are 4 MiB at worst.
pub const MAX_BUCKETS: usize = 4_096;

/// Rows of types kept; a reading makes fewer.
const MAX_LIVE_ROWS: usize = 4_096;

/// What one GC cycle left. Buckets that are not here held nothing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProfilePoint {
    pub time: KTime,
    /// By the profiler's own number, or the collector's.
    pub cycle: u32,
    /// Live sampled objects by what the history calls the bucket, in order.
    pub live: Vec<(u32, u32)>,
}

/// What live objects of the profile are.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LiveTypes {
    /// When they were read.
    pub time: KTime,
    /// As read, without the rows.
    pub found: LiveSampled,
    /// By what tells buckets apart.
    rows: BTreeMap<u64, Vec<LiveRow>>,
}

impl LiveTypes {
    /// The objects of a bucket that were looked at, once: a foreign profile may hold a bucket twice.
    pub fn take(&mut self, bucket: &Bucket) -> Vec<LiveRow> {
        self.rows.remove(&key(bucket)).unwrap_or_default()
    }
}

/// What is known of the runtime's own profile.
#[derive(Clone, PartialEq, Debug)]
pub struct ProfileHistory {
    newest: Option<(KTime, Profile)>,
    live: Option<LiveTypes>,
    points: Series<ProfilePoint>,
    followed: Numbers<u64>,
    first_rate: Option<u64>,
    /// Readings that left buckets out.
    cut: u64,
}

impl Default for ProfileHistory {
    fn default() -> Self {
        Self {
            newest: None,
            live: None,
            points: Series::new(MAX_POINTS),
            followed: Numbers::new(MAX_BUCKETS),
            first_rate: None,
            cut: 0,
        }
    }
}

impl ProfileHistory {
    pub(super) fn apply(&mut self, time: KTime, profile: Profile) {
        self.first_rate.get_or_insert(profile.rate);
        self.cut = self.cut.saturating_add(u64::from(profile.cut));
        let repeated = self.points.last().is_some_and(|last| last.cycle == profile.cycle);
        if !repeated {
            self.point(time, &profile);
        }
        self.newest = Some((time, profile));
    }

    /// Buckets that have no number yet get theirs in the order of what they hold, most bytes first.
    fn point(&mut self, time: KTime, profile: &Profile) {
        let short = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
        let (mut live, mut new) = (Vec::with_capacity(profile.buckets.len().min(MAX_BUCKETS)), Vec::new());
        for bucket in profile.buckets.iter().filter(|b| b.published.live() > 0) {
            let (key, held) = (key(bucket), bucket.published.live());
            match self.followed.of(&key) {
                Some(number) => live.push((number, short(held))),
                None => new.push((key, held, bucket.size)),
            }
        }
        new.sort_by_key(|(_, held, size)| std::cmp::Reverse(held.saturating_mul(size.0)));
        for (key, held, _) in new {
            live.extend(self.followed.give(&key, |key| *key).map(|number| (number, short(held))));
        }
        live.sort_unstable();
        self.points.push(ProfilePoint { time, cycle: profile.cycle, live });
    }

    /// What the objects of the newest profile are. Later profiles number their buckets anew.
    pub(super) fn lives(&mut self, time: KTime, mut live: LiveSampled) {
        let Some((_, profile)) = &self.newest else { return };
        let mut rows: BTreeMap<u64, Vec<LiveRow>> = BTreeMap::new();
        let all = std::mem::take(&mut live.rows);
        live.cut |= all.len() > MAX_LIVE_ROWS;
        for mut row in all.into_iter().take(MAX_LIVE_ROWS) {
            // Of some that were left out nobody knows what it is.
            if row.candidates.len() > MAX_CANDIDATES {
                row.candidates = Vec::new();
            }
            if let Some(bucket) = profile.buckets.get(row.bucket as usize) {
                rows.entry(key(bucket)).or_default().push(row);
            }
        }
        self.live = Some(LiveTypes { time, found: live, rows });
    }

    pub fn live(&self) -> Option<&LiveTypes> {
        self.live.as_ref()
    }

    pub fn newest(&self) -> Option<(KTime, &Profile)> {
        self.newest.as_ref().map(|(time, profile)| (*time, profile))
    }

    /// What lived after each cycle that was seen.
    pub fn points(&self) -> &Series<ProfilePoint> {
        &self.points
    }

    /// What points call a bucket; absent where it is not followed.
    pub fn followed(&self, bucket: &Bucket) -> Option<u32> {
        self.followed.of(&key(bucket))
    }

    /// The rate at the first reading, where the newest has another: older samples were taken at it.
    pub fn former_rate(&self) -> Option<u64> {
        let (_, newest) = self.newest()?;
        self.first_rate.filter(|first| *first != newest.rate)
    }

    pub(super) fn cut(&self) -> u64 {
        self.cut
    }

    pub(super) fn unfollowed(&self) -> u64 {
        self.followed.cut()
    }
}

impl ProfilePoint {
    /// Live sampled objects of a followed bucket.
    pub fn of(&self, followed: u32) -> u64 {
        self.live.binary_search_by_key(&followed, |row| row.0).map_or(0, |n| u64::from(self.live[n].1))
    }
}

fn key(bucket: &Bucket) -> u64 {
    FixedState::default().hash_one((&bucket.stack, bucket.size))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::profile::Sampled;
    use crate::units::{Bytes, ProcAddr};

    fn bucket(pc: u64, live: u64) -> Bucket {
        Bucket {
            stack: vec![ProcAddr(pc)],
            size: Bytes(64),
            published: Sampled { allocs: live + 2, frees: 2 },
            last_gc: Sampled { allocs: 100, frees: 0 },
            since_gc: Sampled::default(),
        }
    }

    #[test]
    fn a_point_per_cycle_holds_what_is_published_alone() {
        let mut h = ProfileHistory::default();
        for (t, cycle, a, b) in [(1, 7, 5, 0), (2, 7, 9, 9), (3, 8, 6, 2), (4, 9, 0, 3)] {
            let buckets = vec![bucket(1, a), bucket(2, b)];
            h.apply(KTime(t), Profile { rate: 1, cycle, buckets, cut: false });
        }
        let series = |pc| {
            let followed = h.followed(&bucket(pc, 0)).expect("it held something");
            h.points().iter().map(|p| (p.cycle, p.of(followed))).collect::<Vec<_>>()
        };
        assert_eq!(series(1), [(7, 5), (8, 6), (9, 0)]);
        assert_eq!(series(2), [(7, 0), (8, 2), (9, 3)]);
        assert_eq!(h.followed(&bucket(3, 0)), None);
    }

    #[test]
    fn types_stay_with_their_bucket_when_a_later_profile_has_another_order() {
        let row = |bucket, objects| LiveRow {
            bucket,
            noscan: false,
            candidates: Vec::new(),
            objects,
            example: ProcAddr(0),
        };
        let mut h = ProfileHistory::default();
        h.lives(KTime(0), LiveSampled { rows: vec![row(0, 1)], ..LiveSampled::default() });
        assert_eq!(h.live(), None, "of no profile");
        let profile = |order: [u64; 2]| {
            let buckets = order.map(|pc| bucket(pc, 9)).to_vec();
            Profile { rate: 1, cycle: 3, buckets, cut: false }
        };
        h.apply(KTime(1), profile([1, 2]));
        let rows = vec![row(0, 5), row(1, 7), row(2, 8)];
        h.lives(KTime(1), LiveSampled { rows, ..LiveSampled::default() });
        h.apply(KTime(2), profile([2, 1]));
        let objects =
            |pc| h.live().unwrap().clone().take(&bucket(pc, 0)).iter().map(|r| r.objects).collect::<Vec<_>>();
        assert_eq!((objects(1), objects(2), objects(3)), (vec![5], vec![7], vec![]));
    }

    #[test]
    fn buckets_past_the_cap_are_counted_and_the_largest_stay() {
        let buckets = (0..MAX_BUCKETS as u64 + 5).map(|n| bucket(n, n + 1)).collect();
        let mut h = ProfileHistory::default();
        h.apply(KTime(1), Profile { rate: 1, cycle: 1, buckets, cut: false });
        assert_eq!((h.points().last().map(|p| p.live.len()), h.unfollowed()), (Some(MAX_BUCKETS), 5));
        assert_eq!(h.followed(&bucket(4, 0)), None);
        assert!(h.followed(&bucket(5, 0)).is_some());
    }
}
