//! Attaching and letting go: one uprobe_multi link where the kernel has it, single links elsewhere.
//!
//! A multi link attaches 40 sites in 7 ms and lets go in 30 ms; 40 single links take 4 to 5 seconds to let go
//! (kernel-serialised), which is why [`Attachment`] is handed to a thread behind a report already printed.
//! When the process dies in any way, the kernel closes the links and restores the instructions.

use std::{
    ffi::CString,
    io,
    num::NonZeroU32,
    os::fd::{AsFd as _, OwnedFd},
};

use aya::programs::{
    UProbe,
    uprobe::{UProbeAttachLocation, UProbeAttachPoint, UProbeLink, UProbeScope},
};
use tracer_common::cookie::Cookie;

use super::{
    capability,
    error::{KernelError, chain},
    multi,
    object::{Kernel, PROGRAM},
};
use crate::units::{FileOffset, Pid};

/// What the user asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AttachChoice {
    Auto,
    Multi,
    Single,
}

/// What was used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AttachKind {
    Multi,
    Single,
}

/// One site to attach to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Site {
    pub offset: FileOffset,
    pub cookie: Cookie,
}

/// Attached probes; dropping it lets go.
pub struct Attachment {
    links: Links,
    /// Why there are single links where one was tried first.
    refusal: Option<KernelError>,
}

enum Links {
    Multi { _link: OwnedFd },
    Single { _links: Vec<UProbeLink> },
}

impl Attachment {
    /// Why one link for all was refused, where it was tried.
    pub fn refusal(&self) -> Option<&KernelError> {
        self.refusal.as_ref()
    }

    pub fn kind(&self) -> AttachKind {
        match self.links {
            Links::Multi { .. } => AttachKind::Multi,
            Links::Single { .. } => AttachKind::Single,
        }
    }
}

impl Kernel {
    /// Attaches to `sites` of the file at `path`, for process `pid` only. More sites may follow, in links of their own.
    ///
    /// `path` should be `/proc/self/fd/N` of the descriptor the sites were found through, so that the inode
    /// is the same one even when the file was replaced.
    pub fn attach(&mut self, path: &str, pid: Pid, sites: &[Site]) -> Result<Attachment, KernelError> {
        let mut refusal = None;
        let linked = match &self.multi {
            Some(Ok(program)) => Some(attach_multi(program, path, pid, sites)),
            // Said once: from then on there are single links.
            Some(Err(_)) => self.multi.take().and_then(Result::err).map(Err),
            None => None,
        };
        match linked {
            None => {}
            Some(Ok(link)) => return Ok(Attachment { links: Links::Multi { _link: link }, refusal }),
            Some(Err(e)) if !self.falls_back || matches!(e, KernelError::Denied { .. }) => return Err(e),
            // No site could be linked: single links may do, or say why not.
            Some(Err(e)) => refusal = Some(e),
        }
        let links = self.attach_single(path, pid, sites)?;
        Ok(Attachment { links: Links::Single { _links: links }, refusal })
    }

    fn attach_single(
        &mut self,
        path: &str,
        pid: Pid,
        sites: &[Site],
    ) -> Result<Vec<UProbeLink>, KernelError> {
        let program: &mut UProbe = self
            .ebpf
            .program_mut(PROGRAM)
            .ok_or_else(|| KernelError::Load(format!("the object has no program {PROGRAM}")))?
            .try_into()
            .map_err(|e: aya::programs::ProgramError| KernelError::Load(chain(&e)))?;
        match program.load() {
            Ok(()) | Err(aya::programs::ProgramError::AlreadyLoaded) => {}
            Err(e) => return Err(KernelError::Load(chain(&e))),
        }
        let Some(pid) = NonZeroU32::new(pid.0) else {
            return Err(KernelError::Load("pid 0 is no process".into()));
        };
        let mut links = Vec::with_capacity(sites.len());
        let mut refusal = None;
        for site in sites {
            let point = UProbeAttachPoint {
                location: UProbeAttachLocation::AbsoluteOffset(site.offset.0),
                cookie: Some(site.cookie.to_bits()),
            };
            let link = program
                .attach(point, path, UProbeScope::OneProcess(pid))
                .and_then(|id| program.take_link(id))
                .map_err(|e| refused(site.offset, &e));
            match link {
                Ok(link) => links.push(link),
                // Without the right nothing can be attached; any other refusal drops that site alone, and
                // reading the sites back says which.
                Err(e @ KernelError::Denied { .. }) => return Err(e),
                Err(e) => refusal = Some(e),
            }
        }
        match refusal {
            Some(e) if links.is_empty() => Err(e),
            _ => Ok(links),
        }
    }
}

/// One link. Sites that the kernel refuses are left out; reading the sites back says which.
fn attach_multi(program: &OwnedFd, path: &str, pid: Pid, sites: &[Site]) -> Result<OwnedFd, KernelError> {
    let failed = |source| KernelError::AttachMulti { sites: sites.len(), source };
    let path = CString::new(path).map_err(|e| failed(io::Error::other(e)))?;
    let link = |sites: &[Site]| {
        let offsets: Vec<u64> = sites.iter().map(|s| s.offset.0).collect();
        let cookies: Vec<u64> = sites.iter().map(|s| s.cookie.to_bits()).collect();
        multi::link(program.as_fd(), &path, &offsets, &cookies, pid.0)
    };
    let refusal = match link(sites) {
        Ok(all) => return Ok(all),
        Err(e) if e.raw_os_error() == Some(libc::EPERM) => {
            return Err(KernelError::Denied { what: "attach uprobes", capability: "CAP_PERFMON" });
        }
        Err(e) => e,
    };
    // One refused site refuses the link: each is tried alone, and those that can be linked are.
    let good: Vec<Site> = sites.iter().copied().filter(|site| link(&[*site]).is_ok()).collect();
    if good.is_empty() {
        return Err(failed(refusal));
    }
    link(&good).map_err(failed)
}

fn refused(offset: FileOffset, e: &aya::programs::ProgramError) -> KernelError {
    let text = chain(e);
    if (text.contains("Permission denied") || text.contains("Operation not permitted"))
        && !capability::has_sys_admin()
    {
        return KernelError::Denied { what: "attach uprobes one by one", capability: "CAP_SYS_ADMIN" };
    }
    KernelError::Attach { offset, source: io::Error::other(text) }
}
