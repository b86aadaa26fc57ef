//! What the session knows of itself and of the target's file, for the report.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    time::{SystemTime, UNIX_EPOCH},
};

use super::{open::Opened, plan::Planned, setup::Sampler, target::Target};
use crate::{
    kernel::{AttachKind, capability::Capabilities},
    report::{
        build::{Attach, LimitFacts, LimitSource, Sampler as ReportSampler, SessionFacts, TargetFacts},
        model::{CodeMapping, Container, Cost, Events},
        moment::Moment,
    },
};

pub(super) fn moment(at: SystemTime) -> Moment {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    Moment { unix_ms: u64::try_from(since.as_millis()).unwrap_or(u64::MAX) }
}

/// The facts as of now.
pub(super) fn facts(
    opened: &Opened,
    sampler: Sampler,
    started_at: SystemTime,
    capabilities: &Capabilities,
    events: Option<Events>,
) -> SessionFacts {
    let target = &opened.target;
    let (image, process) = (&target.image, &target.process);
    let attach = match opened.probes.as_ref().map(super::prober::Probes::kind) {
        None => Attach::None,
        Some(AttachKind::Multi) => Attach::Multi,
        Some(AttachKind::Single) => Attach::Single,
    };
    SessionFacts {
        tracer_version: env!("CARGO_PKG_VERSION").to_owned(),
        kernel: capabilities.release.clone(),
        target: TargetFacts {
            pid: process.pid().0,
            exe: process.exe_path().to_string_lossy().into_owned(),
            build_id: image.build_id(),
            go_version: image.build_info().version_text.clone(),
            arch: image.build_info().setting("GOARCH").unwrap_or("amd64").to_owned(),
            started_at: Some(moment(process.started_at())),
            stripped: image.is_stripped(),
            pie: image.is_pie(),
            cgo: image.is_cgo(),
            race: image.is_race(),
            limit: process.memory_limit().map(|limit| LimitFacts {
                bytes: limit.limit.0,
                used: limit.used.map(|used| used.0),
                source: LimitSource::Cgroup,
            }),
            container: process.container_id().map(|id| Container { id, ..Container::default() }),
            code: Some(code(target)),
        },
        started_at: moment(started_at),
        sampler: match sampler {
            Sampler::All => ReportSampler::All,
            _ if opened.profile.is_some() => ReportSampler::Runtime,
            Sampler::Auto | Sampler::Runtime | Sampler::None => ReportSampler::None,
        },
        sampler_reason: opened.reason.clone(),
        attach,
        events,
        cost: cost(opened),
        ended_by: None,
    }
}

/// Where the program's code is mapped, as /proc/PID/maps shows it: whole pages of the file's executable segment.
fn code(target: &Target) -> CodeMapping {
    let page = procfs::page_size();
    let elf = target.image.elf();
    let text = elf.segments().iter().find(|s| s.executable);
    let gnu_build_id = elf.gnu_build_id().map(|id| {
        id.iter().fold(String::new(), |mut hex, byte| {
            write!(hex, "{byte:02x}").expect("writing to a String cannot fail");
            hex
        })
    });
    let Some(text) = text else { return CodeMapping { gnu_build_id, ..CodeMapping::default() } };
    let start = target.bias.to_proc(text.start).0;
    CodeMapping {
        start: start / page * page,
        limit: start.saturating_add(text.file_size).div_ceil(page).saturating_mul(page),
        file_offset: text.offset.0 / page * page,
        gnu_build_id,
    }
}

/// What this process itself used, and what the probes charge to the target.
fn cost(opened: &Opened) -> Cost {
    let cpu = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    let rss = procfs::process::Process::myself().and_then(|me| me.statm()).ok();
    Cost {
        tracer_cpu_s: Some(cpu.tv_sec as f64 + cpu.tv_nsec as f64 / 1e9),
        tracer_rss_bytes: rss.map(|statm| statm.resident.saturating_mul(procfs::page_size())),
        target_pages_bytes: Some(opened.probes.as_ref().map_or(0, |p| pages_bytes(&p.planned))),
        ..Cost::default()
    }
}

/// The kernel gives the target a copy of its own of each page that holds a probed instruction; a probe never
/// straddles two (kernel/events/uprobes.c, `uprobe_write_opcode`).
fn pages_bytes(planned: &[Planned]) -> u64 {
    let page = procfs::page_size();
    let pages: BTreeSet<u64> = planned.iter().map(|p| p.site.file_offset.0 / page).collect();
    pages.len() as u64 * page
}
