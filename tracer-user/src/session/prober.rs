//! Loading, attaching and letting go, in the order that leaves nothing behind.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    plan::{Planned, Refusal, keep_intact, not_taken},
    setup::Setup,
    target::Target,
};
use crate::{
    goruntime::layouts::CLASS_TO_SIZE,
    kernel::{
        AttachKind, Attachment, Kernel, KernelError, Site, capability::Capabilities, ring::Ring,
        tables::Tables,
    },
    memory::ReadAt,
    record::{Slot, note::BIRTHS},
    units::{LoadBias, Pid, ProcAddr},
};
use tracer_common::{control::TargetControl, cookie::Shape};

/// Attached probes and what comes out of them.
pub(super) struct Probes {
    pub(super) planned: Vec<Planned>,
    /// Absent where the governor has it.
    pub(super) engine: Option<Engine>,
    pub(super) ring: Option<Ring>,
    kind: AttachKind,
    refusal: Option<String>,
}

/// What the kernel side loaded, and the probes that hang on it.
pub(super) struct Engine {
    pub(super) kernel: Kernel,
    pub(super) tables: Arc<Tables>,
    pub(super) links: Vec<Linked>,
    /// The target's row.
    pub(super) control: TargetControl,
}

/// Probes that are attached and let go together.
pub(super) struct Linked {
    pub(super) of: Kind,
    pub(super) planned: Vec<Planned>,
    pub(super) attachment: Attachment,
}

/// What probes are there for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Kind {
    Goroutines,
    MapGrowth,
    MapCalls,
    Allocations,
}

impl Kind {
    fn of(shape: Shape) -> Self {
        match shape {
            Shape::GoBorn | Shape::GoEnd => Self::Goroutines,
            Shape::MapGrow => Self::MapGrowth,
            Shape::MapWrite | Shape::MapDelete => Self::MapCalls,
            Shape::Alloc | Shape::SampleBegin | Shape::SampleEnd | Shape::SampleAt => Self::Allocations,
        }
    }

    /// As a report says it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Goroutines => BIRTHS,
            Self::MapGrowth => "map growth",
            Self::MapCalls => "map writes and deletions",
            Self::Allocations => "allocations",
        }
    }
}

/// The kernel side may show a new probe a moment after the call returns (a nop5 is rewritten in two steps).
const TAKES_WITHIN: Duration = Duration::from_millis(100);

impl Probes {
    /// Loads the object and attaches `planned`, one link for each kind of probe. Where none of a kind can be attached, its sites do
    /// not show a probe and [`Probes::verify`] names them; an error where that holds for all.
    pub(super) fn attach(
        setup: &Setup,
        capabilities: &Capabilities,
        path: &str,
        pid: Pid,
        control: &TargetControl,
        planned: Vec<Planned>,
    ) -> Result<Self, KernelError> {
        let mut shapes: Vec<Shape> = planned.iter().map(|p| p.cookie.shape).collect();
        if setup.may_pin() {
            shapes.push(Shape::SampleBegin);
        }
        let mut kernel = Kernel::load(setup.attach, capabilities, &shapes)?;
        kernel.set_target(Slot(0), *control)?;
        kernel.draw_distances(Slot(0), setup.sample_bytes)?;
        let ring = kernel.ring()?;
        let tables = kernel.tables(CLASS_TO_SIZE.iter().map(|&size| u64::from(size)).collect())?;
        let mut kinds: BTreeMap<Kind, Vec<Planned>> = BTreeMap::new();
        for plan in &planned {
            kinds.entry(Kind::of(plan.cookie.shape)).or_default().push(plan.clone());
        }
        let (mut links, mut refused) = (Vec::new(), None);
        for (of, planned) in kinds {
            match kernel.attach(path, pid, &sites(&planned)) {
                Ok(attachment) => links.push(Linked { of, planned, attachment }),
                Err(e @ KernelError::Denied { .. }) => return Err(e),
                Err(e) => refused = Some(e),
            }
        }
        let Some(kind) = links.first().map(|first: &Linked| first.attachment.kind()) else {
            return Err(refused.unwrap_or_else(|| KernelError::Load("there is nothing to attach".into())));
        };
        let refusal = links.iter().find_map(|link| link.attachment.refusal()).map(ToString::to_string);
        let engine = Some(Engine { kernel, tables: Arc::new(tables), links, control: *control });
        let refusal = refusal.or_else(|| refused.map(|e| e.to_string()));
        Ok(Self { planned, engine, ring: Some(ring), kind, refusal })
    }

    pub(super) fn kind(&self) -> AttachKind {
        self.kind
    }

    /// Why it came to single links, where a link for several was tried.
    pub(super) fn refusal(&self) -> Option<&str> {
        self.refusal.as_deref()
    }

    /// Reads each site back; those that do not show the probe are returned.
    pub(super) fn verify(&self, memory: &dyn ReadAt<ProcAddr>, bias: LoadBias) -> Vec<Refusal> {
        missing(memory, bias, &self.planned)
    }

    /// Lets go of what the governor does not have.
    pub(super) fn detach(self) {
        if let Some(engine) = self.engine {
            engine.detach();
        }
    }
}

impl Engine {
    /// Lets go. A multi link takes 30 ms, single links 100 ms each: called behind the printed report.
    pub(super) fn detach(self) {
        let Self { kernel, tables: _, links, control: _ } = self;
        // Links first: what they run is the kernel side's.
        drop(links);
        drop(kernel);
    }
}

/// Those of `planned` that are not in place although they were attached.
pub(super) fn missing(memory: &dyn ReadAt<ProcAddr>, bias: LoadBias, planned: &[Planned]) -> Vec<Refusal> {
    let began = Instant::now();
    loop {
        let missing = not_taken(memory, bias, planned);
        if missing.is_empty() || began.elapsed() > TAKES_WITHIN {
            return missing;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// What to attach, as the kernel side takes it.
pub(super) fn sites(planned: &[Planned]) -> Vec<Site> {
    planned.iter().map(|p| Site { offset: p.site.file_offset, cookie: p.cookie }).collect()
}

/// The sites of `planned` that may be attached in this running target, with those that may not.
pub(super) fn intact(target: &Target, planned: Vec<Planned>) -> (Vec<Planned>, Vec<Refusal>) {
    keep_intact(&target.memory, target.bias, planned, 0)
}
