//! Sampled objects: how many of each group were taken, live, died, or are lost sight of.
//!
//! Objects are held until they are known to be dead, at most [`MAX_FOLLOWED`]; groups at most [`MAX_GROUPS`] and some
//! without stack and type. What does not fit is counted under the unknown stack, as unknown: it is in the totals and never
//! live.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};

use foldhash::quality::RandomState;
use indexmap::IndexMap;

use super::profile::{MAX_BUCKETS, MAX_POINTS, ProfilePoint};
use super::series::Series;
use crate::record::reading::AllocClass;
use crate::record::samples::{Fates, MAX_FOLLOWED, Sample, SampleKey};
use crate::units::{Bytes, KTime, ProcAddr, StackId};

/// Stacks times types times sizes.
pub const MAX_GROUPS: usize = 65_536;
/// Groups without stack and type beyond that, by class and size.
const MAX_RESTS: usize = 4_096;

/// Samples that are estimated together: one size, one stack, one type.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SampleGroup {
    pub stack: StackId,
    pub type_addr: Option<ProcAddr>,
    pub class: AllocClass,
    pub size: Bytes,
    /// Which pinned call chose them, and by which of its means, as in [`Sample`]; absent where the allocator's own functions did.
    pub pin: Option<u32>,
}

/// Numbers of samples.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Followed {
    /// All of them: the sum of the others.
    pub taken: u64,
    /// Found by the newest cycle that told of them.
    pub live: u64,
    pub dead: u64,
    /// No cycle has told of them yet.
    pub fresh: u64,
    /// Live or dead: not known.
    pub unknown: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Told {
    Nothing,
    Lives,
    Unknown,
}

/// A group under way.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
struct Group {
    held: Followed,
    /// What points call it.
    number: Option<u32>,
}

/// What is known of all samples.
#[derive(Clone, PartialEq, Debug)]
pub struct SampleStore {
    mean: Option<u64>,
    /// In the order in which they were met.
    groups: IndexMap<SampleGroup, Group, RandomState>,
    objects: HashMap<SampleKey, (u32, Told), RandomState>,
    points: Series<ProfilePoint>,
    /// Of each group that points have a number for, how many live.
    living: Vec<u32>,
    /// Groups that have living objects and no number.
    unnumbered: BTreeSet<u32>,
    /// How often a group found no number.
    numbers_cut: u64,
    cycle: Option<u32>,
    newest: Option<KTime>,
    groups_cut: u64,
    misplaced: u64,
}

impl Default for SampleStore {
    fn default() -> Self {
        Self {
            mean: None,
            groups: IndexMap::default(),
            objects: HashMap::default(),
            points: Series::new(MAX_POINTS),
            living: Vec::new(),
            unnumbered: BTreeSet::new(),
            numbers_cut: 0,
            cycle: None,
            newest: None,
            groups_cut: 0,
            misplaced: 0,
        }
    }
}

impl SampleStore {
    pub(super) fn begin(&mut self, mean: u64) {
        self.mean = Some(mean);
    }

    /// Whether the object is followed.
    pub(super) fn sample(&mut self, at: KTime, sample: &Sample) -> bool {
        let Sample { address, stack, type_addr, class, size, g: _, born: _, pin } = *sample;
        let place = self.place(SampleGroup { stack, type_addr, class, size, pin });
        self.newest = Some(at);
        let room = self.objects.len() < MAX_FOLLOWED;
        let follows = match self.objects.entry(SampleKey { address, at }) {
            Entry::Vacant(free) if room => {
                free.insert((place, Told::Nothing));
                true
            }
            _ => false,
        };
        let held = &mut self.groups[place as usize].held;
        held.taken += 1;
        if follows {
            held.fresh += 1;
        } else {
            held.unknown += 1;
        }
        follows
    }

    /// The group's place in `groups`, a new one where there is room.
    fn place(&mut self, group: SampleGroup) -> u32 {
        let group = if self.groups.len() < MAX_GROUPS || self.groups.contains_key(&group) {
            group
        } else {
            self.groups_cut += 1;
            // A recording may name any probe.
            let pin = group.pin.map(|_| u32::MAX);
            let rest = SampleGroup { stack: StackId(0), type_addr: None, pin, ..group };
            if self.groups.len() < MAX_GROUPS + MAX_RESTS || self.groups.contains_key(&rest) {
                rest
            } else {
                // A few dozen for each class, whatever sizes come.
                let size = rest.size.0.checked_next_power_of_two().unwrap_or(u64::MAX);
                SampleGroup { size: Bytes(size), ..rest }
            }
        };
        let entry = self.groups.entry(group);
        let place = entry.index() as u32;
        entry.or_default();
        place
    }

    pub(super) fn tell(&mut self, at: KTime, fates: &Fates) {
        let Fates { cycle, survived, died, unknown, untold: _ } = fates;
        self.newest = Some(at);
        for (keys, told) in [(survived, Some(Told::Lives)), (unknown, Some(Told::Unknown)), (died, None)] {
            for key in keys {
                self.move_to(*key, told);
            }
        }
        // Objects that came since are looked at again within a cycle: the first look at all of them is the point.
        // What the follower could not take tells of no cycle, and says 0.
        if *cycle > self.cycle.unwrap_or(0) {
            self.cycle = Some(*cycle);
            self.point(at, *cycle);
        }
    }

    fn point(&mut self, time: KTime, cycle: u32) {
        self.number_new();
        let rows = self.living.iter().enumerate().filter(|(_, live)| **live > 0);
        let live = rows.map(|(number, live)| (number as u32, *live)).collect();
        self.points.push(ProfilePoint { time, cycle, live });
    }

    /// Gives numbers to those that live and have none, while there are any: first to those with most bytes.
    fn number_new(&mut self) {
        let free = MAX_BUCKETS - self.living.len();
        if free > 0 {
            let mut new: Vec<u32> = self.unnumbered.iter().copied().collect();
            new.sort_by_cached_key(|place| {
                let (of, group) = self.groups.get_index(*place as usize)?;
                Some((std::cmp::Reverse(group.held.live.saturating_mul(of.size.0)), *of))
            });
            for place in new.into_iter().take(free) {
                let group = &mut self.groups[place as usize];
                group.number = Some(self.living.len() as u32);
                self.living.push(u32::try_from(group.held.live).unwrap_or(u32::MAX));
                self.unnumbered.remove(&place);
            }
        }
        self.numbers_cut += self.unnumbered.len() as u64;
    }

    /// `None`: dead, and no longer held.
    fn move_to(&mut self, key: SampleKey, told: Option<Told>) {
        let Entry::Occupied(mut object) = self.objects.entry(key) else {
            self.misplaced += 1;
            return;
        };
        let (place, was) = *object.get();
        match told {
            None => drop(object.remove()),
            Some(told) => object.get_mut().1 = told,
        }
        let Group { held, number, .. } = &mut self.groups[place as usize];
        let left = match was {
            Told::Nothing => &mut held.fresh,
            Told::Lives => &mut held.live,
            Told::Unknown => &mut held.unknown,
        };
        *left = left.saturating_sub(1);
        match told {
            None => held.dead += 1,
            Some(Told::Lives) => held.live += 1,
            Some(Told::Unknown) => held.unknown += 1,
            Some(Told::Nothing) => held.fresh += 1,
        }
        match number {
            // At most MAX_FOLLOWED objects are held.
            Some(number) => self.living[*number as usize] = held.live as u32,
            None if held.live > 0 => drop(self.unnumbered.insert(place)),
            None => drop(self.unnumbered.remove(&place)),
        }
    }

    /// Mean bytes between two samples; absent where none are taken.
    pub fn mean(&self) -> Option<u64> {
        self.mean
    }
    /// In the order of the groups.
    pub fn groups(&self) -> impl ExactSizeIterator<Item = (&SampleGroup, &Followed)> {
        let mut sorted: Vec<(&SampleGroup, &Group)> = self.groups.iter().collect();
        sorted.sort_unstable_by_key(|(group, _)| *group);
        sorted.into_iter().map(|(group, under_way)| (group, &under_way.held))
    }
    /// Objects that are followed, or were and are lost sight of.
    pub fn held(&self) -> usize {
        self.objects.len()
    }
    /// The newest cycle that told something.
    pub fn cycle(&self) -> Option<u32> {
        self.cycle
    }
    /// When the newest sample or fate came.
    pub fn newest(&self) -> Option<KTime> {
        self.newest
    }
    /// When each object that is known to live was allocated, with its group.
    pub fn living(&self) -> impl Iterator<Item = (SampleGroup, KTime)> {
        let lives = |(key, (place, told)): (&SampleKey, &'_ (u32, Told))| {
            let (group, _) = self.groups.get_index(*place as usize)?;
            (*told == Told::Lives).then_some((*group, key.at))
        };
        self.objects.iter().filter_map(lives)
    }
    /// What lived after each cycle that was looked at.
    pub fn points(&self) -> &Series<ProfilePoint> {
        &self.points
    }
    /// What points call a group; absent where none of it ever lived, or it is not followed.
    pub fn number(&self, group: &SampleGroup) -> Option<u32> {
        self.groups.get(group)?.number
    }
    pub(super) fn unfollowed(&self) -> u64 {
        self.numbers_cut
    }
    pub(super) fn groups_cut(&self) -> u64 {
        self.groups_cut
    }
    /// Fates of objects that are not held.
    pub(super) fn misplaced(&self) -> u64 {
        self.misplaced
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::samples::Born;

    fn sample(address: u64) -> Sample {
        Sample {
            address: ProcAddr(address),
            stack: StackId(3),
            type_addr: None,
            class: AllocClass::Small(5),
            size: Bytes(60),
            g: ProcAddr(1),
            born: Some(Born { generation: 4, marking: false }),
            pin: None,
        }
    }

    fn key(address: u64, at: u64) -> SampleKey {
        SampleKey { address: ProcAddr(address), at: KTime(at) }
    }

    fn only(store: &SampleStore) -> Followed {
        let mut all = store.groups();
        assert_eq!(all.len(), 1);
        *all.next().unwrap().1
    }

    #[test]
    fn objects_move_from_fresh_to_their_end() {
        let mut store = SampleStore::default();
        for at in 1..=4 {
            assert!(store.sample(KTime(at), &sample(0x1000 * at)));
        }
        assert_eq!(only(&store), Followed { taken: 4, fresh: 4, ..Followed::default() });
        let fates = Fates {
            cycle: 3,
            survived: vec![key(0x1000, 1), key(0x2000, 2)],
            died: vec![key(0x3000, 3)],
            ..Fates::default()
        };
        store.tell(KTime(9), &fates);
        assert_eq!(only(&store), Followed { taken: 4, live: 2, dead: 1, fresh: 1, unknown: 0 });
        let unknown = vec![key(0x1000, 1)];
        store.tell(KTime(10), &Fates { cycle: 5, unknown, ..Fates::default() });
        let died = vec![key(0x1000, 1), key(0x2000, 2), key(0x2000, 2)];
        store.tell(KTime(11), &Fates { cycle: 6, died, ..Fates::default() });
        assert_eq!(only(&store), Followed { taken: 4, live: 0, dead: 3, fresh: 1, unknown: 0 });
        assert_eq!((store.cycle(), store.misplaced()), (Some(6), 1), "told twice");
        let number = store.number(store.groups().next().unwrap().0).unwrap();
        let points: Vec<(u32, u64)> = store.points().iter().map(|p| (p.cycle, p.of(number))).collect();
        assert_eq!(points, [(3, 2), (5, 1), (6, 0)]);
    }

    #[test]
    fn groups_are_bounded_whatever_comes() {
        let mut store = SampleStore::default();
        for n in 1..=200_000_u64 {
            let of = Sample { size: Bytes(n), stack: StackId(n), ..sample(0x1000) };
            store.sample(KTime(n), &of);
        }
        let groups = store.groups().len();
        assert!((MAX_GROUPS + MAX_RESTS..MAX_GROUPS + MAX_RESTS + 65).contains(&groups), "{groups}");
        assert_eq!(store.groups_cut(), 200_000 - MAX_GROUPS as u64);
        assert_eq!(store.groups().map(|(_, held)| held.taken).sum::<u64>(), 200_000);
    }

    #[test]
    fn fates_of_no_cycle_are_no_point() {
        let mut store = SampleStore::default();
        assert!(store.sample(KTime(1), &sample(0x1000)) && store.sample(KTime(2), &sample(0x2000)));
        store.tell(KTime(3), &Fates { unknown: vec![key(0x1000, 1)], ..Fates::default() });
        assert_eq!((store.cycle(), store.points().iter().count()), (None, 0));
        assert_eq!(only(&store), Followed { taken: 2, fresh: 1, unknown: 1, ..Followed::default() });
        store.tell(KTime(4), &Fates { cycle: 7, survived: vec![key(0x2000, 2)], ..Fates::default() });
        store.tell(KTime(5), &Fates::default());
        store.tell(KTime(6), &Fates { cycle: 6, ..Fates::default() });
        assert_eq!((store.cycle(), store.points().iter().count()), (Some(7), 1));
    }

    #[test]
    fn an_address_given_out_again_is_another_object() {
        let mut store = SampleStore::default();
        assert!(store.sample(KTime(1), &sample(0x1000)));
        assert!(store.sample(KTime(2), &sample(0x1000)));
        store.tell(KTime(3), &Fates { died: vec![key(0x1000, 1)], ..Fates::default() });
        assert_eq!(only(&store), Followed { taken: 2, dead: 1, fresh: 1, ..Followed::default() });
    }

    #[test]
    fn what_is_beyond_the_cap_is_unknown_from_the_start() {
        let mut store = SampleStore::default();
        for at in 0..MAX_FOLLOWED as u64 {
            assert!(store.sample(KTime(at), &sample(8 * at)));
        }
        assert!(!store.sample(KTime(1), &sample(4)));
        assert_eq!(only(&store).unknown, 1);
        store.tell(KTime(2), &Fates { died: vec![key(0, 0)], ..Fates::default() });
        assert!(store.sample(KTime(3), &sample(4)), "there is room again");
    }
}
