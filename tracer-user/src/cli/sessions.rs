//! `tracer --pid N`, `--name EXE`, `-- COMMAND`: one session, from typed to meant.

use std::{
    io::{self, IsTerminal as _},
    os::unix::process::ExitStatusExt as _,
    process::{ExitCode, ExitStatus},
    sync::Arc,
    time::Duration,
};

use anyhow::bail;

use super::{
    arguments::{
        AttachArgument, EventArgument, ProfileArgument, SamplerArgument, SessionArguments, UntilArgument,
    },
    output::{Destination, named},
};
use crate::{
    host::discovery,
    kernel::AttachChoice,
    report::folded,
    session::{self, Events, Output, Sampler, SessionError, Setup, Subject, Until},
    units::Pid,
};

pub(super) fn session(arguments: &SessionArguments) -> anyhow::Result<ExitCode> {
    let subject = subject(arguments)?;
    let pid = match &subject {
        Subject::Pid(pid) => Some(*pid),
        Subject::Command { .. } => None,
    };
    let sampler = match arguments.sampler {
        // What `auto` could choose and has no sites would be known at the end of the session only.
        SamplerArgument::Auto
            if super::output::draws(&arguments.output) && arguments.output.profile.is_some_and(of_sites) =>
        {
            Sampler::Runtime
        }
        SamplerArgument::Auto => Sampler::Auto,
        SamplerArgument::None => Sampler::None,
        SamplerArgument::Runtime => Sampler::Runtime,
        SamplerArgument::All => Sampler::All,
        SamplerArgument::Sampled => Sampler::Sampled,
    };
    if arguments.sample_bytes.is_some() && sampler != Sampler::Sampled {
        bail!("--sample-bytes is for --sampler sampled; add it");
    }
    if sampler == Sampler::None && arguments.attach != AttachArgument::Auto {
        bail!("--sampler none attaches nothing; leave out --attach or choose --sampler all");
    }
    if let Some(missing) = arguments.output.profile.and_then(|profile| missing(profile, sampler)) {
        bail!("{missing}; choose one of them or leave out --profile");
    }
    let events = events(arguments.events.as_deref(), sampler)?;
    let setup = Setup {
        subject,
        sampler,
        sample_bytes: arguments.sample_bytes.unwrap_or(SAMPLE_BYTES),
        events,
        overhead_budget: arguments.overhead_budget,
        attach: match arguments.attach {
            AttachArgument::Auto => AttachChoice::Auto,
            AttachArgument::Multi => AttachChoice::Multi,
            AttachArgument::Single => AttachChoice::Single,
        },
        until: until(arguments, io::stdout().is_terminal()),
        interval: arguments.interval,
        record: arguments.record.as_deref().map(|name| named(name, pid)),
        run_dir: arguments.run.run_dir.clone(),
        stream: super::output::streams(&arguments.output),
    };
    let mut destination = Destination::open(&arguments.output, pid)?;
    if let Some(recording) = &setup.record {
        destination.spares(recording)?;
    }
    let mut write = |report: &crate::report::Report, which| destination.write(report, which);
    let output = Output { notice: Arc::new(super::say), report: &mut write };
    match session::run(&setup, output) {
        Ok(ended) => Ok(ended.child.map_or(ExitCode::SUCCESS, exit_code_of)),
        // The program runs all the same: its own failure wins over ours.
        Err(SessionError::Untraced { why, program }) => {
            let why = anyhow::Error::from(*why);
            let ours = if super::is_closed_pipe(&why) {
                ExitCode::SUCCESS
            } else {
                super::say(&super::line(&why));
                ExitCode::from(super::ERROR)
            };
            let failed = program.wait().filter(|status| !status.success());
            Ok(failed.map_or(ours, exit_code_of))
        }
        Err(e) => Err(e.into()),
    }
}

fn subject(arguments: &SessionArguments) -> anyhow::Result<Subject> {
    if let Some(pid) = arguments.pid {
        return Ok(Subject::Pid(Pid(pid)));
    }
    if let Some(name) = &arguments.name {
        return Ok(Subject::Pid(by_name(name)?));
    }
    match arguments.command.split_first() {
        Some((command, args)) => Ok(Subject::Command { command: command.clone(), args: args.to_vec() }),
        None => {
            bail!("whom to trace? give --pid N, --name EXE or -- COMMAND; `tracer list` shows Go processes")
        }
    }
}

/// The one process of that name.
pub(super) fn by_name(name: &str) -> anyhow::Result<Pid> {
    let found = discovery::by_name(name).map_err(SessionError::from)?;
    match found.as_slice() {
        [] => bail!("no process is called {name}; `tracer list` shows Go processes"),
        [one] => Ok(one.pid),
        several => {
            // A host full of workers of one name must not fill the screen.
            const SHOWN: usize = 20;
            let mut pids: Vec<String> = several.iter().take(SHOWN).map(|p| p.pid.to_string()).collect();
            if several.len() > SHOWN {
                pids.push(format!("and {} more", several.len() - SHOWN));
            }
            bail!("{} processes are called {name}: {}; choose one with --pid", several.len(), pids.join(", "))
        }
    }
}

/// Why a profile cannot come of a session with this sampler; absent where it can, or where that is known later.
fn missing(profile: ProfileArgument, sampler: Sampler) -> Option<&'static str> {
    match (profile, sampler) {
        (ProfileArgument::AllocSpace | ProfileArgument::AllocObjects, Sampler::None) => {
            Some(folded::NO_ALLOCATIONS)
        }
        (ProfileArgument::InuseSpace | ProfileArgument::InuseObjects, Sampler::None | Sampler::All) => {
            Some(folded::NOTHING_IN_USE)
        }
        _ => None,
    }
}

/// A profile whose figures are of allocation sites.
fn of_sites(profile: ProfileArgument) -> bool {
    missing(profile, Sampler::None).is_some()
}

fn events(typed: Option<&[EventArgument]>, sampler: Sampler) -> anyhow::Result<Option<Events>> {
    let Some(typed) = typed else {
        return Ok(None);
    };
    let events = Events {
        alloc: sampler != Sampler::Sampled && typed.contains(&EventArgument::Alloc),
        sampled: sampler == Sampler::Sampled && typed.contains(&EventArgument::Alloc),
        map: typed.contains(&EventArgument::Map),
        map_growth: typed.contains(&EventArgument::Map),
        goroutine: typed.contains(&EventArgument::Goroutine),
    };
    match sampler {
        Sampler::None => bail!("--sampler none probes nothing; leave out --events or choose --sampler all"),
        Sampler::Auto | Sampler::Runtime if events.alloc || events.map => {
            bail!("allocations and map writes are probed with --sampler all or sampled only; add one of them")
        }
        Sampler::Auto | Sampler::Runtime | Sampler::All | Sampler::Sampled => Ok(Some(events)),
    }
}

/// Mean bytes between two samples, as Go's own profiler has it.
const SAMPLE_BYTES: u64 = 512 << 10;
const VERDICT_LEAST: Duration = Duration::from_secs(30);
const VERDICT_MOST: Duration = Duration::from_mins(5);

fn until(arguments: &SessionArguments, on_terminal: bool) -> Until {
    let verdict = |least| Until::Verdict { least, most: VERDICT_MOST };
    match (arguments.duration, arguments.until) {
        (Some(duration), _) => Until::Elapsed(duration),
        (None, Some(UntilArgument::Verdict)) => verdict(Duration::ZERO),
        (None, Some(UntilArgument::GcCycles(cycles))) => Until::GcCycles(cycles),
        (None, None) if on_terminal => Until::Interrupted,
        (None, None) => verdict(VERDICT_LEAST),
    }
}

/// The child's own exit status, as a shell would tell it.
fn exit_code_of(status: ExitStatus) -> ExitCode {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::arguments::Arguments;

    #[test]
    fn a_session_ends_as_asked_or_as_the_place_suggests() {
        let end = |typed: &str, on_terminal| {
            let words = ["tracer", "--pid", "1"].into_iter().chain(typed.split_whitespace());
            until(&Arguments::try_parse_from(words).unwrap().session, on_terminal)
        };
        let verdict = |least| Until::Verdict { least, most: Duration::from_mins(5) };
        assert_eq!(end("", true), Until::Interrupted);
        assert_eq!(end("", false), verdict(Duration::from_secs(30)));
        for on_terminal in [true, false] {
            assert_eq!(end("--duration 90s", on_terminal), Until::Elapsed(Duration::from_secs(90)));
            assert_eq!(end("--until 7gc", on_terminal), Until::GcCycles(7));
            assert_eq!(end("--until verdict", on_terminal), verdict(Duration::ZERO));
        }
    }
}
