//! Has what a hit costs measured for the instructions that a session probes. It measures nothing itself.

use std::borrow::Cow;

use tracer_common::control::TargetControl;

use crate::{
    binary::x86::SiteKind,
    host::process::Process,
    kernel::{
        Kernel,
        calibrate::{HitCosts, Instruction},
        tables::Tables,
    },
    units::{FileOffset, Pid},
};

/// For every kind: which of them are probed under way is not known yet. An error says why it is not known.
pub(super) fn measure(kernel: &mut Kernel, tables: &Tables) -> Result<HitCosts, String> {
    let me = Process::open(Pid(std::process::id())).map_err(|e| e.to_string())?;
    let namespace = me.pid_namespace().map_err(|e| e.to_string())?;
    let mappings = me.exe_mappings().map_err(|e| e.to_string())?;
    let offset = |address: u64| {
        let of = mappings.iter().find(|m| m.executable && (m.start.0..m.end.0).contains(&address))?;
        Some(FileOffset(of.offset.0 + (address - of.start.0)))
    };
    let own = TargetControl::only(namespace.pid.0, namespace.dev, namespace.inode);
    kernel.calibrate(tables, me.pid(), own, offset).map_err(|e| e.to_string())
}

/// Nanoseconds of one hit.
pub(super) fn of(costs: &HitCosts, kind: SiteKind) -> f64 {
    costs.ns(instruction(kind))
}

/// What is known, by the names that reports have.
pub(super) fn named(costs: &HitCosts) -> Vec<(Cow<'static, str>, u32)> {
    let kinds = [SiteKind::Nop5, SiteKind::Nop, SiteKind::Push, SiteKind::Call, SiteKind::Jcc];
    kinds.into_iter().map(|kind| (kind.name().into(), of(costs, kind).round() as u32)).collect()
}

fn instruction(kind: SiteKind) -> Instruction {
    match kind {
        SiteKind::Nop5 => Instruction::Nop5,
        SiteKind::Nop => Instruction::Nop,
        SiteKind::Push => Instruction::Push,
        SiteKind::Call => Instruction::Call,
        SiteKind::Jcc => Instruction::Jcc,
    }
}
