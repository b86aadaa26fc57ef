//! Folded stacks, one per line, outermost first: what flame graph tools read.
//!
//! The format has no escapes: a frame ends at `;` and the count follows the last space. inferno's collapsers
//! replace `;` in names by `:` (inferno, src/collapse/perf.rs), and so does this.

use std::collections::BTreeMap;
use std::io::{self, Write};

use super::lines::printable;
use super::model::{Allocation, Frame};
use super::{Exporter, Report};

/// What is counted per stack.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Profile {
    /// Bytes that lived after the last GC.
    InuseSpace,
    /// Objects that lived after the last GC.
    InuseObjects,
    /// Bytes allocated, since attach or since the start as the report says.
    AllocSpace,
    /// Objects allocated.
    AllocObjects,
    /// Goroutines alive.
    Goroutine,
}

/// Why a report has no such figures.
pub const NOTHING_IN_USE: &str = "what is in use per site is known with --sampler runtime or sampled only";
pub const NO_ALLOCATIONS: &str = "allocations per site are known with --sampler runtime, sampled or all only";

impl Profile {
    /// The word for it, which is pprof's too.
    pub fn name(self) -> &'static str {
        match self {
            Profile::InuseSpace => "inuse_space",
            Profile::InuseObjects => "inuse_objects",
            Profile::AllocSpace => "alloc_space",
            Profile::AllocObjects => "alloc_objects",
            Profile::Goroutine => "goroutine",
        }
    }

    /// What a report has most to say with: what lives, else what was allocated, else goroutines.
    pub fn best_of(report: &Report) -> Self {
        match report {
            Report { heap_profile: Some(_), .. } => Profile::InuseSpace,
            Report { allocations: Some(_), .. } => Profile::AllocSpace,
            _ => Profile::Goroutine,
        }
    }

    /// Whether a report has these figures; where not, why.
    pub fn is_in(self, report: &Report) -> Result<(), &'static str> {
        match self {
            Profile::InuseSpace | Profile::InuseObjects if report.heap_profile.is_none() => {
                Err(NOTHING_IN_USE)
            }
            Profile::AllocSpace | Profile::AllocObjects if report.allocations.is_none() => {
                Err(NO_ALLOCATIONS)
            }
            Profile::Goroutine if report.goroutines.is_none() => Err("goroutines were not read"),
            _ => Ok(()),
        }
    }
}

/// Folded stacks of one profile.
#[derive(Clone, Copy, Debug)]
pub struct Folded {
    pub profile: Profile,
}

impl Exporter for Folded {
    fn write(&self, report: &Report, out: &mut dyn Write) -> io::Result<()> {
        let mut stacks: BTreeMap<String, u64> = BTreeMap::new();
        let mut add = |stack: String, n: u64| {
            let held = stacks.entry(stack).or_default();
            *held = held.saturating_add(n);
        };
        let mut each = |figure: &dyn Fn(&Allocation) -> Option<u64>| {
            for row in report.allocations.iter().flatten() {
                add(folded(&row.stack, "unknown stack"), figure(row).unwrap_or(0));
            }
        };
        match self.profile {
            Profile::AllocSpace => each(&|row| Some(row.allocated.bytes)),
            Profile::AllocObjects => each(&|row| Some(row.allocated.objects)),
            Profile::InuseSpace => each(&|row| Some(row.live?.bytes)),
            Profile::InuseObjects => each(&|row| Some(row.live?.objects)),
            Profile::Goroutine => {
                for site in report.goroutines.iter().flat_map(|g| &g.sites) {
                    for group in &site.groups {
                        add(folded(&group.stack, &group.entry), group.count);
                    }
                }
            }
        }
        for (stack, n) in stacks.into_iter().filter(|(_, n)| *n > 0) {
            writeln!(out, "{stack} {n}")?;
        }
        Ok(())
    }
}

fn folded(stack: &[Frame], otherwise: &str) -> String {
    let name = |function: &str| printable(function).replace(';', ":");
    if stack.is_empty() {
        return name(otherwise);
    }
    stack.iter().rev().map(|f| name(&f.function)).collect::<Vec<_>>().join(";")
}
