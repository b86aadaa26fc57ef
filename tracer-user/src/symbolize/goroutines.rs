//! Goroutine rows: creation sites that read the same become one, with one history.

use std::collections::{BTreeMap, BTreeSet};

use super::Clock;
use super::PcKind;
use super::evidence::{Frame, GoroutineGroup, GoroutinePoint, GoroutineSite, Goroutines};
use super::memo::Named;
use super::stack::{site_id, user_part};
use crate::aggregate::goroutines::GoroutineSite as Held;
use crate::aggregate::{Ledger, Remark};
use crate::goruntime::names::cause::is_runtime_goroutine;
use crate::record::note::BIRTHS;
use crate::record::reading::{GoState, GoroutineGroup as ReadGroup};
use crate::units::{KTime, ProcAddr};

/// Example ids shown per group.
const MAX_EXAMPLES: usize = 8;

pub(super) fn goroutines(ledger: &Ledger, clock: Clock, named: &mut Named<'_>) -> Option<Goroutines> {
    let history = ledger.goroutines();
    let tallies = ledger.tallies();
    let counted = !tallies.births().is_empty();
    if history.totals().is_empty() && !counted {
        return None;
    }
    let mut addrs: BTreeSet<Option<ProcAddr>> = history.sites().keys().copied().collect();
    addrs.extend(tallies.births().keys().map(|a| Some(*a)));
    let mut by_name: BTreeMap<Option<Frame>, Vec<Option<ProcAddr>>> = BTreeMap::new();
    for addr in addrs {
        let frame = addr.and_then(|pc| {
            // The innermost frame is the function the `go` statement stands in.
            user_part(named.frames(pc, PcKind::Return)).frames.into_iter().next()
        });
        by_name.entry(frame).or_default().push(addr);
    }
    let uncounted =
        ledger.remarks().iter().any(|remark| matches!(remark, Remark::Throttled { what } if what == BIRTHS));
    let now = ledger.now();
    let mut sites: Vec<GoroutineSite> = by_name
        .into_iter()
        .map(|(created_by, addrs)| {
            let held: Vec<&Held> = addrs.iter().filter_map(|a| history.sites().get(a)).collect();
            let groups: Vec<&ReadGroup> = held.iter().flat_map(|h| &h.groups).collect();
            let births = addrs.iter().flatten().filter_map(|a| tallies.births().get(a));
            let (created, ended) = births
                .fold((0_u64, 0_u64), |(c, e), b| (c.saturating_add(b.created), e.saturating_add(b.ended)));
            let entry = entry_function(&groups, named);
            GoroutineSite {
                id: created_by
                    .as_ref()
                    .map_or_else(|| "first".to_owned(), |frame| site_id(std::slice::from_ref(frame))),
                internal: is_runtime_goroutine(&entry, created_by.as_ref().map(|f| f.function.as_str())),
                created_by,
                created_at: addrs.iter().flatten().map(|at| at.0).collect(),
                entry,
                count: held
                    .iter()
                    .filter_map(|h| h.points.last())
                    .fold(0, |sum, p| sum.saturating_add(p.count)),
                points: merged_points(&held, clock),
                created: counted.then_some(created),
                ended: counted.then_some(ended),
                waits: addrs
                    .iter()
                    .flat_map(|addr| history.waits_of(*addr))
                    .map(|(since, n)| (now.seconds_since(*since), *n))
                    .collect(),
                groups: merged_groups(&groups, now, named),
            }
        })
        .collect();
    sites.sort_by_key(|s| std::cmp::Reverse((s.count, s.created.unwrap_or(0))));
    let newest = history.totals().last();
    let unlisted = tallies.births_unlisted();
    let sum = |of: fn(&crate::aggregate::counts::BirthTotal) -> u64, extra: u64| {
        counted.then(|| tallies.births().values().map(of).fold(extra, u64::saturating_add))
    };
    Some(Goroutines {
        total: newest.map(|t| t.total),
        skipped: newest.map_or(0, |t| t.skipped),
        swapped: newest.map_or(0, |t| t.swapped),
        stackless: newest.map_or(0, |t| t.stackless),
        created: sum(|b| b.created, unlisted.created),
        ended: sum(|b| b.ended, unlisted.ended),
        uncounted,
        counted_s: tallies.read_at().filter(|_| counted).map(|t| clock.at(t).max(0.0)),
        sites,
    })
}

/// The function most of them run.
fn entry_function(groups: &[&ReadGroup], named: &mut Named<'_>) -> String {
    let mut counts: BTreeMap<ProcAddr, u64> = BTreeMap::new();
    for g in groups {
        let sum = counts.entry(g.entry).or_default();
        *sum = sum.saturating_add(g.count);
    }
    let most = counts.iter().max_by_key(|(addr, n)| (**n, std::cmp::Reverse(**addr)));
    most.map(|(addr, _)| named.function(*addr)).unwrap_or_default()
}

/// One history for sites that read the same: each keeps its last value until its next point.
fn merged_points(held: &[&Held], clock: Clock) -> Vec<GoroutinePoint> {
    if let [one] = held {
        return one
            .points
            .iter()
            .map(|p| GoroutinePoint {
                t: clock.at(p.time),
                count: p.count,
                waiting: p.waiting,
                oldest_wait_since: p.oldest_wait.map(|w| clock.at(w)),
            })
            .collect();
    }
    let times: BTreeSet<KTime> = held.iter().flat_map(|h| h.points.iter().map(|p| p.time)).collect();
    let mut cursors: Vec<_> = held.iter().map(|h| (h.points.iter().peekable(), None)).collect();
    times
        .into_iter()
        .map(|time| {
            let mut sum = GoroutinePoint { t: clock.at(time), count: 0, waiting: 0, oldest_wait_since: None };
            let mut oldest: Option<KTime> = None;
            for (points, current) in &mut cursors {
                while let Some(p) = points.next_if(|p| p.time <= time) {
                    *current = Some(p);
                }
                let Some(p) = current else { continue };
                sum.count = sum.count.saturating_add(p.count);
                sum.waiting = sum.waiting.saturating_add(p.waiting);
                oldest = match (oldest, p.oldest_wait) {
                    (Some(a), Some(b)) => Some(a.min(b)),
                    (a, b) => a.or(b),
                };
            }
            sum.oldest_wait_since = oldest.map(|w| clock.at(w));
            sum
        })
        .collect()
}

fn merged_groups(groups: &[&ReadGroup], now: KTime, named: &mut Named<'_>) -> Vec<GoroutineGroup> {
    let mut rows: BTreeMap<(String, String, Vec<Frame>), GoroutineGroup> = BTreeMap::new();
    for g in groups {
        let entry = named.function(g.entry);
        let state = state_name(g.state, g.wait.as_deref());
        let stack = named.user_stack(&g.stack).frames;
        let row =
            rows.entry((entry, state, stack)).or_insert_with_key(|(entry, state, stack)| GoroutineGroup {
                entry: entry.clone(),
                state: state.clone(),
                waits: matches!(g.state, GoState::Waiting | GoState::Leaked),
                stack: stack.clone(),
                count: 0,
                oldest_wait_s: None,
                examples: Vec::new(),
            });
        row.count = row.count.saturating_add(g.count);
        let waited = g.oldest_wait.map(|w| now.seconds_since(w));
        row.oldest_wait_s = match (row.oldest_wait_s, waited) {
            (Some(a), Some(b)) => Some(a.max(b)),
            (a, b) => a.or(b),
        };
        row.examples.extend(g.examples.iter().map(|id| id.0));
    }
    let mut out: Vec<GoroutineGroup> = rows.into_values().collect();
    for g in &mut out {
        g.examples.sort_unstable();
        g.examples.truncate(MAX_EXAMPLES);
    }
    out.sort_by_key(|g| std::cmp::Reverse(g.count));
    out
}

fn state_name(state: GoState, wait: Option<&str>) -> String {
    match (state, wait) {
        (GoState::Waiting, Some(reason)) if !reason.is_empty() => reason.to_owned(),
        (GoState::Leaked, Some(reason)) if !reason.is_empty() => format!("{reason} (leaked)"),
        (GoState::Idle, _) => "idle".to_owned(),
        (GoState::Runnable, _) => "runnable".to_owned(),
        (GoState::Running, _) => "running".to_owned(),
        (GoState::Syscall, _) => "syscall".to_owned(),
        (GoState::Waiting, _) => "waiting".to_owned(),
        (GoState::CopyStack, _) => "copystack".to_owned(),
        (GoState::Preempted, _) => "preempted".to_owned(),
        (GoState::Leaked, _) => "leaked".to_owned(),
    }
}
