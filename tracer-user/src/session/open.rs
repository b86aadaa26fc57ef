//! From settings to a target with its probes attached: a running process, or a program that we start.

use std::{fs::File, os::fd::AsRawFd as _, sync::Arc, time::Duration};

use super::{
    error::SessionError,
    plan::{self, Planned, Refusal, plan_sites},
    privileges,
    prober::{self, Probes},
    profiler, room,
    setup::{Events, Sampler, Setup, Subject},
    target::{Target, TargetError, open_image},
};
use crate::{
    binary::x86::Emulates,
    goruntime::{GoImage, error::GoError, state::profile::ProfileVars},
    host::{
        HostError,
        launch::{self, Running, Waiting},
        process::Process,
    },
    kernel::capability::Capabilities,
    record::Slot,
    units::Pid,
};
use tracer_common::{
    control::{SampleControl, TargetControl},
    cookie::Shape,
};

/// A target with what was attached to it.
pub(super) struct Opened {
    pub(super) target: Arc<Target>,
    pub(super) probes: Option<Probes>,
    pub(super) refused: Vec<Refusal>,
    /// Sites attached whose instruction in memory does not show it.
    pub(super) not_taken: Vec<Refusal>,
    /// Why figures come from where they come from: one clause.
    pub(super) reason: String,
    /// The runtime's memory profile is read.
    pub(super) profile: Option<ProfileVars>,
    /// The program, where we started it; the session takes it.
    pub(super) child: Option<Running>,
}

/// What went wrong, and the program where it was started already.
pub(super) struct Failed {
    pub(super) why: SessionError,
    pub(super) child: Option<Running>,
}

impl<E: Into<SessionError>> From<E> for Failed {
    fn from(why: E) -> Self {
        Self { why: why.into(), child: None }
    }
}

/// Go's own set-up takes a few milliseconds after exec; on a busy machine more.
const STARTS_WITHIN: Duration = Duration::from_secs(5);

pub(super) fn open(setup: &Setup, capabilities: &Capabilities) -> Result<Opened, Failed> {
    match &setup.subject {
        Subject::Pid(pid) => {
            privileges::to_open(setup);
            Ok(running(setup, *pid, capabilities)?)
        }
        Subject::Command { command, args } => {
            let program = launch::resolve(command)?;
            let file = File::open(&program).map_err(|source| TargetError::File {
                who: command.to_string_lossy().into_owned(),
                source,
            })?;
            let image = Arc::new(open_image(&command.to_string_lossy(), &file)?);
            let waiting = Waiting::start(&program, command, args)?;
            // The program has what we were given; only now is any of it given up.
            privileges::to_open(setup);
            launched(setup, &file, image, waiting, capabilities)
        }
    }
}

fn running(setup: &Setup, pid: Pid, capabilities: &Capabilities) -> Result<Opened, SessionError> {
    let target = Target::open(pid)?;
    let profile = profiler::choose(setup.sampler, &target)?;
    let wanted = wanted(setup, &target.image, capabilities);
    let (planned, mut refused) = (wanted.planned, wanted.refused);
    let (planned, differing) = prober::intact(&target, planned);
    refused.extend(differing);
    let path = target.process.attach_path();
    let namespace = target.process.pid_namespace()?;
    let control =
        plan::control(target.layout, namespace, &target.image, Some(target.bias), sampling(setup, &target));
    let attached = attach(setup, capabilities, &target.process, &path.to_string_lossy(), &control, planned);
    let (probes, reason) = settle(setup.sampler, wanted.events, attached, &refused)?;
    target.process.still_same()?;
    let not_taken = verify(setup, probes.as_ref(), &target, &refused)?;
    let (profile, reason) = profile.explain(reason, setup.may_pin() && probes.is_some());
    Ok(Opened { target: Arc::new(target), probes, refused, not_taken, reason, profile, child: None })
}

/// The child waits before exec: probes are attached to its pid and the program's file, and the kernel patches
/// the instructions when exec maps them.
fn launched(
    setup: &Setup,
    file: &File,
    image: Arc<GoImage>,
    waiting: Waiting,
    capabilities: &Capabilities,
) -> Result<Opened, Failed> {
    let pid = waiting.pid();
    let layout = image.layout();
    let wanted = wanted(setup, &image, capabilities);
    let process = Process::open(pid)?;
    let namespace = process.pid_namespace()?;
    // Until the program is located nothing is sampled.
    let control = plan::control(layout, namespace, &image, None, SampleControl::default());
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let attached = attach(setup, capabilities, &process, &path, &control, wanted.planned);
    let (mut probes, reason) = settle(setup.sampler, wanted.events, attached, &wanted.refused)?;
    let child = waiting.release()?;
    let located = || {
        let target = started(pid, file, image)?;
        // Where the program lies is known only now.
        let sample = sampling(setup, &target);
        let control = plan::control(layout, namespace, &target.image, Some(target.bias), sample);
        if let Some(engine) = probes.as_mut().and_then(|probes| probes.engine.as_mut()) {
            engine.kernel.set_target(Slot(0), control)?;
            engine.control = control;
        }
        let not_taken = verify(setup, probes.as_ref(), &target, &wanted.refused)?;
        let profile = profiler::choose(setup.sampler, &target)?;
        Ok((target, not_taken, profile))
    };
    let (target, not_taken, profile) = match located() {
        Ok(located) => located,
        // The program runs: from here on it is waited for, whatever fails.
        Err(why) => {
            drop(probes);
            return Err(Failed { why, child: Some(child) });
        }
    };
    let (profile, reason) = profile.explain(reason, setup.may_pin() && probes.is_some());
    Ok(Opened {
        target: Arc::new(target),
        probes,
        refused: wanted.refused,
        not_taken,
        reason,
        profile,
        child: Some(child),
    })
}

/// Attaches to the process by the file at `path`; `None` where nothing is planned.
fn attach(
    setup: &Setup,
    capabilities: &Capabilities,
    process: &Process,
    path: &str,
    control: &TargetControl,
    planned: Vec<Planned>,
) -> Option<Result<Probes, SessionError>> {
    if planned.is_empty() {
        return None;
    }
    let attached = room::check(process, &planned)
        .and_then(|()| Ok(Probes::attach(setup, capabilities, path, process.pid(), control, planned)?));
    // Where the process ended meanwhile, that is what went wrong, whatever call noticed it.
    Some(attached.map_err(|why| process.still_same().err().map_or(why, SessionError::from)))
}

/// What the kernel side needs to sample allocations; nothing where they are not to be.
fn sampling(setup: &Setup, target: &Target) -> SampleControl {
    let sampled = setup.probed().sampled;
    if !sampled && !setup.may_pin() {
        return SampleControl::default();
    }
    SampleControl {
        mean: if sampled { setup.sample_bytes } else { 0 },
        marking: target.marking.0,
        generation: target.state.vars().mheap.plus(u64::from(target.layout.mheap_sweepgen)).0,
    }
}

/// The program after its exec.
fn started(pid: Pid, file: &File, image: Arc<GoImage>) -> Result<Target, TargetError> {
    let gone = |e| match e {
        HostError::Gone { pid } | HostError::NoSuchProcess { pid } | HostError::NoExecutable { pid } => {
            HostError::EndedAtOnce { pid }
        }
        e => e,
    };
    let process = Process::open(pid).map_err(gone)?;
    if !process.runs(file) {
        let why = "the command replaced itself by another program; trace that one with --pid".to_owned();
        return Err(TargetError::Go { who: format!("process {pid}"), source: GoError::NotGo { why } });
    }
    Target::of(process, image, STARTS_WITHIN).map_err(|e| match e {
        TargetError::Host(e) => gone(e).into(),
        e => e,
    })
}

/// The probes that did not take. Where allocations were to be counted and no such probe is in place, a report
/// would be made of zeros.
fn verify(
    setup: &Setup,
    probes: Option<&Probes>,
    target: &Target,
    refused: &[Refusal],
) -> Result<Vec<Refusal>, SessionError> {
    let Some(probes) = probes else { return Ok(Vec::new()) };
    let not_taken = probes.verify(&target.memory, target.bias);
    let probed = setup.probed();
    let allocations = setup.sampler == Sampler::All && probed.alloc || probed.sampled;
    if allocations && !counts_allocations(&probes.planned, &not_taken) {
        let why = not_taken.iter().chain(refused).next().map_or("no such function", |r| r.why.as_str());
        return Err(SessionError::NoSite(why.to_owned()));
    }
    Ok(not_taken)
}

/// Whether a probe for allocations is in place.
fn counts_allocations(planned: &[Planned], not_taken: &[Refusal]) -> bool {
    planned.iter().any(|p| {
        matches!(p.cookie.shape, Shape::Alloc | Shape::SampleBegin)
            && not_taken.iter().all(|missing| missing.function != p.site.function)
    })
}

/// What to probe and where.
struct Wanted {
    events: Events,
    planned: Vec<Planned>,
    refused: Vec<Refusal>,
}

fn wanted(setup: &Setup, image: &GoImage, capabilities: &Capabilities) -> Wanted {
    let events = setup.probed();
    let emulates = Emulates { long_nops: capabilities.emulates_long_nops() };
    let (planned, refused) = plan_sites(image, Slot(0), events, emulates);
    Wanted { events, planned, refused }
}

/// Whether to go on without probes, and the reason to give. `all` without probes is an error; `auto` goes on.
fn settle(
    sampler: Sampler,
    events: Events,
    attached: Option<Result<Probes, SessionError>>,
    refused: &[Refusal],
) -> Result<(Option<Probes>, String), SessionError> {
    let counted = counted(events);
    match (sampler, attached) {
        (Sampler::None, _) => {
            Ok((None, "memory is read and nothing is probed, as asked for; allocation sites need --sampler runtime, sampled or all".to_owned()))
        }
        (Sampler::All | Sampler::Sampled, Some(Ok(probes))) => Ok((Some(probes), format!("{counted}, as asked for"))),
        (Sampler::All | Sampler::Sampled, Some(Err(e))) => Err(e),
        (Sampler::All | Sampler::Sampled, None) if events.any() => {
            let why: Vec<&str> = refused.iter().map(|r| r.why.as_str()).collect();
            Err(SessionError::NoSite(why.first().copied().unwrap_or("no such function").to_owned()))
        }
        (Sampler::All | Sampler::Sampled, None) => Ok((None, "no event to probe was asked for".to_owned())),
        (Sampler::Auto | Sampler::Runtime, Some(Ok(probes))) => {
            Ok((Some(probes), format!("memory is read, {counted}")))
        }
        (Sampler::Auto | Sampler::Runtime, Some(Err(e))) => {
            Ok((None, format!("memory is read only, probes were refused: {e}")))
        }
        (Sampler::Auto | Sampler::Runtime, None) => Ok((None, "memory is read only".to_owned())),
    }
}

/// What the probes count, in words.
fn counted(events: Events) -> String {
    let mut words = Vec::new();
    if events.alloc {
        words.push("every allocation");
    }
    if events.sampled {
        words.push("some allocations");
    }
    if events.map {
        words.push("every map write and deletion");
    }
    if events.map_growth {
        words.push("map growth");
    }
    if events.goroutine {
        words.push("goroutine births and ends");
    }
    format!("{} counted", words.join(", "))
}

#[cfg(test)]
mod tests {
    use tracer_common::cookie::Cookie;

    use super::*;
    use crate::{
        binary::x86::SiteKind,
        goruntime::code::sites::ProbeSite,
        units::{FileOffset, ImageAddr},
    };

    #[test]
    fn a_session_without_one_allocation_probe_is_none() {
        let plan = |function: &str, shape| Planned {
            site: ProbeSite {
                function: function.into(),
                shape,
                address: ImageAddr(0),
                file_offset: FileOffset(0),
                offset: 0,
                instruction: SiteKind::Push,
                bytes: vec![0x55],
                caller_at_sp: true,
            },
            cookie: Cookie { shape, flags: 0, slot: 0, probe: 0, place: 0 },
        };
        let missing = |function: &str| Refusal { function: function.into(), why: "gone".into() };
        let both = [plan("runtime.mallocgc", Shape::Alloc), plan("runtime.newproc1", Shape::GoBorn)];
        assert!(counts_allocations(&both, &[]));
        assert!(counts_allocations(&both, &[missing("runtime.newproc1")]));
        assert!(!counts_allocations(&both, &[missing("runtime.mallocgc")]));
        assert!(!counts_allocations(&both[1..], &[]));
    }
}
