//! Loading, attaching and letting go, in the order that leaves nothing behind.

use std::time::{Duration, Instant};

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
    record::Slot,
    units::{LoadBias, Pid, ProcAddr},
};
use tracer_common::{control::TargetControl, cookie::Shape};

/// Attached probes and what comes out of them.
pub(super) struct Probes {
    pub(super) planned: Vec<Planned>,
    /// Absent where the pinner has it.
    pub(super) kernel: Option<Kernel>,
    pub(super) ring: Option<Ring>,
    pub(super) tables: Option<Tables>,
    attachment: Attachment,
}

/// The kernel side may show a new probe a moment after the call returns (a nop5 is rewritten in two steps).
pub(super) const TAKES_WITHIN: Duration = Duration::from_millis(100);

impl Probes {
    /// Loads the object and attaches `planned`, all of it or nothing.
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
        let sites: Vec<Site> =
            planned.iter().map(|p| Site { offset: p.site.file_offset, cookie: p.cookie }).collect();
        let attachment = kernel.attach(path, pid, &sites)?;
        Ok(Self { planned, kernel: Some(kernel), ring: Some(ring), tables: Some(tables), attachment })
    }

    pub(super) fn kind(&self) -> AttachKind {
        self.attachment.kind()
    }

    /// Why it came to single links, where one for all was tried.
    pub(super) fn refusal(&self) -> Option<&KernelError> {
        self.attachment.refusal()
    }

    /// Reads each site back; those that do not show the probe are returned.
    pub(super) fn verify(&self, memory: &dyn ReadAt<ProcAddr>, bias: LoadBias) -> Vec<Refusal> {
        let began = Instant::now();
        loop {
            let missing = not_taken(memory, bias, &self.planned);
            if missing.is_empty() || began.elapsed() > TAKES_WITHIN {
                return missing;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Lets go. A multi link takes 30 ms, single links 100 ms each: called behind the printed report.
    pub(super) fn detach(self) {
        let Self { planned: _, kernel, ring: _, tables: _, attachment } = self;
        drop(attachment);
        drop(kernel);
    }
}

/// The sites of `planned` that may be attached in this running target, with those that may not.
pub(super) fn intact(target: &Target, planned: Vec<Planned>) -> (Vec<Planned>, Vec<Refusal>) {
    keep_intact(&target.memory, target.bias, planned, 0)
}
