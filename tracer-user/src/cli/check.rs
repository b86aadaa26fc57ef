//! `tracer check`: what would be attached and read, at which instructions, and the reason for each 'no'.

use std::{fmt::Write as _, io::Write as _, process::ExitCode};

use super::{arguments::TargetArguments, goroutines::pid_of};
use crate::{
    analyze::figures,
    binary::x86::Emulates,
    goruntime::state::goroutines::Limits,
    kernel::{AttachChoice, Kernel, KernelError, capability::Capabilities},
    memory::ReadAt as _,
    record::Slot,
    report::printable,
    session::{Events, Planned, Target, plan_sites},
};

pub(super) fn check(arguments: &TargetArguments) -> anyhow::Result<ExitCode> {
    let pid = pid_of(arguments)?;
    let target = Target::open(pid)?;
    let capabilities = Capabilities::read();
    let mut text = String::new();
    about_target(&mut text, &target)?;
    about_kernel(&mut text, &capabilities)?;
    about_readings(&mut text, &target)?;
    about_probes(&mut text, &target, &capabilities)?;
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

type Written = Result<(), std::fmt::Error>;

fn about_target(text: &mut String, target: &Target) -> Written {
    let image = &target.image;
    let yes = |is: bool| if is { "yes" } else { "no" };
    writeln!(text, "target")?;
    writeln!(text, "  executable    {}", printable(&target.process.exe_path().to_string_lossy()))?;
    writeln!(text, "  go            {}", printable(&image.build_info().version_text))?;
    if let Some(module) = image.main_module() {
        writeln!(text, "  module        {}", printable(module))?;
    }
    writeln!(
        text,
        "  build         stripped {}, pie {} (load bias {:#x}), cgo {}, race {}",
        yes(image.is_stripped()),
        yes(image.is_pie()),
        target.bias.0,
        yes(image.is_cgo()),
        yes(image.is_race())
    )?;
    writeln!(text, "  layout        go1.{}, checked against this process", target.layout.minor)?;
    match target.process.memory_left() {
        Some(left) => writeln!(text, "  memory        {} left below its limit", figures::bytes(left.0)),
        None => writeln!(text, "  memory        no limit that is visible from here"),
    }
}

fn about_kernel(text: &mut String, capabilities: &Capabilities) -> Written {
    let has = |is: bool| if is { "yes" } else { "no" };
    writeln!(text, "kernel {}", capabilities.release)?;
    writeln!(
        text,
        "  capabilities  CAP_SYS_PTRACE {}, CAP_BPF {}, CAP_PERFMON {}, CAP_SYS_ADMIN {}",
        has(capabilities.sys_ptrace),
        has(capabilities.bpf),
        has(capabilities.perfmon),
        has(capabilities.sys_admin)
    )?;
    if let Some(mode) = &capabilities.lockdown {
        writeln!(text, "  lockdown      {mode}: the kernel may refuse eBPF")?;
    }
    // The verifier takes the same program in either form; this form needs no attaching to be looked at.
    let loaded = Kernel::load(AttachChoice::Multi, capabilities, &[]);
    match loaded.and_then(|kernel| kernel.loads().map_err(KernelError::Load)) {
        Ok(()) => writeln!(text, "  eBPF          loads")?,
        Err(e) => writeln!(text, "  eBPF          no: {e}")?,
    }
    let multi = if capabilities.filters_multi_by_process() {
        "yes"
    } else if capabilities.at_least(6, 6) {
        "no: before 6.10 it may see one thread of the process only; single links are used"
    } else {
        "no: it came with 6.6; single links need CAP_SYS_ADMIN and take seconds to let go"
    };
    writeln!(text, "  one link      {multi}")?;
    let nops = if capabilities.emulates_long_nops() {
        "emulated"
    } else {
        "single-stepped before 6.18, so other instructions are chosen"
    };
    writeln!(text, "  long nops     {nops}")
}

fn about_readings(text: &mut String, target: &Target) -> Written {
    writeln!(text, "readings")?;
    let memory = &target.memory;
    match target.state.gc(memory, None) {
        Ok(gc) => writeln!(text, "  GC            yes, {} cycles so far", gc.cycles)?,
        Err(e) => writeln!(text, "  GC            no: {e}")?,
    }
    match target.state.size_classes(memory) {
        Ok(sizes) => writeln!(text, "  size classes  yes, {}", sizes.small.len())?,
        Err(e) => writeln!(text, "  size classes  no: {e}")?,
    }
    match target.state.goroutines(memory, Limits::default()) {
        Ok(goroutines) => writeln!(text, "  goroutines    yes, {} now", goroutines.total)?,
        Err(e) => writeln!(text, "  goroutines    no: {e}")?,
    }
    let words = if target.state.knows_wait_reasons() { "yes" } else { "no: the table was not found" };
    writeln!(text, "  wait reasons  {words}")
}

fn about_probes(text: &mut String, target: &Target, capabilities: &Capabilities) -> Written {
    let emulates = Emulates { long_nops: capabilities.emulates_long_nops() };
    let kinds = [
        ("probes for allocations (--sampler all)", Events { alloc: true, ..Events::default() }),
        (
            "probes for sampled allocations, where objects are handed out and asked for (--sampler sampled)",
            Events { sampled: true, ..Events::default() },
        ),
        ("probes for goroutines (all but --sampler none)", Events { goroutine: true, ..Events::default() }),
        (
            "probes for maps that grow (all but --sampler none)",
            Events { map_growth: true, ..Events::default() },
        ),
        (
            "probes for map writes and deletions (--sampler all --events map)",
            Events { map: true, ..Events::default() },
        ),
    ];
    for (title, events) in kinds {
        writeln!(text, "{title}")?;
        let (planned, refused) = plan_sites(&target.image, Slot(0), events, emulates);
        for Planned { site, .. } in &planned {
            let mut found = vec![0; site.bytes.len()];
            let intact = match target.memory.read(target.bias.to_proc(site.address), &mut found) {
                Ok(()) if found == site.bytes => "bytes in memory equal the file's".to_owned(),
                Ok(()) => "no: bytes in memory differ from the file's; is another tool attached?".to_owned(),
                Err(e) => format!("no: {e}"),
            };
            writeln!(
                text,
                "  {}+{:#x}  {} at file offset {}; {intact}",
                site.function,
                site.offset,
                site.instruction.name(),
                site.file_offset
            )?;
        }
        for refusal in &refused {
            writeln!(text, "  {}  no: {}", refusal.function, refusal.why)?;
        }
        if planned.is_empty() && refused.is_empty() {
            writeln!(text, "  none: this program has no such function")?;
        }
    }
    Ok(())
}
