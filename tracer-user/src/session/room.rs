//! Whether the target's cgroup has room for what probes copy in its memory.
//!
//! The kernel gives the target a page of its own for each page of code that holds a probe, and charges it to the target's
//! cgroup. In a cgroup without room the charge ends in the out-of-memory killer, which takes the target (seen on 6.18:
//! killed at attach with nothing left, alive with 12 KiB left). It only looks: who calls it does not attach.

use std::collections::BTreeSet;

use super::{error::SessionError, plan::Planned};
use crate::{host::process::Process, units::Bytes};

/// What must stay free beside the copies: the target allocates on meanwhile, and the kernel charges up to 64 pages at a
/// time for each processor (mm/memcontrol.c, `MEMCG_CHARGE_BATCH`).
const SPARE: Bytes = Bytes(1 << 20);

/// An error where probes at the places of `planned` could take the process over a memory limit. Limits that cannot be
/// seen from here are taken for none.
pub(super) fn check(process: &Process, planned: &[Planned]) -> Result<(), SessionError> {
    let Some(left) = process.memory_left() else { return Ok(()) };
    let needs = Bytes(copied(planned).0 + SPARE.0);
    if left < needs { Err(SessionError::NoRoom { needs, left }) } else { Ok(()) }
}

/// The bytes of the target's code that probes at `planned` copy. A probe never straddles two pages
/// (kernel/events/uprobes.c, `uprobe_write_opcode`).
pub(super) fn copied(planned: &[Planned]) -> Bytes {
    let page = procfs::page_size();
    let pages: BTreeSet<u64> = planned.iter().map(|p| p.site.file_offset.0 / page).collect();
    Bytes(pages.len() as u64 * page)
}
