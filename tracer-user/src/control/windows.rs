//! When to probe the allocator for a moment to see who makes what grows, and which calls are worth a probe of their own then.
//!
//! What has no type (strings, bytes) is made in many places, and a probe on the allocator costs what the whole program allocates. So it
//! is there for a moment only, at a moment chosen by chance: two places that take turns are seen alike. Objects that were seen
//! are followed; what they show is who keeps how much of what grows, as a share. How fast it grows is known without them, and amounts come
//! from the probes on the few calls that keep it (`pins`). Pure: it is told what is known and answers with a step.

use std::collections::BTreeSet;

use super::budget;
use super::pins::{self, Call, MAX_RATE};
use crate::symbolize::evidence::{CensusClass, Evidence, WindowRow};
use crate::units::ProcAddr;

/// What to do next.
#[derive(Clone, PartialEq, Debug)]
pub enum Step {
    /// Nothing, or not now.
    Wait,
    /// Probe the allocator.
    Open(Window),
    /// Follow what these calls make, from now on.
    Pin(Vec<Call>),
}

/// A moment in which the allocator is probed.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Window {
    pub seconds: f64,
    /// Mean objects between two that are followed; 1: each is.
    pub mean: u64,
    /// What it is expected to take of a processor, in seconds.
    pub costs: f64,
}

/// The policy of one session.
#[derive(Clone, PartialEq, Debug)]
pub struct Windows {
    /// Of a processor, that windows may take.
    share: f64,
    asked: u32,
    next_at: f64,
    /// Classes of which the calls were pinned, with or without pointers.
    done: BTreeSet<(u8, bool)>,
}

/// Mean seconds between two windows, and the least: an attach and a detach each hold a lock of the kernel that forks need.
const EVERY_S: f64 = 5.0;
const APART_S: f64 = 2.0;
/// How long a window is at least, and at most.
const SHORT_S: f64 = 0.01;
const LONG_S: f64 = 0.5;
/// While an attach or detach is under way some of the probes are there.
const EDGES_S: f64 = 0.05;
/// What one allocation costs: it is seen where it is asked for and where it is handed out, as a pinned call is.
const ALLOCATION_S: f64 = 2.5e-6;
/// Objects of the class that one window should show, and the most of all classes that it may.
const WANTED: f64 = 500.0;
const MOST: f64 = 1_000.0;
/// What one of them costs: its stack is walked.
const SAMPLE_S: f64 = 6e-6;
/// Windows for one session: two minutes of them.
const MAX_OPENED: u64 = 24;
/// The budget may have no room for one.
const MAX_ASKED: u32 = 60;
/// Windows after which the first answer may be given, and objects that must be known to be kept by then.
const LEAST_OPENED: u64 = 3;
const LEAST_KEPT: u64 = 12;
/// Objects from which on heap-growth says a share.
const LEAST_SEEN: u64 = 20;
/// Calls are pinned until they explain so much of what is kept; none that keeps less than the second.
const EXPLAINED: f64 = 0.9;
const LEAST_SHARE: f64 = 0.05;
const MAX_CALLS: usize = 6;

impl Windows {
    /// `share`: of a processor, what hits may take.
    pub fn new(share: f64) -> Self {
        Self { share, asked: 0, next_at: 0.0, done: BTreeSet::new() }
    }

    /// `chance` is a random number from 0 to 1, `pinned_types` are the names of types that are followed already.
    pub fn step(&mut self, evidence: &Evidence, pinned_types: &BTreeSet<String>, chance: f64) -> Step {
        let classes = self.unexplained(evidence, pinned_types);
        for class in &classes {
            if let Some(calls) = self.keepers(evidence, class) {
                self.done.insert((class.class, class.noscan));
                if !calls.is_empty() {
                    return Step::Pin(calls);
                }
            }
        }
        let open = classes.into_iter().find(|of| !self.done.contains(&(of.class, of.noscan)));
        let opened = evidence.windows.as_ref().map_or(0, |windows| windows.opened);
        if evidence.at_s < self.next_at || opened >= MAX_OPENED || self.asked >= MAX_ASKED {
            return Step::Wait;
        }
        let Some(window) = open.and_then(|class| self.window(evidence, class)) else { return Step::Wait };
        self.asked += 1;
        let wait = APART_S - (EVERY_S - APART_S) * chance.clamp(1e-6, 1.0).ln();
        let paid = window.costs / self.share.max(1e-9);
        self.next_at = evidence.at_s + wait.max(paid);
        Step::Open(window)
    }

    /// The classes that gain and of which no type says where they are made, those that gain most first.
    fn unexplained<'e>(
        &self,
        evidence: &'e Evidence,
        pinned_types: &BTreeSet<String>,
    ) -> Vec<&'e CensusClass> {
        let Some(census) = &evidence.census else { return Vec::new() };
        let rate = |class: u8| {
            evidence.size_classes.iter().find(|of| of.class == class).and_then(|of| of.allocs_per_s)
        };
        let told = |class: &CensusClass| {
            !class.noscan
                && rate(class.class).is_some_and(|rate| rate <= MAX_RATE)
                && census.types.iter().flatten().any(|row| {
                    let here = row.classes.iter().any(|of| {
                        of.class == class.class && pins::gain(&of.points, |p| (p.objects, p.bytes)).is_some()
                    });
                    let pinned = row.candidates.first().is_some_and(|name| pinned_types.contains(name));
                    here && (pinned || pins::is_pinnable(row))
                })
        };
        let gaining = census
            .classes
            .iter()
            .filter_map(|class| Some((class, pins::gain(&class.points, |p| (p.objects, p.bytes))?)));
        let mut open: Vec<(&CensusClass, u64)> = gaining
            .filter(|(class, _)| !self.done.contains(&(class.class, class.noscan)) && !told(class))
            .collect();
        open.sort_by_key(|(_, gain)| std::cmp::Reverse(*gain));
        open.into_iter().map(|(class, _)| class).collect()
    }

    /// The calls that keep most of a class, once that is known. Empty: none of them can be followed.
    fn keepers(&self, evidence: &Evidence, class: &CensusClass) -> Option<Vec<Call>> {
        let windows = evidence.windows.as_ref().filter(|windows| windows.opened >= LEAST_OPENED)?;
        let here = |row: &&WindowRow| row.class == class.class && row.noscan == class.noscan;
        let mut rows: Vec<&WindowRow> = windows.rows.iter().filter(here).collect();
        let kept: u64 = rows.iter().map(|row| row.kept).sum();
        let all = windows.rows.iter().filter(|row| row.class == class.class);
        let taken: u64 = all.map(|row| row.taken).sum();
        if kept < LEAST_KEPT {
            return None;
        }
        rows.sort_by_key(|row| (std::cmp::Reverse(row.kept), row.returns_to));
        let of = evidence.size_classes.iter().find(|of| of.class == class.class);
        let rate = of.and_then(|of| of.allocs_per_s)?;
        // Two probes at each call; those that are there take their part.
        let open = evidence.pins.iter().filter(|pin| pin.until_s.is_none() && pin.counted_s > 0.0);
        let spent: f64 = open.map(|pin| pin.calls.unwrap_or(0) as f64 / pin.counted_s).sum();
        let mut left = self.share / ALLOCATION_S - spent;
        let (mut calls, mut explained) = (Vec::new(), 0);
        for row in rows {
            let share = row.kept as f64 / kept as f64;
            if share < LEAST_SHARE || explained as f64 >= EXPLAINED * kept as f64 || calls.len() == MAX_CALLS
            {
                break;
            }
            explained += row.kept;
            let calls_per_s = rate * row.taken as f64 / taken.max(1) as f64;
            let pinned = evidence.pins.iter().any(|pin| pin.returns_to == row.returns_to);
            if calls_per_s <= left && !pinned {
                left -= calls_per_s;
                let mean = pins::calls_between(calls_per_s);
                calls.push(Call { returns_to: ProcAddr(row.returns_to), mean });
            }
        }
        // What cannot be followed is named by its share, for which more is wanted.
        (!calls.is_empty() || kept >= LEAST_SEEN).then_some(calls)
    }

    /// One that shows enough of the class and costs what a window may; `None`: the program allocates too fast for any.
    fn window(&self, evidence: &Evidence, class: &CensusClass) -> Option<Window> {
        let rates = || evidence.size_classes.iter().filter_map(|of| Some((of, of.allocs_per_s?)));
        let all: f64 = rates().map(|(_, rate)| rate).sum();
        let here = rates().find(|(of, _)| of.class == class.class)?.1;
        // What may be spent at once accrues in so many seconds.
        let most = (1.0 - budget::RESERVE) * self.share * budget::BURST_S - MOST * SAMPLE_S;
        let fits = |seconds: f64| seconds / (all * ALLOCATION_S).max(1e-9) - EDGES_S;
        let seconds = fits(self.share * EVERY_S / 2.0).clamp(SHORT_S, LONG_S).min(fits(most));
        if seconds < SHORT_S {
            return None;
        }
        // Enough of the class, and no more of all than may be.
        let mean = (here * seconds / WANTED).max(all * seconds / MOST).ceil().max(1.0);
        let costs = all * ALLOCATION_S * (seconds + EDGES_S) + all * seconds / mean * SAMPLE_S;
        Some(Window { seconds, mean: mean as u64, costs })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::symbolize::evidence::{self, Cause, Census, ClassPoint, SizeClass};

    const RISING: [u64; 6] = [1_000, 4_000, 8_000, 12_000, 16_000, 20_000];

    fn evidence(at_s: f64, objects: &[u64], allocs_per_s: f64, rows: &[(u64, u64, u64)]) -> Evidence {
        let point = |(n, objects): (usize, &u64)| ClassPoint {
            t: n as f64,
            cycle: n as u32,
            objects: *objects,
            bytes: 64 * objects,
        };
        let class = CensusClass {
            class: 5,
            size: Some(64),
            noscan: true,
            points: objects.iter().enumerate().map(point).collect(),
            ..CensusClass::default()
        };
        let row = |(returns_to, taken, kept): &(u64, u64, u64)| WindowRow {
            class: 5,
            noscan: true,
            returns_to: *returns_to,
            id: String::new(),
            stack: Vec::new(),
            cause: Cause::Other,
            taken: *taken,
            kept: *kept,
        };
        Evidence {
            at_s,
            census: Some(Census { classes: vec![class], ..Census::default() }),
            size_classes: vec![SizeClass {
                class: 5,
                size: Some(64),
                objects: 0,
                bytes: 0,
                allocs_per_s: Some(allocs_per_s),
                points: Vec::new(),
            }],
            windows: Some(evidence::Windows { opened: 3, open_s: 0.1, rows: rows.iter().map(row).collect() }),
            ..Evidence::default()
        }
    }

    fn step(windows: &mut Windows, evidence: &Evidence) -> Step {
        windows.step(evidence, &BTreeSet::new(), 0.5)
    }

    #[test]
    fn windows_are_opened_while_it_is_not_known_who_keeps_what_grows() {
        let mut windows = Windows::new(0.005);
        assert_eq!(step(&mut windows, &evidence(1.0, &[9, 8, 7, 6, 5, 4], 1e4, &[])), Step::Wait);
        let (mut at_s, mut opened, mut spent, mut last) = (1.0, 0, 0.0, 1.0);
        while at_s < 400.0 {
            if let Step::Open(window) = step(&mut windows, &evidence(at_s, &RISING, 1e4, &[])) {
                assert!((SHORT_S..=LONG_S).contains(&window.seconds), "{window:?}");
                let since = at_s - std::mem::replace(&mut last, at_s);
                assert!(opened == 0 || since >= APART_S.max(spent / 0.005 - 1.0), "{since} after {spent}");
                (opened, spent) = (opened + 1, window.costs);
            }
            at_s += 1.0;
        }
        assert_eq!(opened, MAX_ASKED);
    }

    #[test]
    fn a_program_that_allocates_too_fast_is_left_alone_and_a_slow_one_shows_each() {
        let open = |allocs_per_s| step(&mut Windows::new(0.005), &evidence(1.0, &RISING, allocs_per_s, &[]));
        assert_eq!(open(5e6), Step::Wait);
        assert!(matches!(open(100.0), Step::Open(Window { mean: 1, .. })));
        let Step::Open(Window { mean, seconds, .. }) = open(3e4) else { panic!("it is afforded") };
        let shown = 3e4 * seconds / mean as f64;
        assert!((WANTED / 2.0..=2.0 * WANTED).contains(&shown), "{shown}");
    }

    #[test]
    fn the_calls_that_keep_most_are_pinned_once() {
        let mut windows = Windows::new(0.005);
        let few = evidence(1.0, &RISING, 1e4, &[(1, 100, LEAST_KEPT - 1), (2, 100, 0)]);
        assert!(matches!(step(&mut windows, &few), Step::Open(_)));
        // The second allocates as much and keeps nothing, the third too little, the fourth too fast.
        let known = evidence(2.0, &RISING, 1e4, &[(1, 400, 80), (2, 400, 0), (3, 100, 3), (4, 9_100, 20)]);
        assert_eq!(step(&mut windows, &known), Step::Pin(vec![Call { returns_to: ProcAddr(1), mean: 1 }]));
        assert_eq!(step(&mut windows, &known), Step::Wait, "the class is done with");
    }
}
