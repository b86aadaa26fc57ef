//! The one place that asks what time it is.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::units::KTime;

/// Now, on the clock of the kernel side and of Go's runtime.
pub(super) fn now() -> KTime {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    KTime((t.tv_sec as u64).saturating_mul(1_000_000_000).saturating_add(t.tv_nsec as u64))
}

/// Now, in Unix nanoseconds.
pub(super) fn unix_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// Processor time of this thread: where the machine is busy, waiting for a processor is no reason to wait longer.
pub(super) fn spent() -> Duration {
    let at = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(at.tv_sec).unwrap_or(0), u32::try_from(at.tv_nsec).unwrap_or(0))
}
