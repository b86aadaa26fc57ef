//! What the session knows of itself and of the target's file: said once as notes, and read from the ledger for every
//! report, so that a report of a live session and of its recording are made of the same values.

use std::{
    fmt::Write as _,
    time::{SystemTime, UNIX_EPOCH},
};

use super::{account::Account, open::Opened, room, setup, target::Target};
use crate::{
    aggregate::Ledger,
    analyze,
    kernel::{AttachKind, capability::Capabilities},
    record::{
        Counter, Note,
        facts::{self, CodeMapping, Events, Links, Opening, Sampler, Subject},
    },
    report::{
        self, Report,
        build::{Attach, LimitFacts, LimitSource, Sampler as ReportSampler, SessionFacts, TargetFacts},
        model::{self, Container},
        moment::Moment,
    },
    symbolize::{Names, Symbolizer},
    units::{Bytes, FileOffset, ProcAddr},
};

fn unix_ms(at: SystemTime) -> u64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// What is known once the target is open and its probes are in place.
pub(super) fn opening(
    opened: &Opened,
    sampler: setup::Sampler,
    events: setup::Events,
    began_at: SystemTime,
    capabilities: &Capabilities,
) -> [Note; 2] {
    let target = &opened.target;
    let (image, process) = (&target.image, &target.process);
    let opening = Opening {
        tracer_version: env!("CARGO_PKG_VERSION").to_owned(),
        kernel: capabilities.release.clone(),
        began_unix_ms: unix_ms(began_at),
        sampler: match sampler {
            setup::Sampler::Auto => Sampler::Auto,
            setup::Sampler::None => Sampler::None,
            setup::Sampler::Runtime => Sampler::Runtime,
            setup::Sampler::All => Sampler::All,
            setup::Sampler::Sampled => Sampler::Sampled,
        },
        reason: opened.reason.clone(),
        events: Events {
            alloc: events.alloc || events.sampled,
            map: events.map,
            goroutine: events.goroutine,
        },
        links: match opened.probes.as_ref().map(super::prober::Probes::kind) {
            None => Links::None,
            Some(AttachKind::Multi) => Links::Multi,
            Some(AttachKind::Single) => Links::Single,
        },
        copied: opened.probes.as_ref().map_or(Bytes(0), |p| room::copied(&p.planned)),
        profile: opened.profile.is_some(),
    };
    let subject = Subject {
        pid: process.pid().0,
        exe: process.exe_path().to_string_lossy().into_owned(),
        build_id: image.build_id(),
        go_version: image.build_info().version_text.clone(),
        arch: image.build_info().setting("GOARCH").unwrap_or("amd64").to_owned(),
        started_unix_ms: unix_ms(process.started_at()),
        stripped: image.is_stripped(),
        pie: image.is_pie(),
        cgo: image.is_cgo(),
        race: image.is_race(),
        container: process.container_id(),
        bias: target.bias,
        code: code(target),
        gnu_build_id: gnu_build_id(target),
    };
    [Note::Opening(Box::new(opening)), Note::Subject(Box::new(subject))]
}

/// Where the program's code is mapped, as /proc/PID/maps shows it: whole pages of the file's executable segment.
fn code(target: &Target) -> Option<CodeMapping> {
    let page = procfs::page_size();
    let elf = target.image.elf();
    let text = elf.segments().iter().find(|s| s.executable)?;
    let start = target.bias.to_proc(text.start).0;
    Some(CodeMapping {
        start: ProcAddr(start / page * page),
        limit: ProcAddr(start.saturating_add(text.file_size).div_ceil(page).saturating_mul(page)),
        file_offset: FileOffset(text.offset.0 / page * page),
    })
}

/// The linker's build id, in hex.
fn gnu_build_id(target: &Target) -> Option<String> {
    let id = target.image.elf().gnu_build_id()?;
    Some(id.iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").expect("writing to a String cannot fail");
        hex
    }))
}

/// What a report needs as of now and no reading brings.
pub(super) fn now(opened: &Opened, account: Option<&Account>) -> Vec<Note> {
    let limit = opened.target.process.memory_limit();
    let limit = limit.map(|found| facts::Limit { bytes: found.limit, used: found.used });
    let overhead = account.and_then(Account::overhead).map(|overhead| Note::Overhead(Box::new(overhead)));
    [Note::Limit(limit), Note::Cost(cost())].into_iter().chain(overhead).collect()
}

/// What this process itself used.
fn cost() -> facts::Cost {
    let cpu = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    let rss = procfs::process::Process::myself().and_then(|me| me.statm()).ok();
    facts::Cost {
        cpu_ns: (cpu.tv_sec as u64).saturating_mul(1_000_000_000).saturating_add(cpu.tv_nsec as u64),
        rss: rss.map(|statm| Bytes(statm.resident.saturating_mul(procfs::page_size()))),
    }
}

/// The report of what the ledger believes: the one way from records to a report, live or replayed. `None`: it was
/// never said whose session it is.
pub(super) fn report(
    ledger: &Ledger,
    symbolizer: &mut Symbolizer,
    names: &dyn Names,
    judged: bool,
) -> Option<Report> {
    let facts = facts(ledger)?;
    let evidence = symbolizer.evidence(ledger, names);
    let judgement = if judged { analyze::judge(&evidence) } else { analyze::Judgement::default() };
    Some(report::report(&facts, &evidence, &judgement))
}

fn facts(ledger: &Ledger) -> Option<SessionFacts> {
    let said = ledger.session();
    let Opening { tracer_version, kernel, began_unix_ms, sampler, reason, events: _, links, copied, profile } =
        said.opening()?.clone();
    let Subject {
        pid,
        exe,
        build_id,
        go_version,
        arch,
        started_unix_ms,
        stripped,
        pie,
        cgo,
        race,
        container,
        bias: _,
        code,
        gnu_build_id,
    } = said.subject()?.clone();
    let attach = match links {
        Links::None => Attach::None,
        Links::Multi => Attach::Multi,
        Links::Single => Attach::Single,
    };
    let losses = ledger.losses();
    let lost = |counter| losses.get(&counter).copied().unwrap_or(0);
    let events = (attach != Attach::None).then(|| model::Events {
        received: said.events(),
        lost: lost(Counter::RingFull),
        undecodable: lost(Counter::Undecodable),
    });
    let cost = said.cost();
    Some(SessionFacts {
        tracer_version,
        kernel,
        target: TargetFacts {
            pid,
            exe,
            build_id,
            go_version,
            arch,
            started_at: Some(Moment { unix_ms: started_unix_ms }),
            stripped,
            pie,
            cgo,
            race,
            limit: said.limit().map(|limit| LimitFacts {
                bytes: limit.bytes.0,
                used: limit.used.map(|used| used.0),
                source: LimitSource::Cgroup,
            }),
            container: container.map(|id| Container { id, ..Container::default() }),
            code: Some(model::CodeMapping {
                start: code.map_or(0, |code| code.start.0),
                limit: code.map_or(0, |code| code.limit.0),
                file_offset: code.map_or(0, |code| code.file_offset.0),
                gnu_build_id,
            }),
        },
        started_at: Moment { unix_ms: began_unix_ms },
        sampler: match sampler {
            Sampler::All => ReportSampler::All,
            Sampler::Sampled => ReportSampler::Sampled,
            _ if profile => ReportSampler::Runtime,
            _ if ledger.pins().largest_mean().is_some() => ReportSampler::Sampled,
            Sampler::Auto | Sampler::Runtime | Sampler::None => ReportSampler::None,
        },
        sampler_reason: reason,
        attach,
        events,
        cost: model::Cost {
            tracer_cpu_s: cost.map(|cost| cost.cpu_ns as f64 / 1e9),
            tracer_rss_bytes: cost.and_then(|cost| cost.rss).map(|rss| rss.0),
            target_pages_bytes: Some(copied.0),
            ..said.overhead().map(overhead).unwrap_or_default()
        },
        ended_by: None,
    })
}

/// What tracing took from the target, as shares of one processor.
fn overhead(of: &facts::Overhead) -> model::Cost {
    let elapsed = of.elapsed_ns.max(1) as f64;
    model::Cost {
        budget: of.bounds_hits.then(|| f64::from(of.budget_ppm) / 1e6),
        estimated: of.hits_ns.map(|hits| hits.saturating_add(of.readings_ns) as f64 / elapsed),
        readings: Some(of.readings_ns as f64 / elapsed),
        throttled_s: of.bounds_hits.then(|| of.throttled_ns as f64 / 1e9),
        per_hit_s: of.hit_costs.iter().map(|(site, ns)| (site.to_string(), f64::from(*ns) / 1e9)).collect(),
        ..model::Cost::default()
    }
}
