//! Evidence + Judgement + what the session knows of itself -> [`Report`]. No figure is made here; only put into
//! the model's words.

use super::finding::{finding, pinned, windows};
use super::growth;
use super::heap_rows as heap;
use super::model::{
    Allocated, AllocatedClass, Allocation, Code, CodeMapping, Container, Cost, Events, Finding, Frame, Gc,
    GoroutineGroup, GoroutineSite, Goroutines, Heap, Limit, MapRow, MapSearch, MapSite, Pauses, Probe,
    Process, ProcessPoint, Report, SCHEMA, Session, Target, Undecided,
};
use super::moment::Moment;
use super::{profile, sizes};
use crate::analyze::{self, Judgement};
use crate::symbolize::evidence::{self, EndedBy, Evidence, Harm, Remark};

/// Rows of allocations in a report, the largest first; the rest is in the totals.
pub const MAX_ALLOCATIONS: usize = 2_000;

/// What the session knows and no record says.
#[derive(Clone, PartialEq, Debug)]
pub struct SessionFacts {
    pub tracer_version: String,
    /// The kernel's release.
    pub kernel: String,
    pub target: TargetFacts,
    pub started_at: Moment,
    pub sampler: Sampler,
    /// Why this sampler: one clause, no full stop.
    pub sampler_reason: String,
    pub attach: Attach,
    pub events: Option<Events>,
    pub cost: Cost,
    /// Overrides what the records say, for a session that ended otherwise.
    pub ended_by: Option<EndedBy>,
}

#[expect(clippy::struct_excessive_bools, reason = "independent facts of a binary, as the schema has them")]
#[derive(Clone, PartialEq, Debug, Default)]
pub struct TargetFacts {
    pub pid: u32,
    pub exe: String,
    pub build_id: Option<String>,
    pub go_version: String,
    pub arch: String,
    pub started_at: Option<Moment>,
    pub stripped: bool,
    pub pie: bool,
    pub cgo: bool,
    pub race: bool,
    pub limit: Option<LimitFacts>,
    pub container: Option<Container>,
    pub code: Option<CodeMapping>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LimitFacts {
    pub bytes: u64,
    /// What all processes under the limit use of it together; absent where it cannot be read.
    pub used: Option<u64>,
    pub source: LimitSource,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LimitSource {
    Cgroup,
    GoMemLimit,
    Host,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sampler {
    None,
    Runtime,
    All,
    Sampled,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Attach {
    None,
    Multi,
    Single,
}

/// Puts everything into the report's words.
pub fn report(facts: &SessionFacts, evidence: &Evidence, judgement: &Judgement) -> Report {
    let mut findings: Vec<Finding> = judgement.findings.iter().map(finding).collect();
    let limit = limit(facts, evidence, &mut findings);
    Report {
        schema: SCHEMA,
        tracer_version: facts.tracer_version.clone(),
        kernel: facts.kernel.clone(),
        target: target(facts, evidence, limit),
        session: session(facts, evidence),
        process: evidence.process.as_ref().map(|p| process(p, evidence)),
        heap: heap_of(evidence),
        gc: evidence.gc.as_ref().map(gc),
        allocations: evidence
            .allocations
            .as_ref()
            .map(|a| a.sites.iter().take(MAX_ALLOCATIONS).map(|s| allocation(s, evidence)).collect())
            .or_else(|| evidence.profile.as_ref().map(profile::allocations)),
        allocated_total: evidence.allocations.as_ref().map(|a| allocated(a.total)),
        heap_profile: evidence.profile.as_ref().map(profile::heap_profile),
        goroutines: evidence.goroutines.as_ref().map(goroutines),
        pins: evidence.pins.iter().map(pinned).collect(),
        windows: evidence.windows.as_ref().map(|of| windows(of, &evidence.size_classes)),
        maps: evidence.maps.iter().filter(|m| is_worth_a_row(m)).map(map_row).collect(),
        map_search: evidence.map_search.map(|search| MapSearch {
            span_bytes: search.span_bytes,
            waiting_bytes: search.waiting_bytes,
            unread_spans: search.unread_spans,
            beyond_cap: search.beyond_cap,
        }),
        findings,
        undecided: judgement
            .undecided
            .iter()
            .map(|n| Undecided {
                rule: n.rule.to_owned(),
                subject: n.subject.clone(),
                reason: n.reason.clone(),
                needs: n.needs.clone(),
            })
            .collect(),
    }
}

/// The limit, and when it is reached if what was found goes on.
fn limit(facts: &SessionFacts, evidence: &Evidence, findings: &mut [Finding]) -> Option<Limit> {
    let found = facts.target.limit?;
    let (used, source) = match found.source {
        LimitSource::Cgroup => (found.used.or(evidence.process.as_ref().map(used_of_cgroup)), "cgroup"),
        LimitSource::Host => (evidence.process.as_ref().map(used_of_cgroup), "host"),
        LimitSource::GoMemLimit => (evidence.gc.as_ref().map(|g| g.mapped_bytes), "gomemlimit"),
    };
    let left = used.map(|used| found.bytes.saturating_sub(used) as f64);
    let mut eta_s = None;
    for f in findings {
        if let (Some(left), Some(rate)) = (left, f.bytes_per_s.filter(|r| *r > 0.0)) {
            let eta = left / rate;
            f.limit_eta_s = Some(eta);
            eta_s = Some(f64::min(eta_s.unwrap_or(eta), eta));
        }
    }
    Some(Limit { bytes: found.bytes, source: source.to_owned(), eta_s })
}

/// File pages can be dropped, so only anonymous and shared memory count against a limit.
pub(super) fn used_of_cgroup(p: &evidence::ProcessState) -> u64 {
    match (p.rss_anon, p.rss_shmem) {
        (Some(anon), shmem) => anon.saturating_add(shmem.unwrap_or(0)),
        (None, _) => p.rss,
    }
}

fn target(facts: &SessionFacts, evidence: &Evidence, limit: Option<Limit>) -> Target {
    let TargetFacts {
        pid,
        exe,
        build_id,
        go_version,
        arch,
        started_at,
        stripped,
        pie,
        cgo,
        race,
        limit: _,
        container,
        code,
    } = &facts.target;
    Target {
        pid: *pid,
        exe: exe.clone(),
        module: evidence.module.clone(),
        build_id: build_id.clone(),
        go_version: go_version.clone(),
        arch: arch.clone(),
        started_at: started_at.map(Moment::rfc3339),
        uptime_s: started_at.map(|s| (facts.started_at.seconds_since(s) + evidence.at_s).max(0.0)),
        stripped: *stripped,
        pie: *pie,
        cgo: *cgo,
        race: *race,
        limit,
        container: container.clone(),
        code: code.clone(),
    }
}

fn session(facts: &SessionFacts, evidence: &Evidence) -> Session {
    let harmed = |harm: Harm| evidence.losses.iter().any(|l| l.harm == harm);
    let ended_by = facts.ended_by.or(evidence.ended).map(|e| match e {
        EndedBy::Duration => "duration",
        EndedBy::Verdict => "verdict",
        EndedBy::Signal => "signal",
        EndedBy::TargetExit => "target-exit",
        EndedBy::RecordingCut => "recording-cut",
        EndedBy::TargetLost => "target-lost",
        EndedBy::StopAll => "stop-all",
    });
    Session {
        started_at: facts.started_at.rfc3339(),
        duration_s: evidence.at_s,
        sampler: match facts.sampler {
            Sampler::None => "none",
            Sampler::Runtime => "runtime",
            Sampler::All => "all",
            Sampler::Sampled => "sampled",
        }
        .to_owned(),
        sampler_reason: facts.sampler_reason.clone(),
        attach: match facts.attach {
            Attach::None => "none",
            Attach::Multi => "multi",
            Attach::Single => "single",
        }
        .to_owned(),
        probes: evidence
            .probes
            .iter()
            .map(|p| Probe {
                symbol: p.function.clone(),
                offset: p.offset,
                site: p.instruction.clone().into_owned(),
                hits: p.hits,
            })
            .collect(),
        events: facts.events,
        code: evidence.code.map(|code| Code {
            calls: code.calls,
            typed: code.typed,
            without_type: code.without_type,
            undecoded: code.undecoded,
        }),
        counters: evidence.losses.iter().map(|l| (l.name.to_owned(), l.count)).collect(),
        complete: !harmed(Harm::Totals) && !harmed(Harm::Attribution),
        lower_bounds: harmed(Harm::Totals),
        remarks: evidence
            .remarks
            .iter()
            .map(|r| match r {
                Remark::SiteRefused { function, why } => format!("{function} is not probed: {why}"),
                Remark::Unpinned { functions, why } => {
                    format!("the calls in {} are not probed any more: {why}", functions.join(", "))
                }
                Remark::Throttled { what } => format!(
                    "{what}: the probes were taken away for some time to stay within the budget, and what happened then is not counted"
                ),
                Remark::NewerGo { how } => how.clone(),
                Remark::Replaced { why } => {
                    format!("{why}; what it did since the last reading before that is in no figure")
                }
                Remark::Recording { why } => why.clone(),
                Remark::ReadingFailed { what, why } => format!("reading {what} failed: {why}"),
            })
            .collect(),
        cost: facts.cost.clone(),
        ended_by: ended_by.map(str::to_owned),
    }
}

fn process(p: &evidence::ProcessState, evidence: &Evidence) -> Process {
    let point =
        |p: &evidence::ProcessPoint| ProcessPoint { t: p.t, rss_bytes: p.rss, rss_anon_bytes: p.rss_anon };
    Process {
        rss_bytes: p.rss,
        rss_anon_bytes: p.rss_anon,
        go_heap_bytes: evidence.gc.as_ref().map(|g| g.in_use_bytes),
        go_stack_bytes: evidence.gc.as_ref().map(|g| g.stack_bytes),
        go_other_bytes: evidence.gc.as_ref().and_then(|g| g.other_bytes),
        outside_go_bytes: p.outside_go,
        series: p.points.iter().map(point).collect(),
        peak: p.peak.as_ref().map(point),
    }
}

fn heap_of(evidence: &Evidence) -> Option<Heap> {
    let gc = evidence.gc.as_ref();
    if gc.is_none() && evidence.size_classes.is_empty() && evidence.census.is_none() {
        return None;
    }
    Some(Heap {
        live_bytes: gc.and_then(|g| g.live_bytes),
        goal_bytes: gc.and_then(|g| g.goal_bytes),
        in_use_bytes: gc.map(|g| g.in_use_bytes),
        mapped_bytes: gc.map(|g| g.mapped_bytes),
        idle_bytes: gc.map(|g| g.free_bytes),
        released_bytes: gc.map(|g| g.released_bytes),
        size_classes: heap::size_classes(evidence),
        types: evidence.census.as_ref().and_then(heap::types),
        census: evidence.census.as_ref().map(heap::census),
        series: gc.map(|g| g.points.iter().map(|p| heap::point(p, evidence)).collect()).unwrap_or_default(),
    })
}

fn gc(g: &evidence::GcState) -> Gc {
    Gc {
        cycles: g.cycles,
        since: "attach",
        per_second: g.cycles.filter(|_| g.watched_s > 0.0).map(|cycles| f64::from(cycles) / g.watched_s),
        gogc: g.gogc,
        memory_limit: g.memory_limit,
        pause_s: g.pause.map(|p| Pauses { p50: p.p50, p99: p.p99, max: p.max }),
        cpu_fraction: g.cpu_fraction,
    }
}

pub(super) fn frames(stack: &[evidence::Frame]) -> Vec<Frame> {
    stack.iter().map(frame).collect()
}

pub(super) fn frame(f: &evidence::Frame) -> Frame {
    Frame { function: f.function.clone(), file: f.file.clone(), line: f.line, inlined: f.inlined }
}

fn allocated(amount: evidence::Amount) -> Allocated {
    Allocated {
        bytes: amount.rounded,
        objects: amount.objects,
        requested_bytes: Some(amount.requested),
        ..Allocated::default()
    }
}

fn allocation(s: &evidence::AllocSite, evidence: &Evidence) -> Allocation {
    let size_of = |class: u8| evidence.size_classes.iter().find(|c| c.class == class).and_then(|c| c.size);
    Allocation {
        site: s.id.clone(),
        stack: frames(&s.stack),
        type_name: s.type_name.clone(),
        cause: s.cause.name().to_owned(),
        since: "attach",
        live: None,
        allocated: allocated(s.amount),
        freed: None,
        allocated_since_gc: None,
        unknown: None,
        live_type: None,
        live_types: Vec::new(),
        samples: None,
        sizes: sizes::of_classes(s, evidence),
        ages: None,
        growth: None,
        size_classes: s
            .classes
            .iter()
            .map(|(class, amount)| AllocatedClass { bytes: size_of(*class), objects: amount.objects })
            .collect(),
        truncated: s.truncated,
    }
}

fn goroutines(g: &evidence::Goroutines) -> Goroutines {
    Goroutines {
        live: g.total,
        skipped: g.total.map(|_| g.skipped),
        swapped: g.total.map(|_| g.swapped),
        stackless: g.total.map(|_| g.stackless),
        created: g.created,
        ended: g.ended,
        since: g.created.map(|_| "attach"),
        sites: g
            .sites
            .iter()
            .map(|s| {
                let largest = s.groups.first();
                GoroutineSite {
                    site: s.id.clone(),
                    created_by: s.created_by.as_ref().map(frame),
                    entry: s.entry.clone(),
                    internal: s.internal,
                    count: s.count,
                    wait: largest.filter(|g| g.waits).map(|g| g.state.clone()),
                    oldest_wait_s: s.groups.iter().filter_map(|g| g.oldest_wait_s).max_by(f64::total_cmp),
                    blocked_at: largest.filter(|g| g.waits).map(|g| frames(&g.stack)).unwrap_or_default(),
                    example_goids: largest.map(|g| g.examples.clone()).unwrap_or_default(),
                    created: s.created,
                    ended: s.ended,
                    wait_s: growth::wait_times(&s.waits),
                    growth: growth::of_goroutines(&s.points),
                    groups: s
                        .groups
                        .iter()
                        .map(|g| GoroutineGroup {
                            entry: g.entry.clone(),
                            state: g.state.clone(),
                            count: g.count,
                            oldest_wait_s: g.oldest_wait_s,
                            stack: frames(&g.stack),
                            example_goids: g.examples.clone(),
                        })
                        .collect(),
                }
            })
            .collect(),
    }
}

/// Maps that are neither called on nor hold much are left out of reports: a program has thousands.
/// Calls that were counted are told whatever became of the map. That one grew is news only while it is there.
fn is_worth_a_row(map: &evidence::MapRow) -> bool {
    const MANY: u64 = 1_000;
    let grew = || map.sites.iter().any(|s| s.grows > 0);
    map.sites.iter().any(|s| s.writes > 0 || s.deletes > 0)
        || map.held.is_some_and(|held| held.entries >= MANY || grew())
}

fn map_row(map: &evidence::MapRow) -> MapRow {
    let points: Vec<(f64, f64)> = map.points.iter().map(|p| (p.t, p.entries as f64)).collect();
    let slope = analyze::stats::theil_sen(&points);
    MapRow {
        id: map.id.clone(),
        type_name: map.type_name.clone(),
        candidates: map.may_be.clone(),
        address: format!("{:#x}", map.address),
        variable: map.variable.map(|v| format!("{v:#x}")),
        entries: map.held.map(|h| h.entries),
        capacity: map.held.and_then(|h| h.capacity),
        tombstones: map.held.and_then(|h| h.tombstones),
        entries_per_s: slope.map(|s| s.per_unit),
        low: slope.map(|s| s.low),
        high: slope.map(|s| s.high),
        p_value: slope.and_then(|_| analyze::stats::mann_kendall(&points)).map(|trend| trend.p),
        writes: map.writes,
        deletes: map.deletes,
        grows: map.grows,
        since: "attach",
        sites: map
            .sites
            .iter()
            .map(|s| MapSite {
                site: s.id.clone(),
                stack: frames(&s.stack),
                writes: map.writes.map(|_| s.writes),
                deletes: map.deletes.map(|_| s.deletes),
                grows: map.grows.map(|_| s.grows),
            })
            .collect(),
    }
}
