//! Why a session could not be held, in one line each.

use super::{program::Program, target::TargetError};
use crate::{
    analyze::figures::bytes, capture::CaptureError, host::HostError, host::registry::RegistryError,
    kernel::KernelError, units::Bytes,
};

#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    #[error(transparent)]
    Target(#[from] TargetError),
    #[error(transparent)]
    Host(#[from] HostError),
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error(transparent)]
    Kernel(#[from] KernelError),
    #[error(
        "none of the functions to probe has a safe site: {0}; use --sampler none, which reads memory only"
    )]
    NoSite(String),
    #[error(
        "{} are left below the target's memory limit, and probes need {}, as they copy pages of its code: raise the \
         limit, or use --sampler none, which reads memory only",
        bytes(left.0), bytes(needs.0)
    )]
    NoRoom { needs: Bytes, left: Bytes },
    #[error("--sampler runtime: {0}")]
    NoProfile(String),
    #[error(
        "no probe fired although the target made {made} allocations by its own count: the counts would be wrong; \
         use --sampler none and report this with the output of `tracer check`"
    )]
    Deaf { made: u64 },
    /// The program we started runs, or ran, without us.
    #[error("{why}")]
    Untraced { why: Box<SessionError>, program: Program },
    #[error("cannot start a thread of the session: {0}")]
    Thread(#[source] std::io::Error),
    #[error(transparent)]
    Capture(#[from] CaptureError),
    #[error(
        "the recording ends before its session began (at offset {offset}): nothing to replay; record again"
    )]
    NothingRecorded { offset: u64 },
    #[error("cannot write the report: {0}")]
    Write(#[source] std::io::Error),
}
