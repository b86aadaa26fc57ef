//! Folded stacks, one per line, outermost first: what flame graph tools read.
//!
//! The format has no escapes: a frame ends at `;` and the count follows the last space. inferno's collapsers
//! replace `;` in names by `:` (inferno, src/collapse/perf.rs), and so does this.

use std::collections::BTreeMap;
use std::io::{self, Write};

use super::lines::printable;
use super::model::Frame;
use super::{Exporter, Report};

/// What a line's count counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Profile {
    /// Bytes allocated since attach.
    AllocSpace,
    /// Objects allocated since attach.
    AllocObjects,
    /// Goroutines alive.
    Goroutine,
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
        match self.profile {
            Profile::AllocSpace | Profile::AllocObjects => {
                for row in report.allocations.iter().flatten() {
                    let n = match self.profile {
                        Profile::AllocSpace => row.allocated.bytes,
                        Profile::AllocObjects | Profile::Goroutine => row.allocated.objects,
                    };
                    add(folded(&row.stack, "unknown stack"), n);
                }
            }
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
