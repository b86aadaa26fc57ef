//! The command line as typed. What is not built is not here.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::host::registry::RUN_DIR;

/// Finds out, from outside, what leaks in a Go program that is already running.
#[derive(Parser, Debug)]
#[command(
    name = "tracer",
    version,
    about,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = EXAMPLES
)]
pub(super) struct Arguments {
    #[command(subcommand)]
    pub(super) command: Option<Command>,
    #[command(flatten)]
    pub(super) session: SessionArguments,
}

const EXAMPLES: &str = "\
Examples:
  tracer --pid 4242                               what leaks there; Ctrl-C ends it and prints the report
  tracer --pid 4242 --sampler all --duration 1m   with every allocation's site, for a minute
  tracer --name checkout-svc --format json -o r.json
  tracer --duration 30s -- ./server --port 8080   start a program and trace it from its first instruction
  tracer --pid 4242 --record s.trc                keep the session; `tracer replay s.trc` prints its report again
  tracer --pid 4242 -o heap.pb.gz                 live heap by site as a pprof profile, where Go's profiler is on
  tracer diff monday.json friday.json             what grew between two reports
  tracer goroutines --pid 4242                    every goroutine by creation site and wait
  tracer heap --pid 4242                          what lives on the heap, by type
  tracer check --pid 4242                         what would be attached and read, and why not";

#[derive(Subcommand, Debug)]
pub(super) enum Command {
    /// List the Go processes of this host and what can be traced
    List,
    /// Say what would be attached and read, and what is missing
    Check(TargetArguments),
    /// Show every goroutine by creation site and wait: one reading, no probes
    Goroutines(GoroutineArguments),
    /// Print the report of a recorded session, from the recording alone; needs no root
    Replay(ReplayArguments),
    /// Show the live heap by type, size class or site: one reading, no probes
    Heap(HeapArguments),
    /// Say what grew from one report (JSON or JSONL), recording or profile (pprof) to another
    Diff(DiffArguments),
    /// Have every tracer of this host let go of its target
    StopAll(RunDirArguments),
    /// Print a completion script
    Completions { shell: clap_complete::Shell },
}

/// Which process.
#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
pub(super) struct TargetArguments {
    /// Process id, as this pid namespace shows it
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) pid: Option<u32>,
    /// Name of the process or of its executable; several matches are listed and refused
    #[arg(long, value_name = "EXE")]
    pub(super) name: Option<String>,
}

#[derive(Args, Debug)]
pub(super) struct RunDirArguments {
    /// Where tracers are entered; a file `stop` there makes all of them let go, and none starts while it is there
    #[arg(long, value_name = "DIR", default_value = RUN_DIR)]
    pub(super) run_dir: PathBuf,
}

#[derive(Args, Debug)]
pub(super) struct DiffArguments {
    /// Two or more, the earliest first: the last is compared with the first
    #[arg(value_name = "FILE", num_args = 2.., required = true)]
    pub(super) files: Vec<PathBuf>,
    /// Text, or JSON with every row [default: by the name given to -o, else text]
    #[arg(long, value_enum)]
    pub(super) format: Option<DiffFormat>,
    /// Write the comparison there instead of to stdout
    #[arg(short, long, value_name = "FILE")]
    pub(super) output: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(super) enum DiffFormat {
    Text,
    Json,
}

#[derive(Args, Debug)]
pub(super) struct GoroutineArguments {
    #[command(flatten)]
    pub(super) target: TargetArguments,
    #[command(flatten)]
    pub(super) run: RunDirArguments,
    #[command(flatten)]
    pub(super) output: OutputArguments,
}

#[derive(Args, Debug)]
pub(super) struct ReplayArguments {
    /// What --record wrote
    #[arg(value_name = "RECORDING")]
    pub(super) recording: PathBuf,
    #[command(flatten)]
    pub(super) output: OutputArguments,
}

#[derive(Args, Debug)]
pub(super) struct HeapArguments {
    #[command(flatten)]
    pub(super) target: TargetArguments,
    /// What a line of the text is
    #[arg(long, value_enum, default_value_t = ByArgument::Type)]
    pub(super) by: ByArgument,
    #[command(flatten)]
    pub(super) run: RunDirArguments,
    #[command(flatten)]
    pub(super) output: OutputArguments,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(super) enum ByArgument {
    Type,
    Size,
    /// As Go's own memory profile knows it, where it is on
    Site,
}

#[derive(Args, Debug)]
#[group(skip)]
pub(super) struct SessionArguments {
    /// Process id, as this pid namespace shows it
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), group = "who")]
    pub(super) pid: Option<u32>,
    /// Name of the process or of its executable; several matches are listed and refused
    #[arg(long, value_name = "EXE", group = "who")]
    pub(super) name: Option<String>,
    /// A program to start and trace; its streams and exit status are its own
    #[arg(last = true, value_name = "COMMAND", num_args = 1.., group = "who")]
    pub(super) command: Vec<OsString>,

    /// End after this time (30s, 5m) [default: Ctrl-C on a terminal; elsewhere when every rule has decided,
    /// at least 30s, at most 5m]
    #[arg(long, value_name = "D", value_parser = duration, conflicts_with = "until")]
    pub(super) duration: Option<Duration>,
    /// End when every rule has decided (verdict) or after N GC cycles (Ngc)
    #[arg(long, value_name = "verdict|Ngc")]
    pub(super) until: Option<UntilArgument>,
    /// How often figures are refreshed
    #[arg(long, value_name = "D", value_parser = interval, default_value = "1s")]
    pub(super) interval: Duration,
    /// Where figures come from: none only reads memory, runtime reads the Go runtime's own memory profile too, sampled
    /// follows some allocations to their death, all counts every allocation; auto is runtime where the program has that profile on, and counts goroutines
    #[arg(long, value_enum, default_value_t = SamplerArgument::Auto)]
    pub(super) sampler: SamplerArgument,
    /// Mean bytes between two samples of --sampler sampled (64KiB, 1MiB; 1 takes every allocation) [default: 512KiB]
    #[arg(long, value_name = "N", value_parser = sample_bytes)]
    pub(super) sample_bytes: Option<u64>,
    /// What to probe, of alloc, map and goroutine [default: what the sampler brings, without the writes of maps]; alloc and map
    /// need --sampler sampled or all
    #[arg(long, value_enum, value_delimiter = ',', value_name = "LIST")]
    pub(super) events: Option<Vec<EventArgument>>,
    /// The greatest share of one processor that tracing may take from the target, readings of its memory included (0.5%, 5%): what
    /// costs more is taken away for a while, and the report says so [default: 1%; probes of --sampler sampled and all stay]
    #[arg(long, value_name = "P", value_parser = share)]
    pub(super) overhead_budget: Option<f64>,
    /// Uprobe links: one for all probes of a kind (chosen from kernel 6.10 on), or one each
    #[arg(long, value_enum, default_value_t = AttachArgument::Auto)]
    pub(super) attach: AttachArgument,
    /// Keep the raw session there for `tracer replay`; {pid} in the name is the target's
    #[arg(long, value_name = "FILE")]
    pub(super) record: Option<PathBuf>,
    #[command(flatten)]
    pub(super) run: RunDirArguments,
    #[command(flatten)]
    pub(super) output: OutputArguments,
}

#[derive(Args, Debug)]
pub(super) struct OutputArguments {
    /// Report format [default: by the name given to -o, else text]
    #[arg(long, value_enum)]
    pub(super) format: Option<Format>,
    /// Write the report there instead of to stdout; {pid} in the name is the target's
    #[arg(short, long, value_name = "FILE")]
    pub(super) output: Option<PathBuf>,
    /// What folded draws and pprof shows first [default: inuse_space, alloc_space or goroutine, the first that is known]
    #[arg(long, value_enum)]
    pub(super) profile: Option<ProfileArgument>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(super) enum SamplerArgument {
    Auto,
    None,
    Runtime,
    Sampled,
    All,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(super) enum EventArgument {
    Alloc,
    Map,
    Goroutine,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(super) enum AttachArgument {
    Auto,
    Multi,
    Single,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(super) enum Format {
    Text,
    Json,
    Jsonl,
    Folded,
    Pprof,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(super) enum ProfileArgument {
    InuseSpace,
    InuseObjects,
    AllocSpace,
    AllocObjects,
    Goroutine,
}

/// `verdict` or `Ngc`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum UntilArgument {
    Verdict,
    GcCycles(u32),
}

impl std::str::FromStr for UntilArgument {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "verdict" {
            return Ok(Self::Verdict);
        }
        let cycles = text.strip_suffix("gc").and_then(|n| n.parse().ok()).filter(|n| *n > 0);
        cycles
            .map(Self::GcCycles)
            .ok_or_else(|| "say `verdict`, or a number of GC cycles like `10gc`".to_owned())
    }
}

/// A time like `30s`, `1m30s`, `2h`.
fn duration(text: &str) -> Result<Duration, String> {
    let time = humantime::parse_duration(text).map_err(|e| format!("{e}; say 30s, 5m or 1h30m"))?;
    if time.is_zero() { Err("a session needs some time; say 30s".to_owned()) } else { Ok(time) }
}

/// Readings more often than this would cost more than they tell.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(100);

/// Bytes with or without a unit, as many as a sampler can space its samples by.
fn sample_bytes(typed: &str) -> Result<u64, String> {
    const UNITS: [(&str, u64); 4] = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("B", 1)];
    let unit = UNITS.iter().find_map(|(unit, bytes)| Some((typed.strip_suffix(unit)?, *bytes)));
    let (digits, unit) = unit.unwrap_or((typed, 1));
    let number: u64 =
        digits.trim().parse().map_err(|e| format!("{e}; write bytes, such as 65536, 64KiB or 1MiB"))?;
    number
        .checked_mul(unit)
        .filter(|bytes| (1..=tracer_common::sample::MAX_MEAN).contains(bytes))
        .ok_or_else(|| "it must be from 1 to 16GiB".to_owned())
}

/// Percent of one processor, as a share.
fn share(typed: &str) -> Result<f64, String> {
    let percent = typed.strip_suffix('%').unwrap_or(typed).trim();
    let percent: f64 =
        percent.parse().map_err(|e| format!("{e}; write percent of one processor, such as 0.5%"))?;
    if (0.01..=100.0).contains(&percent) {
        Ok(percent / 100.0)
    } else {
        Err("it must be from 0.01% to 100%".to_owned())
    }
}

fn interval(text: &str) -> Result<Duration, String> {
    let time = duration(text)?;
    if time < SHORTEST_INTERVAL {
        return Err("shorter than the shortest interval, 100ms".to_owned());
    }
    Ok(time)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_table_of_arguments_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn bytes_between_samples() {
        let wanted = [("1", 1), ("65536", 65_536), ("64KiB", 65_536), ("1 MiB", 1 << 20), ("16GiB", 1 << 34)];
        for (typed, bytes) in wanted {
            assert_eq!(sample_bytes(typed), Ok(bytes), "{typed}");
        }
        for wrong in ["", "0", "-1", "17GiB", "1KB", "KiB", "1e6", "18446744073709551615GiB"] {
            assert!(sample_bytes(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn shares_of_a_processor() {
        for (typed, wanted) in [("1%", 0.01), ("0.5 %", 0.005), ("100", 1.0), ("0.01%", 0.0001)] {
            let found = share(typed).unwrap();
            assert!((found - wanted).abs() < 1e-12, "{typed}: {found}");
        }
        for wrong in ["", "%", "0", "0%", "-1%", "101%", "NaN", "inf", "1e-5", "1/2", "1%%"] {
            assert!(share(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn ends() {
        let parse = |text: &str| text.parse::<UntilArgument>();
        assert_eq!(parse("verdict"), Ok(UntilArgument::Verdict));
        assert_eq!(parse("12gc"), Ok(UntilArgument::GcCycles(12)));
        for wrong in ["", "gc", "0gc", "-1gc", "12", "verdicts"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        assert!(duration("0s").is_err());
        assert!(interval("99ms").is_err());
        assert_eq!(duration("1m30s"), Ok(Duration::from_secs(90)));
    }
}
