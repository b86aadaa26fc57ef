//! From a cookie's slot to the target's control row, and whether this task really is that target.

use aya_ebpf::{bindings::bpf_pidns_info, helpers::generated::bpf_get_ns_current_pid_tgid};
use tracer_common::{control::TargetControl, counter::Counter};

use crate::maps::{self, TARGETS};

/// The control row of `slot`, if the current task is that target.
///
/// The links filter by pid already; this second look costs about 10 ns and does not depend on which kernel's
/// filter it was. It compares inside the target's own pid namespace, because the kernel's global tgid is not the
/// pid a user inside a container typed.
#[inline(always)]
pub fn control(slot: u16) -> Option<&'static TargetControl> {
    let Some(control) = TARGETS.get(u32::from(slot)) else {
        maps::lose(Counter::BadCookie);
        return None;
    };
    let mut ids = bpf_pidns_info { pid: 0, tgid: 0 };
    // SAFETY: `ids` is a plain local of the size passed.
    let failed = unsafe {
        bpf_get_ns_current_pid_tgid(
            control.pidns_dev,
            control.pidns_ino,
            &raw mut ids,
            size_of::<bpf_pidns_info>() as u32,
        )
    };
    if failed != 0 || ids.tgid != control.tgid {
        maps::lose(Counter::ForeignProcess);
        return None;
    }
    Some(control)
}
