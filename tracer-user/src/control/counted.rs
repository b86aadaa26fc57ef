//! Which calls to count because of what grows by them: the `go` statement whose goroutines become more, and the writes to a type of
//! map of which one does.
//!
//! How many goroutines and entries there are is read without any probe; how many came, and by which of several places, is not.

use std::collections::BTreeSet;

use super::pins::Call;
use crate::symbolize::evidence::{Cause, Evidence, GoroutineSite, MapRow};
use crate::units::ProcAddr;

/// What to count next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Count {
    Calls(Vec<Call>),
    /// The calls that write to maps of this type.
    WritesTo(String),
}

/// What was counted in one session.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Counting {
    sites: BTreeSet<String>,
    types: BTreeSet<String>,
}

/// Of each kind, in one session.
const MAX: usize = 3;
/// Calls that are counted together.
const MAX_CALLS: usize = 8;
/// Readings that must show it grow, in thirds: all of the last one more than all of the first.
const READINGS: usize = 9;
/// What it must have gained, of what a finding is made of.
const MIN_GOROUTINES: u64 = 5;
const MIN_ENTRIES: u64 = 100;

impl Counting {
    pub fn step(&mut self, evidence: &Evidence) -> Option<Count> {
        self.go_statement(evidence).or_else(|| self.writes(evidence))
    }

    fn go_statement(&mut self, evidence: &Evidence) -> Option<Count> {
        if self.sites.len() >= MAX {
            return None;
        }
        let gain = |site: &GoroutineSite| {
            gain(&site.points, |point| point.count).filter(|gain| *gain >= MIN_GOROUTINES)
        };
        let all = evidence.goroutines.as_ref()?;
        let new = all.sites.iter().filter(|site| {
            let uncounted = all.uncounted || site.created.is_none();
            let countable = uncounted && (1..=MAX_CALLS).contains(&site.created_at.len());
            !site.internal && countable && !self.sites.contains(&site.id)
        });
        let (site, _) = new.filter_map(|site| Some((site, gain(site)?))).max_by_key(|(_, gain)| *gain)?;
        self.sites.insert(site.id.clone());
        let call = |at: &u64| Call { returns_to: ProcAddr(*at), mean: 0 };
        Some(Count::Calls(site.created_at.iter().map(call).collect()))
    }

    fn writes(&mut self, evidence: &Evidence) -> Option<Count> {
        if self.types.len() >= MAX {
            return None;
        }
        let gain =
            |map: &MapRow| gain(&map.points, |point| point.entries).filter(|gain| *gain >= MIN_ENTRIES);
        let new = evidence.maps.iter().filter(|map| map.writes.is_none()).filter_map(|map| {
            let name = written(map).filter(|name| !self.types.contains(*name))?;
            Some((name, gain(map)?))
        });
        let (name, _) = new.max_by_key(|(_, gain)| *gain)?;
        self.types.insert(name.clone());
        Some(Count::WritesTo(name.clone()))
    }
}

/// Its type, where that is known and the program's code writes to such maps in a few places that are all known.
fn written(map: &MapRow) -> Option<&String> {
    let places = map.places.as_ref().filter(|places| places.more == 0)?;
    let writes = places.places.iter().filter(|place| place.cause == Cause::MapAssign).count();
    map.type_name.as_ref().filter(|_| map.may_be.is_empty() && (1..=MAX_CALLS).contains(&writes))
}

fn gain<P>(points: &[P], of: impl Fn(&P) -> u64) -> Option<u64> {
    let last = points.get(points.len().checked_sub(READINGS)?..)?;
    let (first, end) = (last.get(..READINGS / 3)?, last.get(READINGS - READINGS / 3..)?);
    let (most, least) = (first.iter().map(&of).max()?, end.iter().map(&of).min()?);
    (least > most).then(|| least - most)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::symbolize::evidence::{Frame, GoroutinePoint, Goroutines, Line, MapPoint, Place, Places};

    fn site(id: &str, counts: &[u64]) -> GoroutineSite {
        let point = |(n, count): (usize, &u64)| GoroutinePoint {
            t: n as f64,
            count: *count,
            waiting: 0,
            oldest_wait_since: None,
        };
        GoroutineSite {
            id: id.into(),
            created_by: None,
            created_at: vec![0x40],
            entry: String::new(),
            internal: false,
            count: *counts.last().unwrap(),
            points: counts.iter().enumerate().map(point).collect(),
            created: None,
            ended: None,
            waits: Vec::new(),
            groups: Vec::new(),
        }
    }

    fn goroutines(sites: Vec<GoroutineSite>) -> Evidence {
        let goroutines = Goroutines {
            total: Some(1),
            skipped: 0,
            swapped: 0,
            stackless: 0,
            created: None,
            ended: None,
            counted_s: None,
            uncounted: false,
            sites,
        };
        Evidence { goroutines: Some(goroutines), ..Evidence::default() }
    }

    const RISING: [u64; 10] = [1, 4, 6, 5, 9, 12, 14, 17, 16, 20];

    #[test]
    fn the_go_statement_whose_goroutines_grow_is_counted_once() {
        let mut counting = Counting::default();
        let all = goroutines(vec![site("a", &RISING), site("b", &RISING.map(|n| 2 * n))]);
        let call = Count::Calls(vec![Call { returns_to: ProcAddr(0x40), mean: 0 }]);
        assert_eq!([0, 1].map(|_| counting.step(&all)), [Some(call.clone()), Some(call)]);
        assert_eq!((counting.step(&all), counting.sites.len()), (None, 2));
    }

    #[test]
    fn what_swings_is_counted_already_or_is_the_runtimes_is_left_alone() {
        let none = |site: GoroutineSite| assert_eq!(Counting::default().step(&goroutines(vec![site])), None);
        none(site("a", &[1, 4, 9, 5, 9, 12, 14, 17, 8, 20]));
        none(site("a", &RISING[..8]));
        none(site("a", &[1, 1, 1, 2, 2, 2, 3, 3, 3, 3]));
        none(GoroutineSite { internal: true, ..site("a", &RISING) });
        none(GoroutineSite { created: Some(9), ..site("a", &RISING) });
        none(GoroutineSite { created_at: Vec::new(), ..site("a", &RISING) });
        let mut throttled = goroutines(vec![GoroutineSite { created: Some(9), ..site("a", &RISING) }]);
        throttled.goroutines.as_mut().unwrap().uncounted = true;
        assert!(Counting::default().step(&throttled).is_some());
    }

    fn map(writers: usize, entries: &[u64]) -> MapRow {
        let place = |n: usize| Place {
            stack: vec![Frame::from(Line { function: format!("main.f{n}"), ..Line::default() })],
            cause: if n == 0 { Cause::MakeMap } else { Cause::MapAssign },
        };
        let point = |(n, entries): (usize, &u64)| MapPoint { t: n as f64, entries: *entries };
        MapRow {
            id: "m".into(),
            type_name: Some("map[string]int".into()),
            may_be: Vec::new(),
            address: 1,
            variable: None,
            held: None,
            points: entries.iter().enumerate().map(point).collect(),
            writes: None,
            deletes: None,
            grows: None,
            sites: Vec::new(),
            places: Some(Places { places: (0..=writers).map(place).collect(), more: 0 }),
        }
    }

    #[test]
    fn writes_are_counted_where_all_of_their_places_are_known() {
        let step = |map: MapRow| {
            Counting::default().step(&Evidence { maps: vec![map], ..Evidence::default() }).is_some()
        };
        let grows = RISING.map(|n| 100 * n);
        assert!(step(map(2, &grows)));
        assert!(!step(map(2, &RISING)), "too little");
        assert!(!step(map(0, &grows)) && !step(map(9, &grows)));
        assert!(!step(MapRow { writes: Some(1), ..map(2, &grows) }));
        assert!(!step(MapRow { may_be: vec!["a".into(), "b".into()], ..map(2, &grows) }));
        let mut some = map(2, &grows);
        some.places.as_mut().unwrap().more = 1;
        assert!(!step(some));
    }
}
